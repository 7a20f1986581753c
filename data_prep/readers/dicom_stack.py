"""Slices -> one grid: order, spacing, gaps, tilt and the affine. Pure functions of headers.

Image Position and Image Orientation (Patient) are defined in DICOM PS3.3 C.7.6.2.1.1. They are in
LPS+ millimetres; the affine made here is the only place where they become RAS+.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import ScanError
from data_prep.readers.dicom_header import SliceHeader
from data_prep.readers.policy import ReadPolicy
from data_prep.volume import Affine

# Direction cosines are often written with 4 to 6 digits; a slice turned by more than 0.1 degrees
# is another orientation.
ORIENTATION_TOLERANCE: Final = 2e-3
# Pixel spacings that differ by a larger share are different.
_SPACING_TOLERANCE: Final = 1e-3
# Positions closer than this are the same position.
SAME_POSITION_MM: Final = 1e-3
# How far, in slice spacings, a slice may lie from the even grid: positions are often rounded.
_UNEVEN_TOLERANCE: Final = 0.05
# In-plane drift of the whole stack, in pixels, above which it counts as tilted.
_TILT_TOLERANCE_PX: Final = 0.1
_LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order, and the grid they lie on.

    Attributes:
        slices: Sorted by position along the normal.
        affine: (4, 4) voxel index (row, column, slice) to RAS+ millimetres of the grid after
            ``resample_at`` and ``shift_px`` are applied.
        resample_at: Fractional slice index of each slice of the even grid, or None if the slices
            are even already.
        shift_px: (rows, columns) by which the image content moves from one slice to the next on a
            grid at right angles, or None if the stack is not tilted.
        flags: Oddities that were accepted.
    """

    slices: tuple[SliceHeader, ...]
    affine: Affine
    resample_at: NDArray[np.float64] | None = None
    shift_px: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()


def unit_normal(header: SliceHeader) -> NDArray[np.float64] | None:
    """Row direction x column direction, or None if there is no valid orientation.

    PS3.3 C.7.6.2.1.1: both are unit vectors at right angles.
    """
    return None if header.orientation is None else _unit_normal(header.orientation)


@functools.lru_cache(maxsize=64)
def _unit_normal(orientation: tuple[float, ...]) -> NDArray[np.float64] | None:
    across, down = np.reshape(orientation, (2, 3))
    lengths = np.linalg.norm([across, down], axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(across @ down)) > 0.01:
        return None
    normal = np.cross(across, down)
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
    unit.flags.writeable = False  # every slice of this orientation shares it
    return unit


def directions(header: SliceHeader) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction along a row and down a column, LPS; the header must state an orientation."""
    across, down = np.array(header.orientation, dtype=np.float64).reshape(2, 3)
    return across, down


def has_geometry(header: SliceHeader) -> bool:
    """True where position, orientation and pixel spacing place the image in the patient."""
    return (
        header.position is not None
        and header.pixel_spacing is not None
        and unit_normal(header) is not None
    )


def plane_affine(header: SliceHeader, step: NDArray[np.float64] | None = None) -> Affine:
    """Voxel index (row, column, slice) to RAS+ millimetres for a grid that starts at ``header``.

    PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1: moving down the rows goes along the *second*
    orientation vector by the *first* spacing value, across the columns along the first by the
    second.

    Args:
        header: First slice; must have geometry.
        step: From one slice to the next, LPS millimetres; default: the normal, for one image.
    """
    normal = unit_normal(header)
    if normal is None or header.pixel_spacing is None or header.position is None:
        raise ScanError("dicom.no_geometry", f"{header.path}: no position, orientation or spacing")
    across, down = directions(header)
    affine = np.eye(4)
    affine[:3, 0] = down * header.pixel_spacing[0]
    affine[:3, 1] = across * header.pixel_spacing[1]
    affine[:3, 2] = normal if step is None else step
    affine[:3, 3] = header.position
    ras: Affine = _LPS_TO_RAS @ affine
    return ras


def along_normal(headers: Sequence[SliceHeader]) -> NDArray[np.float64]:
    """(n,) distance of each slice along the first one's normal, in millimetres."""
    normal = unit_normal(headers[0])
    return np.array([header.position for header in headers]) @ normal


def places(headers: Sequence[SliceHeader]) -> list[int]:
    """Number of the distinct position, along the normal, of each image of one orientation."""
    distance = along_normal(headers)
    order = np.argsort(distance, kind="stable")
    steps = np.diff(distance[order], prepend=distance[order[0]]) > SAME_POSITION_MM
    place = np.empty(len(headers), dtype=np.int64)
    place[order] = np.cumsum(steps)
    return [int(p) for p in place]


def on_same_grid(a: SliceHeader, b: SliceHeader) -> bool:
    """True where two placed images have one matrix, pixel spacing and orientation."""
    spacing = _SPACING_TOLERANCE * min(a.pixel_spacing or (0.0,))
    return (
        (a.rows, a.columns) == (b.rows, b.columns)
        and _alike(a.pixel_spacing, b.pixel_spacing, spacing)
        and same_orientation(a, b)
    )


def same_orientation(a: SliceHeader, b: SliceHeader) -> bool:
    """True where two images that state their orientation have the same one."""
    return _alike(a.orientation, b.orientation, ORIENTATION_TOLERANCE)


def _alike(a: tuple[float, ...] | None, b: tuple[float, ...] | None, tolerance: float) -> bool:
    # slices mostly share their tuples: to compare those costs nothing
    return a == b or bool(np.abs(np.array(a) - np.array(b)).max() <= tolerance)


def check_same_grid(headers: Sequence[SliceHeader]) -> None:
    """Refuse images that differ in matrix, pixel spacing or orientation.

    Raises:
        ScanError: ``dicom.mixed_matrix`` or ``dicom.mixed_orientation``.
    """
    first = headers[0]
    matrices = {(header.rows, header.columns) for header in headers}
    if len(matrices) > 1:
        raise ScanError(
            "dicom.mixed_matrix", f"{first.path}: its series has matrices {sorted(matrices)}"
        )
    spacings = np.array([header.pixel_spacing for header in headers])
    if np.abs(spacings - spacings[0]).max() > _SPACING_TOLERANCE * spacings[0].min():
        raise ScanError("dicom.mixed_matrix", f"{first.path}: pixel spacing differs in its series")
    orientations = np.array([header.orientation for header in headers])
    turned = np.abs(orientations - orientations[0]).max(axis=1) > ORIENTATION_TOLERANCE
    if turned.any():
        raise ScanError(
            "dicom.mixed_orientation",
            f"{first.path}: {int(turned.sum())} of {len(headers)} slices of its series are turned "
            "against the first one",
        )


def check_no_repeats(headers: Sequence[SliceHeader]) -> None:
    """Refuse images of one orientation of which two lie at one place.

    Raises:
        ScanError: ``dicom.duplicate_slices``.
    """
    repeats = len(headers) - len(set(places(headers)))
    if repeats:
        raise ScanError(
            "dicom.duplicate_slices",
            f"{headers[0].path}: {repeats} of the {len(headers)} images of its series lie where "
            "another one lies, and nothing in their headers tells them apart",
        )


def build_stack(headers: Sequence[SliceHeader], policy: ReadPolicy) -> Stack:
    """Order slices, and find the grid they lie on.

    Args:
        headers: At least two slices, all with geometry.
        policy: ``uneven_spacing`` decides what happens to slices that are not even.

    Raises:
        ScanError: ``dicom.missing_slices`` or ``dicom.uneven_spacing``, or as ``check_same_grid``
            and ``check_no_repeats``.
    """
    check_same_grid(headers)
    check_no_repeats(headers)
    slices = tuple(headers[n] for n in np.argsort(along_normal(headers), kind="stable"))
    positions = np.array([header.position for header in slices])
    distance = along_normal(slices)
    gaps = np.diff(distance)
    grid = np.linspace(distance[0], distance[-1], len(slices))
    resample_at = None
    flags: list[str] = []
    if np.abs(distance - grid).max() > _UNEVEN_TOLERANCE * gaps.min():
        resample_at = _uneven(slices, distance, policy)
        flags.append("uneven_resampled")
    n_out = len(slices) if resample_at is None else len(resample_at)
    step = (positions[-1] - positions[0]) / (n_out - 1)
    affine, shift_px = _upright(slices, positions, distance, step)
    if shift_px is not None:
        flags.append("tilt_corrected")
    stated = slices[0].slice_spacing
    if stated is not None and abs(stated - float(np.median(gaps))) > 0.05 * stated:
        flags.append("spacing_differs")
    return Stack(slices, affine, resample_at, shift_px, tuple(flags))


def _uneven(
    slices: tuple[SliceHeader, ...], distance: NDArray[np.float64], policy: ReadPolicy
) -> NDArray[np.float64]:
    """Where to take the slices of an even grid, or the refusal that fits.

    Gaps that are whole multiples of the smallest mean missing slices, which no policy makes up
    for.
    """
    gaps = np.diff(distance)
    usual = float(gaps.min())
    multiple = gaps / usual
    missing = np.round(multiple) - 1
    if (np.abs(multiple - np.round(multiple)) <= _UNEVEN_TOLERANCE * multiple).all():
        where = int(np.argmax(missing))
        lost = f"{count} slices are" if (count := int(missing.sum())) > 1 else "1 slice is"
        raise ScanError(
            "dicom.missing_slices",
            f"{_name(slices)}: {lost} missing: {gaps[where]:.3f} mm after slice "
            f"{where + 1} of {len(slices)}, where {usual:.3f} mm is usual",
            fix="transfer the series again",
        )
    if policy.uneven_spacing == "refuse":
        raise ScanError(
            "dicom.uneven_spacing",
            f"{_name(slices)}: slices are {gaps.min():.3f} to {gaps.max():.3f} mm apart",
            fix="set uneven_spacing: resample to interpolate them to even spacing",
        )
    count = round(float((distance[-1] - distance[0]) / np.median(gaps))) + 1
    even = np.linspace(distance[0], distance[-1], max(2, count))
    return np.interp(even, distance, np.arange(len(slices)))


def _upright(
    slices: tuple[SliceHeader, ...],
    positions: NDArray[np.float64],
    distance: NDArray[np.float64],
    step: NDArray[np.float64],
) -> tuple[Affine, tuple[float, float] | None]:
    """The affine, and the shear to undo where the slices are stacked at an angle (gantry tilt)."""
    first = slices[0]
    normal = unit_normal(first)
    assert normal is not None and first.pixel_spacing is not None
    across, down = directions(first)
    offsets = positions - positions[0]
    drift_px = np.stack([offsets @ down, offsets @ across], axis=1) / first.pixel_spacing
    line = np.outer((distance - distance[0]) / (distance[-1] - distance[0]), drift_px[-1])
    if np.abs(drift_px - line).max() > 0.5:
        raise ScanError(
            "dicom.uneven_spacing",
            f"{_name(slices)}: slice corners are up to {np.abs(drift_px - line).max():.1f} pixels "
            "off a straight line",
        )
    if np.abs(drift_px[-1]).max() <= _TILT_TOLERANCE_PX:
        return plane_affine(first, step), None
    upright_step = (step @ normal) * normal
    n_steps = round(float((positions[-1] - positions[0]) @ step / (step @ step)))
    shift = drift_px[-1] / n_steps
    return plane_affine(first, upright_step), (float(shift[0]), float(shift[1]))


def _name(slices: Sequence[SliceHeader]) -> str:
    return f"{slices[0].path} (series of {len(slices)} slices)"
