"""Where voxels lie: reorientation, resampling, resizing, cropping and padding.

Pure functions from Volume to Volume that keep the affine exact. Interpolation is separable: along
each axis the output is a sparse matrix times the input, so that the matrices of two steps can be
multiplied before a voxel is touched (``to_grid``; the matrices are in ``sampling``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from data_prep.errors import ScanError
from data_prep.sampling import Sampling, Window, apply_along_axes, weights
from data_prep.volume import Affine, Array, Volume

Order = Literal["linear", "nearest"]
FitMode = Literal["resize", "crop_or_pad"]

# Voxels of the largest grid that a scan is resampled to: a wrong spacing in a header (1000 mm
# for 1 mm) must not ask for all memory. 2^30 float32 voxels are 4 GiB, a CT of 1024^3.
MAX_VOXELS: Final = 1 << 30
_AXES: Final = ("LR", "PA", "IS")


def check_orientation(code: str) -> None:
    """Refuse what is not an orientation code.

    Raises:
        ValueError: If ``code`` is not two or three of the letters R L A P S I, at most one of
            each pair.
    """
    axes = {pair for letter in code for pair in _AXES if letter in pair}
    if len(code) not in (2, 3) or len(axes) != len(code):
        raise ValueError(
            f"'{code}' is not an orientation: give one letter an axis, each from another pair of "
            "R/L, A/P and S/I, such as 'RAS' (3D) or 'PL' (2D: rows to Posterior, columns to Left)"
        )


def reorient(volume: Volume, target: str) -> Volume:
    """Swap and flip axes so that they point in the directions that ``target`` names.

    No voxel is interpolated; the result's array is a view. An oblique scan keeps its obliqueness.
    A volume without geometry is returned as it is.

    Args:
        volume: Any scan.
        target: Three letters for a volume ("RAS"), two for an image ("PL").

    Raises:
        ScanError: ``volume.wrong_ndim``, or ``volume.wrong_plane`` where the plane of an image is
            not the one that ``target`` spans.
        ValueError: If ``target`` is not an orientation.
    """
    check_orientation(target)
    if not volume.has_geometry:
        return volume
    moves = _axis_moves(volume, target)
    affine = volume.affine.copy()
    for axis, (source, flip) in enumerate(moves):
        column = volume.affine[:3, source]
        affine[:3, axis] = -column if flip else column
        if flip:
            affine[:3, 3] += column * (volume.array.shape[1 + source] - 1)
    array = volume.array.transpose(0, *(1 + source for source, _ in moves))
    steps = [slice(None, None, -1 if flip else 1) for _, flip in moves]
    return replace(volume, array=array[(slice(None), *steps)], affine=affine)


def orient_back(array: Array, volume: Volume, target: str) -> Array:
    """Undo ``reorient(volume, target)`` on an array of its result's axes; a view.

    Args:
        array: (I', J'[, K']), axes as ``target`` names them.
        volume: The scan before it was reoriented.
        target: As ``reorient`` took it.

    Returns:
        (I, J[, K]), axes as those of ``volume``.

    Raises:
        As ``reorient``.
    """
    check_orientation(target)
    if not volume.has_geometry:
        return array
    moves = _axis_moves(volume, target)
    unflipped = array[tuple(slice(None, None, -1 if flip else 1) for _, flip in moves)]
    return unflipped.transpose(np.argsort([source for source, _ in moves]))


def resample(volume: Volume, spacing_mm: Sequence[float], order: Order = "linear") -> Volume:
    """Bring a scan to a voxel size; the field of view keeps its centre.

    The number of voxels is the one that covers the field of view best, so the extent can change by
    up to half a voxel at either side. Outside the outermost voxel centres the edge is replicated.

    Args:
        volume: Any scan.
        spacing_mm: Voxel size wanted along i, j (and k).
        order: ``linear`` gives float32, smoothed first where voxels grow (``to_grid`` says how);
            ``nearest`` keeps the data type.

    Raises:
        ScanError: ``volume.wrong_ndim``, or ``volume.bad_shape`` for a grid above ``MAX_VOXELS``.
    """
    return _sample(volume, _resampling(volume, spacing_mm), order)


def resize(volume: Volume, shape: Sequence[int], order: Order = "linear") -> Volume:
    """Bring a scan to a number of voxels; the field of view stays the same.

    Same conventions as ``resample``: output voxel o lies at (o + 0.5) n_in / n_out - 0.5.

    Raises:
        ScanError: ``volume.wrong_ndim``.
    """
    return _sample(volume, _resizing(volume, shape), order)


def crop_or_pad(volume: Volume, shape: Sequence[int], value: float | None = None) -> Volume:
    """Cut or fill both ends of each axis so that the centre stays; the data type is kept.

    Where the difference is odd, the extra voxel is cut or added at the end that MONAI's
    ``ResizeWithPadOrCrop`` chooses.

    Args:
        volume: Any scan.
        shape: Voxels wanted along i, j (and k).
        value: What to pad with; by default the smallest value of the part that is kept.

    Raises:
        ScanError: ``volume.wrong_ndim``.
    """
    _check_length(volume, shape, f"shape {tuple(shape)}")
    windows = [Window.centred(n, m) for n, m in zip(volume.array.shape[1:], shape, strict=True)]
    array = volume.array[(slice(None), *(slice(w.start, w.start + w.kept) for w in windows))]
    affine = _moved(volume.affine, [w.start for w in windows], [1.0] * len(windows))
    return _padded(replace(volume, array=array, affine=affine), windows, value)


def to_grid(
    volume: Volume,
    spacing_mm: Sequence[float] | None,
    shape: Sequence[int],
    mode: FitMode,
) -> Volume:
    """``resample`` (where a spacing is given), then ``resize`` or ``crop_or_pad``, in one pass.

    Equal to the two steps one after the other but for float32 rounding: linear interpolation is a
    matrix along each axis, and the two matrices are multiplied before a voxel is touched; voxels
    that cropping would throw away are never made.

    Where voxels grow by a factor f > 1 along an axis, a Gaussian of sigma (f - 1) / 2 input voxels
    goes first, so that no pattern above the new Nyquist frequency is folded back; this is
    scikit-image's rule (``skimage.transform.resize``, ``anti_aliasing_sigma``) and MONAI's.

    Returns:
        float32 of the given shape, C-contiguous.

    Raises:
        ScanError: ``volume.wrong_ndim`` or ``volume.bad_shape``.
    """
    _check_length(volume, shape, f"shape {tuple(shape)}")
    first = _first_sampling(volume, spacing_mm)
    if mode == "crop_or_pad":
        windows = [Window.centred(s.n_out, m) for s, m in zip(first, shape, strict=True)]
        kept = [s.cut(w) for s, w in zip(first, windows, strict=True)]
        return _padded(_sample(volume, kept, "linear"), windows, None)
    second = [Sampling.centred(s.n_out, m, s.n_out / m) for s, m in zip(first, shape, strict=True)]
    matrices = [weights(a, b) for a, b in zip(first, second, strict=True)]
    start = [a.start + b.start * a.step for a, b in zip(first, second, strict=True)]
    step = [a.step * b.step for a, b in zip(first, second, strict=True)]
    array = apply_along_axes(volume.array, matrices)
    return replace(volume, array=array, affine=_moved(volume.affine, start, step))


def lattice(
    volume: Volume, spacing_mm: Sequence[float] | None, shape: Sequence[int], mode: FitMode
) -> list[Sampling]:
    """Where the voxels of ``to_grid``'s result lie along each axis of ``volume``.

    Along padded ends they lie outside: positions are to be read as ``start + o * step``.

    Raises:
        ScanError: As ``to_grid``.
    """
    _check_length(volume, shape, f"shape {tuple(shape)}")
    first = _first_sampling(volume, spacing_mm)
    if mode == "resize":
        steps = [s.n_out / m for s, m in zip(first, shape, strict=True)]
        starts = [
            Sampling.centred(s.n_out, m, step).start
            for s, m, step in zip(first, shape, steps, strict=True)
        ]
    else:
        steps = [1.0] * len(first)
        windows = [Window.centred(s.n_out, m) for s, m in zip(first, shape, strict=True)]
        starts = [float(w.start - w.before) for w in windows]
    return [
        Sampling(s.n_in, m, s.start + start * s.step, s.step * step)
        for s, m, start, step in zip(first, shape, starts, steps, strict=True)
    ]


def _first_sampling(volume: Volume, spacing_mm: Sequence[float] | None) -> list[Sampling]:
    if spacing_mm is not None:
        return _resampling(volume, spacing_mm)
    return [Sampling(n, n, 0.0, 1.0) for n in volume.array.shape[1:]]


def _axis_moves(volume: Volume, target: str) -> list[tuple[int, bool]]:
    """For each letter of ``target``: the axis of ``volume`` that it names, and whether it flips."""
    _check_length(volume, target, f"orientation {target}")
    now = volume.orientation
    moves = []
    for letter in target:
        pair = next(pair for pair in _AXES if letter in pair)
        source = next((axis for axis, found in enumerate(now) if found in pair), None)
        if source is None:
            raise ScanError(
                "volume.wrong_plane",
                f"the image plane is {now} (directions of its rows and columns); "
                f"the recipe asks for the plane of {target}",
                fix="use a recipe for this plane, or leave these images out",
            )
        moves.append((source, now[source] != letter))
    return moves


def _check_length(volume: Volume, given: Sequence[object], what: str) -> None:
    if len(given) != volume.spatial_ndim:
        raise ScanError(
            "volume.wrong_ndim",
            f"the scan is {volume.spatial_ndim}D (shape {volume.array.shape}), "
            f"which does not fit {what}",
            fix=f"use a recipe for {volume.spatial_ndim}D scans",
        )


def _resampling(volume: Volume, spacing_mm: Sequence[float]) -> list[Sampling]:
    _check_length(volume, spacing_mm, f"spacing {tuple(spacing_mm)} mm")
    steps = [want / have for want, have in zip(spacing_mm, volume.spacing_mm, strict=True)]
    counts = [
        max(1.0, np.floor(n / step + 0.5))
        for n, step in zip(volume.array.shape[1:], steps, strict=True)
    ]
    if (voxels := float(np.prod(counts))) > MAX_VOXELS:
        raise ScanError(
            "volume.bad_shape",
            f"a scan of {volume.array.shape[1:]} voxels of {volume.spacing_mm} mm would have "
            f"{voxels:.3g} voxels of {tuple(spacing_mm)} mm; at most {MAX_VOXELS} are allowed",
            fix="check the spacing in the file's header, or ask for a coarser spacing",
        )
    return [
        Sampling.centred(n, int(count), step)
        for n, count, step in zip(volume.array.shape[1:], counts, steps, strict=True)
    ]


def _resizing(volume: Volume, shape: Sequence[int]) -> list[Sampling]:
    _check_length(volume, shape, f"shape {tuple(shape)}")
    sizes = zip(volume.array.shape[1:], shape, strict=True)
    return [Sampling.centred(n, m, n / m) for n, m in sizes]


def _sample(volume: Volume, samplings: Sequence[Sampling], order: Order) -> Volume:
    if order == "linear":
        array = apply_along_axes(volume.array, [weights(s) for s in samplings])
    else:
        array = volume.array
        for axis, sampling in enumerate(samplings, start=1):
            array = array.take(sampling.nearest(), axis=axis)
    start, step = [s.start for s in samplings], [s.step for s in samplings]
    return replace(volume, array=array, affine=_moved(volume.affine, start, step))


def _moved(affine: Affine, start: Sequence[float], step: Sequence[float]) -> Affine:
    """The affine of a grid whose voxel o is the old grid's voxel ``start + o * step``."""
    moved = affine.copy()
    ndim = len(start)
    moved[:3, 3] += affine[:3, :ndim] @ np.array(start, dtype=np.float64)
    moved[:3, :ndim] *= np.array(step)
    return moved


def _padded(volume: Volume, windows: Sequence[Window], value: float | None) -> Volume:
    width = [(0, 0), *((w.before, w.after) for w in windows)]
    if not np.any(width):
        return volume
    fill = volume.array.min() if value is None else value
    array = np.pad(volume.array, width, constant_values=fill)
    start = [-float(w.before) for w in windows]
    return replace(volume, array=array, affine=_moved(volume.affine, start, [1.0] * len(start)))
