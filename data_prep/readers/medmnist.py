"""MedMNIST ``.npz`` files -> arrays and Volumes, without pickle and without trust.

An npz is a zip of npy files. Both state sizes, and a hostile file states others than it holds:
they are compared before any memory is taken.
"""

from __future__ import annotations

import functools
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from data_prep.download import DownloadError
from data_prep.errors import ScanError
from data_prep.readers.medmnist_download import download_npz
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
    "iter_images",
    "npz_sources",
    "open_npz",
    "read_item",
]

# The largest official array, pathmnist's training images at 224 pixels, has 13.5 GB.
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
            _check_images(images[split].shape, images[split].dtype, facts, split, path)
            _check_labels(labels[split], len(images[split]), facts, split, path)
    return MedMnistArrays(images, labels)


def iter_images(path: Path, dataset: str, split: str) -> Iterator[Array]:
    """Images of one split, one after the other, without holding more than one in memory.

    For the large sizes: pathmnist at 224 pixels inflates to 16 GB. The member's CRC is checked at
    its end, so that damage may be reported after some images have been given.

    Raises:
        ScanError: As ``open_npz``.
        ConfigError: ``medmnist.unknown_dataset``.
    """
    facts = facts_of(dataset)
    name = f"{split}_images.npy"
    with (
        _open_zip(path) as archive,
        _refused_as_malformed(name, path),
        archive.open(_member(archive, name, path)) as file,
    ):
        stated_bytes = archive.getinfo(name).file_size
        shape, dtype, fortran = _check_header(file, stated_bytes, name, path)
        _check_images(shape, dtype, facts, split, path)
        if fortran:
            raise ScanError("npz.malformed", f"{path.name}: {name} is in Fortran order")
        size = math.prod(shape[1:])
        for _ in range(shape[0]):
            yield np.frombuffer(file.read(size), dtype).reshape(shape[1:])
        file.read(1)  # at its end the member's CRC is checked


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


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(name)
    except KeyError:
        array = name.removesuffix(".npy")
        raise ScanError("npz.malformed", f"{path.name}: array '{array}' is missing") from None


@contextmanager
def _refused_as_malformed(name: str, path: Path) -> Iterator[None]:
    """zipfile, zlib and numpy's parser of headers each raise several types on damage."""
    try:
        yield
    except ScanError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ScanError("npz.malformed", f"{path.name}: {name}: {reason}") from None


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> Array:
    info = _member(archive, name, path)
    with _refused_as_malformed(name, path):
        with archive.open(info) as file:
            _check_header(file, info.file_size, name, path)
        with archive.open(info) as file:
            return np.asarray(npy.read_array(file, allow_pickle=False))


def _check_header(
    file: Any, stated_bytes: int, name: str, path: Path
) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Compare what the npy header declares with what the zip directory declares.

    Returns:
        Shape, type, and whether it is in Fortran order.
    """
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject or dtype.kind not in "uib":
        raise ScanError(
            "npz.malformed", f"{path.name}: {name} holds {dtype}; allowed: whole numbers"
        )
    declared = math.prod(int(n) for n in shape) * dtype.itemsize
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
    return tuple(int(n) for n in shape), dtype, fortran


def _check_images(
    shape: tuple[int, ...], dtype: np.dtype[Any], facts: MedMnistFacts, split: str, path: Path
) -> None:
    colour = (3,) if facts.channels == 3 else ()
    ndim = 1 + facts.spatial_ndim + len(colour)
    wrong = len(shape) != ndim or shape[ndim - len(colour) :] != colour
    if wrong or dtype != np.uint8 or 0 in shape:
        raise ScanError(
            "npz.malformed",
            f"{path.name}: {split}_images is {shape} {dtype}; {facts.name} has {ndim} axes of "
            "uint8" + (", the last of 3" if colour else ""),
        )


def _check_labels(labels: Array, count: int, facts: MedMnistFacts, split: str, path: Path) -> None:
    n_classes = len(facts.class_names)
    multi_label = facts.task == "multi-label"
    expected = (count, n_classes if multi_label else 1)
    if labels.shape != expected:
        raise ScanError(
            "npz.malformed",
            f"{path.name}: {split}_labels is {labels.shape}; expected {expected}",
        )
    top = 1 if multi_label else n_classes - 1
    if labels.min() < 0 or labels.max() > top:
        raise ScanError(
            "npz.malformed",
            f"{path.name}: {split}_labels has values from {labels.min()} to {labels.max()}; "
            f"allowed: 0 to {top}",
        )
