"""Cohorts of scenes: a Bayes error in closed form, and files that hold exactly what was drawn."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from data_prep.cohort import CohortConfig
from data_prep.config import CONFIG_ROOT, find_config, read_config
from data_prep.errors import StageError
from data_prep.files import read_table
from data_prep.ingest import ingest, make_phantom
from data_prep.manifest import ScanReader, load_manifest
from data_prep.prep import prepare_store
from data_prep.preprocess import PrepConfig
from data_prep.readers import discover, read_scan
from data_prep.scene import FULL_SCALE, SceneConfig, draw_scene, write_scenes
from data_prep.splits import SplitRow, split_cohort
from data_prep.store import Store

KINDS = (
    "presence",
    "configuration",
    "count",
    "texture_direction",
    "texture_wavelength",
    "pattern_size",
    "location",
    "position",
    "leaves",
)


def config(kind: str = "presence", **changes: Any) -> SceneConfig:
    noise = {"noise": 0} if kind == "leaves" else {}  # it takes less than the default
    return SceneConfig.model_validate({"task": {"kind": kind}, **noise, **changes})


# --- truth


def test_labels_err_as_often_as_stated() -> None:
    stated = config(label_noise=0.15)
    scenes = [draw_scene(stated, number) for number in range(4000)]
    truth = np.array([scene.bayes for scene in scenes])
    label = np.array([scene.label == "present" for scene in scenes])
    assert set(truth.ravel().tolist()) == {0.15, 0.85}
    assert (truth.sum(axis=1) == 1).all()
    assert [s.shown for s in scenes] == [("absent", "present")[int(p > 0.5)] for p in truth[:, 1]]
    error = ((truth[:, 1] > 0.5) != label).mean()
    assert stated.bayes_error == 0.15
    assert error == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / 4000))
    assert stated.bayes_auc == 0.85
    assert roc_auc_score(label, truth[:, 1]) == pytest.approx(0.85, abs=0.025)
    assert label.mean() == pytest.approx(0.5, abs=0.035)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_depends_on_nothing_but_its_number(kind: str) -> None:
    few, many = config(kind, n_patients=2), config(kind, n_patients=900)
    assert np.array_equal(draw_scene(few, 1).pixels, draw_scene(many, 1).pixels)
    assert not np.array_equal(draw_scene(few, 1).pixels, draw_scene(few, 0).pixels)
    other = config(kind, seed=1)
    assert not np.array_equal(draw_scene(few, 1).pixels, draw_scene(other, 1).pixels)


def test_a_flipped_label_changes_no_pixel() -> None:
    pure, noisy = config(label_noise=0), config(label_noise=0.5)
    pairs = [(draw_scene(pure, number), draw_scene(noisy, number)) for number in range(30)]
    assert any(a.label != b.label for a, b in pairs)
    assert all(np.array_equal(a.pixels, b.pixels) and a.shown == b.shown for a, b in pairs)
    assert all(a.label == a.shown for a, _ in pairs)


# --- nuisances


@pytest.mark.parametrize("kind", KINDS)
def test_no_grey_level_is_clipped(kind: str) -> None:
    """At the very ends of what the config allows."""
    swells = kind not in ("pattern_size", "location", "leaves")
    noise = 0.0004 if kind == "leaves" else 0.02
    widest = {"contrast": 0.18, "noise": noise, "grey": [0.3, 0.3], "gain": [0.5, 1.6]}
    turned = {"rotation_deg": 30 if swells else 0}
    drawn = [draw_scene(config(kind, **widest, **turned), number).pixels for number in range(60)]
    assert min(pixels.min() for pixels in drawn) > 0
    assert max(pixels.max() for pixels in drawn) < FULL_SCALE


def test_grey_and_gain_fill_their_ranges() -> None:
    stated = config("position", noise=0, grey=[0.15, 0.3], gain=[0.5, 2])
    background = np.array([draw_scene(stated, n).pixels[0, 0] for n in range(400)]) / FULL_SCALE
    assert background.min() >= 0.15 * 0.5 - 1e-4
    assert background.max() <= 0.3 * 2 + 1e-4
    gains = np.array([np.ptp(draw_scene(stated, n).pixels.astype(float)) for n in range(400)]) / (
        0.12 * FULL_SCALE
    )
    assert np.log(gains).mean() == pytest.approx(0, abs=0.1)  # log-uniform, about 1
    assert gains.min() < 0.55
    assert gains.max() > 1.85


def test_inverting_exchanges_bright_and_dark() -> None:
    bright, dark = config("presence", noise=0), config("presence", noise=0, inverted=1)
    for number in range(5):
        a, b = (draw_scene(c, number).pixels.astype(int) for c in (bright, dark))
        assert np.abs(a + b - 2 * round(0.25 * FULL_SCALE)).max() <= 1
        assert a.max() > a[0, 0] == b[0, 0] > b.min()


def test_the_arrangement_is_moved_over_the_whole_range() -> None:
    drawn = [draw_scene(config("location", noise=0), n).pixels for n in range(20)]
    assert all((pixels > pixels[0, 0]).sum() == 1 for pixels in drawn)
    moved = config("presence", noise=0, translation_px=3)
    corners = set()
    for number in range(300):
        pixels = draw_scene(moved, number).pixels
        rows, columns = np.nonzero(pixels > pixels[0, 0])
        corners.add((int(rows.min()) - 14, int(columns.min()) - 14))
    assert corners == {(r, c) for r in range(-3, 4) for c in range(-3, 4)}


def test_patterns_take_all_eight_orientations() -> None:
    turned = config("presence", noise=0, orientation=True, label_noise=0)
    seen = {
        (scene.label, scene.pixels.tobytes())
        for scene in (draw_scene(turned, number) for number in range(200))
    }
    labels = [label for label, _ in seen]
    assert (labels.count("present"), labels.count("absent")) == (4, 4)  # each its own mirror image


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("presence", {"translation_px": 14}, "at most 13"),
        ("count", {"edge_px": 16}, "edge_px 16 is too small"),
        ("configuration", {"translation_px": 5, "rotation_deg": 10}, "at most 4"),
        ("texture_direction", {"orientation": True}, "would exchange the classes"),
        ("texture_direction", {"rotation_deg": 45}, "at most 30"),
        ("location", {"translation_px": 1}, "would exchange the classes"),
        ("location", {"orientation": True}, "changes nothing"),
        ("pattern_size", {"rotation_deg": 5}, "rotation_deg 5 is too much"),
        ("position", {"orientation": True}, "changes nothing"),
        ("leaves", {"rotation_deg": 5}, "already lie anywhere, turned by any angle"),
        ("leaves", {"edge_px": 16}, "edge_px 16 is too small"),
        ("leaves", {"noise": 0.0004}, "above 0.0003 the class could not be seen"),
        ("presence", {"noise": 0.031}, "above 0.03 the class could not be seen"),
        ("presence", {"noise": 0.02, "rotation_deg": 5}, "above 0.015"),
        ("presence", {"gain": [1, 4]}, "beyond 0 to 1"),
        ("presence", {"grey": [0.1, 0.3]}, "beyond 0 to 1"),
        ("presence", {"gain": [2, 1]}, "not a range"),
        ("presence", {"edge_px": 20}, "multiple of 8"),
        ("presence", {"label_noise": 0.6}, "less than or equal to 0.5"),
    ],
)
def test_a_cohort_that_cannot_be_is_refused(kind: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(kind, **changes)


# --- files


@pytest.mark.parametrize("kind", ["count", "texture_wavelength"])
def test_files_hold_what_was_drawn(kind: str, tmp_path: Path) -> None:
    drawn = config(kind, n_patients=5, label_noise=0.25)
    told: list[tuple[int, int]] = []
    write_scenes(drawn, tmp_path / "new", lambda done, total: told.append((done, total)))
    assert told == [(number, 5) for number in range(1, 6)]
    with (tmp_path / "new" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sources = {source.paths[0]: source for source in discover(tmp_path / "new").sources}
    for number, row in enumerate(rows):
        scene = draw_scene(drawn, number)
        found = read_scan(tmp_path / "new", sources.pop(row["scan"]))
        assert found.array.dtype == np.uint16
        assert np.array_equal(found.array[0], scene.pixels)
        assert (row["patient_id"], row["label"]) == (scene.patient_id, scene.label)
        bayes = [float(row[f"bayes_{name}"]) for name in drawn.class_names]
        assert bayes == list(scene.bayes)
    assert not sources
    with pytest.raises(StageError, match="not empty"):
        write_scenes(drawn, tmp_path / "new")


def lecture_configs() -> list[str]:
    return sorted(path.stem for path in (CONFIG_ROOT / "data" / "lecture").glob("*.yaml"))


@pytest.mark.parametrize("name", lecture_configs())
def test_the_lecture_cohorts_name_their_classes(name: str) -> None:
    cohort = read_config(find_config("data", f"lecture/{name}"), CohortConfig)
    assert cohort.name == f"lecture-{name.replace('_', '-')}"
    assert cohort.source.kind == "scene"
    assert cohort.labels.classes == cohort.source.scene.class_names
    assert cohort.source.scene.bayes_auc == (0.8 if name == "presence_noisy" else 0.95)


def test_pixels_reach_the_store_on_one_scale(tmp_path: Path) -> None:
    """From a lecture cohort's config to its store: truth and grey levels are what was drawn."""
    cohort = read_config(find_config("data", "lecture/presence"), CohortConfig)
    assert cohort.source.kind == "scene"
    scene = cohort.source.scene.model_copy(update={"n_patients": 60, "gain": (0.5, 1.5)})
    cohort = cohort.model_copy(update={"source": cohort.source.model_copy(update={"scene": scene})})
    root = make_phantom(cohort, tmp_path)
    written = (root / "labels.csv").stat().st_mtime_ns
    assert (make_phantom(cohort, tmp_path) / "labels.csv").stat().st_mtime_ns == written
    found = ingest(cohort, tmp_path, tmp_path / "manifest")
    assert (found.scans, found.patients, found.quarantined) == (60, 60, 0)
    assert found.task.class_names == ("absent", "present")
    rows = split_cohort(tmp_path / "manifest", cohort.split, tmp_path / "splits")
    prep = read_config(find_config("prep", cohort.prep), PrepConfig)
    reader = ScanReader(root, cohort.read, 1)
    prepare_store(reader, tmp_path / "manifest", tmp_path / "splits", prep, tmp_path / "store")
    assert read_table(tmp_path / "splits" / "splits.parquet", SplitRow) == rows
    records, _ = load_manifest(tmp_path / "manifest")
    numbers = {record.scan_id: int(record.patient_id[1:]) for record in records}
    store = Store.open(tmp_path / "store")
    index = [row for split in ("train", "val", "test") for row in store.rows(split)]
    drawn = [draw_scene(scene, numbers[row.scan_id]) for row in index]
    assert [row.bayes for row in index] == [one.bayes for one in drawn]
    pixels = np.stack([one.pixels for one in drawn]).astype(float)[:, None]
    prepared = store.read(index).astype(float)
    slope, intercept = np.polyfit(pixels.ravel(), prepared.ravel(), 1)
    assert np.abs(slope * pixels + intercept - prepared).max() <= 1e-4
    training = prepared[: len(store.rows("train"))]
    assert (training.mean(), training.std()) == pytest.approx((0, 1), abs=1e-4)
