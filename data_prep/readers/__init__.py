"""Readers: scans on disk -> Volume. Each is chosen by content, never by name."""

from __future__ import annotations

from pathlib import Path

from data_prep.readers.discovery import discover
from data_prep.readers.policy import DEFAULT_POLICY, ReadPolicy
from data_prep.readers.source import Found, Rejected, ScanSource, Skipped
from data_prep.volume import Volume

__all__ = [
    "DEFAULT_POLICY",
    "Found",
    "ReadPolicy",
    "Rejected",
    "ScanSource",
    "Skipped",
    "discover",
    "read_scan",
]


def read_scan(root: Path, source: ScanSource, policy: ReadPolicy = DEFAULT_POLICY) -> Volume:
    """Read one scan that ``discover`` found.

    Args:
        root: The folder that ``source.paths`` are relative to.
        source: What to read.
        policy: The policy that ``discover`` was given.

    Returns:
        (C, I, J[, K]) with its affine; see ``data_prep.volume`` for the conventions.

    Raises:
        ScanError: Whatever is wrong with the input; any other exception is a defect.
    """
    # Each reader is imported when first needed: a decoder's libraries are not loaded before.
    if source.format == "dicom":
        from data_prep.readers.dicom import read_dicom

        return read_dicom(root, source, policy)
    if source.format == "nifti":
        from data_prep.readers.nifti import read_nifti

        return read_nifti(root, source.paths, policy).with_flags(*source.flags)
    if source.format == "raster":
        from data_prep.readers.raster import read_raster

        return read_raster(root, source.paths[0], policy).with_flags(*source.flags)
    from data_prep.readers.medmnist import read_item

    return read_item(root / source.paths[0], source.item)
