"""Phantom cohorts on disk: real files that hold exactly what was drawn."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from data_prep.errors import ScanError, StageError
from data_prep.geometry import reorient
from data_prep.phantom import PhantomConfig, draw_patient, write_inbox, write_phantom
from data_prep.phantom_law import LesionLaw
from data_prep.readers import ScanSource, discover, read_scan


def tree(root: Path) -> dict[str, bytes]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def by_name(root: Path) -> dict[str, ScanSource]:
    """Scans as labels.csv names them: a file, or the folder of a series."""
    sources = discover(root).sources
    return {s.paths[0] if len(s.paths) == 1 else str(Path(s.paths[0]).parent): s for s in sources}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_what_is_read_back_is_what_was_drawn(ndim: Any, modality: Any, tmp_path: Path) -> None:
    config = PhantomConfig(ndim=ndim, modality=modality, n_patients=8, seed=3)
    write_phantom(config, tmp_path)
    found = by_name(tmp_path)
    formats = set()
    for number in range(config.n_patients):
        for scan in draw_patient(config, number).scans:
            formats.add(scan.format)
            got, drawn = read_scan(tmp_path, found.pop(scan.name)), scan.volume
            if scan.format == "png":
                assert not got.has_geometry
                assert np.abs(got.array - np.maximum(drawn.array, 0)).max() <= 0.5
                continue
            got = reorient(got, drawn.orientation)
            # Stored values are whole numbers on about 4000 levels (DICOM) or 65000 (NIfTI).
            assert np.abs(got.array - drawn.array).max() <= np.ptp(drawn.array) / 4000
            place = [*range(ndim), 3]
            assert np.abs(got.affine - drawn.affine)[:, place].max() <= 1e-4
            if scan.format == "dicom":
                assert got.modality == modality
    assert not found
    assert formats == ({"dicom", "png"} if ndim == 2 else {"dicom", "nifti"})


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_label_table(ndim: Any, tmp_path: Path) -> None:
    config = PhantomConfig(ndim=ndim, n_patients=6, law=LesionLaw(n_classes=3))
    told: list[tuple[int, int]] = []
    write_phantom(
        config, tmp_path / "new" / "cohort", lambda done, total: told.append((done, total))
    )
    root = tmp_path / "new" / "cohort"
    assert told == [(n, 6) for n in range(1, 7)]
    table = rows(root)
    assert list(table[0]) == [
        "scan",
        "patient_id",
        "label",
        "bayes_benign",
        "bayes_indeterminate",
        "bayes_malignant",
    ]
    assert {row["scan"] for row in table} == set(by_name(root))
    for row in table:
        patient = draw_patient(config, int(row["patient_id"][1:]))
        assert row["label"] == patient.label
        stated = tuple(float(row[f"bayes_{name}"]) for name in config.law.class_names)
        assert stated == patient.bayes


def test_the_same_config_writes_the_same_bytes(tmp_path: Path) -> None:
    for ndim in (2, 3):
        config = PhantomConfig(ndim=2 if ndim == 2 else 3, n_patients=3, seed=5)
        write_phantom(config, tmp_path / f"a{ndim}")
        write_phantom(config, tmp_path / f"b{ndim}")
        assert tree(tmp_path / f"a{ndim}") == tree(tmp_path / f"b{ndim}")


def test_dicom_headers_are_whole_and_uids_are_unique(tmp_path: Path) -> None:
    config = PhantomConfig(n_patients=4, dicom=1)
    write_phantom(config, tmp_path / "a")
    write_phantom(config.model_copy(update={"noise": 0.01}), tmp_path / "b")
    headers = [pydicom.dcmread(path) for path in sorted(tmp_path.rglob("*.dcm"))]
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    for h in headers:
        assert h.file_meta.MediaStorageSOPInstanceUID == h.SOPInstanceUID
        assert h.SOPInstanceUID.is_valid
        rows_, columns = np.array(h.ImageOrientationPatient).reshape(2, 3)
        assert np.dot(rows_, columns) == pytest.approx(0, abs=1e-9)
        assert h.SpacingBetweenSlices == h.SliceThickness
        assert h.pixel_array.shape == (h.Rows, h.Columns)
    series = {
        h.SeriesInstanceUID: (float(h.RescaleSlope), float(h.RescaleIntercept)) for h in headers
    }
    assert len(set(series.values())) == len(series)  # each has a scale of its own


def test_nifti_files_need_their_scale(tmp_path: Path) -> None:
    write_phantom(PhantomConfig(n_patients=2, dicom=0), tmp_path)
    for path in tmp_path.rglob("*.nii.gz"):
        image = nib.load(path)
        assert image.get_data_dtype() == np.int16
        assert image.dataobj.slope != 1
        assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
        assert np.abs(image.get_qform() - image.affine).max() <= 1e-3


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    for write in (write_phantom, write_inbox):
        with pytest.raises(StageError) as caught:
            write(PhantomConfig(n_patients=1), tmp_path)
        assert caught.value.code == "phantom.not_empty"
    assert tree(tmp_path) == {"mine.txt": b"keep"}


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_inbox_holds_new_patients_and_one_broken_file(ndim: Any, tmp_path: Path) -> None:
    config = PhantomConfig(ndim=ndim, n_patients=4)
    write_phantom(config, tmp_path / "cohort")
    write_inbox(config, tmp_path / "inbox", n_patients=4)
    found = discover(tmp_path / "inbox")
    read, refused = [], [path for item in found.rejected for path in item.paths]
    for source in found.sources:
        try:
            read.append((source.format, read_scan(tmp_path / "inbox", source)))
        except ScanError:
            refused += source.paths
    assert len(refused) == 1
    assert refused[0].startswith("truncated")
    assert {format_ for format_, _ in read} == {"dicom", "raster" if ndim == 2 else "nifti"}
    assert not list((tmp_path / "inbox").glob("*.csv"))
    cohort, inbox = tree(tmp_path / "cohort"), tree(tmp_path / "inbox")
    assert not set(cohort.values()) & set(inbox.values())
