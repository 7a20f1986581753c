"""Explanations as files: NIfTI in the scan's own space, under names that are our own."""

from __future__ import annotations

import gzip
import hashlib
import re
from typing import Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from data_prep.volume import Volume

_NAME_LENGTH: Final = 80


def file_stem(scan: str) -> str:
    """A file name for a scan of any name: letters, digits, "-" and "_" only, no two alike.

    The name that the prediction table has, as far as it can be shown, and a digest of it: a path
    in it cannot leave the folder, and what was replaced cannot make two scans one.
    """
    shown = re.sub(r"[^A-Za-z0-9-]+", "_", scan).strip("_-")[:_NAME_LENGTH]
    digest = hashlib.sha256(scan.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{shown or 'scan'}-{digest}"


def nifti_bytes(values: NDArray[np.float32], volume: Volume) -> bytes:
    """A map as ``.nii.gz``: the same bytes for the same map.

    Args:
        values: (I, J[, K]) on the voxels of ``volume``; of an image K is 1.
        volume: Whose affine it gets. Where the scan states no geometry, both codes are 0, which is
            NIfTI's way to say so.

    Returns:
        float32, gzip without name and time.
    """
    stored = values if values.ndim == 3 else values[:, :, np.newaxis]
    image = nib.Nifti1Image(stored, volume.affine)  # type: ignore[no-untyped-call]
    code = "scanner" if volume.has_geometry else "unknown"
    image.set_sform(volume.affine, code=code)  # type: ignore[no-untyped-call]
    # A qform cannot shear: on such a scan (a tilted gantry) only the sform is right.
    columns = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    square = np.allclose(columns.T @ columns, np.eye(3), atol=1e-4)
    image.set_qform(volume.affine, code=code if square else "unknown")  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
