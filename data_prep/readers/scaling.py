"""Stored numbers -> values: scaled exactly where that can be, and finite."""

from __future__ import annotations

import numpy as np

from data_prep.errors import ScanError
from data_prep.readers.policy import ReadPolicy
from data_prep.volume import Array

_INTEGERS = (np.int16, np.uint16, np.int32, np.int64)


def rescale(
    stored: Array, slope: float, intercept: float, limits: tuple[int, int] | None = None
) -> Array:
    """``slope * stored + intercept`` in the type that holds it best.

    A slope of 1 with a whole intercept gives integers, exactly, of the smallest type that holds
    every possible value; anything else is computed in float64 and rounded once, to float32. The
    type depends on the header only, never on the voxels.

    Args:
        stored: Numbers of any shape.
        slope: Factor.
        intercept: Summand.
        limits: Least and largest number that ``stored`` can hold; default: those of its type.
    """
    whole = slope == 1 and float(intercept).is_integer() and abs(intercept) < 2**53
    if whole and stored.dtype.kind in "ui":
        if intercept == 0:
            return stored
        if limits is None:
            limits = (int(np.iinfo(stored.dtype).min), int(np.iinfo(stored.dtype).max))
        low, high = limits[0] + int(intercept), limits[1] + int(intercept)
        for kind in _INTEGERS:
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                exact: Array = stored.astype(kind)
                exact += int(intercept)
                return exact
    if slope == 1 and intercept == 0:
        return stored
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the caller refuses
        return (stored * np.float64(slope) + np.float64(intercept)).astype(np.float32)


def finite(voxels: Array, policy: ReadPolicy, name: str) -> tuple[Array, tuple[str, ...]]:
    """Deal with NaN and infinite voxels as ``policy`` says; also the flags to record.

    Raises:
        ScanError: ``volume.not_finite``.
    """
    if voxels.dtype.kind != "f":
        return voxels, ()
    good = np.isfinite(voxels)
    if good.all():
        return voxels, ()
    if policy.not_finite == "refuse" or not good.any():
        raise ScanError(
            "volume.not_finite",
            f"{name}: {int(voxels.size - good.sum())} of {voxels.size} voxels are NaN or infinite",
            fix="set not_finite: fill to replace them by the smallest finite voxel",
        )
    return np.where(good, voxels, voxels[good].min()), ("not_finite_filled",)
