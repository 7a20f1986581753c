"""``medcurve audit`` from a model package to its folder, on a model whose weakness is known."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sides_cohort import Place, save_model
from typer.testing import CliRunner

from data_prep.errors import CohortError, MedcurveError
from data_prep.files import sha256_file
from data_prep.ingest import raw_root
from data_prep.labelling import patient_pseudonym
from pipeline import trust_stages
from pipeline.audit import answers as answering
from pipeline.audit.answers import Answers, ask
from pipeline.audit.audit import judge
from pipeline.audit.sweep import Step, sweep
from pipeline.cli import app
from pipeline.serving import labelled
from pipeline.serving.inference import predict
from pipeline.serving.labelled import labelled_scans
from pipeline.serving.package import ModelPackage
from pipeline.serving.seen import SeenScans
from pipeline.trust_stages import audit_stage

FILES = {"audit.html", "audit.csv", "audit.svg", "quarantine.csv", "provenance.json"}
# Few steps, which tell all: what the model minds, what its recipe undoes, and what is stored.
CHOSEN = ("gain 2x", "bias 0.2 of the range", "noise 0.1 of the range", "rotation 5 deg")
KINDS = ("flip", "orientation", "storage")


def few_steps(scan_shape: tuple[int, ...], *, stored: bool) -> tuple[Step, ...]:
    steps = sweep(scan_shape, stored=stored)
    return tuple(step for step in steps if str(step) in CHOSEN or step.kind in KINDS)


def answers(place: Place, package: ModelPackage | None = None, workers: int = 1) -> Answers:
    workspace = place.workspace
    package = package or place.package
    records = labelled_scans(package, workspace.manifest, workspace.splits)
    steps = few_steps(package.card.scan_shape, stored=True)
    return ask(package, raw_root(workspace.cohort, place.runs), records, steps, workers)


@pytest.fixture(scope="module")
def audited(sides_once: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an audit."""
    out = tmp_path_factory.mktemp("audited") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.audit.sweep.sweep", few_steps)
        return audit_stage(
            str(sides_once.model), sides_once.data, out, "auc", 1, sides_once.runs, None
        )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "audit.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_model_that_goes_by_side_is_told_to_mind_sides(audited: Path) -> None:
    page = (audited / "audit.html").read_text()
    assert {path.name for path in audited.iterdir()} == FILES
    table = {(row["shift"], row["recipe"]): row for row in rows(audited)}
    base = table["nothing shifted", "with"]
    assert float(base["score"]) == 1
    assert float(base["loss"]) == float(base["flips"]) == 0
    for name in ("gain 2x", "bias 0.2 of the range"):
        assert float(table[name, "with"]["loss"]) == float(table[name, "with"]["flips"]) == 0
    mirrored = table["flip axis 0", "with"]
    assert float(mirrored["loss"]) == float(mirrored["flips"]) == 1
    assert mirrored["realistic"] == "True"
    assert mirrored["danger"] == "1"
    assert table["flip axis 1", "with"]["danger"] == ""
    assert ("nothing shifted", "no normalisation") in table
    stored = [row for (_, arm), row in table.items() if row["kind"] == "storage" and arm == "with"]
    assert [float(row["loss"]) for row in stored] == [0] * 4
    assert float(table["orientation: first two axes reversed", "with"]["loss"]) == 1
    assert "The only dangerous shift is flip axis 0 (loss 1.000), of AUC 1.000." in page
    assert "does not mind gain, bias, " in page
    assert "costs at most 0.000" in page


def test_the_unshifted_row_is_what_predict_says(sides_once: Place, tmp_path: Path) -> None:
    found = answers(sides_once)
    folder = raw_root(sides_once.workspace.cohort, sides_once.runs)
    predict(sides_once.package, [folder], tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        said = {row["scan"]: float(row["p_right"]) for row in csv.DictReader(file)}
    mine = [said[record.paths[0]] for record in found.records]
    assert found.unshifted[0, :, 1] == pytest.approx(mine, abs=1e-6)
    assert len(found.records) == 24


def test_what_comes_out_does_not_depend_on_the_number_of_processes(sides_once: Place) -> None:
    one, two = answers(sides_once, workers=1), answers(sides_once, workers=2)
    for name in ("unshifted", "shifted", "unnormalised"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


def test_the_page_stands_by_itself_and_names_nobody(audited: Path) -> None:
    text = (audited / "audit.html").read_text()
    assert text.index("The only dangerous shift is flip axis 0") < text.index("<svg")
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert not re.search(r"\bP\d+\b|\d\d\.nii", text + (audited / "audit.csv").read_text())
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert text.count("<svg") == 7
    for words in ("a fifth of the scan&#39;s range", "header truly says", "z_score"):
        assert words in text


def test_provenance_says_which_model_and_which_scans(audited: Path, sides_once: Place) -> None:
    record = json.loads((audited / "provenance.json").read_text())
    assert record["stage"] == "audit"
    assert record["inputs"]["model"] == sides_once.package.digest
    assert set(record["inputs"]) == {"model", "manifest", "splits"}
    assert record["config"]["metric"] == "auc"
    assert record["outputs"]["audit.csv"] == sha256_file(audited / "audit.csv")


def test_scans_that_cannot_be_read_are_quarantined_and_stop_nothing(sides: Place) -> None:
    whole = answers(sides)
    folder = raw_root(sides.workspace.cohort, sides.runs)
    (folder / whole.records[0].paths[0]).unlink()
    cut = folder / whole.records[1].paths[0]
    cut.write_bytes(cut.read_bytes()[:400])
    found = answers(sides)
    assert [error.code for _, error in found.refused] == ["file.unreadable", "nifti.truncated"]
    assert [record.scan_id for record, _ in found.refused] == [
        record.scan_id for record in whole.records[:2]
    ]
    assert found.records == whole.records[2:]
    assert np.array_equal(found.shifted, whole.shifted[:, :, 2:])
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(CohortError) as nothing:
        answers(sides)
    assert nothing.value.code == "cohort.nothing_answered"


@dataclass(frozen=True, eq=False)
class Broken(ModelPackage):
    """A model that answers nothing to some scans."""

    broken: Callable[[np.ndarray], np.ndarray] = np.isnan

    def look(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        said, seen = super().look(x)
        said[self.broken(x.numpy())] = np.nan
        return said, seen


def broken(place: Place, when: Callable[[np.ndarray], np.ndarray]) -> Broken:
    package = place.package
    return Broken(package.card, package.family, None, package.digest, broken=when)


def test_no_answer_to_a_shifted_scan_is_all_classes_alike(sides_once: Place) -> None:
    # Raw intensities are near 100, prepared ones near 0: only what is not prepared is broken.
    found = answers(sides_once, broken(sides_once, lambda x: x.mean(axis=(1, 2, 3, 4)) > 20))
    assert (found.shifted[1] == 0.5).all()
    assert (found.unnormalised == 0.5).all()
    audit = judge(found, sides_once.package.task, resamples=20)
    assert (audit.base.score.value, audit.bare.score.value) == (1, 0.5)


def test_no_answer_to_the_scan_itself_is_quarantined(sides_once: Place) -> None:
    firsts: list[np.ndarray] = []

    def second_scan(x: np.ndarray) -> np.ndarray:
        firsts.append(x[0])
        blocks = -(-(2 * (1 + len(few_steps((1, 8, 6, 5), stored=True))) + 1) // 16)
        hit = np.zeros(len(x), dtype=bool)
        hit[0] = len(firsts) == blocks + 1
        return hit

    found = answers(sides_once, broken(sides_once, second_scan))
    assert [error.code for _, error in found.refused] == ["model.not_finite"]
    assert len(found.records) == 23


def run(place: Place, *more: str) -> MedcurveError:
    """The error that the command ends with."""
    command = ["audit", str(place.model), "--runs", str(place.runs), *more]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, MedcurveError), result.output
    return result.exception


def test_a_cohort_that_is_not_prepared_names_the_command(sides: Place) -> None:
    shutil.rmtree(sides.workspace.splits)
    error = run(sides, "--data", sides.data)
    assert error.code == "stage.missing"
    assert "medcurve split" in error.fix
    shutil.rmtree(sides.workspace.manifest)
    error = run(sides, "--data", sides.data)
    assert error.code == "stage.missing"
    assert "medcurve ingest" in error.fix


def test_errors_come_before_any_work(sides: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "DecodePool", None)
    assert run(sides).code == "cohort.not_configured"
    assert run(sides, "--data", sides.data, "--metric", "acu").code == "config.unknown_metric"

    foreign = sides.folder / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    error = run(sides, "--data", sides.data, "--out", str(foreign))
    assert error.code == "stage.not_ours"
    assert (foreign / "thesis.txt").read_text() == "mine"

    other = sides.workspace.manifest / "task.json"
    other.write_text(other.read_text().replace('"left"', '"up"'))
    error = run(sides, "--data", sides.data)
    assert error.code == "cohort.other_classes"
    assert "up, right" in error.message

    weights = sides.model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert run(sides, "--data", sides.data).code == "package.damaged"


def test_scans_of_patients_whom_the_model_has_seen_are_told(
    sides: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = sides.workspace
    records = labelled_scans(sides.package, workspace.manifest, workspace.splits)
    named = patient_pseudonym(workspace.cohort, sides.runs)
    fitted_on, chosen_by = (named(record.patient_id) for record in records[:2])
    seen = SeenScans.of([], [], [fitted_on, "somebody else"], [chosen_by])
    save_model(sides.model, seen=seen)  # of other scans of these patients than the cohort's
    monkeypatch.setattr("pipeline.audit.sweep.sweep", few_steps)
    where = audit_stage(str(sides.model), sides.data, None, "auc", 1, sides.runs, None)
    told = "the model was fitted on, or chosen by, 2 of the 24 scans, or scans of their patients"
    assert told in capsys.readouterr().out
    assert told in (where / "audit.html").read_text()


def test_a_test_split_without_scans_is_refused(
    sides_once: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = sides_once.workspace
    monkeypatch.setattr(labelled, "read_table", lambda *_: [])
    with pytest.raises(CohortError) as found:
        labelled_scans(sides_once.package, workspace.manifest, workspace.splits)
    assert found.value.code == "cohort.no_test_scans"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("runs/sides/model-demo", "demo"),
        ("runs/sides/model-demo/", "demo"),
        ("elsewhere/best", "best"),
        ("models:/liver@champion", "liver-champion"),
        ("models:/liver/3", "liver-3"),
    ],
)
def test_results_are_called_after_the_model(model: str, name: str) -> None:
    assert trust_stages._short_name(model) == name


def test_the_default_folder_lies_beside_the_cohorts_other_results(
    sides: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.audit.sweep.sweep", few_steps)
    save_model(sides.model.with_name("model-best"))
    model = str(sides.model.with_name("model-best"))
    where = audit_stage(model, sides.data, None, "brier", 1, sides.runs, None)
    assert where == sides.runs / "sides" / "audit-best"
    assert {row["metric"] for row in rows(where)} == {"brier"}
    assert min(float(row["loss"]) for row in rows(where) if row["recipe"] == "with") >= -0.1
    printed = capsys.readouterr().out
    # The little that noise costs is certain, and no danger.
    assert (
        "• The only dangerous shift is flip axis 0 (loss 2.000), of Brier score 0.000." in printed
    )
    assert "-0.000" not in printed
