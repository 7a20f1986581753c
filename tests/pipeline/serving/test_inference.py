"""Every scan gets a row, whatever it is, and the bytes do not depend on how the work was cut."""

from __future__ import annotations

import csv
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from data_prep.errors import StageError
from data_prep.files import sha256_file
from data_prep.task import Task
from pipeline.serving.inference import predict
from pipeline.serving.inputs import InputError
from pipeline.serving.package import ModelPackage

TABLES = ("predictions.csv", "predictions.parquet", "quarantine.csv", "skipped.csv", "summary.json")
MULTI_LABEL = Task(kind="multi-label", class_names=("mass", "effusion", "nodule"))


def voxels(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, size=shape).astype(np.int16)


def write_nifti(path: Path, seed: int, shape: tuple[int, ...] = (8, 7, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.5, 1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(voxels(seed, shape), affine), path)


def write_png(path: Path, seed: int, shape: tuple[int, int] = (9, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(voxels(seed, shape).astype(np.uint8)).save(path)


def write_dicom_series(folder: Path, seed: int, shape: tuple[int, ...] = (7, 8, 6)) -> None:
    """An axial MR series of ``shape`` (rows, columns, slices), its files in random order."""
    folder.mkdir(parents=True, exist_ok=True)
    array = voxels(seed, shape)
    for number in range(shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{seed}.{number + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = Dataset()
        image.file_meta = meta
        image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID = f"1.2.826.0.2.{seed}"
        image.SeriesInstanceUID = f"1.2.826.0.3.{seed}"
        image.FrameOfReferenceUID = f"1.2.826.0.4.{seed}"
        image.PatientID = f"P{seed}"
        image.PatientName = "Nobody^Here"
        image.Modality = "MR"
        image.Rows, image.Columns = shape[:2]
        image.PixelSpacing = [1.25, 1.5]
        image.SliceThickness = 2
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [-10, -12, 2.0 * number]
        image.InstanceNumber = shape[2] - number
        image.RescaleSlope, image.RescaleIntercept = 1, 0
        image.SamplesPerPixel = 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit = 15
        image.PixelRepresentation = 1
        image.PixelData = array[:, :, number].tobytes()
        image.save_as(folder / f"{(number * 5) % shape[2]}.dcm", enforce_file_format=True)


def truncate(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def write_inbox(root: Path) -> Path:
    """Nineteen scans (two of them damaged) and two files that are none."""
    for seed in range(15):
        write_nifti(root / f"site-{seed % 2}" / f"{seed:02}.nii.gz", seed)
    write_dicom_series(root / "dicom" / "a", 20)
    write_dicom_series(root / "dicom" / "b", 21)
    write_nifti(root / "broken.nii.gz", 22)
    truncate(root / "broken.nii.gz")
    write_dicom_series(root / "dicom" / "short", 23)
    truncate(root / "dicom" / "short" / "0.dcm", 0.9)
    (root / "labels.csv").write_text("scan,label\n")
    (root / "README.txt").write_text("read me")
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


@dataclass(frozen=True, eq=False)
class Recording(ModelPackage):
    """A model that keeps what it was given."""

    seen: list[np.ndarray] = field(default_factory=list)

    def predict(self, x):
        self.seen.append(x.numpy().copy())
        return super().predict(x)


def recording(package: ModelPackage) -> Recording:
    return Recording(package.card, package.family, package.digest)


def test_every_scan_gets_a_row_and_the_damaged_ones_say_why(make_package, tmp_path):
    inbox = write_inbox(tmp_path / "inbox")
    out = tmp_path / "out"
    told: list[tuple[int, int]] = []
    summary = predict(
        make_package(), [inbox], out, batch_size=4, progress=lambda *now: told.append(now)
    )
    assert sorted(digests(out)) == sorted([*TABLES, "provenance.json"])

    table = rows(out / "predictions.csv")
    names = [row["scan"] for row in table]
    assert names == sorted(names)
    assert len(set(names)) == 19
    assert {"broken.nii.gz", "dicom/a", "dicom/b", "dicom/short", "site-0/00.nii.gz"} <= set(names)
    bad = {row["scan"]: row for row in table if row["status"] == "quarantined"}
    assert sorted(bad) == ["broken.nii.gz", "dicom/short"]
    assert bad["broken.nii.gz"]["code"] == "nifti.truncated"
    assert bad["broken.nii.gz"]["reason"]
    assert bad["dicom/short"]["p_lesion"] == bad["dicom/short"]["predicted_class"] == ""
    for row in table:
        if row["status"] == "ok":
            healthy, lesion = float(row["p_healthy"]), float(row["p_lesion"])
            assert healthy + lesion == pytest.approx(1, abs=2e-6)
            assert row["predicted_class"] == ("lesion" if lesion > healthy else "healthy")
            assert len(row["p_lesion"]) == len("0.123456")
            assert row["code"] == row["reason"] == ""

    refused = rows(out / "quarantine.csv")
    assert {row["path"] for row in refused if row["path"].startswith("dicom")} == {
        f"dicom/short/{n}.dcm" for n in range(6)
    }
    assert [row["path"] for row in rows(out / "skipped.csv")] == ["README.txt", "labels.csv"]

    counted = json.loads((out / "summary.json").read_text())
    assert (summary.ok, summary.quarantined, summary.skipped) == (17, 2, 2)
    assert counted["inputs"] == counted["ok"] + counted["quarantined"] + counted["skipped"] == 21
    assert counted["input_files"] == sum(1 for path in inbox.rglob("*") if path.is_file())
    assert sum(counted["predicted"].values()) == 17
    assert sum(counted["quarantined_by_code"].values()) == 2
    assert counted["ok_rate"] == pytest.approx(17 / 19)
    assert "seconds" not in counted
    assert summary.scans_per_second > 0
    assert told[-1] == (19, 19)
    assert told == sorted(told)


def test_parquet_says_the_same_as_csv(make_package, tmp_path):
    inbox = write_inbox(tmp_path / "inbox")
    predict(make_package(), [inbox], tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    for written, row in zip(rows(tmp_path / "out" / "predictions.csv"), table, strict=True):
        assert list(written) == list(row)
        for name in ("scan", "status", "predicted_class", "code", "reason"):
            assert written[name] == row[name]
        assert written["flags"].split() == row["flags"]
        if row["p_lesion"] is None:
            assert written["p_lesion"] == ""
        else:
            assert float(written["p_lesion"]) == row["p_lesion"]


def test_bytes_do_not_depend_on_batch_size_or_workers(make_package, tmp_path):
    inbox = write_inbox(tmp_path / "inbox")
    package = make_package()
    outputs = []
    for batch_size, workers in [(1, 1), (7, 2), (64, 1), (64, 2)]:
        out = tmp_path / f"out-{batch_size}-{workers}"
        predict(package, [inbox], out, batch_size=batch_size, workers=workers)
        outputs.append(digests(out))
    assert all(output == outputs[0] for output in outputs)
    predict(package, [inbox], tmp_path / "out-1-1")  # over the earlier output
    assert digests(tmp_path / "out-1-1") == outputs[0]


def test_a_scan_is_scored_the_same_alone_and_among_others(make_package, tmp_path):
    inbox = write_inbox(tmp_path / "inbox")
    package = make_package()
    predict(package, [inbox], tmp_path / "all")
    among = {row["scan"]: row for row in rows(tmp_path / "all" / "predictions.csv")}
    predict(package, [inbox / "site-1" / "07.nii.gz"], tmp_path / "one")
    (alone,) = rows(tmp_path / "one" / "predictions.csv")
    assert alone["p_lesion"] == among["site-1/07.nii.gz"]["p_lesion"]


@pytest.mark.parametrize(("shape", "write"), [((6, 5, 4), write_nifti), ((6, 5), write_png)])
def test_the_model_sees_blocks_of_one_shape_in_any_batch(make_package, tmp_path, shape, write):
    for seed in range(18):
        write(tmp_path / "in" / f"{seed:02}.{'png' if len(shape) == 2 else 'nii'}", seed)
    package = recording(make_package(shape))
    predict(package, [tmp_path / "in"], tmp_path / "out", batch_size=3)
    assert [x.shape for x in package.seen] == [(16, 1, *shape)] * 2
    assert not package.seen[1][2:].any()  # two scans are left for the second block
    assert package.seen[1][:2].any(axis=tuple(range(1, 2 + len(shape)))).all()


def test_multi_label_scans_can_have_any_number_of_labels(make_package, tmp_path):
    for seed in range(12):
        write_png(tmp_path / "in" / f"{seed:02}.png", seed)
    package = make_package((6, 5), MULTI_LABEL)
    summary = predict(package, [tmp_path / "in"], tmp_path / "out")
    table = rows(tmp_path / "out" / "predictions.csv")
    for row in table:
        above = [name for name in MULTI_LABEL.class_names if float(row[f"p_{name}"]) > 0.5]
        assert row["predicted_class"] == ";".join(above)
    assert len({row["predicted_class"] for row in table}) > 1
    for name in MULTI_LABEL.class_names:
        assert summary.predicted[name] == sum(float(row[f"p_{name}"]) > 0.5 for row in table)


def test_a_volume_of_the_wrong_kind_is_quarantined(make_package, tmp_path):
    write_nifti(tmp_path / "in" / "volume.nii", 0)
    write_png(tmp_path / "in" / "image.png", 1)
    predict(make_package((6, 5)), [tmp_path / "in"], tmp_path / "out")
    image, volume = rows(tmp_path / "out" / "predictions.csv")
    assert (image["status"], volume["code"]) == ("ok", "volume.wrong_ndim")


def test_an_answer_that_is_not_a_number_is_no_answer(make_package, tmp_path):
    for seed in range(3):
        write_nifti(tmp_path / "in" / f"{seed}.nii", seed)
    package = make_package()
    state = package.family.state()
    package.family.load_state({**state, "bias": state["bias"] * np.nan})
    summary = predict(package, [tmp_path / "in"], tmp_path / "out")
    assert summary.quarantined_by_code == {"model.not_finite": 3}


def test_only_bad_scans_still_give_a_table(make_package, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.nii").touch()
    summary = predict(make_package(), [tmp_path / "in"], tmp_path / "out")
    assert (summary.ok, summary.quarantined) == (0, 1)
    assert rows(tmp_path / "out" / "predictions.csv")[0]["code"] == "file.empty"


def test_names_that_are_formulas_or_not_utf8_do_no_harm(make_package, tmp_path):
    write_nifti(tmp_path / "in" / "=HYPERLINK(1).nii", 0)
    write_nifti(tmp_path / "in" / "b.nii", 1)
    (tmp_path / "in" / "b.nii").rename(tmp_path / "in" / os.fsdecode(b"\xfe\n,.nii"))
    predict(make_package(), [tmp_path / "in"], tmp_path / "out")
    first, second = rows(tmp_path / "out" / "predictions.csv")
    assert first["scan"] == "'=HYPERLINK(1).nii"
    assert second["scan"] == "\\xfe\n,.nii"
    assert first["status"] == second["status"] == "ok"


def test_only_the_owner_may_read_tables_with_paths(make_package, tmp_path):
    write_nifti(tmp_path / "in" / "a.nii", 0)
    out = tmp_path / "out"
    predict(make_package(), [tmp_path / "in"], out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    for name in TABLES:
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600


def test_an_output_that_is_not_a_batch_is_left_alone(make_package, tmp_path):
    write_nifti(tmp_path / "in" / "a.nii", 0)
    package = make_package()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for out in (tmp_path / "mine", tmp_path / "model"):
        before = digests(out)
        with pytest.raises(StageError) as caught:
            predict(package, [tmp_path / "in"], out)
        assert caught.value.code == "stage.not_ours"
        assert digests(out) == before


def test_no_scans_leaves_the_earlier_output(make_package, tmp_path):
    write_nifti(tmp_path / "in" / "a.nii", 0)
    package = make_package()
    predict(package, [tmp_path / "in"], tmp_path / "out")
    before = digests(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        predict(package, [tmp_path / "empty"], tmp_path / "out")
    assert digests(tmp_path / "out") == before
