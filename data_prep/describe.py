"""What a manifest says of one volume: taken in the decode child, in place of the volume itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.miniature import Planes, miniature, perceptual_hash, pixel_digest
from data_prep.scan_look import intensity_quantiles
from data_prep.volume import Volume


@dataclass(frozen=True, eq=False)
class ScanFacts:
    """One scan in numbers, and in miniature; see ``manifest.ScanRecord``."""

    modality: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    dtype: str
    minimum: float
    maximum: float
    mean: float
    quantiles: tuple[float, ...]
    pixel_sha256: str
    perceptual_hash: str
    planes: Planes
    flags: tuple[str, ...]


def describe(volume: Volume) -> ScanFacts:
    """Facts of a volume as it was read; deterministic."""
    array = np.ascontiguousarray(volume.array)
    planes = miniature(volume)
    return ScanFacts(
        modality=volume.modality,
        shape=array.shape,
        spacing_mm=volume.spacing_mm,
        orientation=volume.orientation,
        dtype=array.dtype.name,
        minimum=float(array.min()),
        maximum=float(array.max()),
        mean=float(array.mean(dtype=np.float64)),
        quantiles=tuple(intensity_quantiles(array).tolist()),
        pixel_sha256=pixel_digest(volume),
        perceptual_hash=perceptual_hash(planes),
        planes=planes,
        flags=volume.flags,
    )
