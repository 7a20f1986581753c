"""Every scan gets a row, whatever it is, and the bytes do not depend on how the work was cut."""

from __future__ import annotations

import csv
import itertools
import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest

from data_prep.errors import StageError
from data_prep.files import sha256_file
from data_prep.readers import discover, read_scan
from data_prep.task import Task
from pipeline.serving.inference import BatchProgress, predict
from pipeline.serving.inputs import InputError
from pipeline.serving.package import ModelPackage

TABLES = ("predictions.csv", "predictions.parquet", "quarantine.csv", "skipped.csv", "summary.json")
MULTI_LABEL = Task(kind="multi-label", class_names=("mass", "effusion", "nodule"))


@pytest.fixture
def inbox(write, tmp_path) -> Path:
    """Nineteen scans (two of them damaged) and two files that are none."""
    root = tmp_path / "inbox"
    for seed in range(15):
        write.nifti(root / f"site-{seed % 2}" / f"{seed:02}.nii.gz", seed)
    write.dicom_series(root / "dicom" / "a", 20)
    write.dicom_series(root / "dicom" / "b", 21)
    write.nifti(root / "broken.nii.gz", 22)
    write.truncate(root / "broken.nii.gz")
    write.dicom_series(root / "dicom" / "short", 23)
    write.truncate(root / "dicom" / "short" / "0.dcm", 0.9)
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

    def look(self, x):
        self.seen.append(x.numpy().copy())
        return super().look(x)


def recording(package: ModelPackage) -> Recording:
    return Recording(package.card, package.family, None, package.digest)


def test_every_scan_gets_a_row_and_the_damaged_ones_say_why(make_package, inbox, tmp_path):
    out = tmp_path / "out"
    told: list[BatchProgress] = []
    summary = predict(make_package(), [inbox], out, batch_size=4, progress=told.append)
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
    assert told[-1] == BatchProgress(scans=19, ok=17, quarantined=2, skipped=2)
    assert [now.done for now in told] == sorted(now.done for now in told)
    assert told[0].done < 19


def test_parquet_says_the_same_as_csv(make_package, inbox, tmp_path):
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


def test_bytes_do_not_depend_on_batch_size_or_workers(make_package, inbox, tmp_path):
    package = make_package()
    outputs = []
    for batch_size, workers in [(1, 1), (7, 2), (64, 1), (64, 2)]:
        out = tmp_path / f"out-{batch_size}-{workers}"
        predict(package, [inbox], out, batch_size=batch_size, workers=workers)
        outputs.append(digests(out))
    assert all(output == outputs[0] for output in outputs)
    predict(package, [inbox], tmp_path / "out-1-1")  # over the earlier output
    assert digests(tmp_path / "out-1-1") == outputs[0]


def test_a_scan_is_scored_the_same_alone_and_among_others(make_package, inbox, tmp_path):
    package = make_package()
    predict(package, [inbox], tmp_path / "all")
    among = {row["scan"]: row for row in rows(tmp_path / "all" / "predictions.csv")}
    predict(package, [inbox / "site-1" / "07.nii.gz"], tmp_path / "one")
    (alone,) = rows(tmp_path / "one" / "predictions.csv")
    assert alone["p_lesion"] == among["site-1/07.nii.gz"]["p_lesion"]


def test_a_scan_has_one_probability_in_any_format_and_orientation(make_package, write, tmp_path):
    write.dicom_series(tmp_path / "in" / "series", 3)
    (source,) = discover(tmp_path / "in").sources
    volume = read_scan(tmp_path / "in", source)
    image = nib.Nifti1Image(volume.array[0], volume.affine)
    nib.save(image, tmp_path / "in" / "as the series.nii.gz")
    turns = [
        np.column_stack([axes, flips])
        for axes in itertools.permutations(range(3))
        for flips in itertools.product((1, -1), repeat=3)
    ]
    drawn = np.random.default_rng(8).choice(np.arange(1, len(turns)), size=10, replace=False)
    for number in drawn:  # of the 47 ways in which the same voxels can be stored otherwise
        turned = image.as_reoriented(turns[number])
        nib.save(turned, tmp_path / "in" / f"{number:02}.nii.gz")
    predict(make_package(), [tmp_path / "in"], tmp_path / "out")
    table = rows(tmp_path / "out" / "predictions.csv")
    assert len(table) == 12
    assert {row["status"] for row in table} == {"ok"}
    read = [read_scan(tmp_path / "in", source) for source in discover(tmp_path / "in").sources]
    assert len({volume.orientation for volume in read}) == 11
    probability = [float(row["p_lesion"]) for row in table]
    assert max(probability) - min(probability) <= 1e-6


@pytest.mark.parametrize(("shape", "suffix"), [((6, 5, 4), "nii"), ((6, 5), "png")])
def test_the_model_sees_blocks_of_one_shape_in_any_batch(
    make_package, write, tmp_path, shape, suffix
):
    write_one = write.png if suffix == "png" else write.nifti
    for seed in range(18):
        write_one(tmp_path / "in" / f"{seed:02}.{suffix}", seed)
    package = recording(make_package(shape))
    predict(package, [tmp_path / "in"], tmp_path / "out", batch_size=3)
    assert [x.shape for x in package.seen] == [(16, 1, *shape)] * 2
    assert not package.seen[1][2:].any()  # two scans are left for the second block
    assert package.seen[1][:2].any(axis=tuple(range(1, 2 + len(shape)))).all()


def test_multi_label_scans_can_have_any_number_of_labels(make_package, write, tmp_path):
    for seed in range(12):
        write.png(tmp_path / "in" / f"{seed:02}.png", seed)
    package = make_package((6, 5), MULTI_LABEL)
    summary = predict(package, [tmp_path / "in"], tmp_path / "out")
    table = rows(tmp_path / "out" / "predictions.csv")
    for row in table:
        above = [name for name in MULTI_LABEL.class_names if float(row[f"p_{name}"]) > 0.5]
        assert row["predicted_class"] == ";".join(above)
    assert len({row["predicted_class"] for row in table}) > 1
    for name in MULTI_LABEL.class_names:
        assert summary.predicted[name] == sum(float(row[f"p_{name}"]) > 0.5 for row in table)


def test_a_volume_of_the_wrong_kind_is_quarantined(make_package, write, tmp_path):
    write.nifti(tmp_path / "in" / "volume.nii", 0)
    write.png(tmp_path / "in" / "image.png", 1)
    predict(make_package((6, 5)), [tmp_path / "in"], tmp_path / "out")
    image, volume = rows(tmp_path / "out" / "predictions.csv")
    assert (image["status"], volume["code"]) == ("ok", "volume.wrong_ndim")


def test_an_answer_that_is_not_a_number_is_no_answer(make_package, write, tmp_path):
    for seed in range(3):
        write.nifti(tmp_path / "in" / f"{seed}.nii", seed)
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


def test_names_that_are_formulas_or_not_utf8_do_no_harm(make_package, write, tmp_path):
    write.nifti(tmp_path / "in" / "=HYPERLINK(1).nii", 0)
    write.nifti(tmp_path / "in" / "b.nii", 1)
    (tmp_path / "in" / "b.nii").rename(tmp_path / "in" / os.fsdecode(b"\xfe\n,.nii"))
    predict(make_package(), [tmp_path / "in"], tmp_path / "out")
    first, second = rows(tmp_path / "out" / "predictions.csv")
    assert first["scan"] == "'=HYPERLINK(1).nii"
    assert second["scan"] == "\\xfe\n,.nii"
    assert first["status"] == second["status"] == "ok"


def test_only_the_owner_may_read_tables_with_paths(make_package, write, tmp_path):
    write.nifti(tmp_path / "in" / "a.nii", 0)
    out = tmp_path / "out"
    predict(make_package(), [tmp_path / "in"], out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    for name in TABLES:
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600


def test_an_output_that_is_not_a_batch_is_left_alone(make_package, write, tmp_path):
    write.nifti(tmp_path / "in" / "a.nii", 0)
    package = make_package()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for out in (tmp_path / "mine", tmp_path / "model"):
        before = digests(out)
        with pytest.raises(StageError) as caught:
            predict(package, [tmp_path / "in"], out)
        assert caught.value.code == "stage.not_ours"
        assert digests(out) == before


def test_no_scans_leaves_the_earlier_output(make_package, write, tmp_path):
    write.nifti(tmp_path / "in" / "a.nii", 0)
    package = make_package()
    predict(package, [tmp_path / "in"], tmp_path / "out")
    before = digests(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        predict(package, [tmp_path / "empty"], tmp_path / "out")
    assert digests(tmp_path / "out") == before


def test_a_batch_begins_without_what_it_does_not_need(make_package, write, tmp_path):
    write.nifti(tmp_path / "in" / "a.nii.gz", 0)
    make_package()
    slow = ("monai", "mlflow", "matplotlib", "sklearn", "pandas", "scipy.stats")
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline.serving.inference import predict\n"
        "from pipeline.serving.package import load_package\n"
        "def told(now):\n"
        f"    if now.done: sys.exit(' '.join(n for n in {slow} if n in sys.modules))\n"
        "folders = [Path(name) for name in sys.argv[1:]]\n"
        "predict(load_package(folders[0]), [folders[1]], folders[2], progress=told)\n"
    )
    folders = [str(tmp_path / name) for name in ("model", "in", "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


KILLED = """
import sys
from pathlib import Path
from pipeline.serving.inference import BatchProgress, predict
from pipeline.serving.package import load_package

package = load_package(Path(sys.argv[1]))
print("ready", flush=True)
predict(package, [Path(sys.argv[2])], Path(sys.argv[3]), batch_size=1)
print("done", flush=True)
"""


def test_a_killed_batch_leaves_whole_tables_or_none(make_package, write, tmp_path):
    for seed in range(60):
        write.nifti(tmp_path / "in" / f"{seed:02}.nii.gz", seed)
    package = make_package()
    predict(package, [tmp_path / "in"], tmp_path / "undisturbed")
    whole = digests(tmp_path / "undisturbed")
    out = tmp_path / "out"
    arguments = [str(tmp_path / name) for name in ("model", "in", "out")]
    for delay_s in (0.1, 0.5, 0.9):
        batch = subprocess.Popen(
            [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert batch.stdout is not None
        assert batch.stdout.readline() == "ready\n"
        time.sleep(delay_s)
        batch.kill()
        batch.wait()
        batch.stdout.close()
        assert not out.exists() or digests(out) == whole
    predict(package, [tmp_path / "in"], out)
    assert digests(out) == whole


def test_a_batch_begins_without_what_takes_seconds_to_import():
    slow = {"monai", "mlflow", "pandas", "sklearn", "sqlalchemy"}
    script = (
        "import sys, pipeline.model_stages, pipeline.serving.inference, pipeline.serving.twin, "
        f"pipeline.gallery.beside; print(sorted({slow} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
