"""Freed memory that is kept for the next scan.

glibc hands large blocks back to the kernel when they are freed, and asks for them again for the
next scan. To map and clear those pages takes longer than to decode a small image, and half as long
as a small network needs for one.
"""

from __future__ import annotations

import ctypes
from typing import Final

# mallopt(3); the numbers are those of malloc.h, and are part of glibc's interface.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 1 << 28
_LARGEST_BYTES: Final = 1 << 25  # glibc takes no more; larger blocks go back as before


def keep_freed_memory() -> None:
    """From now on have this process keep up to 256 MB of what it frees; only glibc knows how."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
