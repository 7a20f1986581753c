"""Freed memory that is kept for the next scan, and standing memory that is left alone.

glibc hands large blocks back to the kernel when they are freed, and asks for them again for the
next scan. To map and clear those pages takes longer than to decode a small image, and half as long
as a small network needs for one. And as scans come and go, Python's garbage collector looks through
all objects of all libraries now and then, for a fifth of a second each time.
"""

from __future__ import annotations

import ctypes
import gc
from functools import cache
from typing import Final

# mallopt(3); the numbers are those of malloc.h, and are part of glibc's interface.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 1 << 28
_LARGEST_BYTES: Final = 1 << 25  # glibc takes no more; larger blocks go back as before


@cache  # garbage that stands is never freed: once a process, however many batches it scores
def spare_standing_objects() -> None:
    """From now on have the garbage collector pass over what stands: libraries, and a model."""
    gc.freeze()


def keep_freed_memory() -> None:
    """From now on have this process keep up to 256 MB of what it frees; only glibc knows how."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
