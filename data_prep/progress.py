"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

# Called with (done, total), in whatever unit the work counts.
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Report progress to nobody."""
