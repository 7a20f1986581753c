"""A study from its grid to its results: what is computed, in which order, and what is left."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from finished_study import Notes, same_results

from data_prep.files import read_json
from data_prep.stage import stage_digest
from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.plan import open_plan, refit
from pipeline.study.run import cost_of_study, run_study


def test_a_study_says_what_it_found_and_leaves_a_whole_stage(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    notes = Notes()
    found = run_study(config, store, tmp_path / "out", watcher=notes)
    results = read_json(found.out / "results.json")

    assert (found.cells, found.computed, found.failed) == (10, 10, 0)
    assert notes.begun == [(10, 0)]
    assert len(notes.cells) == 10
    assert all(score is not None and 0 <= score <= 1 for score in notes.scores)
    assert notes.left[0] > 0
    assert 0 < notes.left[-1] < notes.left[0]  # the results are still to be written
    assert found.sentences[0].startswith("The test split has 16 patients, 8 of them with 'healthy'")
    assert found.sentences[1].startswith("At 24 patients")
    assert any("strict is released" in s or "linear is released" in s for s in found.sentences)
    assert results["cohort"] == store.parent.name
    assert results["config"]["families"] == ["linear", "strict"]  # never a path
    assert stage_digest(found.out)
    assert not (found.out / "features").exists()
    for path in found.out.rglob("*.json"):
        assert "PATIENT^" not in path.read_text()
        assert "train-000" not in path.read_text()  # nor a scan's id


def test_a_single_cell_pays_for_no_estimate(
    here: None, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "estimate_costs", lambda *_: pytest.fail("it was estimated"))
    notes = Notes()
    config = StudyConfig(families=("linear",), sizes=("all",), subsets=1, resamples=100)
    assert run_study(config, store, tmp_path / "out", watcher=notes).computed == 1
    assert notes.left == []
    assert len(notes.cells) == 1


def test_a_finished_study_is_not_computed_again(
    config: StudyConfig, store: Path, unbroken: Path
) -> None:
    before = (unbroken / "results.json").read_bytes()
    assert run_study(config, store, unbroken).computed == 0
    assert (unbroken / "results.json").read_bytes() == before


def test_a_study_is_widened_by_what_is_new_only(
    config: StudyConfig, store: Path, unbroken: Path
) -> None:
    wider = config.model_copy(update={"subsets": 3})
    assert run_study(wider, store, unbroken).computed == 4


def test_a_study_runs_in_a_thread_as_well(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    small = config.model_copy(update={"sizes": (6,), "subsets": 1})
    thread = threading.Thread(target=run_study, args=(small, store, tmp_path / "out"))
    thread.start()
    thread.join()
    assert (tmp_path / "out" / "results.json").is_file()


def test_a_cell_fitted_again_gives_the_journals_bits(
    store: Path, config: StudyConfig, unbroken: Path
) -> None:
    results = read_json(unbroken / "results.json")
    recorded = StudyConfig.model_validate(results["config"])
    plan, _ = open_plan(config, store)
    key = results["release"]["key"]
    again = refit(recorded, plan.families, store, unbroken, key)

    assert again.same
    assert again.difference == 0
    assert again.planned.cell.size == 24
    with pytest.raises(StudyError, match="no finished cell") as caught:
        refit(recorded, plan.families, store, unbroken, "0" * 64)
    assert caught.value.code == "study.no_cell"


def test_prepared_scans_serve_every_size_and_are_removed(
    here: None, store: Path, tmp_path: Path
) -> None:
    family = tmp_path / "filters.yaml"
    family.write_text("family: random_features\nparams: {filters: 8, sizes: [3]}\n")
    config = StudyConfig(families=(str(family),), sizes=(6, "all"), subsets=1, resamples=100)
    found = run_study(config, store, tmp_path / "out")

    assert (found.cells, found.failed) == (2, 0)
    assert not (tmp_path / "out" / "features").exists()


def test_a_whole_curve_of_each_family_comes_first(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    notes = Notes()
    run_study(config, store, tmp_path / "out", watcher=notes)
    first = {(p.cell.family, p.cell.size) for p in notes.cells[:6]}
    assert first == {(family, size) for family in ("linear", "strict") for size in (6, 12, 24)}
    assert [p.cell.subset for p in notes.cells] == [0] * 6 + [1] * 4


def test_some_families_only_and_the_others_later(
    here: None, config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    notes = Notes()
    part = run_study(config, store, out, only=["linear"], watcher=notes)
    assert notes.begun == [(5, 0)]
    assert (part.computed, part.pending, part.sentences) == (5, 5, ())
    assert not (out / "results.json").exists()
    page = (out / "interim" / "report.html").read_text()
    assert "Interim report: 5 of 10 cells are computed." in page
    interim = read_json(out / "interim" / "results.json")
    assert interim["pending"] == 5
    assert {p["family"] for p in interim["points"] if p["mean"] is not None} == {"linear"}

    whole = run_study(config, store, out)
    assert (whole.computed, whole.pending) == (5, 0)
    assert not (out / "interim").exists()
    assert same_results(out, unbroken)


def test_the_cost_is_told_without_a_trace(
    here: None, config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path
) -> None:
    found = cost_of_study(config, store, tmp_path / "out")
    assert (found.cells, found.standing) == (10, 0)
    assert [(name, cells) for name, cells, _ in found.families] == [("linear", 5), ("strict", 5)]
    assert all(seconds > 0 for _, _, seconds in found.families)
    assert not (tmp_path / "out").exists()
    done = cost_of_study(config, store, unbroken, only=["strict"])
    assert (done.standing, done.families) == (10, (("strict", 0, 0.0),))
