"""Real DICOM folders, fMRI time points and mosaics among them: every file is accounted for."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from data_prep.phantom import PhantomConfig, draw_patient
from data_prep.volume import Volume
from pipeline.serving.inference import predict
from pipeline.serving.predictions import UNLIKE_TRAINING


@pytest.fixture(scope="module")
def dicom() -> Path:
    data = os.environ.get("MEDCURVE_DATA")
    if not data or not (Path(data) / "dicom").is_dir():
        pytest.skip("set MEDCURVE_DATA to the folder that holds dicom/dcm_qa_nih and dcm_qa_ts")
    return Path(data) / "dicom"


def phantom_scans(patients: int) -> list[Volume]:
    config = PhantomConfig(spacing_mm=(7.0, 9.0), slice_mm=(8.0, 9.0))
    return [draw_patient(config, number).scans[0].volume for number in range(patients)]


def test_every_file_of_a_real_folder_is_accounted_for(make_package, dicom, tmp_path):
    package = make_package((12, 12, 12), familiar=phantom_scans(60))
    root = dicom / "dcm_qa_nih" / "In"
    summary = predict(package, [root], tmp_path / "out", workers=2)
    assert summary.input_files == sum(1 for path in root.rglob("*") if path.is_file())
    assert summary.inputs == summary.ok + summary.quarantined + summary.skipped
    # four GE series of ten time points and eight Siemens mosaics, never read as one slice
    assert summary.flagged["time_point"] == 40
    assert summary.flagged["mosaic"] == 8
    assert (summary.ok, summary.quarantined) == (48, 0)
    # the model knows phantoms alone
    assert summary.flagged[UNLIKE_TRAINING] == 48


def test_one_scan_in_seven_transfer_syntaxes_gets_one_probability(make_package, dicom, tmp_path):
    root = dicom / "dcm_qa_ts" / "In"
    package = make_package((12, 12, 12), familiar=phantom_scans(60))
    summary = predict(package, [root], tmp_path / "out")
    assert summary.input_files == sum(1 for path in root.rglob("*") if path.is_file())
    assert summary.flagged[UNLIKE_TRAINING] == 9
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["status"] for row in rows) == {"ok": 9}
    assert len({row["p_lesion"] for row in rows}) == 1
