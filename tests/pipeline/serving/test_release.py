"""What is released is the very model that the study measured, or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.attributes import ATTRIBUTES, AttributeRow
from data_prep.errors import StageError
from data_prep.files import read_json, write_json, write_table
from data_prep.prep import AS_READ
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers.policy import ReadPolicy
from data_prep.scan_look import LEVELS, AsRead
from data_prep.stage import PROVENANCE, write_provenance
from data_prep.store import IndexRow, Store, write_index, write_shard
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import load_rows, load_split
from pipeline.families import FAMILIES, build_family
from pipeline.metrics import score
from pipeline.serving.package import ModelPackage, load_package
from pipeline.serving.release import ReleaseError, release
from pipeline.serving.verify import verify
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.journal import CELLS, CellResult, Journal
from pipeline.study.run import run_study

TASK = Task(kind="binary", class_names=("healthy", "lesion"))
POLICY = ReadPolicy(not_finite="fill")
PATIENTS = {"train": 16, "val": 10, "test": 12}


def write_store(folder: Path, seed: int) -> Path:
    """Two scans a patient of 12 x 11 pixels, the first voxel telling the class with some noise."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    rows, scans = [], []
    for split, patients in PATIENTS.items():
        for patient in range(patients):
            for scan in range(2):
                label = patient % 2
                x = rng.standard_normal((1, 12, 11)).astype(np.float32)
                x[0, 0, 0] += 2.5 * label
                name = f"{split}-{patient}"
                rows.append(IndexRow(f"{name}-{scan}", name, split, (label,), 0, len(rows), ()))
                scans.append(x)
    write_index(folder, rows, [write_shard(folder, 0, np.stack(scans))], TASK)
    config = PrepConfig.model_validate({"shape": (12, 11), "intensity": {"kind": "z_score"}})
    volume = Volume(rng.integers(0, 9, (1, 12, 11)), np.eye(4), has_geometry=False)
    write_json(folder / "recipe.json", PrepRecipe.fit(config, [volume]).to_json())
    write_table(folder / AS_READ, AsRead, [as_read(row) for row in rows])
    sites = [
        AttributeRow(r.scan_id, "site", "far" if r.patient_id in ("test-3", "test-4") else "near")
        for r in rows
    ]
    write_table(folder / ATTRIBUTES, AttributeRow, sites)
    write_json(folder / "policy.json", POLICY.model_dump(mode="json"))
    write_provenance(folder, "prep", {}, {})
    return folder


def as_read(row: IndexRow) -> AsRead:
    return AsRead(
        scan_id=row.scan_id,
        pixel_sha256=f"pixels of {row.scan_id}",
        shape=(1, 12, 11),
        spacing_mm=(1.0, 1.0),
        orientation="",
        modality="",
        dtype="uint8",
        flags=(),
        quantiles=tuple(float(n) for n in range(len(LEVELS))),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with ``store`` and the finished ``study`` of a family config that is gone since."""
    root = tmp_path_factory.mktemp("finished")
    store = write_store(root / "store", 0)
    family = root / "steep.yaml"
    family.write_text("family: linear\nparams: {penalties: [0.1, 0.01]}\n")
    config = StudyConfig(
        families=(str(family),), sizes=(8, "all"), subsets=1, seeds=2, seed=5, resamples=100
    )
    run_study(config, store, root / "study", cohort="toy")
    family.unlink()
    return root


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A copy of the finished study that a test may harm."""
    return Path(shutil.copytree(finished / "study", tmp_path / "study"))


@pytest.fixture(scope="module")
def released(finished) -> ModelPackage:
    return release(finished / "study", finished / "store", finished / "model")


def test_the_package_predicts_what_the_journal_holds(finished, released):
    chosen = read_json(finished / "study" / "results.json")["release"]
    journal = Journal(finished / "study" / CELLS)
    entry = journal.read(chosen["key"])
    assert entry is not None
    scans = load_split(Store.open(finished / "store"), "test")
    _, test = journal.probabilities(entry)
    assert np.allclose(load_package(finished / "model").look(scans.x)[0], test, atol=1e-12)


def test_the_card_says_where_the_model_comes_from_and_how_good_it_is(finished, released):
    card = released.card
    scans = load_split(Store.open(finished / "store"), "test")
    probability = released.predict(scans.x)
    expected = score(TASK, scans.target, probability)
    assert set(card.test.metrics) > set(expected)
    for name, metric in card.test.metrics.items():
        if name in expected:
            assert metric.value == pytest.approx(expected[name], abs=1e-9)
        if name != "ece":  # which is above the truth by chance, as its interval knows
            assert metric.low <= metric.value <= metric.high
    assert (card.test.patients, card.test.scans, card.test.resamples) == (12, 24, 10_000)
    near, other = card.test.subgroups
    assert (other.attribute, other.group, other.patients, other.too_few) == (
        *("site", "other", 2),
        True,
    )
    assert (near.attribute, near.group, near.patients, near.scans) == ("site", "near", 10, 20)
    assert near.metrics["auc"].low <= near.metrics["auc"].value <= near.metrics["auc"].high
    results = read_json(finished / "study" / "results.json")
    assert card.training.data == "toy"
    assert card.training.cell == results["release"]["key"]
    assert card.training.study == results["study"]
    assert card.training.store == Store.open(finished / "store").digest
    assert (card.training.patients, card.training.scans) == (16, 32)
    seen = card.training.seen
    for split, flags in {"train": ["training"], "val": ["validation"], "test": []}.items():
        for patient in range(PATIENTS[split]):
            pixels = f"pixels of {split}-{patient}-1"
            assert seen.flags(pixels) == tuple(f"seen_in_{flag}" for flag in flags)
    assert "validation" in card.training.chosen
    assert card.read == POLICY
    assert card.recipe.scan_shape == card.scan_shape == (1, 12, 11)
    assert card.seed in (5, 6)
    assert card.family.params.penalties == (0.1, 0.01)


def test_the_choice_looks_at_validation_only(finished, released):
    cells = read_json(finished / "study" / "results.json")["cells"]
    largest = [cell for cell in cells if cell["size"] == 16]
    best = max(largest, key=lambda cell: cell["val"]["auc"])
    assert released.card.training.cell == best["key"]


def test_no_patient_and_no_path_is_in_the_package(finished, released):
    text = (finished / "model" / "model.json").read_text()
    text += (finished / "model" / PROVENANCE).read_text()
    for marker in ("train-3", "test-0", str(finished)):
        assert marker not in text


@pytest.fixture(scope="module")
def refitted(finished) -> ModelPackage:
    where = (finished / "study", finished / "store", finished / "refitted")
    return release(*where, with_validation=True, pseudonym=lambda patient: f"name of {patient}")


def test_a_refitted_model_has_seen_validation_and_says_so(finished, released, refitted):
    card, training = refitted.card, refitted.card.training
    assert training.refit is not None
    assert (training.patients, training.scans) == (26, 52)
    assert (training.refit.patients, training.refit.scans, training.refit.folds) == (26, 52, 5)
    assert training.refit.chosen["penalty"] in card.family.params.penalties
    assert training.cell == released.card.training.cell
    assert released.card.training.refit is None
    for split, flags in {"train": 1, "val": 1, "test": 0}.items():
        seen = training.seen
        assert seen.flags(f"pixels of {split}-3-1") == ("seen_in_training",) * flags
        person = seen.flags("another image", f"name of {split}-3")
        assert person == ("patient_in_training",) * flags
    assert "all 26 training and validation patients" in card.trust.notes[0]
    assert "5 models like it" in card.trust.notes[0]
    assert "no guarantee of 0.9 coverage" in card.trust.notes[1]
    assert "guaranteed about 0.8 only" in card.trust.notes[1]
    assert sum(card.trust.conformal.patients) == 26
    assert refitted.digest != released.digest
    assert verify(finished / "refitted").bit_identical


def test_a_refitted_model_is_the_family_on_all_scans(finished, refitted):
    store, card = Store.open(finished / "store"), refitted.card
    scans = load_rows(store, store.rows("train") + store.rows("val"))
    family = build_family(card.family, TASK, card.scan_shape, card.seed)
    family.fit_chosen(scans.with_x(family.prepare(scans.x)), card.training.refit.chosen)
    test = load_split(store, "test")
    said = family.predict_proba(family.prepare(test.x))
    assert np.allclose(refitted.look(test.x)[0], said, atol=1e-12)
    expected = score(TASK, test.target, refitted.calibrate(said))
    assert card.test.metrics["auc"].value == pytest.approx(expected["auc"], abs=1e-9)
    assert card.test.patients == 12


def test_refitting_again_gives_the_same_package(finished, refitted, tmp_path):
    where = (finished / "study", finished / "store", tmp_path / "again")
    again = release(*where, with_validation=True, pseudonym=lambda patient: f"name of {patient}")
    assert again.digest == refitted.digest


def test_releasing_again_gives_the_same_package(finished, released, tmp_path):
    again = release(finished / "study", finished / "store", tmp_path / "again")
    assert again.digest == released.digest
    assert again.card == released.card


def test_another_rule_is_followed_when_asked_and_said_so(finished, study, released, tmp_path):
    results = read_json(study / "results.json")
    assert set(results["choices"]) == {"best", "one_standard_error"}
    assert results["release"] == results["choices"]["best"]
    other = next(c for c in results["cells"] if c["key"] != results["release"]["key"])
    choices = {**results["choices"], "one_standard_error": {**other, "reason": "simplest."}}
    write_json(study / "results.json", {**results, "choices": choices})
    where = (study, finished / "store", tmp_path / "model")
    package = release(*where, rule="one_standard_error")
    assert package.card.training.cell == other["key"]
    assert package.card.training.chosen == (
        "simplest. Asked for at release: rule one_standard_error; the study had declared best."
    )
    assert release(*where, rule="best").card.training.chosen == released.card.training.chosen
    del results["choices"]
    write_json(study / "results.json", results)
    with pytest.raises(ReleaseError) as caught:
        release(*where, rule="one_standard_error")
    assert caught.value.code == "release.rule_not_applied"


def test_fitting_is_told(finished, tmp_path):
    told = []
    release(
        finished / "study",
        finished / "store",
        tmp_path / "model",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (2, 2)  # linear solves two penalties


def test_a_model_that_is_not_the_journals_is_not_released(finished, study, tmp_path):
    key = read_json(study / "results.json")["release"]["key"]
    journal = Journal(study / CELLS)
    entry = journal.read(key)
    assert entry is not None
    val, test = journal.probabilities(entry)
    test[3] += [1e-9, -1e-9]
    journal.write(entry.cell, key, CellResult(val, test), entry.finished_ms)
    with pytest.raises(ReleaseError) as caught:
        release(study, finished / "store", tmp_path / "model")
    assert caught.value.code == "release.not_reproduced"
    assert "1e-09" in caught.value.message
    assert not (tmp_path / "model").exists()


def test_another_store_is_refused(finished, study, tmp_path):
    other = write_store(tmp_path / "other", 1)
    with pytest.raises(ReleaseError) as caught:
        release(study, other, tmp_path / "model")
    assert caught.value.code == "release.other_store"


def test_a_study_that_is_not_finished_is_refused(finished, study, tmp_path):
    (study / PROVENANCE).unlink()
    with pytest.raises(StageError) as caught:
        release(study, finished / "store", tmp_path / "model")
    assert caught.value.code == "stage.incomplete"


def test_a_study_without_a_choice_is_refused(finished, study, tmp_path):
    content = json.loads((study / "results.json").read_text()) | {"release": None}
    (study / "results.json").write_text(json.dumps(content))
    with pytest.raises(ReleaseError) as caught:
        release(study, finished / "store", tmp_path / "model")
    assert caught.value.code == "release.nothing_chosen"


def test_a_cell_of_another_machine_is_refused(finished, study, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "0.0")
    with pytest.raises(StudyError) as caught:
        release(study, finished / "store", tmp_path / "model")
    assert caught.value.code == "study.no_cell"


def test_every_family_is_reproduced_bit_for_bit(finished, tmp_path):
    """The study fits in worker processes, from prepared scans on disk; the release fits here."""
    brief = "train: {epochs: 2, min_steps: 6}"
    params = {
        "cnn_scratch": f"{{widths: [4, 8], {brief}}}",
        "monai_network": f"{{width: 0.1, {brief}}}",
        "mlp": f"{{widths: [8], {brief}}}",
    }
    files = []
    for name in FAMILIES:
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(f"family: {name}\nparams: {params.get(name, '{}')}\n")
    config = StudyConfig(
        families=tuple(str(file) for file in files), sizes=("all",), subsets=1, resamples=100
    )
    run_study(config, finished / "store", tmp_path / "study")
    results = read_json(tmp_path / "study" / "results.json")
    for cell in results["cells"]:
        choice = {**results["release"], "key": cell["key"]}
        write_json(tmp_path / "study" / "results.json", {**results, "release": choice})
        package = release(tmp_path / "study", finished / "store", tmp_path / cell["family"])
        assert package.card.family.family == cell["family"]
