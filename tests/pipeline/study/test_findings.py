"""From a finished study to bias, variance, comparisons and forecasts on disk."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import numpy as np
import pytest
from toy_study import in_process, open_store, write_store

from data_prep.files import read_json
from data_prep.task import Task
from pipeline.dataset import targets
from pipeline.metrics import score
from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.journal import Journal
from pipeline.study.plan import open_plan
from pipeline.study.run import run_study

TABLES = (
    *("decomposition.csv", "verdicts.csv", "comparisons.csv", "forecast.csv"),
    *("reliability.csv", "confusion.csv", "difficulty.csv"),
)


@pytest.fixture(scope="module")
def config(strict: str) -> StudyConfig:
    return StudyConfig(
        families=("linear", strict),
        sizes=(6, 8, 12, 16, "all"),
        subsets=3,
        seeds=2,
        resamples=100,
        targets=(0.6, 0.999),
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, config: StudyConfig) -> Path:
    root = tmp_path_factory.mktemp("findings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "run_local", in_process)
        run_study(config, write_store(root / "store", bayes=True), root / "out")
    return root / "out"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_place_is_taken_apart_and_the_parts_add_up(study: Path) -> None:
    found = {
        (row["family"], int(row["size"]), row["loss"], row["class_name"], row["term"]): row
        for row in rows(study / "decomposition.csv")
    }
    assert len({key[:2] for key in found}) == 2 * 5
    for family, size, loss, class_name, term in found:
        if loss == "squared" and term == "total":
            at = {
                name: float(found[family, size, loss, class_name, name]["value"] or 0)
                for name in ("noise", "bias2", "variance", "total")
            }
            assert at["total"] == pytest.approx(at["noise"] + at["bias2"] + at["variance"])
            noise = found[family, size, loss, class_name, "noise"]
            assert float(noise["value"]) == pytest.approx(2 * 0.9 * 0.1)
    full = found["linear", 24, "squared", "", "variance_data"]
    assert full["value"] == full["low"] == ""  # one subset takes every patient


def test_results_and_tables_tell_the_same(study: Path) -> None:
    results = read_json(study / "results.json")
    lists = {
        "decomposition.csv": results["decomposition"],
        "verdicts.csv": results["verdicts"],
        "comparisons.csv": results["differences"],
        "reliability.csv": results["reliability"],
        "confusion.csv": results["confusion"],
        "difficulty.csv": results["difficulty"],
    }
    for name, content in lists.items():
        table = rows(study / name)
        assert len(table) == len(content) > 0
        for row, item in zip(table, content, strict=True):
            assert {k: v or None for k, v in row.items()} == {
                k: None if v is None or v == "" else str(v) for k, v in item.items()
            }
    kinds = [row["kind"] for row in rows(study / "forecast.csv")]
    assert kinds.count("target") == len(results["forecasts"]) == 2 * 2
    assert kinds.count("size") == len(results["ahead"]) + len(results["backtest"]) == 2 + 4
    assert kinds.count("crossing") == len(results["crossings"])
    assert len(results["laws"]) == 2
    assert {pair["test"] for pair in results["differences"]} == {"delong"}


def test_the_training_curve_and_its_gap_are_of_the_journals_scores(study: Path) -> None:
    results = read_json(study / "results.json")
    on_train = {
        (p["family"], p["size"]): p
        for p in results["points"]
        if (p["split"], p["metric"]) == ("train", "auc")
    }
    on_test = {
        (p["family"], p["size"]): p["mean"]
        for p in results["points"]
        if (p["split"], p["metric"]) == ("test", "auc")
    }
    assert {(gap["family"], gap["size"]) for gap in results["gaps"]} == set(on_train)
    for gap in results["gaps"]:
        at = gap["family"], gap["size"]
        cells = [
            cell["train"]["auc"]
            for cell in results["cells"]
            if (cell["family"], cell["size"]) == at and cell["status"] == "done"
        ]
        assert on_train[at]["mean"] == pytest.approx(np.mean(cells))
        assert gap["value"] == pytest.approx(on_train[at]["mean"] - on_test[at])
        assert gap["low"] <= gap["value"] <= gap["high"]
    assert on_train["linear", 24]["low"] is None  # one subset takes every patient
    assert on_train["linear", 6]["low"] is not None


def test_sentences_say_what_limits_and_what_is_foretold(study: Path) -> None:
    sentences = read_json(study / "results.json")["sentences"]
    assert any(s.startswith("At 24 patients") and "limited" in s for s in sentences)
    assert any("AUC 0.999" in s for s in sentences)
    assert any(s.startswith("Back-test: laws fitted to the smaller half") for s in sentences)
    assert any("is released" in s for s in sentences[1:3])


def test_scans_are_named_in_the_operators_own_file_only(study: Path) -> None:
    path = study / "hardest_scans.csv"
    found = rows(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {row["size"] for row in found} == {"24"}
    assert {row["ranked_by"] for row in found} == {"loss", "spread"}
    assert all(row["scan_id"].startswith("test-") for row in found)
    assert {row["label"] for row in found} <= {"healthy", "ill"}
    picture = study / "contested.png"
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    assert read_json(study / "results.json")["contested"] > 0
    for other in study.rglob("*"):
        if other.is_file() and other != path:
            assert b"test-0" not in other.read_bytes(), other


def test_the_same_cells_give_the_same_bytes(study: Path, config: StudyConfig) -> None:
    names = ("results.json", *TABLES)
    before = {name: (study / name).read_bytes() for name in names}
    run_study(config, study.parent / "store", study)  # every cell stands in the journal
    assert {name: (study / name).read_bytes() for name in names} == before


def test_a_failed_cell_is_left_out_of_bias_and_variance(
    study: Path, config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of one seed at one size fail: the other's are taken apart; a family may fail whole."""
    from pipeline.study.findings import find

    plan, store = open_plan(config, study.parent / "store")
    journal = Journal(study / "cells")
    entries = [entry for cell in plan.cells if (entry := journal.read(cell.key)) is not None]
    left = [e for e in entries if not (e.cell.size == 8 and e.cell.seed == 1)]
    left = [e for e in left if e.cell.family == "linear" or e.cell.size != 12]
    found = find(plan, store, journal, left, lambda done, total: None)

    at = {(one.family, one.size): one for one in found.decomposed}
    assert ("strict", 12) not in at and ("linear", 12) in at
    assert np.isnan(at["linear", 8].squared["variance_seed"].value)
    assert not np.isnan(at["linear", 8].squared["variance_data"].value)
    pair = next(one for one in found.differences if one.size == 12)
    assert np.isnan(pair.p) and pair.winner == ""


def test_a_multi_label_study_has_every_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "run_local", in_process)
    task = Task(kind="multi-label", class_names=("a", "b"))
    store = write_store(tmp_path / "store", task=task)
    config = StudyConfig(families=("linear",), sizes=(8, 12), subsets=2, resamples=100)
    out = run_study(config, store, tmp_path / "out").out
    results = read_json(out / "results.json")

    assert (results["differences"], results["forecasts"], results["laws"]) == ([], [], [])
    assert rows(out / "comparisons.csv") == rows(out / "forecast.csv") == []
    assert (out / "comparisons.csv").read_text().startswith("first,second,size")
    assert {c["class_name"] for c in results["decomposition"]} == {"", "a", "b"}
    tests = open_store(store).rows("test")
    assert len(tests) == 32
    assert all(verdict["noise_known"] is False for verdict in results["verdicts"])


def test_the_total_squared_loss_is_the_mean_brier_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "run_local", in_process)
    folder = write_store(tmp_path / "store")
    config = StudyConfig(families=("linear",), sizes=(8,), subsets=3, resamples=100)
    out = run_study(config, folder, tmp_path / "out").out
    plan, store = open_plan(config, folder)
    journal = Journal(out / "cells")
    tests = targets(store.task, [row.target for row in store.rows("test")])
    briers = []
    for cell in plan.cells:
        entry = journal.read(cell.key)
        assert entry is not None
        briers.append(score(store.task, tests, journal.probabilities(entry)[1])["brier"])
    total = next(
        c["value"]
        for c in read_json(out / "results.json")["decomposition"]
        if (c["loss"], c["class_name"], c["term"]) == ("squared", "", "total")
    )
    assert total == pytest.approx(np.mean(briers))
