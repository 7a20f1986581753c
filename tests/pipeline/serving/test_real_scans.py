"""Real DICOM folders, fMRI time points and mosaics among them: every file is accounted for."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from pipeline.serving.inference import predict


@pytest.fixture(scope="module")
def dicom() -> Path:
    data = os.environ.get("MEDCURVE_DATA")
    if not data or not (Path(data) / "dicom").is_dir():
        pytest.skip("set MEDCURVE_DATA to the folder that holds dicom/dcm_qa_nih and dcm_qa_ts")
    return Path(data) / "dicom"


def test_every_file_of_a_real_folder_is_accounted_for(make_package, dicom, tmp_path):
    root = dicom / "dcm_qa_nih" / "In"
    summary = predict(make_package((24, 24, 24)), [root], tmp_path / "out", workers=2)
    assert summary.input_files == sum(1 for path in root.rglob("*") if path.is_file())
    assert summary.inputs == summary.ok + summary.quarantined + summary.skipped
    # four GE series of ten time points and eight Siemens mosaics, never read as one slice
    assert summary.flagged["time_point"] == 40
    assert summary.flagged["mosaic"] == 8
    assert (summary.ok, summary.quarantined) == (48, 0)


def test_one_scan_in_seven_transfer_syntaxes_gets_one_probability(make_package, dicom, tmp_path):
    root = dicom / "dcm_qa_ts" / "In"
    predict(make_package((24, 24, 24)), [root], tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["status"] for row in rows) == {"ok": 9}
    assert len({row["p_lesion"] for row in rows}) == 1
