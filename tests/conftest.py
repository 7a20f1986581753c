"""One thread a test process, here and in the children that tests start.

The tests' networks are so small that a step lasts less than the threads need to meet: with one
OpenMP thread a core beside other processes, the families' tests took over eight times the
processor time that they take with one.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported: after this
