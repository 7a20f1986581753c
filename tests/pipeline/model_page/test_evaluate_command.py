"""``medcurve evaluate`` from a model package to its folder."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import medcurve
from sides_cohort import Place
from sklearn import metrics
from test_evaluation_page import facts

from data_prep.files import sha256_file
from data_prep.ingest import raw_root
from pipeline.audit.sweep import Step, sweep
from pipeline.model_page.judged import Judged
from pipeline.model_page.sensitivities import find_audit
from pipeline.serving.labelled import labelled_scans
from pipeline.trust_stages import audit_stage, evaluate_stage

FILES = {
    *("evaluation.html", "evaluation_without_scans.html", "evaluation.json", "MODEL_CARD.md"),
    *("test_predictions.csv", "quarantine.csv", "provenance.json"),
}


def judged(folder: Path) -> Judged:
    return Judged.model_validate_json((folder / "evaluation.json").read_text())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "test_predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def copied(doubtful: Place, tmp_path: Path) -> Place:
    """A copy that a test may change."""
    shutil.copytree(doubtful.folder, tmp_path / "place")
    place = Place(tmp_path / "place")
    text = Path(place.data).read_text()
    Path(place.data).write_text(text.replace(str(doubtful.folder), str(place.folder)))
    return place


def test_what_shows_scans_is_its_owners_alone(evaluated: Path) -> None:
    assert {path.name for path in evaluated.iterdir()} == FILES
    private = {path.name for path in evaluated.iterdir() if path.stat().st_mode & 0o777 == 0o600}
    assert private == {"evaluation.html", "test_predictions.csv", "quarantine.csv"}
    assert evaluated.stat().st_mode & 0o777 == 0o700
    shown, hidden = (
        (evaluated / name).read_text()
        for name in ("evaluation.html", "evaluation_without_scans.html")
    )
    assert 1 <= shown.count("data:image/png") <= 3
    assert "Where its answers come from" in shown
    assert "data:image" not in hidden
    assert "Where its answers come from" not in hidden


def test_the_numbers_are_those_of_the_table(evaluated: Path, doubtful: Place) -> None:
    found, table = judged(evaluated), rows(evaluated)
    truth = np.array([row["true"] == "right" for row in table])
    said = np.array([float(row["p_right"]) for row in table])
    scores = found.evaluation.metrics
    assert len(table) == found.evaluation.scans == 24
    assert 0.5 < scores["auc"].value < 1
    assert scores["auc"].value == pytest.approx(metrics.roc_auc_score(truth, said))
    assert scores["average_precision"].value == pytest.approx(
        metrics.average_precision_score(truth, said)
    )
    decided = np.array([row["predicted"] == "right" for row in table])
    assert found.confusion[0].counts == tuple(
        map(tuple, metrics.confusion_matrix(truth, decided).tolist())
    )
    held = [row["true"] in row["prediction_set"].split(";") for row in table]
    assert found.sets.coverage.value == pytest.approx(np.mean(held))
    assert found.foreign is not None
    flagged = [row["shift_flagged"] == "True" for row in table]
    assert found.foreign.flagged.value == pytest.approx(np.mean(flagged))
    assert found.model == doubtful.package.digest
    assert {(one.split, one.scans) for one in found.splits} >= {("test", 24)}
    assert sum(found.splits[2].labels.values()) == 24


def test_the_page_gives_the_answer_first_and_names_nobody(evaluated: Path) -> None:
    for name in ("evaluation.html", "evaluation_without_scans.html", "MODEL_CARD.md"):
        text = re.sub(r'"data:[^"]*"', '""', (evaluated / name).read_text())
        assert not re.search(r"\bP\d+\b|\d\d\.nii", text)
        assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    page = (evaluated / "evaluation.html").read_text()
    auc = judged(evaluated).evaluation.metrics["auc"]
    first = f"linear has AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}] and accuracy"
    assert page.index(first) < page.index("<svg")
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<svg") == 4
    assert "not audited, run medcurve audit" in page
    ids_of_scans = {row["scan_id"] for row in rows(evaluated)}
    for shared in ("evaluation_without_scans.html", "MODEL_CARD.md", "evaluation.json"):
        text = (evaluated / shared).read_text()
        assert not any(one in text for one in ids_of_scans)


def test_the_card_is_made_of_facts(evaluated: Path, doubtful: Place) -> None:
    card, known = (evaluated / "MODEL_CARD.md").read_text(), doubtful.package.card
    table = facts(card)
    assert table["Intended use"] == table["Intended users"] == "not stated"
    assert table["Training"] == "40 patients, 40 scans"
    assert table["Model"] == doubtful.package.digest
    assert table["Weights"] == known.weights_sha256
    assert table["Calibration"] == known.trust.calibration.method
    assert table["Shape"] == "8 × 6 × 5, stretched to it"
    assert table["Audit"] == "not audited: run medcurve audit"
    assert table["Decision"] == "argmax"
    assert table["Few validation patients"].startswith(f"{min(known.trust.conformal.patients)} of")
    for note in known.trust.notes:
        assert note in table.values()


def test_provenance_says_which_model_and_which_scans(evaluated: Path, doubtful: Place) -> None:
    record = json.loads((evaluated / "provenance.json").read_text())
    assert record["stage"] == "evaluate"
    assert record["inputs"]["model"] == doubtful.package.digest
    assert set(record["inputs"]) == {"model", "manifest", "splits"}
    assert record["outputs"]["evaluation.json"] == sha256_file(evaluated / "evaluation.json")


def test_the_same_again_gives_the_same_bytes(
    evaluated: Path, doubtful: Place, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    evaluate_stage(str(doubtful.model), doubtful.data, out, 2, doubtful.runs, None)
    for name in FILES - {"provenance.json"}:
        assert (out / name).read_bytes() == (evaluated / name).read_bytes(), name


def test_an_audit_of_this_very_model_is_told(
    copied: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(scan_shape: tuple[int, ...], *, stored: bool) -> tuple[Step, ...]:
        return tuple(s for s in sweep(scan_shape, stored=stored) if s.kind in ("flip", "gain"))

    monkeypatch.setattr("pipeline.audit.sweep.sweep", few)
    audit_stage(str(copied.model), copied.data, None, "auc", 1, copied.runs, None)
    out = evaluate_stage(str(copied.model), copied.data, None, 1, copied.runs, None)
    assert out == copied.workspace.folder / "evaluation-linear"
    found = judged(out).audit
    assert found is not None
    assert (found.folder, found.metric) == ("audit-linear", "auc")
    worst = found.dangers[0]
    assert worst.shift.startswith("flip axis")
    assert worst.low < worst.loss < worst.high
    assert f"Dangerous to it is {worst.shift} (loss" in (out / "evaluation.html").read_text()
    assert f"loss {worst.loss:.3f}" in facts((out / "MODEL_CARD.md").read_text())[worst.shift]

    (copied.workspace.folder / "audit-begun").mkdir()
    assert find_audit(copied.workspace.folder, copied.package.digest) == found
    assert find_audit(copied.workspace.folder, "0" * 64) is None


def test_scans_that_cannot_be_read_are_quarantined_and_stop_nothing(
    copied: Place, evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = raw_root(copied.workspace.cohort, copied.runs)
    arguments = ("evaluate", copied.model, "--data", copied.data, "--runs", copied.runs)
    names = {path.stem: path for path in folder.glob("*.nii")}
    place = copied.workspace
    records = labelled_scans(copied.package, place.manifest, place.splits)
    names[Path(records[0].paths[0]).stem].unlink()
    assert medcurve(*arguments, "--workers", 1) == 0
    assert "23 test scans of sides, 1 quarantined" in capsys.readouterr().out
    out = copied.workspace.folder / "evaluation-linear"
    assert judged(out).refused == 1
    assert "file.unreadable" in (out / "quarantine.csv").read_text()
    assert [row for row in rows(evaluated) if row["scan_id"] != records[0].scan_id] == rows(out)
    shutil.rmtree(folder)
    folder.mkdir()
    assert medcurve(*arguments, "--workers", 1) == 2
    assert "[cohort.nothing_answered]" in capsys.readouterr().err


def test_a_cohort_without_a_config_is_asked_for(
    doubtful: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medcurve("evaluate", doubtful.model, "--runs", doubtful.runs) == 2
    assert "[cohort.not_configured]" in capsys.readouterr().err


def test_a_cohort_of_another_name_is_an_external_test(
    copied: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(copied.data).read_text().replace("name: sides", "name: elsewhere")
    Path(copied.data).write_text(text)
    for stage in ("ingest", "split"):
        assert medcurve(stage, copied.data, "--runs", copied.runs, "--workers", 1) == 0
    out = evaluate_stage(str(copied.model), copied.data, tmp_path / "out", 1, copied.runs, None)
    assert judged(out).external
    page = (out / "evaluation.html").read_text()
    assert "This is an external test: the model was trained on sides" in page
    assert "elsewhere, an external cohort" in page
