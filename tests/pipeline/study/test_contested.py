"""The picture of the scans that fits disagree about: whose, which, and for whose eyes."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from toy_study import BINARY

from data_prep.stage import new_stage
from data_prep.store import IndexRow, Store, write_index, write_shard
from data_prep.task import Task
from pipeline.study.components import Truth, decomposed, scan_weights
from pipeline.study.contested import CONTESTED, MOST, Contested, contested, draw_contested
from pipeline.study.learning_curve import Draws
from pipeline.tracking.study_runs import ARTIFACTS


def test_each_family_is_shown_at_the_largest_size_where_its_fits_disagree() -> None:
    target = np.array([0, 1] * 10)
    patients = np.array([f"P{n}" for n in range(20)])
    weights, draws = scan_weights(patients, 50, 0), Draws.of(3, 1, 50, 0)
    truth = Truth(BINARY, target, None, np.arange(20), weights, draws, 0.95)
    rng = np.random.default_rng(0)
    several = rng.uniform(size=(3, 1, 20, 1))
    p = np.concatenate([several, 1 - several], axis=-1)
    same = np.full((3, 1, 20, 2), 0.5)
    found = [
        decomposed("a", 8, p, truth, overlap=0.1),
        decomposed("a", 16, p[::-1] * 1.0, truth, overlap=0.2),
        decomposed("a", 80, p[:1], truth, overlap=1.0),  # one fit disagrees with nothing
        decomposed("prior", 16, same, truth, overlap=0.2),
    ]
    (one,) = contested(found)
    spread = p[..., 0].var(axis=(0, 1))
    assert (one.family, one.size) == ("a", 16)
    assert one.scans == tuple(np.argsort(-spread, kind="stable")[:MOST])
    np.testing.assert_allclose(one.probability, p.mean(axis=(0, 1))[list(one.scans)])


def store_of(
    folder: Path, scans: NDArray[np.float32], task: Task, target: tuple[int, ...]
) -> Store:
    rows = [
        IndexRow(f"{number:016x}", f"P{number}", "test", target, 0, number, ())
        for number in range(len(scans))
    ]
    with new_stage(folder, "prep", {}, {}) as partial:
        write_index(partial, rows, [write_shard(partial, 0, scans)], task)
    return Store.open(folder)


LABELS = Task(kind="multi-label", class_names=("mass", "fluid"))


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 9, 9), (1, 9, 9, 5)])
@pytest.mark.parametrize("target", [(0, 0), (1, 1)])
def test_images_colours_and_volumes_are_drawn_for_the_owner_alone(
    tmp_path: Path, shape: tuple[int, ...], target: tuple[int, ...]
) -> None:
    scans = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    store = store_of(tmp_path / "store", scans, LABELS, target)
    shown = [Contested("a", 16, (1, 0), np.array([[0.4, 0.6], [0.5, 0.5]]))]
    path = tmp_path / "contested.png"
    draw_contested(path, LABELS, store, shown)
    first = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert np.ptp(np.asarray(Image.open(path).convert("L"))) > 200  # black and white
    draw_contested(path, LABELS, store, shown)
    assert path.read_bytes() == first
    draw_contested(path, LABELS, store, [])
    assert not path.exists()


def test_a_scans_own_voxels_are_drawn(tmp_path: Path) -> None:
    """The scan that is named is the one that is shown: a bright half is found in the picture."""
    scans = np.zeros((2, 1, 8, 8), dtype=np.float32)
    scans[1, 0, :4] = 1
    store = store_of(tmp_path / "store", scans, LABELS, (1, 0))
    pixels = []
    for scan in (0, 1):
        shown = [Contested("a", 16, (scan,), np.array([[0.4, 0.6]]))]
        draw_contested(tmp_path / "x.png", LABELS, store, shown)
        pixels.append(np.asarray(Image.open(tmp_path / "x.png").convert("L"), dtype=int))
    black = pixels[0] < 5  # the whole of a scan that is zero everywhere, and its letters
    turned = black & (pixels[1] > 250)
    assert turned.sum() / black.sum() == pytest.approx(0.5, abs=0.05)


def test_the_picture_is_not_among_what_mlflow_gets() -> None:
    assert CONTESTED not in ARTIFACTS
