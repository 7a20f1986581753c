"""``predict --explain``: maps of the scans that are wanted, and what happens where one fails."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_prep.errors import ScanError
from data_prep.files import sha256_file
from pipeline.gallery import explained as explained_module
from pipeline.gallery.beside import Gallery
from pipeline.gallery.explained import FOLDER, Explained, Wanted
from pipeline.serving.explained import TABLE
from pipeline.serving.inference import predict
from pipeline.trust.explain_methods import ExplainError


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def inbox(write, tmp_path) -> Path:
    root = tmp_path / "inbox"
    write.nifti(root / "a" / "one.nii.gz", 1)
    write.dicom_series(root / "series", 2)
    write.nifti(root / "broken.nii.gz", 3)
    write.truncate(root / "broken.nii.gz")
    return root


def explain_batch(package, inbox: Path, out: Path, wanted: Wanted, **options) -> Explained:
    with Explained(package, wanted) as explained:
        beside = [explained, Gallery(package.recipe, wanted.method)]
        predict(package, [inbox], out, beside=beside, **options)
    return explained


def test_maps_lie_in_the_scan_s_space_and_explain_the_class_of_the_row(
    make_package, inbox, tmp_path
):
    package, out = make_package(), tmp_path / "out"
    explained = explain_batch(package, inbox, out, Wanted("occlusion"))
    assert explained.written == 2
    table = rows(out / FOLDER / TABLE)
    predicted = {row["scan"]: row["predicted_class"] for row in rows(out / "predictions.csv")}
    assert [row["scan"] for row in table] == ["a/one.nii.gz", "series"]
    assert all(row["class"] == predicted[row["scan"]] for row in table)
    scan = nib.load(inbox / "a" / "one.nii.gz")
    image = nib.load(out / FOLDER / table[0]["map"])
    assert image.shape == scan.shape
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
    assert (out / FOLDER / table[1]["picture"]).read_bytes()[:4] == b"\x89PNG"
    assert "iVBOR" in (out / "gallery.html").read_text()  # a PNG in base64 lies on a scan
    left = {path.name for path in out.iterdir() if path.suffix in ("", ".pack", ".rows")}
    assert left == {FOLDER}
    private = [out, out / "gallery.html", out / FOLDER, *(out / FOLDER).iterdir()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_bytes_do_not_depend_on_how_the_work_was_cut(make_package, inbox, tmp_path):
    package = make_package()
    found = []
    for batch_size, workers in ((64, 1), (1, 2)):
        out = tmp_path / f"out-{workers}"
        explain_batch(
            package, inbox, out, Wanted("occlusion"), batch_size=batch_size, workers=workers
        )
        files = sorted(path for path in out.rglob("*") if path.is_file())
        found.append({path.name: sha256_file(path) for path in files})
    assert found[0] == found[1]


def test_only_scans_that_are_wanted_are_explained(make_package, inbox, tmp_path):
    package, out = make_package(), tmp_path / "out"
    explained = explain_batch(package, inbox, out, Wanted("occlusion", "flagged"))
    flagged = [
        row["scan"]
        for row in rows(out / "predictions.csv")
        if row["flags"] and row["status"] == "ok"
    ]
    assert explained.written == len(flagged)
    assert [row["scan"] for row in rows(out / FOLDER / TABLE)] == flagged


def test_a_map_that_fails_costs_the_map_only(make_package, inbox, tmp_path, monkeypatch):
    package, out = make_package(), tmp_path / "out"

    def fail(*_: object) -> None:
        raise ScanError("model.not_finite", "the map is NaN")

    monkeypatch.setattr(explained_module, "explain", fail)
    assert explain_batch(package, inbox, out, Wanted("occlusion")).written == 0
    assert {row["code"] for row in rows(out / "extras.csv")} == {"model.not_finite"}
    ok = [row for row in rows(out / "predictions.csv") if row["status"] == "ok"]
    assert len(ok) == 2
    assert all("extra_failed" in row["flags"] for row in ok)
    assert "extra_failed" in (out / "gallery.html").read_text()


def test_a_scan_that_can_no_longer_be_read_has_no_map(make_package, inbox, tmp_path):
    package = make_package()

    class Remove:
        """Takes the file away as soon as it is scored."""

        def scan(self, folder, scored):
            for path in scored.source.paths:
                (scored.root / path).unlink()

        def finish(self, folder, package, summary):
            pass

    with Explained(package, Wanted("occlusion")) as explained:
        predict(package, [inbox / "a"], tmp_path / "out", beside=[Remove(), explained])
    assert len(rows(tmp_path / "out" / "extras.csv")) == 1
    assert rows(tmp_path / "out" / FOLDER / TABLE) == []


def test_a_method_that_the_model_does_not_have_is_refused(make_package):
    with pytest.raises(ExplainError, match="'grad_cam' needs"):
        Explained(make_package(), Wanted("grad_cam"))
