"""The demo: all stages in one go, then scans that the model has not seen."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image

from data_prep.ingest import ingest
from data_prep.splits import split_cohort
from pipeline import demo
from pipeline.demo import find_unseen, run_demo
from pipeline.workspace import Workspace, open_workspace

PREP = {"shape": 12, "spacing_mm": 8.0, "orientation": "RAS", "intensity": {"kind": "z_score"}}
STUDY = {"families": ["linear"], "sizes": [8, 500], "subsets": 2, "resamples": 100}


def config(place: Path, **changes: object) -> str:
    """Write a cohort's config and return its path."""
    (place / "p.yaml").write_text(yaml.safe_dump(PREP))
    content = {"name": "tiny", "prep": str(place / "p.yaml")} | changes
    (place / "tiny.yaml").write_text(yaml.safe_dump(content))
    return str(place / "tiny.yaml")


def phantom(place: Path) -> str:
    source = {"kind": "phantom", "phantom": {"ndim": 3, "n_patients": 30, "seed": 5}}
    return config(place, source=source)


def test_the_demo_ends_with_predictions_and_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny-study.yaml").write_text(yaml.safe_dump(STUDY))
    monkeypatch.setattr(demo, "STUDY", str(tmp_path / "tiny-study.yaml"))
    run_demo(phantom(tmp_path), tmp_path / "runs", 1, None)
    printed = capsys.readouterr().out
    folder = tmp_path / "runs" / "tiny"
    assert (folder / "study-tiny-study" / "report.html").is_file()
    for place in ("study-tiny-study/report.html", "predictions/predictions.csv"):
        assert str(folder / place) in printed
    assert "• " in printed
    assert "1 × nifti.truncated" in printed
    assert "'all' of them in place of 500" in " ".join(printed.split())
    with (folder / "predictions" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows if row["status"] != "ok"] == ["truncated.nii.gz"]
    kinds = {Path(row["scan"]).suffix for row in rows}
    assert kinds == {"", ".gz"}  # DICOM series are folders
    written = [p for p in (folder / "inbox").rglob("*") if p.suffix in (".gz", ".dcm")]
    assert len(rows) == len({p if p.suffix == ".gz" else p.parent for p in written})


def medmnist(place: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(demo, "find_npz", lambda dataset, size: place / f"{dataset}_{size}")
    arrays = type("Arrays", (), {"images": {"test": images}})
    monkeypatch.setattr(demo, "open_npz", lambda path, dataset: arrays)
    return open_workspace(place, config(place, source={"kind": "medmnist", "dataset": "x"}))


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 28, 28, 3), (3, 9, 9, 9)])
def test_medmnist_images_become_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    (folder,) = find_unseen(medmnist(tmp_path, images, monkeypatch))
    volumes = shape == (3, 9, 9, 9)
    suffix = ".nii.gz" if volumes else ".png"
    names = sorted(p.name for p in folder.iterdir() if p.name != "provenance.json")
    assert names == [*(f"test-{n:03d}{suffix}" for n in range(3)), f"truncated{suffix}"]
    last = folder / names[2]
    read = np.asarray(nib.load(last).dataobj) if volumes else np.asarray(Image.open(last))
    assert np.array_equal(read, images[2])


def test_a_folder_of_ones_own_gives_its_test_scans(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = ["scan,patient_id,label"]
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 7)).astype(np.uint8)
        Image.fromarray(pixels).save(raw / f"{number}.png")
        rows.append(f"{number}.png,p{number},{'ab'[number % 2]}")
    (raw / "labels.csv").write_text("\n".join(rows))
    own = config(tmp_path, source={"kind": "folder", "root": str(raw)})
    workspace = open_workspace(tmp_path / "runs", own)
    ingest(workspace.cohort, workspace.runs, workspace.manifest)
    splits = split_cohort(workspace.manifest, workspace.cohort.split, workspace.splits)
    unseen = find_unseen(workspace)
    assert len(unseen) == sum(row.split == "test" for row in splits) > 0
    assert all(path.parent == raw and path.is_file() for path in unseen)
