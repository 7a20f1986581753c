"""A file that ends too early, wherever it ends, is refused: never read, never passed over."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_prep.errors import ScanError
from data_prep.phantom import PhantomConfig, write_phantom
from data_prep.readers import discover, read_scan


def dicom(folder: Path) -> Path:
    config = PhantomConfig(ndim=2, n_patients=1, dicom=1.0, seed=4, spacing_mm=(9.0, 10.0))
    write_phantom(config, folder)
    return next(folder.rglob("*.dcm"))


def nifti(folder: Path) -> Path:
    voxels = np.random.default_rng(0).integers(0, 99, (5, 4, 3)).astype(np.int16)
    nib.Nifti1Image(voxels, np.eye(4)).to_filename(folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def png(folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "scan.png")
    return folder / "scan.png"


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("make", [dicom, nifti, png])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, make: object) -> None:
    (tmp_path / "whole").mkdir()
    whole = make(tmp_path / "whole")  # type: ignore[operator]
    data = whole.read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    path = folder / whole.name
    for length in range(0, len(data), max(1, len(data) // 400)):
        path.write_bytes(data[:length])
        found = discover(folder)
        assert not found.skipped, length
        if found.sources:
            with pytest.raises(ScanError):
                read_scan(folder, found.sources[0])
        else:
            assert len(found.rejected) == 1, length
    path.write_bytes(data)
    assert read_scan(folder, discover(folder).sources[0]).array.size
