"""Slices that are tilted or unevenly spaced -> an even grid at right angles, by resampling."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from data_prep.readers.dicom_stack import Stack
from data_prep.volume import Affine, Array


def straighten(array: Array, stack: Stack) -> tuple[Array, Affine]:
    """Apply what ``stack`` asks for; an even, upright stack comes back as it is.

    Uneven slices are interpolated linearly between their two neighbours. A gantry tilt is undone
    by moving each slice within its own plane, linearly interpolated, on a matrix that is enlarged
    so that nothing is lost; new voxels hold the smallest value of the scan.

    Args:
        array: (C, rows, columns, slices), in the order of ``stack.slices``.
        stack: The grid.

    Returns:
        The array, float32 if it was resampled, and its affine.
    """
    affine = stack.affine
    if stack.resample_at is not None:
        low = np.clip(np.floor(stack.resample_at).astype(np.int64), 0, array.shape[3] - 2)
        weight = (stack.resample_at - low).astype(np.float32)
        below, above = array[..., low].astype(np.float32), array[..., low + 1].astype(np.float32)
        array = below + (above - below) * weight
    if stack.shift_px is not None:
        array, moved = _shear(array, stack.shift_px)
        affine = affine.copy()
        affine[:3, 3] -= affine[:3, :2] @ moved
    return array, affine


def _shear(array: Array, shift_px: tuple[float, float]) -> tuple[Array, np.ndarray]:
    """Move slice k by k * shift_px; also how many (rows, columns) were added before the first."""
    n_slices = array.shape[3]
    ends = [shift * (n_slices - 1) for shift in shift_px]
    before = np.array([math.ceil(max(0.0, -end)) for end in ends])
    after = np.array([math.ceil(max(0.0, end)) for end in ends])
    rows, columns = array.shape[1] + before[0] + after[0], array.shape[2] + before[1] + after[1]
    least = float(array.min())
    out = np.full((array.shape[0], rows, columns, n_slices), least, dtype=np.float32)
    for channel in range(array.shape[0]):
        for k in range(n_slices):
            # output index r holds input index r - before - k * shift
            start = [-float(before[axis]) - k * shift_px[axis] for axis in range(2)]
            ndimage.affine_transform(
                array[channel, :, :, k].astype(np.float32),
                np.ones(2),
                offset=start,
                output=out[channel, :, :, k],
                order=1,
                mode="constant",
                cval=least,
            )
    return out, before.astype(np.float64)
