"""Explaining folders of scans: every scan accounted for, files that repeat, plain names."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from command_line import medcurve

from pipeline.serving.explained import TABLE, explain_scans
from pipeline.trust import explain_scan
from pipeline.trust.explain_methods import METHODS, ExplainError

CNN = {"widths": [4, 8], "convolutions": 1, "train": {"epochs": 1, "min_steps": 1}}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def inbox(tmp_path: Path, write: Any) -> Path:
    folder = tmp_path / "inbox"
    write.nifti(folder / "a/one.nii.gz", 1)
    write.dicom_series(folder / "b", 2)
    write.nifti(folder / "cut.nii", 3)
    data = (folder / "cut.nii").read_bytes()
    (folder / "cut.nii").write_bytes(data[:-100])
    write.png(folder / "flat.png", 4)  # an image, where the model takes volumes
    (folder / "notes.txt").write_text("not a scan")
    return folder


def test_every_scan_is_explained_or_quarantined(
    make_package: Any, inbox: Path, tmp_path: Path
) -> None:
    package = make_package(shape=(8, 8, 8), family="cnn_scratch", params=CNN)
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    found = explain_scans(
        package, [inbox], out, methods=(), progress=lambda done, total: seen.append((done, total))
    )
    assert (found.explained, found.quarantined, found.skipped) == (2, 2, 1)
    assert found.quarantined_by_code == {"nifti.truncated": 1, "volume.wrong_ndim": 1}
    assert found.methods == METHODS
    assert seen[-1] == (4, 4)
    table = rows(out / TABLE)
    assert [(row["scan"], row["method"]) for row in table] == [
        (scan, method) for scan in ("a/one.nii.gz", "b") for method in sorted(METHODS)
    ]
    refused = {row["path"]: row["code"] for row in rows(out / "quarantine.csv")}
    assert refused == {"cut.nii": "nifti.truncated", "flat.png": "volume.wrong_ndim"}
    assert [row["path"] for row in rows(out / "skipped.csv")] == ["notes.txt"]
    scan = nib.load(inbox / "a/one.nii.gz")
    for row in table:
        assert row["class"] in package.task.class_names and 0.5 <= float(row["probability"]) <= 1
        assert (out / row["picture"]).read_bytes()[:4] == b"\x89PNG"
        image = nib.load(out / row["map"])
        if row["scan"] == "a/one.nii.gz":
            assert image.shape == scan.shape
            np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
        values = image.get_fdata()
        if row["peak_i"]:
            peak = tuple(int(row[f"peak_{axis}"]) for axis in "ijk")
            assert values[peak] == values.max() > 0
            at = image.affine @ np.array([*peak, 1])
            stated = [row[f"peak_{side}_mm"] for side in ("right", "anterior", "superior")]
            # a spreadsheet's guard stands before a minus sign
            assert [float(v.lstrip("'")) for v in stated] == pytest.approx(at[:3], abs=0.01)
    private = [out, *out.glob("*.csv"), *out.glob("*.png"), *out.glob("*.nii.gz")]
    assert len(private) == 16 and all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_the_same_scans_give_the_same_bytes(make_package: Any, inbox: Path, tmp_path: Path) -> None:
    package = make_package(shape=(8, 8, 8), family="cnn_scratch", params=CNN)
    digests = []
    for name in ("first", "again"):
        out = tmp_path / name
        found = explain_scans(package, [inbox], out, target_class="lesion", workers=2)
        assert found.methods == ("grad_cam",)
        digests.append(
            {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.*g*z")}
        )
        assert {row["class"] for row in rows(out / TABLE)} == {"lesion"}
    assert digests[0] == digests[1] and len(digests[0]) == 2


def test_what_the_model_does_not_have_is_refused_before_a_scan_is_read(
    make_package: Any, tmp_path: Path
) -> None:
    package = make_package()  # linear
    nowhere = tmp_path / "not there"
    with pytest.raises(ExplainError, match="'grad_cam' needs") as caught:
        explain_scans(package, [nowhere], tmp_path / "out", methods=["grad_cam"])
    assert "occlusion" in caught.value.fix
    with pytest.raises(ExplainError, match="no class 'cat'"):
        explain_scans(package, [nowhere], tmp_path / "out", target_class="cat")


def test_the_command_writes_maps_by_the_default_method(
    make_package: Any, inbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_package(shape=(6, 5, 4))
    out = tmp_path / "maps"
    command = ["explain", tmp_path / "model", inbox, "--out", out, "--runs", tmp_path / "runs"]
    assert medcurve(*command, "--workers", 1) == 0
    printed = capsys.readouterr().out
    assert "explain: 2 scans by occlusion, 2 quarantined, 1 skipped" in printed
    assert "quarantined: 1 × volume.wrong_ndim (2D where the recipe" in printed
    assert {row["method"] for row in rows(out / TABLE)} == {"occlusion"}
    assert medcurve(*command, "--method", "gradcam") == 2
    assert "explain.unknown_method" in capsys.readouterr().err


def test_the_command_says_where_maps_are_empty(
    make_package: Any,
    inbox: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_package(shape=(6, 5, 4))
    monkeypatch.setattr(explain_scan, "_map", lambda *_: np.zeros((6, 5, 4), dtype=np.float32))
    out = tmp_path / "maps"
    command = ["explain", tmp_path / "model", inbox, "--out", out, "--runs", tmp_path / "runs"]
    assert medcurve(*command, "--workers", 1, "--method", "all") == 0
    assert "in 2 maps nothing speaks for the class" in capsys.readouterr().out
    assert {row["peak_i"] for row in rows(out / TABLE)} == {""}
