"""One DICOM scan -> Volume: a stack of slices, a single image, a mosaic or an enhanced object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from data_prep.errors import ScanError
from data_prep.readers.dicom_codecs import is_lossy, stored_frames
from data_prep.readers.dicom_file import read_whole_dataset
from data_prep.readers.dicom_format import PixelFormat, pixel_format
from data_prep.readers.dicom_header import SliceHeader, headers_of, pixel_transformations
from data_prep.readers.dicom_stack import (
    build_stack,
    directions,
    has_geometry,
    plane_affine,
    unit_normal,
)
from data_prep.readers.dicom_values import Values, fill_padding, modality_values
from data_prep.readers.dicom_volumes import split_volumes
from data_prep.readers.mosaic import MosaicLayout, mosaic_layout, unmosaic
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.quiet import quiet_pydicom
from data_prep.readers.scaling import finite
from data_prep.readers.source import ScanSource
from data_prep.readers.straighten import straighten
from data_prep.volume import Affine, Array, Volume


@dataclass(frozen=True)
class _Slice:
    """A decoded slice, and where it lies."""

    header: SliceHeader
    values: Values


def read_dicom(root: Path, source: ScanSource, policy: ReadPolicy) -> Volume:
    """Read one DICOM scan.

    Returns:
        (C, rows, columns, slices) for a volume, (C, rows, columns) for one image; modality values
        as exact integers where the rescale is exact, else float32; RGB as (3, ...).

    Raises:
        ScanError: ``dicom.*``, ``volume.*`` or ``file.*``.
    """
    with quiet_pydicom():
        if len(source.paths) > 1:
            volume = _stacked(_read_slices(root, source.paths, policy), policy)
        else:
            volume = _read_file(root, source, policy)
    return volume.with_flags_first(*source.flags)


def _read_slices(root: Path, paths: Sequence[str], policy: ReadPolicy) -> list[_Slice]:
    slices: list[_Slice] = []
    total = 0
    for path in paths:
        dataset = read_whole_dataset(root, path)
        header = headers_of(dataset, path)[0]
        form = pixel_format(dataset, path, policy)
        if not has_geometry(header):
            raise ScanError("dicom.no_geometry", f"{path}: no position, orientation or spacing")
        (values,) = _frames(dataset, form, (0,), path)
        slices.append(_Slice(header, values))
        total += values.array.nbytes
        if total > policy.max_volume_bytes:
            raise ScanError(
                "file.too_large",
                f"{path}: its series takes more than {policy.max_volume_bytes} bytes",
            )
    return slices


def _read_file(root: Path, source: ScanSource, policy: ReadPolicy) -> Volume:
    path = source.paths[0]
    dataset = read_whole_dataset(root, path)
    headers = headers_of(dataset, path)
    form = pixel_format(dataset, path, policy)
    if headers[0].mosaic:
        return _read_mosaic(dataset, headers[0], form)
    if form.frames == 1 and len(headers) == 1:
        (values,) = _frames(dataset, form, (0,), path)
        return _image(_Slice(headers[0], values), policy)
    if len(headers) == form.frames and all(map(has_geometry, headers)):
        volumes = split_volumes(headers)
        number = source.item.removeprefix("volume/") or "0"
        if not number.isdecimal() or int(number) >= len(volumes):
            raise ScanError("file.changed", f"{path}: it holds no '{source.item}' any more")
        chosen = volumes[int(number)]
        numbers = [header.frame for header in chosen]
        found = _frames(dataset, form, numbers, path)
        slices = [_Slice(header, values) for header, values in zip(chosen, found, strict=True)]
        return _stacked(slices, policy) if len(slices) > 1 else _image(slices[0], policy)
    if policy.cine == "refuse":
        raise ScanError(
            "dicom.multi_frame", f"{path}: {form.frames} frames that do not form a volume"
        )
    frame = 0 if policy.cine == "first" else form.frames // 2
    (values,) = _frames(dataset, form, (frame,), path)
    return _image(_Slice(headers[0], values), policy)


def _frames(dataset: Dataset, form: PixelFormat, frames: Sequence[int], path: str) -> list[Values]:
    stored = stored_frames(dataset, form, frames, path)
    lossy = ("lossy",) if is_lossy(dataset, form, path) else ()
    values = []
    for number, array in zip(frames, stored, strict=True):
        groups = pixel_transformations(dataset, number, path)
        found = modality_values(array, dataset, form, path, groups)
        values.append(replace(found, flags=(*lossy, *found.flags)))
    return values


def _stacked(slices: Sequence[_Slice], policy: ReadPolicy) -> Volume:
    """Slices of one orientation -> a volume on an even grid.

    Raises:
        ScanError: ``dicom.mixed_matrix``, ``dicom.missing_slices``, ``dicom.uneven_spacing`` or
            ``volume.not_finite``.
    """
    by_header = {(s.header.path, s.header.frame): s for s in slices}
    first = slices[0]
    if len({s.values.array.shape for s in slices}) > 1:
        raise ScanError(
            "dicom.mixed_matrix", f"{first.header.path}: slices of its series differ in size"
        )
    stack = build_stack([s.header for s in slices], policy)
    ordered = [by_header[header.path, header.frame].values for header in stack.slices]
    # slice by slice in memory, as they come: to interleave them would take longer than to read them
    array = np.moveaxis(np.stack([values.array for values in ordered]), 0, -1)
    padding = None
    if any(values.padding is not None for values in ordered):
        nothing = np.zeros(array.shape[1:3], dtype=np.bool_)
        masks = [nothing if v.padding is None else v.padding for v in ordered]
        padding = np.stack(masks, axis=-1)
    array, flags = _clean(array, padding, first.header.path, policy)
    array, affine = straighten(array, stack)
    seen = (flag for values in ordered for flag in values.flags)
    return Volume(array, affine, modality=first.header.modality).with_flags(
        *seen, *flags, *stack.flags
    )


def _image(image: _Slice, policy: ReadPolicy) -> Volume:
    """A single image, with geometry where the header states it."""
    header, values = image.header, image.values
    array, flags = _clean(values.array, values.padding, header.path, policy)
    if has_geometry(header):
        affine, placed = plane_affine(header), True
    else:
        rows_mm, columns_mm = header.pixel_spacing or (1.0, 1.0)
        affine, placed = np.diag([rows_mm, columns_mm, 1.0, 1.0]), False
    volume = Volume(array, affine, has_geometry=placed, modality=header.modality)
    return volume.with_flags(*values.flags, *flags)


def _clean(
    array: Array, padding: NDArray[np.bool_] | None, path: str, policy: ReadPolicy
) -> tuple[Array, tuple[str, ...]]:
    array, flags = finite(array, policy, path)
    if padding is None:
        return array, flags
    return fill_padding(array, padding), (*flags, "padding_filled")


def _read_mosaic(dataset: Dataset, header: SliceHeader, form: PixelFormat) -> Volume:
    """Cut a mosaic into slices.

    Raises:
        ScanError: ``dicom.mosaic`` if its layout is not stated completely.
    """
    path = header.path
    layout = mosaic_layout(dataset, path)
    normal = unit_normal(header)
    if not has_geometry(header) or header.slice_spacing is None or normal is None:
        raise ScanError("dicom.mosaic", f"{path}: no position, orientation or slice spacing")
    if form.samples != 1 or form.frames != 1:
        raise ScanError("dicom.mosaic", f"{path}: a mosaic is one grey image")
    (values,) = _frames(dataset, form, (0,), path)
    array = unmosaic(values.array[0], layout, path)[np.newaxis]
    affine = _mosaic_affine(header, layout, normal)
    return Volume(array, affine, modality=header.modality).with_flags(*values.flags)


def _mosaic_affine(
    header: SliceHeader, layout: MosaicLayout, normal: NDArray[np.float64]
) -> Affine:
    """Affine of the first tile.

    The stated position is that of one slice as large as the whole mosaic, with the same centre:
    the corner moves in by half of what the mosaic is larger than a tile (nibabel's documentation,
    "Siemens mosaic format").
    """
    assert header.position is not None and header.pixel_spacing is not None
    across, down = directions(header)
    surplus_rows = (header.rows - header.rows // layout.per_side) / 2
    surplus_columns = (header.columns - header.columns // layout.per_side) / 2
    corner = (
        np.array(header.position)
        + down * surplus_rows * header.pixel_spacing[0]
        + across * surplus_columns * header.pixel_spacing[1]
    )
    # the slices are numbered along the stated normal, which may be the opposite one
    direction = normal if float(normal @ layout.normal) >= 0 else -normal
    placed = replace(header, position=tuple(float(v) for v in corner))
    return plane_affine(placed, direction * (header.slice_spacing or 0.0))
