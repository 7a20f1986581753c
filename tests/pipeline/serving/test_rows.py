"""Answers to single requests: the batch's numbers, or a row that says why not."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from serving.conftest import random_volume

from pipeline.serving.inference import predict
from pipeline.serving.rows import RowScorer
from pipeline.trust.shift_policy import OnShift

ARRAY = np.arange(210.0).reshape(1, 7, 6, 5).tolist()
PLACED = {"array": ARRAY, "affine": np.eye(4).tolist()}


def probability(row: dict[str, Any]) -> float:
    assert (row["status"], row["code"]) == ("ok", "")
    assert abs(sum(row["probability"].values()) - 1) < 2e-6
    return float(row["probability"]["lesion"])


def test_a_path_and_an_array_get_the_numbers_of_a_batch(
    make_package, write, tmp_path: Path
) -> None:
    package, root = make_package(), tmp_path / "in"
    write.nifti(root / "a.nii.gz", 1)
    write.dicom_series(root / "series", 2)
    predict(package, [root], tmp_path / "out")
    table = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    column = table[0].split(",").index("p_lesion")
    expected = [float(line.split(",")[column]) for line in table[1:]]
    image = nib.load(root / "a.nii.gz")
    array = {"array": np.asarray(image.dataobj)[None].tolist(), "affine": image.affine.tolist()}
    scorer = RowScorer(package, root)
    rows = scorer.score([{"path": "a.nii.gz"}, {"path": str(root / "series")}, array])
    assert [probability(row) for row in rows] == pytest.approx([*expected, expected[0]], abs=1e-6)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({}, "serve.no_scan"),
        ({"path": "a.nii.gz", "array": ARRAY}, "serve.no_scan"),
        ({"array": "voxels"}, "serve.bad_array"),
        ({"array": [1.0, 2.0]}, "serve.bad_array"),
        ({"array": [[[1.0], [2.0, 3.0]]]}, "serve.bad_array"),
        ({"array": [[[]]]}, "serve.bad_array"),
        ({"array": [[[float("nan"), 1.0], [2.0, 3.0]]]}, "serve.bad_array"),
        ({"array": ARRAY, "affine": np.zeros((4, 4)).tolist()}, "serve.bad_array"),
        ({"array": ARRAY, "affine": [[1.0]]}, "serve.bad_array"),
        ({"array": ARRAY}, "serve.bad_array"),
        ({"array": [[[1.0, 2.0], [3.0, 4.0]]]}, "volume.wrong_ndim"),
        ({"path": "../out.nii.gz"}, "serve.outside_root"),
        ({"path": "/etc/passwd"}, "serve.outside_root"),
        ({"path": "link.nii.gz"}, "serve.outside_root"),
        ({"path": "."}, "serve.outside_root"),
        ({"path": "nul\0"}, "serve.bad_path"),
        ({"path": 3}, "serve.bad_path"),
        ({"path": ""}, "serve.bad_path"),
        ({"path": "cohort"}, "stage.incomplete"),
        ({"path": "none.nii.gz"}, "predict.not_found"),
        ({"path": "two"}, "serve.not_one_scan"),
    ],
)
def test_what_cannot_be_answered_is_a_row(
    make_package, write, tmp_path: Path, request_: dict[str, Any], code: str
) -> None:
    root = tmp_path / "in"
    for name in ("a", "two/b", "two/c"):
        write.nifti(root / f"{name}.nii.gz", 1)
    write.nifti(tmp_path / "out.nii.gz", 1)
    (root / "link.nii.gz").symlink_to(tmp_path / "out.nii.gz")
    (root / "cohort").mkdir()
    (root / "cohort" / "manifest.parquet").touch()
    bad, good = RowScorer(make_package(), root).score([request_, PLACED])
    assert (bad["status"], bad["code"], bad["probability"]) == ("quarantined", code, {})
    assert bad["reason"]
    assert str(tmp_path) not in bad["reason"]
    assert probability(good) >= 0


def test_a_damaged_scan_is_quarantined_and_no_path_is_read_without_a_root(
    make_package, write, tmp_path: Path
) -> None:
    package = make_package()
    write.nifti(tmp_path / "in" / "a.nii.gz", 1)
    path = {"path": str(tmp_path / "in" / "a.nii.gz")}
    (row,) = RowScorer(package).score([path])
    assert row["code"] == "serve.paths_off"
    write.truncate(tmp_path / "in" / "a.nii.gz")
    (row,) = RowScorer(package, tmp_path / "in").score([path])
    assert row["status"] == "quarantined"
    assert not row["code"].startswith("serve.")


@pytest.mark.parametrize("then", ["flag", "abstain", "refuse"])
def test_what_the_model_was_told_to_do_with_odd_scans_is_done(
    make_package, tmp_path: Path, then: OnShift
) -> None:
    shape = (6, 5)
    familiar = [random_volume(shape, seed) for seed in range(60)]
    made = make_package(shape, familiar=familiar)
    trust = made.card.trust.model_copy(update={"on_shift": then})
    package = replace(made, card=made.card.model_copy(update={"trust": trust}))
    root = tmp_path / "in"
    root.mkdir()
    odd = np.arange(30, dtype=np.uint8).reshape(6, 5) // 29 * 255  # one bright pixel
    Image.fromarray(odd).save(root / "odd.png")
    predict(package, [root], tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        (expected,) = csv.DictReader(file)
    (row,) = RowScorer(package, root).score([{"path": "odd.png"}])
    assert row["flagged"]
    names = {"predicted": "predicted_class", "within": "prediction_set"}
    for name in ("status", "predicted", "within", "flags", "code", "reason"):
        assert row[name] == expected[names.get(name, name)]
    assert f"{row['shift_score']:.3f}" == expected["shift_score"]
    assert (row["predicted"] == "") == (then != "flag")
