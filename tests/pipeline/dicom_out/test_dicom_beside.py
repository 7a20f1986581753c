"""A batch with ``--dicom``: two objects for each scan that is DICOM, whatever the others are."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from answered import complaints, explanation_of
from command_line import medcurve

from data_prep.files import sha256_file
from pipeline.dicom_out.beside import DicomOut
from pipeline.extras import ExtraOptions, extras
from pipeline.gallery.explained import Wanted
from pipeline.serving.inference import predict


@pytest.fixture
def inbox(write, tmp_path):
    """Two series, one image without a study, a NIfTI file."""
    root = tmp_path / "in"
    write.dicom_series(root / "a", 1)
    write.dicom_series(root / "=name; 子" / "b", 2)
    write.dicom_series(root / "c", 3)
    for path in (root / "c").iterdir():
        ds = pydicom.dcmread(path)
        del ds.StudyInstanceUID
        ds.save_as(path)
    write.nifti(root / "d.nii", 4)
    return root


def test_each_dicom_scan_has_a_report_and_a_picture(make_package, inbox, tmp_path):
    package = make_package()
    found = []
    for size in (1, 64):  # the bytes do not depend on how the work was cut
        made = DicomOut(package, lambda scored: explanation_of(np.abs(scored.array[0])))
        out = tmp_path / str(size)
        summary = predict(package, [inbox], out, batch_size=size, beside=[made])
        found.append({path.name: sha256_file(path) for path in (out / "dicom").iterdir()})
    assert found[0] == found[1]
    assert (summary.ok, made.written, made.without) == (4, 2, 2)
    assert summary.flagged["extra_failed"] == 1
    assert "dicom.no_reference" in (out / "extras.csv").read_text()
    paths = sorted((out / "dicom").iterdir())
    assert len(paths) == 4
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        errors, _ = complaints(path.read_bytes(), tmp_path)
        assert errors == []
    studies = {pydicom.dcmread(path).StudyInstanceUID for path in paths}
    assert studies == {"1.2.826.0.2.1", "1.2.826.0.2.2"}


def test_the_command_says_how_many(make_package, inbox, tmp_path, capsys, monkeypatch):
    make_package()
    monkeypatch.setattr("pipeline.tracking.log_predictions", lambda *_, **__: None)
    model, out, runs = tmp_path / "model", tmp_path / "out", tmp_path / "runs"
    arguments = ("predict", model, inbox, "--out", out, "--runs", runs, "--workers", 1)
    assert medcurve(*arguments, "--dicom") == 0
    assert "a report and a picture of 2 scans, none of 2" in capsys.readouterr().out


def test_pictures_show_the_maps_of_explain(make_package, write, tmp_path, monkeypatch):
    make_package()
    monkeypatch.setattr("pipeline.tracking.log_predictions", lambda *_, **__: None)
    write.dicom_series(tmp_path / "in", 5)
    model, runs = tmp_path / "model", tmp_path / "runs"
    pictures = []
    for more in ((), ("--explain", "occlusion")):
        out = tmp_path / f"out{len(more)}"
        arguments = ("--out", out, "--runs", runs, "--workers", 1, "--dicom", "--no-gallery")
        assert medcurve("predict", model, tmp_path / "in", *arguments, *more) == 0
        (path,) = (out / "dicom").glob("*-picture.dcm")
        pictures.append(pydicom.dcmread(path))
    plain, mapped = pictures
    assert "(Occlusion)" in mapped.DerivationDescription
    assert "Occlusion" not in plain.DerivationDescription
    assert mapped.Rows > plain.Rows  # a second row of planes, and a legend
    # another picture is another object of the same series
    assert mapped.SOPInstanceUID != plain.SOPInstanceUID
    assert mapped.SeriesInstanceUID == plain.SeriesInstanceUID


def test_only_scans_that_were_explained_have_a_map(make_package, write, tmp_path, monkeypatch):
    package = make_package()
    for seed in (1, 2):
        write.dicom_series(tmp_path / "in" / str(seed), seed)
    monkeypatch.setattr(Wanted, "takes", lambda _, row: row.scan == "1")
    with extras(package, ExtraOptions(dicom=True, explain="occlusion")) as written:
        predict(package, [tmp_path / "in"], tmp_path / "out", beside=written.beside)
    paths = sorted((tmp_path / "out" / "dicom").glob("*-picture.dcm"))
    shown = ["(Occlusion)" in pydicom.dcmread(path).DerivationDescription for path in paths]
    assert shown == [True, False]


def test_without_highdicom_the_extra_is_named(make_package, inbox, tmp_path, capsys, monkeypatch):
    make_package()
    monkeypatch.setitem(sys.modules, "highdicom.sr", None)
    monkeypatch.delitem(sys.modules, "pipeline.dicom_out.report", raising=False)
    monkeypatch.delitem(sys.modules, "pipeline.dicom_out.capture", raising=False)
    monkeypatch.delitem(sys.modules, "pipeline.dicom_out.beside", raising=False)
    out = tmp_path / "out"
    status = medcurve(
        "predict", tmp_path / "model", inbox, "--out", out, "--runs", tmp_path, "--dicom"
    )
    assert status == 2
    assert "[config.no_highdicom]" in (said := capsys.readouterr().err)
    assert "'.[dicom]'" in said
    assert not out.exists()


def test_real_scans_in_seven_transfer_syntaxes_have_valid_objects(make_package, tmp_path):
    data = os.environ.get("MEDCURVE_DATA")
    root = Path(data or "nowhere") / "dicom" / "dcm_qa_ts" / "In"
    if not root.is_dir():
        pytest.skip("set MEDCURVE_DATA to the folder that holds dicom/dcm_qa_ts")
    package = make_package((8, 8, 8))
    made = DicomOut(package)
    predict(package, [root], tmp_path / "out", beside=[made])
    assert (made.written, made.without) == (9, 0)
    for path in (tmp_path / "out" / "dicom").iterdir():
        assert pydicom.dcmread(path).PatientID is not None
        errors, _ = complaints(path.read_bytes(), tmp_path)
        assert errors == []
