"""Siemens mosaics: a volume whose slices are tiles of one large image.

The layout is stated in the CSA header (nibabel's nicom documents it, and dcm2niix reads it): the
number of tiles, and the slice normal, whose sign gives the order of the slices. Where either is
missing the file is refused: a mosaic read as one slice would be a silent wrong answer.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from data_prep.errors import ScanError
from data_prep.readers.dicom_file import element
from data_prep.volume import Array

_CSA_GROUP: Final = 0x0029
_CSA_CREATOR: Final = "SIEMENS CSA HEADER"
_CSA_IMAGE_OFFSET: Final = 0x10
# (0019,xx0A) of the block "SIEMENS MR HEADER" repeats the number of tiles.
_MR_GROUP: Final = 0x0019
_MR_CREATOR: Final = "SIEMENS MR HEADER"
_MR_TILES_OFFSET: Final = 0x0A

MOSAIC_TAGS: Final[tuple[str | int, ...]] = (
    "ImageType",
    *(Tag(_MR_GROUP, 0x0010 + n) for n in range(2)),
    *(Tag(_MR_GROUP, 0x1000 + 0x100 * n + _MR_TILES_OFFSET) for n in range(2)),
)


@dataclass(frozen=True)
class MosaicLayout:
    """How a mosaic is laid out.

    Attributes:
        tiles: Number of slices.
        per_side: Tiles along each side of the square grid.
        normal: Direction in which the slices are numbered, LPS unit vector.
    """

    tiles: int
    per_side: int
    normal: NDArray[np.float64]


def is_mosaic(dataset: Dataset, path: str) -> bool:
    """True where Image Type or the Siemens MR header says so.

    Raises:
        ScanError: ``dicom.malformed`` if these are damaged.
    """
    image_type = element(dataset, "ImageType", path) or []
    if "MOSAIC" in ([image_type] if isinstance(image_type, str) else list(image_type)):
        return True
    tiles = _private(dataset, _MR_GROUP, _MR_CREATOR, _MR_TILES_OFFSET, path)
    return isinstance(tiles, int) and tiles > 1


def mosaic_layout(dataset: Dataset, path: str) -> MosaicLayout:
    """Read the layout of a mosaic.

    Raises:
        ScanError: ``dicom.mosaic`` if the layout is not stated, or contradicts the image's size.
    """
    csa = _csa_image_header(dataset, path)
    tiles = _csareader().get_n_mosaic(csa)
    if tiles is None:
        tiles = _private(dataset, _MR_GROUP, _MR_CREATOR, _MR_TILES_OFFSET, path)
    try:
        normal = _csareader().get_slice_normal(csa)
    except ValueError:
        normal = None
    if not isinstance(tiles, int) or tiles < 1:
        raise _refused(path, "the number of tiles (NumberOfImagesInMosaic) is not stated")
    if normal is None or not 0.99 < float(np.linalg.norm(normal)) < 1.01:
        raise _refused(path, "the slice direction (SliceNormalVector) is not stated")
    per_side = math.ceil(math.sqrt(tiles))
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows % per_side or columns % per_side:
        raise _refused(
            path, f"{rows} x {columns} pixels do not divide into {per_side} tiles a side"
        )
    return MosaicLayout(tiles, per_side, np.asarray(normal, dtype=np.float64))


def unmosaic(image: Array, layout: MosaicLayout, path: str) -> Array:
    """(rows, columns) of tiles -> (tile rows, tile columns, slices).

    Raises:
        ScanError: ``dicom.mosaic`` if a tile beyond the last slice is not blank.
    """
    n = layout.per_side
    rows, columns = image.shape[0] // n, image.shape[1] // n
    tiles = image.reshape(n, rows, n, columns).transpose(1, 3, 0, 2).reshape(rows, columns, n * n)
    if tiles[:, :, layout.tiles :].any():
        raise _refused(path, f"there are pixels beyond the last of {layout.tiles} tiles")
    return tiles[:, :, : layout.tiles]


def _refused(path: str, reason: str) -> ScanError:
    return ScanError(
        "dicom.mosaic",
        f"{path}: {reason}",
        fix="export the series without anonymising the Siemens CSA header, or as NIfTI",
    )


def _csareader() -> ModuleType:
    """nibabel's parser of CSA headers; its package warns on import that it is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom import csareader
    reader: ModuleType = csareader
    return reader


def _csa_image_header(dataset: Dataset, path: str) -> dict[str, Any]:
    raw = _private(dataset, _CSA_GROUP, _CSA_CREATOR, _CSA_IMAGE_OFFSET, path)
    if not isinstance(raw, bytes) or not raw:
        raise _refused(path, "there is no Siemens CSA header")
    try:
        header: dict[str, Any] = _csareader().read(raw)
    except Exception as error:  # nibabel's parser raises what its unpacking raises
        raise _refused(path, f"the CSA header is damaged ({type(error).__name__})") from error
    return header


def _private(dataset: Dataset, group: int, creator: str, offset: int, path: str) -> Any:
    """Value of a private element by its block's creator (PS3.5 7.8.1), or None."""
    for block in range(0x10, 0x100):
        name = element(dataset, (group, block), path)
        if name is None:
            return None
        if str(name).strip() == creator:
            return element(dataset, (group, (block << 8) + offset), path)
    return None
