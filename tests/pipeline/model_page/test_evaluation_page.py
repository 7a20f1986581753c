"""What the page and the card say, for every kind of task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from answered_noise import noise_model
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from data_prep.task import Task, TaskKind
from pipeline.evaluation.decision import Decision, DecisionRule
from pipeline.evaluation.results import Score
from pipeline.model_page.curves import operating
from pipeline.model_page.gather import AnsweredScans
from pipeline.model_page.judged import Foreign, Judged, confusion, judge_model
from pipeline.model_page.page import write_evaluation
from pipeline.model_page.pictures import examples, surest
from pipeline.model_page.sensitivities import Sensitivities
from pipeline.model_page.subgroups import subgroups
from pipeline.model_page.summary import held, sentences, weakest
from pipeline.model_page.words import percent
from pipeline.serving.package import ModelPackage
from pipeline.trust.config import TrustConfig
from pipeline.trust.covered import Coverage, Share
from pipeline.wording import stated

NAMES = ("none | at all", "some", "a class with a name that goes on and on and on")
BINARY = Task(kind="binary", class_names=("no", "yes"))


def facts(card: str) -> dict[str, str]:
    """Name -> what is known, of all tables of a card."""
    cells = [line[2:-2].split(" | ", 1) for line in card.splitlines() if line.startswith("| ")]
    return {name: what for name, what in cells if (name, what) != ("What", "Known")}


def judged(package: ModelPackage, tested: AnsweredScans) -> Judged:
    return judge_model(package, tested, "noise", (), 0, None, {}, resamples=200)


@pytest.mark.parametrize("kind", ["multi-class", "ordinal", "multi-label"])
def test_every_kind_of_task_has_its_page(kind: TaskKind, tmp_path: Path) -> None:
    task = Task(kind=kind, class_names=NAMES)
    package, tested = noise_model(tmp_path / "model", task)
    found = judged(package, tested)
    write_evaluation(package, tested, found, [], tmp_path)
    page = (tmp_path / "evaluation.html").read_text()
    assert Judged.model_validate_json((tmp_path / "evaluation.json").read_text()) == found
    assert ("quadratic kappa" in page) == (kind == "ordinal")
    assert len(found.confusion) == (3 if task.is_multi_label else 1)
    assert all(sum(map(sum, one.counts)) == 60 for one in found.confusion)
    assert len(found.sets.classes) == (6 if task.is_multi_label else 3)
    assert "Whether scans look foreign cannot be told" in page
    assert "no scan" not in sentences(found, package.card)[0]
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "none \\| at all" in card
    table = facts(card)
    assert table["Threshold"] == (
        "above 0.5" if task.is_multi_label else "none: the most probable class"
    )
    assert table["Reference"].startswith("none")


def test_a_fixed_sensitivity_is_told_with_its_threshold(tmp_path: Path) -> None:
    config = TrustConfig(decision=DecisionRule(rule="sensitivity", at=0.8), calibration="platt")
    package, tested = noise_model(tmp_path / "model", BINARY, config)
    found = judged(package, tested)
    write_evaluation(package, tested, found, [], tmp_path)
    table = facts((tmp_path / "MODEL_CARD.md").read_text())
    threshold = package.card.trust.decision.thresholds[0]
    assert table["Decision"] == "sensitivity of at least 0.8"
    assert table["Threshold"] == f"yes from {threshold:.4f}"
    assert table["Calibration"] == "platt"
    assert len(table["Its numbers"].split(", ")) == 2
    page = (tmp_path / "evaluation.html").read_text()
    assert "After calibration by platt" in page
    assert ">before<" in page
    assert set(found.before) == {"ece_debiased", "log_loss", "brier"}
    ((curve),) = operating(
        BINARY, tested.target, tested.probability, package.card.trust.decision.thresholds
    )
    assert curve.at is not None
    assert curve.hits[curve.at] == pytest.approx(found.evaluation.metrics["sensitivity"].value)
    assert 1 - curve.alarms[curve.at] == pytest.approx(
        found.evaluation.metrics["specificity"].value
    )


def test_the_weakest_subgroup_is_the_one_with_the_lowest_auc(tmp_path: Path) -> None:
    package, tested = noise_model(tmp_path / "model", BINARY)
    found = judged(package, tested)
    assert set(subgroups(tested.records, {})) == {"modality", "mean intensity as read"}
    lowest = weakest(found)
    assert lowest is not None
    scored = [g for g in found.evaluation.subgroups if "auc" in g.metrics]
    assert len(scored) == 2  # quarters of 30 patients are too few to be told
    assert lowest[1].value == min(g.metrics["auc"].value for g in scored)
    text = next(s for s in sentences(found, package.card) if s.startswith("The weakest subgroup"))
    assert f"{lowest[0].attribute} {lowest[0].group}" in text


def test_a_column_that_the_data_config_names_comes_first(tmp_path: Path) -> None:
    package, tested = noise_model(tmp_path / "model", BINARY)
    sex = np.array(["f" if n % 4 < 2 else "" for n in range(60)])
    town = np.array(["Farville" if n < 6 else "Hereton" for n in range(60)])
    named = {"sex": sex, "town": town, "gender": np.where(sex == "f", "woman", "")}
    found = judge_model(package, tested, "noise", (), 0, None, named, resamples=200)
    first, second = found.evaluation.subgroups[:2]
    assert [(g.attribute, g.group) for g in (first, second)] == [("sex", "f"), ("sex", "unknown")]
    write_evaluation(package, tested, found, [], tmp_path)
    assert (
        "By what the label table or DICOM headers say (sex, town, gender)"
        in (tmp_path / "evaluation.html").read_text()
    )
    table = facts((tmp_path / "MODEL_CARD.md").read_text())
    assert table["sex: f (the same scans: gender: woman)"].startswith("15 patients; AUC")
    assert table["town: other"] == "3 patients; too few patients to be scored"
    for file in tmp_path.glob("*.*"):  # a value of three patients is not told
        assert "Farville" not in file.read_text()
    assert "Sex, age, scanner, site" not in table


def test_nothing_is_told_twice(tmp_path: Path) -> None:
    package, tested = noise_model(tmp_path / "model", BINARY, TrustConfig(calibration="none"))
    found = judged(package, tested)
    write_evaluation(package, tested, found, [], tmp_path)
    page = (tmp_path / "evaluation.html").read_text()
    table = facts((tmp_path / "MODEL_CARD.md").read_text())
    assert page.count('<tr><th scope="row">AUC</th>') == 1
    assert "DeLong&#39;s is [" in page
    assert "; DeLong's interval [" in table["AUC"]
    assert "before" not in table["log loss"]
    # where a row would be cut, each of its numbers stands by itself, with its name
    assert page.count('data-of="PPV"') == page.count('data-of="NPV"') == 1


def test_one_class_alone_is_told_without_curves(tmp_path: Path) -> None:
    package, tested = noise_model(tmp_path / "model", BINARY)
    alone = AnsweredScans(
        tested.records,
        tested.answers,
        tested.looks,
        np.zeros_like(tested.target),
        tested.probability,
        (),
    )
    found = judged(package, alone)
    write_evaluation(package, alone, found, [], tmp_path)
    page = (tmp_path / "evaluation.html").read_text()
    assert "AUC" not in sentences(found, package.card)[0]
    assert "not defined on these scans" in page
    assert "ROC and precision-recall" not in page


def test_each_finding_has_its_sentence(tmp_path: Path) -> None:
    package, tested = noise_model(tmp_path / "model", BINARY)
    found = judged(package, tested)
    evaluation = found.evaluation
    share = Share(value=0.5, low=0.4, high=0.6, scans=60)
    foreign = Foreign(
        flagged=share, rate=0.05, scores=((0.5, False), (9.0, True)), p_value=0.002,
        p_values={"metadata": 0.5, "histogram": 0.003, "pixels": 0.01}, held_out=30,
    )  # fmt: skip
    audit = Sensitivities(folder="audit-x", metric="auc", base=0.8, tried=60, dangers=())

    def told(**changes: object) -> str:
        return " ".join(sentences(found.model_copy(update=changes), package.card))

    assert "Caution: 3 test scans of noise were left out" in told(seen=3)
    differ = "they differ from them (p = 0.002), by their intensities and what they show (each"
    assert differ in told(foreign=foreign)
    write_evaluation(package, tested, found.model_copy(update={"foreign": foreign}), [], tmp_path)
    page = (tmp_path / "evaluation.html").read_text()
    assert "<td>0.002</td><td>adjusted for 3</td>" in page
    assert page.count("<td>not adjusted</td>") == 3
    alike = foreign.model_copy(update={"p_value": 0.4})
    assert "all together they cannot be told from them (p = 0.400)" in told(foreign=alike)
    assert "no realistic one costs AUC more than chance explains" in told(audit=audit)
    off = evaluation.metrics | {
        "ece_debiased": Score(value=0.2, low=0.1, high=0.3),
        "auc": Score(value=0.6, low=0.45, high=0.7),
    }
    bad = told(evaluation=evaluation.model_copy(update={"metrics": off}))
    assert "its probabilities are off by 0.200 [0.100, 0.300]" in bad
    assert "it may be no better than chance" in bad
    nothing = told(evaluation=evaluation.model_copy(update={"metrics": {}, "subgroups": ()}))
    assert "neither AUC nor accuracy can be told" in nothing
    assert "Whether its probabilities come true cannot be told" in nothing
    assert "No subgroup has patients enough" in nothing


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.8, "which does not"), (0.7, "less than"), (0.96, "more than")]
)
def test_coverage_is_held_against_what_was_promised(value: float, verdict: str) -> None:
    found = Coverage(value=value, low=value, high=value, scans=9, least=0.75, most=0.95)
    assert held(found).startswith(verdict)
    assert held(found.model_copy(update={"least": None})).startswith("not promised")
    assert held(found.model_copy(update={"value": None})) == "of no scan"


def test_nearly_all_is_not_written_as_all() -> None:
    assert [percent(share) for share in (1.0, 0.9996, 0.999, 0.0003, 0.0)] == [
        "100.0\N{NO-BREAK SPACE}%",
        ">\N{NO-BREAK SPACE}99.9\N{NO-BREAK SPACE}%",
        "99.9\N{NO-BREAK SPACE}%",
        "<\N{NO-BREAK SPACE}0.1\N{NO-BREAK SPACE}%",
        "0.0\N{NO-BREAK SPACE}%",
    ]
    assert [stated(share) for share in (0.9, 0.999, 0.9995)] == [
        "90\N{NO-BREAK SPACE}%",
        "99.9\N{NO-BREAK SPACE}%",
        "99.95\N{NO-BREAK SPACE}%",
    ]


def test_an_explanation_that_is_not_cheap_is_left_out(tmp_path: Path) -> None:
    package, tested = noise_model(tmp_path / "model", BINARY, family="knn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.model_page.pictures._MOST_OCCLUDED", 20)
        assert examples(package, tested, tmp_path) == []


def test_scans_that_are_gone_leave_the_page_without_pictures(tmp_path: Path) -> None:
    package, tested = noise_model(tmp_path / "model", BINARY)
    assert examples(package, tested, tmp_path) == []


def test_the_surest_are_those_of_the_highest_probability(tmp_path: Path) -> None:
    package, tested = noise_model(tmp_path / "model", Task(kind="multi-label", class_names=NAMES))
    sure, right = surest(package.task, tested)
    assert sure == pytest.approx(np.maximum(tested.shown, 1 - tested.shown).min(axis=1))
    assert right.tolist() == ((tested.shown > 0.5) == tested.target).all(axis=1).tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_curves_have_the_area_and_the_point_that_metrics_have(
    scans: list[tuple[bool, int]],
) -> None:
    target = np.array([int(truth) for truth, _ in scans], dtype=np.int64)
    score = np.array([value / 6 for _, value in scans])
    probability = np.stack([1 - score, score], axis=1)
    decision = Decision(rule=DecisionRule(rule="youden"), thresholds=(0.4,))
    curves = list(operating(BINARY, target, probability, decision.thresholds))
    if len(set(target.tolist())) == 1:
        assert curves == []
        return
    (curve,) = curves
    area = np.trapezoid(curve.hits, curve.alarms)
    assert area == pytest.approx(metrics.roc_auc_score(target, score))
    assert np.sum(np.diff(curve.hits) * curve.precision[1:]) == pytest.approx(
        metrics.average_precision_score(target, score)
    )
    ((no, alarm), (miss, hit)) = confusion(BINARY, target, decision.decide(BINARY, probability))[
        0
    ].counts
    assert curve.hits[curve.at] == pytest.approx(hit / (hit + miss))
    assert curve.alarms[curve.at] == pytest.approx(alarm / (alarm + no))
