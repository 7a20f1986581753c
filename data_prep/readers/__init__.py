"""Readers: scans on disk -> Volume. Each is chosen by content, never by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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


def discover(
    root: Path, paths: Iterable[Path] | None = None, policy: ReadPolicy = DEFAULT_POLICY
) -> Found:
    """Find every scan under ``root``: one source a volume or image.

    Content decides what a file is; names do not. Only headers are read.

    Args:
        root: The input folder.
        paths: Only these files and folders; default: all.
        policy: Decides what is refused.

    Returns:
        Sources, rejected files with a code and a reason, and skipped files with a reason; each
        in a stable order, every file in exactly one of them.
    """
    # A decode child reads and never searches: it should not pay for this import.
    from data_prep.readers.discovery import find_scans

    return find_scans(root, paths, policy)


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
