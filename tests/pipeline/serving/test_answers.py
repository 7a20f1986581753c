"""Predictions are calibrated, decided by the model's threshold, enclosed in a set, and doubted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.scan_look import look_at
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.evaluation.decision import Decision, DecisionRule
from pipeline.serving.answers import Answer, answers
from pipeline.serving.batch_shift import BatchSample
from pipeline.serving.inference import predict
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import ABSTAINED, UNLIKE_TRAINING
from pipeline.trust.calibration import Calibration
from pipeline.trust.conformal import Conformal

SHAPE = (9, 8)
MULTI_LABEL = Task(kind="multi-label", class_names=("mass", "effusion", "nodule"))


def dim(seed: int) -> np.ndarray:
    """An image whose grey levels all lie below 100."""
    return np.random.default_rng(seed).integers(0, 100, size=SHAPE).astype(np.uint8)


def volume(image: np.ndarray) -> Volume:
    return Volume(image[None], np.eye(4), has_geometry=False)


FAMILIAR = [volume(dim(seed)) for seed in range(160)]


def answered(package: ModelPackage, images: list[np.ndarray]) -> list[Answer]:
    volumes = [volume(image) for image in images]
    arrays = [package.recipe.apply(one) for one in volumes]
    looks = [look_at(one, array) for one, array in zip(volumes, arrays, strict=True)]
    return list(answers(package, arrays, looks))


def with_trust(package: ModelPackage, **changes: object) -> ModelPackage:
    trust = package.card.trust.model_copy(update=changes)
    card = package.card.model_copy(update={"trust": trust})
    return ModelPackage(card, package.family, package.reference, package.digest)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Ten images like the training scans, and one that is much brighter."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in range(10):
        Image.fromarray(dim(1000 + seed)).save(folder / f"{seed}.png")
    Image.fromarray(dim(2000) + 150).save(folder / "bright.png")
    return folder


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["scan"]: row for row in csv.DictReader(file)}


def test_probabilities_are_the_calibrated_ones(make_package) -> None:
    hot = Calibration(method="temperature", numbers=((0.25,),))
    package = with_trust(make_package(SHAPE), calibration=hot)
    images = [dim(seed) for seed in range(5)]
    for answer in answered(package, images):
        odds = np.log(answer.probability[1] / answer.probability[0])
        raw = np.log(answer.raw[1] / answer.raw[0])
        assert odds == pytest.approx(0.25 * raw, abs=1e-4)


def test_the_models_threshold_decides_and_not_one_half(make_package) -> None:
    package = make_package(SHAPE)
    images = [dim(seed) for seed in range(30)]
    p = [answer.probability[1] for answer in answered(package, images)]
    end = float(np.sort(p)[20])
    chosen = Decision(rule=DecisionRule(rule="youden"), thresholds=(end,))
    found = answered(with_trust(package, decision=chosen), images)
    assert sum(answer.predicted == ("lesion",) for answer in found) == 10


def test_sets_hold_what_cannot_be_left_out(make_package) -> None:
    package = make_package(SHAPE)
    images = [dim(seed) for seed in range(12)]
    for end, expected in ((1.0, ("healthy", "lesion")), (0.0, ())):
        open_ends = Conformal(
            coverage=0.9, by_class=True, quantiles=(end,) * 2, patients=(9, 9), pooled=(True, True)
        )
        found = answered(with_trust(package, conformal=open_ends), images)
        assert {answer.within for answer in found} == {expected}


def test_labels_that_may_be_have_a_question_mark(make_package) -> None:
    package = make_package(SHAPE, task=MULTI_LABEL)
    sets = Conformal(  # of each label: no, yes
        coverage=0.9,
        by_class=True,
        quantiles=(0, 1, 1, 1, 1, 0),
        patients=(9,) * 6,
        pooled=(False,) * 6,
    )
    found = answered(with_trust(package, conformal=sets), [dim(seed) for seed in range(6)])
    assert {answer.within for answer in found} == {("mass", "effusion?")}


@pytest.mark.parametrize("then", ["flag", "abstain", "refuse"])
def test_what_is_done_with_a_scan_unlike_the_training_scans(
    make_package, scans: Path, tmp_path: Path, then: str
) -> None:
    package = make_package(SHAPE, familiar=FAMILIAR)
    summary = predict(package, [scans], tmp_path / "out", on_shift=then)
    found = table(tmp_path / "out")
    odd = found["bright.png"]
    assert UNLIKE_TRAINING in odd["flags"].split()
    assert sum(UNLIKE_TRAINING in row["flags"] for row in found.values()) <= 3
    assert summary.flagged[UNLIKE_TRAINING] >= 1
    usual = [float(row["shift_score"]) for name, row in found.items() if name != "bright.png"]
    assert float(odd["shift_score"]) > max(usual)
    if then == "refuse":
        assert (odd["status"], odd["code"]) == ("quarantined", "model.unlike_training")
        assert odd["p_lesion"] == odd["prediction_set"] == ""
        return
    assert odd["status"] == "ok"
    assert (odd["predicted_class"] == "") == (then == "abstain")
    assert (odd["prediction_set"] == "") == (then == "abstain")
    assert (ABSTAINED in odd["flags"].split()) == (then == "abstain")


def test_a_batch_drawn_otherwise_is_told(make_package, tmp_path: Path) -> None:
    package = make_package(SHAPE, familiar=FAMILIAR)
    found = {}
    for name, brighter in (("alike", 0), ("brighter", 30)):
        (tmp_path / name).mkdir()
        for seed in range(40):
            Image.fromarray(dim(5000 + seed) + brighter).save(tmp_path / name / f"{seed}.png")
        outputs = []
        for batch_size in (7, 64):
            out = tmp_path / f"{name}-{batch_size}"
            found[name] = predict(package, [tmp_path / name], out, batch_size=batch_size).shift
            outputs.append((out / "summary.json").read_bytes())
        assert outputs[0] == outputs[1]
    alike, other = found["alike"], found["brighter"]
    assert alike is not None and other is not None
    assert alike.scans == other.scans == 40
    assert alike.p_value > 0.01 >= other.p_value
    assert other.p_values["histogram"] <= 0.01


def test_of_a_large_batch_the_same_scans_are_compared_in_any_order() -> None:
    look = look_at(FAMILIAR[0], np.zeros((1, *SHAPE), np.float32))
    kept = []
    for order in (range(900), reversed(range(900))):
        sample = BatchSample()
        for n in order:
            sample.add(str(n), look, np.full(2, n, np.float32), "")
        kept.append([float(one.features[0]) for one in sorted(sample._kept)])
    assert kept[0] == kept[1]
    assert len(kept[0]) == 400
    assert BatchSample().test(None) is None


def test_a_model_without_a_reference_says_nothing_of_shift(
    make_package, scans: Path, tmp_path: Path
) -> None:
    predict(make_package(SHAPE), [scans], tmp_path / "out", on_shift="refuse")
    assert {row["shift_score"] for row in table(tmp_path / "out").values()} == {""}
    assert {row["status"] for row in table(tmp_path / "out").values()} == {"ok"}
