"""MedMNIST ``.npz`` files -> arrays and Volumes, without pickle and without trust.

An npz is a zip of npy files. Both state sizes, and a hostile file states others than it holds:
they are compared before any memory is taken.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from data_prep.errors import ScanError
from data_prep.readers.medmnist_download import DownloadError, download_npz
from data_prep.readers.medmnist_facts import (
    FACTS,
    SPLITS,
    MedMnistFacts,
    facts_of,
    find_npz,
    is_official,
)
from data_prep.readers.source import ScanSource
from data_prep.volume import Array, Volume

__all__ = [
    "FACTS",
    "SPLITS",
    "DownloadError",
    "MedMnistArrays",
    "MedMnistFacts",
    "download_npz",
    "facts_of",
    "find_npz",
    "image_volume",
    "is_official",
    "npz_sources",
    "open_npz",
    "read_item",
]

# The largest official file inflates to 13.6 GB (pathmnist at 224).
MAX_ARRAY_BYTES: Final = 16 << 30


@dataclass(frozen=True, eq=False)
class MedMnistArrays:
    """The arrays of one file.

    Attributes:
        images: Split -> (N, H, W), (N, H, W, 3) or (N, D, H, W) uint8.
        labels: Split -> (N, 1) class indices, or (N, L) of 0/1 for a multi-label task.
    """

    images: Mapping[str, Array]
    labels: Mapping[str, Array]


def open_npz(path: Path, dataset: str) -> MedMnistArrays:
    """Read all arrays of a MedMNIST file.

    Raises:
        ScanError: ``npz.malformed`` for anything that is not what ``dataset`` says;
            ``file.unreadable`` or ``file.too_large``.
        ConfigError: ``medmnist.unknown_dataset``.
    """
    facts = facts_of(dataset)
    images: dict[str, Array] = {}
    labels: dict[str, Array] = {}
    with _open_zip(path) as archive:
        for split in SPLITS:
            images[split] = _read_member(archive, f"{split}_images.npy", path)
            labels[split] = _read_member(archive, f"{split}_labels.npy", path)
            _check_shapes(images[split], labels[split], facts, split, path)
    return MedMnistArrays(images, labels)


def npz_sources(path: str, arrays: MedMnistArrays) -> tuple[ScanSource, ...]:
    """One source a scan, in file order; ``path`` is relative to the input folder."""
    return tuple(
        ScanSource("npz", (path,), item=f"{split}/{number}")
        for split in SPLITS
        for number in range(len(arrays.images[split]))
    )


def image_volume(image: Array) -> Volume:
    """One image of a MedMNIST array as a Volume without geometry.

    (H, W) -> (1, H, W); (H, W, 3) -> (3, H, W); (D, H, W) -> (1, D, H, W). The affine is the
    identity: MedMNIST states no voxel size. An RGB image is told from a volume by its last axis;
    no MedMNIST volume has three voxels along an axis.
    """
    if image.ndim == 3 and image.shape[-1] == 3:
        array = np.moveaxis(image, -1, 0)
    else:
        array = image[np.newaxis]
    return Volume(np.ascontiguousarray(array), np.eye(4), has_geometry=False)


def read_item(path: Path, item: str) -> Volume:
    """Read the scan named by ``ScanSource.item`` ("train/17") of a file.

    Raises:
        ScanError: As ``open_npz``, or ``npz.malformed`` if there is no such item.
    """
    split, _, number = item.partition("/")
    if split not in SPLITS or not number.isdecimal():
        raise ScanError("npz.malformed", f"{path.name}: '{item}' does not name an item")
    stat = path.stat()
    images = _cached_images(path, split, stat.st_mtime_ns, stat.st_size)
    if int(number) >= len(images):
        raise ScanError("npz.malformed", f"{path.name}: {split} has {len(images)} items")
    return image_volume(images[int(number)])


@functools.lru_cache(maxsize=1)
def _cached_images(path: Path, split: str, mtime_ns: int, size: int) -> Array:
    """Images of one split; the file's time and size keep the cache from going stale."""
    with _open_zip(path) as archive:
        return _read_member(archive, f"{split}_images.npy", path)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise ScanError("file.unreadable", f"{path.name}: {error.strerror}") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ScanError("npz.malformed", f"{path.name}: not a zip archive ({error})") from None


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> Array:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ScanError(
            "npz.malformed",
            f"{path.name}: array '{name.removesuffix('.npy')}' is missing",
        ) from None
    try:
        with archive.open(info) as file:
            _check_header(file, info.file_size, name, path)
        with archive.open(info) as file:
            return np.asarray(npy.read_array(file, allow_pickle=False))
    except ScanError:
        raise
    except Exception as error:
        # zipfile, zlib, and numpy's parser of headers each raise several types on damage
        reason = f"{type(error).__name__}: {error}"
        raise ScanError("npz.malformed", f"{path.name}: {name}: {reason}") from None


def _check_header(file: Any, stated_bytes: int, name: str, path: Path) -> None:
    """Compare what the npy header declares with what the zip directory declares."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject or dtype.kind not in "uib":
        raise ScanError(
            "npz.malformed", f"{path.name}: {name} holds {dtype}; allowed: whole numbers"
        )
    declared = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
    if declared > MAX_ARRAY_BYTES:
        raise ScanError(
            "file.too_large",
            f"{path.name}: {name} declares {shape}, {declared} bytes; at most {MAX_ARRAY_BYTES}",
        )
    if declared + file.tell() != stated_bytes:
        raise ScanError(
            "npz.malformed",
            f"{path.name}: {name} declares {shape} of {dtype}, but holds {stated_bytes} bytes",
        )


def _check_shapes(
    images: Array, labels: Array, facts: MedMnistFacts, split: str, path: Path
) -> None:
    colour = (3,) if facts.channels == 3 else ()
    ndim = 1 + facts.spatial_ndim + len(colour)
    if (
        images.ndim != ndim
        or images.dtype != np.uint8
        or 0 in images.shape
        or images.shape[ndim - len(colour) :] != colour
    ):
        raise ScanError(
            "npz.malformed",
            f"{path.name}: {split}_images is {images.shape} {images.dtype}; {facts.name} has "
            f"{ndim} axes of uint8" + (", the last of 3" if colour else ""),
        )
    n_classes = len(facts.class_names)
    multi_label = facts.task == "multi-label"
    width = n_classes if multi_label else 1
    if labels.shape != (len(images), width):
        raise ScanError(
            "npz.malformed",
            f"{path.name}: {split}_labels is {labels.shape}; expected {(len(images), width)}",
        )
    top = 1 if multi_label else n_classes - 1
    if labels.min() < 0 or labels.max() > top:
        raise ScanError(
            "npz.malformed",
            f"{path.name}: {split}_labels has values from {labels.min()} to {labels.max()}; "
            f"allowed: 0 to {top}",
        )
