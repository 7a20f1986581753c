"""One DICOM scan -> Volume: a stack of slices, a single image, a mosaic or an enhanced object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from data_prep.errors import ScanError
from data_prep.readers.dicom_file import quiet_pydicom, read_whole_dataset
from data_prep.readers.dicom_header import SliceHeader, headers_of
from data_prep.readers.dicom_pixels import (
    PixelFormat,
    modality_values,
    pixel_format,
    stored_frame,
)
from data_prep.readers.dicom_series import split_volumes
from data_prep.readers.dicom_stack import build_stack, has_geometry, plane_affine, unit_normal
from data_prep.readers.mosaic import mosaic_layout, unmosaic
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.source import ScanSource
from data_prep.readers.straighten import straighten
from data_prep.volume import Affine, Array, Volume


def read_dicom(root: Path, source: ScanSource, policy: ReadPolicy) -> Volume:
    """Read one DICOM scan.

    Returns:
        (C, rows, columns, slices) for a volume, (C, rows, columns) for one image; modality values
        as exact integers where the rescale is exact, else float32; RGB as (3, ...).

    Raises:
        ScanError: ``dicom.*``, ``volume.*`` or ``file.*``.
    """
    with quiet_pydicom():
        if len(source.paths) == 1:
            return _read_file(root, source, policy)
        return _read_stack(root, source, policy)


def _read_stack(root: Path, source: ScanSource, policy: ReadPolicy) -> Volume:
    headers: list[SliceHeader] = []
    slices: dict[str, Array] = {}
    flags: list[str] = []
    total = 0
    for path in source.paths:
        dataset = read_whole_dataset(root, path)
        header = headers_of(dataset, path)[0]
        form = pixel_format(dataset, path, policy)
        array, seen = _frame(dataset, form, 0, path)
        total += array.nbytes
        if total > policy.max_volume_bytes:
            raise ScanError("file.too_large", f"{path}: the series is larger than the limit")
        headers.append(header)
        slices[path] = array
        flags += seen
    if not all(map(has_geometry, headers)) or len({a.shape for a in slices.values()}) != 1:
        raise ScanError("file.changed", f"{source.paths[0]}: the series changed since it was found")
    stack = build_stack(headers, policy)
    array = np.stack([slices[header.path] for header in stack.slices], axis=-1)
    array, affine = straighten(array, stack)
    return Volume(
        array, affine, modality=headers[0].modality, flags=_flags(source, flags, stack.flags)
    )


def _read_file(root: Path, source: ScanSource, policy: ReadPolicy) -> Volume:
    path = source.paths[0]
    dataset = read_whole_dataset(root, path)
    headers = headers_of(dataset, path)
    form = pixel_format(dataset, path, policy)
    if headers[0].mosaic:
        return _read_mosaic(dataset, headers[0], form, source)
    if form.frames > 1 or len(headers) > 1:
        return _read_multi_frame(dataset, headers, form, source, policy)
    array, flags = _frame(dataset, form, 0, path)
    return _image(array, headers[0], _flags(source, flags))


def _image(array: Array, header: SliceHeader, flags: tuple[str, ...]) -> Volume:
    """A single image, with geometry where the header states it."""
    if has_geometry(header):
        return Volume(array, plane_affine(header), modality=header.modality, flags=flags)
    rows_mm, columns_mm = header.pixel_spacing or (1.0, 1.0)
    affine = np.diag([rows_mm, columns_mm, 1.0, 1.0])
    return Volume(array, affine, has_geometry=False, modality=header.modality, flags=flags)


def _read_mosaic(
    dataset: Dataset, header: SliceHeader, form: PixelFormat, source: ScanSource
) -> Volume:
    """Cut a mosaic into slices and undo the shift of its position (see ``mosaic``)."""
    layout = mosaic_layout(dataset, header.path)
    if not has_geometry(header) or header.slice_spacing is None:
        raise ScanError("dicom.mosaic", f"{header.path}: no position, orientation or slice spacing")
    stored = stored_frame(dataset, form, 0, header.path)
    tiles = unmosaic(stored, layout, header.path)
    values, flags = modality_values(tiles.reshape(tiles.shape[0], -1), dataset, form, header.path)
    array = values.reshape(1, *tiles.shape)
    return Volume(
        array,
        _mosaic_affine(header, layout.normal, tiles.shape),
        modality=header.modality,
        flags=_flags(source, flags),
    )


def _mosaic_affine(header: SliceHeader, normal: np.ndarray, tile_shape: tuple[int, ...]) -> Affine:
    """Affine of the first tile.

    The stated position is that of a single slice as large as the whole mosaic, with the same
    centre: the corner moves in by half of what the mosaic is larger than a tile (nibabel,
    "Siemens mosaic format": dicom_mosaic.rst).
    """
    assert header.position is not None and header.pixel_spacing is not None
    assert header.orientation is not None and header.slice_spacing is not None
    across, down = np.reshape(header.orientation, (2, 3))
    surplus = np.array([header.rows - tile_shape[0], header.columns - tile_shape[1]]) / 2
    move = (
        down * surplus[0] * header.pixel_spacing[0] + across * surplus[1] * header.pixel_spacing[1]
    )
    corner = replace(header, position=tuple(np.asarray(header.position) + move))
    plane = unit_normal(header)
    sign = 1.0 if plane is None or float(plane @ normal) >= 0 else -1.0
    assert plane is not None
    return plane_affine(corner, sign * plane * header.slice_spacing)


def _read_multi_frame(
    dataset: Dataset,
    headers: Sequence[SliceHeader],
    form: PixelFormat,
    source: ScanSource,
    policy: ReadPolicy,
) -> Volume:
    path = headers[0].path
    if len(headers) == form.frames and all(map(has_geometry, headers)):
        number = int(source.item.removeprefix("volume/") or 0)
        volume = split_volumes(headers)[number]
        arrays = {}
        flags: list[str] = []
        for header in volume:
            arrays[header.frame], seen = _frame(dataset, form, header.frame, path)
            flags += seen
        if len(volume) == 1:
            return _image(arrays[volume[0].frame], volume[0], _flags(source, flags))
        stack = build_stack(volume, policy)
        array = np.stack([arrays[header.frame] for header in stack.slices], axis=-1)
        array, affine = straighten(array, stack)
        return Volume(
            array, affine, modality=headers[0].modality, flags=_flags(source, flags, stack.flags)
        )
    if policy.cine == "refuse":
        raise ScanError(
            "dicom.multi_frame", f"{path}: {form.frames} frames that do not form a volume"
        )
    frame = 0 if policy.cine == "first" else form.frames // 2
    array, seen = _frame(dataset, form, frame, path)
    return _image(array, headers[0], _flags(source, seen))


def _frame(
    dataset: Dataset, form: PixelFormat, frame: int, path: str
) -> tuple[Array, tuple[str, ...]]:
    stored = stored_frame(dataset, form, frame, path)
    return modality_values(stored, dataset, form, path)


def _flags(source: ScanSource, *more: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*source.flags, *(flag for flags in more for flag in flags))))
