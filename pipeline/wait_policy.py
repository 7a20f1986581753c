"""How the threads of a network wait for each other while other processes need the cores."""

from __future__ import annotations

import os


def let_threads_sleep() -> None:
    """Have OpenMP's threads sleep where they wait for each other; to be called before torch is.

    By default they spin for milliseconds at the end of each operation (OpenMP 5.2, 21.1.3,
    OMP_WAIT_POLICY). Beside decode processes that takes the cores from those who would do the work
    that is waited for: on a busy machine predicting took eight times the processor time. What the
    environment says already stands.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
