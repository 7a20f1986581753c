"""How counts, numbers and lists are put into words, wherever something is said of results."""

from __future__ import annotations

from collections.abc import Sequence


def listed(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def counted(count: int, one: str, many: str = "") -> str:
    """``1 scan``, ``2 scans``, ``1,000 scans``; the plural where it is not that of "scan"."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def decimals(number: float) -> str:
    """Three of them; never a minus before nothing."""
    return f"{round(number, 3) + 0.0:.3f}"


def stated(share: float) -> str:
    """``90 %``, ``99.95 %``: a share that somebody has stated, with as many decimals as it has."""
    return f"{100 * share:.12g}\N{NO-BREAK SPACE}%"
