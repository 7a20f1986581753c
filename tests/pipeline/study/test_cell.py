from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_study import BINARY, Toy, ToyParams, open_store, toy_config, write_store

from pipeline.metrics import score
from pipeline.study.cell import Splits, arithmetic, fit_cell, pinned_threads
from pipeline.study.config import StudyConfig
from pipeline.study.features import Preparation
from pipeline.study.grid import make_plan


@pytest.fixture
def raw(tmp_path: Path) -> Splits:
    return Splits.load(open_store(write_store(tmp_path / "store")))


def toy(seed: int = 3, diary: str = "") -> Toy:
    return Toy(ToyParams(diary=diary), BINARY, (1, 4, 4), seed)


PREPARATION = Preparation("toy", 3, "f" * 64)


def test_a_cell_predicts_every_scan_of_val_and_test(tmp_path: Path, raw: Splits) -> None:
    config = StudyConfig(families=("toy",), sizes=(8,), subsets=1, validation="proportional")
    store = open_store(tmp_path / "store")
    planned = make_plan(config, {"toy": toy_config()}, store, {}).cells[0]
    family = toy(0)
    result = fit_cell(planned, family, raw.prepared_by(family, 1), 1)

    assert result.val.shape == (20, 2)
    assert result.test.shape == (32, 2)
    assert result.test.dtype == np.float64
    assert result.chosen == {"epoch": 2.0}
    own = raw.prepared_by(family, 1).train.take(planned.train)
    assert result.train == score(BINARY, own.target, family.predict_proba(own.x))
    assert set(result.seconds) == {"fit", "predict", "score_train"}
    assert all(seconds >= 0 for seconds in result.seconds.values())


def test_a_cell_that_was_gone_on_with_counts_the_time_before(
    raw: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pace tells what other cells will cost."""
    config = StudyConfig(families=("toy",), sizes=(8,), subsets=1, validation="proportional")
    planned = make_plan(config, {"toy": toy_config()}, open_store(tmp_path / "store"), {}).cells[0]
    family, fit = toy(0), Toy.fit
    monkeypatch.setattr(Toy, "fit", lambda *how: replace(fit(*how), seconds_before=5000.0))
    seconds = fit_cell(planned, family, raw.prepared_by(family, 1), 1).seconds
    assert seconds["fit"] > 5000 > seconds["predict"]


def test_threads_are_pinned_and_given_back() -> None:
    before = torch.get_num_threads()
    with pinned_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_arithmetic_names_the_threads_and_versions() -> None:
    assert arithmetic(1) != arithmetic(2)
    assert arithmetic(2)["torch"] == torch.__version__


def test_kept_features_are_those_of_the_family(tmp_path: Path, raw: Splits) -> None:
    PREPARATION.save(tmp_path / "features", raw.prepared_by(toy(), 1).inputs())
    inputs = PREPARATION.load(tmp_path / "features")

    assert inputs is not None
    kept = raw.with_inputs(inputs)
    for name in ("train", "val", "test"):
        expected = toy().prepare(getattr(raw, name).x)
        scans = getattr(kept, name)
        assert scans.x.numpy().tobytes() == expected.numpy().tobytes()
        assert scans.scan_ids.tolist() == getattr(raw, name).scan_ids.tolist()


def test_absent_or_damaged_features_do_not_count(tmp_path: Path, raw: Splits) -> None:
    folder, inputs = tmp_path / "features", raw.prepared_by(toy(), 1).inputs()
    assert PREPARATION.load(folder) is None
    PREPARATION.save(folder, inputs)
    path = folder / f"{'f' * 64}-val.npy"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    assert PREPARATION.load(folder) is None

    PREPARATION.save(folder, inputs)
    path.unlink()
    assert PREPARATION.load(folder) is None
