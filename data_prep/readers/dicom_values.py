"""Stored values -> modality values: palette, MONOCHROME1, padding, modality LUT and rescale.

Out come (C, rows, columns), C = 1 for grey and 3 for RGB, bright where the tissue is shown bright,
in modality values (Hounsfield units for CT). A window (VOI LUT) is never applied: it is a matter
of display.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from data_prep.errors import ScanError
from data_prep.readers.dicom_file import element
from data_prep.readers.dicom_format import PixelFormat
from data_prep.readers.quiet import quiet_pydicom
from data_prep.readers.scaling import rescale
from data_prep.volume import Array


@dataclass(frozen=True, eq=False)
class Values:
    """One frame in modality values.

    Attributes:
        array: (C, rows, columns).
        padding: (rows, columns) True where there is no pixel; None where all are pixels.
        flags: Oddities that were accepted.
    """

    array: Array
    padding: NDArray[np.bool_] | None = None
    flags: tuple[str, ...] = ()


def modality_values(
    stored: Array,
    dataset: Dataset,
    form: PixelFormat,
    path: str,
    groups: Sequence[Dataset] = (),
) -> Values:
    """Modality values of one frame.

    Args:
        stored: (rows, columns), or (rows, columns, 3) RGB.
        dataset: The object's data set.
        form: Its pixel format.
        path: For messages.
        groups: Items of Pixel Value Transformation Sequence of this frame, searched first.

    Raises:
        ScanError: ``dicom.bad_rescale`` or ``dicom.bad_palette``.
    """
    if form.photometric == "PALETTE COLOR":
        return Values(_palette_to_rgb(stored, dataset, path).transpose(2, 0, 1))
    if form.samples == 3:
        return Values(stored.transpose(2, 0, 1))
    padding = None
    if form.padding is not None and not form.is_float:
        mask = (stored >= form.padding[0]) & (stored <= form.padding[1])
        padding = mask if mask.any() else None
    flags: tuple[str, ...] = ()
    if form.photometric == "MONOCHROME1":
        stored = _mirror(stored, form)
        flags = ("monochrome1_inverted",)
    values = _modality_lut(stored, dataset, path)
    if values is None:
        slope_intercept = _rescale_of((*groups, dataset), path)
        if slope_intercept is None:
            if element(dataset, "Modality", path) == "CT":
                flags = (*flags, "no_rescale")
            values = stored
        else:
            values = rescale(stored, *slope_intercept, None if form.is_float else form.limits)
    return Values(values[np.newaxis], padding, flags)


def fill_padding(array: Array, padding: NDArray[np.bool_]) -> Array:
    """Give voxels outside the image the smallest value inside it, so that no statistic sees them.

    Args:
        array: (C, I, J[, K]).
        padding: (I, J[, K]), True where there is no pixel.
    """
    if padding.all():
        return array
    filled = array.copy()
    filled[:, padding] = array[:, ~padding].min()
    return filled


def _mirror(stored: Array, form: PixelFormat) -> Array:
    """Mirror within the stored range: the smallest value is shown white (PS3.3 C.7.6.3.1.2)."""
    if form.is_float:
        mirrored: Array = stored.max() + stored.min() - stored
        return mirrored
    total = sum(form.limits)  # -1 for signed values: there the mirror is ~x
    return (total - stored.astype(np.int64)).astype(stored.dtype)


def _rescale_of(places: Sequence[Dataset], path: str) -> tuple[float, float] | None:
    """Rescale Slope and Intercept (PS3.3 C.11.1.1.2) of the first place that states them."""
    for place in places:
        slope = element(place, "RescaleSlope", path)
        intercept = element(place, "RescaleIntercept", path)
        if slope is None and intercept is None:
            continue
        try:
            values = (1.0 if slope is None else float(slope)), float(intercept or 0)
        except (TypeError, ValueError):
            values = (math.nan, math.nan)
        if not all(map(math.isfinite, values)) or values[0] == 0:
            raise ScanError(
                "dicom.bad_rescale",
                f"{path}: Rescale Slope is {slope!s:.20}, Rescale Intercept {intercept!s:.20}; "
                "allowed: finite numbers, the slope not 0",
            )
        return values
    return None


def _modality_lut(stored: Array, dataset: Dataset, path: str) -> Array | None:
    """Look stored values up in the Modality LUT Sequence (PS3.3 C.11.1.1.1), if there is one."""
    items = element(dataset, "ModalityLUTSequence", path)
    if not items:
        return None
    try:
        entries, first, bits = (int(value) for value in items[0].LUTDescriptor)
        data = items[0].LUTData
        entries = entries or 1 << 16  # 0 means 2^16
        if isinstance(data, bytes):
            order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
            width = "u1" if len(data) == entries else f"{order}u2"
            table = np.frombuffer(data, width)
        else:
            table = np.array(data, dtype=np.uint16)
        if len(table) != entries or not 1 <= bits <= 16:
            raise ValueError("the table is not as long as its descriptor states")
    except Exception as error:
        raise ScanError(
            "dicom.bad_rescale", f"{path}: the modality LUT is damaged ({type(error).__name__})"
        ) from None
    # values before the first entry take the first, those after the last take the last
    index = np.clip(stored.astype(np.int64) - first, 0, entries - 1)
    looked_up: Array = table.astype(table.dtype.newbyteorder("="))[index]
    return looked_up


def _palette_to_rgb(stored: Array, dataset: Dataset, path: str) -> Array:
    """(rows, columns) -> (rows, columns, 3) uint8; 16-bit tables keep their high byte."""
    try:
        with quiet_pydicom():
            rgb: Array = apply_color_lut(stored, dataset)[..., :3]
    except Exception as error:
        raise ScanError(
            "dicom.bad_palette", f"{path}: the palette is damaged ({type(error).__name__})"
        ) from error
    return (rgb >> 8).astype(np.uint8) if rgb.dtype.itemsize == 2 else rgb
