"""Real scanners' files against an independent converter's NIfTI (dcm_qa_nih and dcm_qa_ts)."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from data_prep.readers import Found, ScanSource, discover
from data_prep.readers.sandbox import DecodePool
from data_prep.volume import Volume

REFERENCES = {
    "20180918GE/mr_0004": "DCM2NIIX_regression_test_4.nii",
    "20180918GE/mr_0005": "DCM2NIIX_regression_test_5.nii",
    "20180918GE/mr_0006": "DCM2NIIX_regression_test_6.nii",
    "20180918GE/mr_0007": "DCM2NIIX_regression_test_7.nii",
    "20180918Si/mr_0003": "EPI_PE=AP_3.nii",
    "20180918Si/mr_0004": "EPI_PE=PA_4.nii",
    "20180918Si/mr_0005": "EPI_PE=RL_5.nii",
    "20180918Si/mr_0006": "EPI_PE=LR_6.nii",
}


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("MEDCURVE_DATA")
    if not folder:
        pytest.skip("MEDCURVE_DATA is not set: no real DICOM files")
    return Path(folder) / "dicom"


@pytest.fixture(scope="module")
def found(data: Path) -> Found:
    return discover(data / "dcm_qa_nih" / "In")


def on_axes_of(volume: Volume, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The volume with its axes flipped and exchanged to run as those of ``affine``."""
    turn = ornt_transform(io_orientation(volume.affine), io_orientation(affine))
    moved = volume.affine @ inv_ornt_aff(turn, volume.array.shape[1:])
    return apply_orientation(volume.array[0], turn), moved


def test_all_608_files_are_accounted_for(found: Found) -> None:
    assert sum(len(source.paths) for source in found.sources) == 608
    assert not found.rejected
    assert len(found.skipped) == 8  # a text file beside each series
    assert len(found.sources) == 4 * 10 + 4 * 2


def test_volumes_and_mosaics_equal_the_reference(data: Path, found: Found) -> None:
    by_series: dict[str, list[ScanSource]] = defaultdict(list)
    for source in found.sources:
        by_series[Path(source.paths[0]).parent.as_posix()].append(source)
    assert set(by_series) == set(REFERENCES)
    root = data / "dcm_qa_nih" / "In"
    with DecodePool(root, workers=2) as pool:
        for series, sources in by_series.items():
            image = nib.load(data / "dcm_qa_nih" / "Ref" / REFERENCES[series])
            expected = np.asarray(image.dataobj)
            assert len(sources) == expected.shape[3]
            for time, (_, volume) in enumerate(pool.read(sources)):
                assert isinstance(volume, Volume)
                array, affine = on_axes_of(volume, image.affine)
                np.testing.assert_array_equal(array, expected[..., time])
                np.testing.assert_allclose(affine, image.affine, atol=1e-4)


def test_nine_files_of_seven_syntaxes_decode_to_the_same_pixels(data: Path) -> None:
    root = data / "dcm_qa_ts"
    sources = discover(root / "In").sources
    assert len(sources) == 9
    with DecodePool(root / "In", workers=2) as pool:
        volumes = [volume for _, volume in pool.read(sources)]
    image = nib.load(root / "Ref" / "1.nii")
    for volume in volumes:
        assert isinstance(volume, Volume)
        np.testing.assert_array_equal(volume.array, volumes[0].array)
        array, affine = on_axes_of(volume, image.affine)
        np.testing.assert_array_equal(array, np.asarray(image.dataobj))
        np.testing.assert_allclose(affine, image.affine, atol=1e-4)
