"""Thresholds do what their rule says, against every threshold tried one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.config import parse_config
from data_prep.errors import CohortError, ConfigError
from data_prep.task import Task
from pipeline.evaluation.decision import Decision, DecisionRule, fit_decision

Floats = NDArray[np.float64]
BINARY = Task(kind="binary", class_names=("healthy", "ill"))
LABELS = Task(kind="multi-label", class_names=("a", "b"))
RULES = ("youden", "sensitivity", "specificity", "cost")


def rows(p: Floats) -> Floats:
    return np.stack([1 - p, p], axis=1)


@st.composite
def validation(draw: st.DrawFn) -> tuple[NDArray[np.int64], Floats]:
    """Scans of both classes; probabilities with many ties, 0 and 1 among them."""
    n = draw(st.integers(2, 30))
    target = np.array([0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))])
    p = np.array(draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))) / 8
    return target, p


def rates(target: NDArray[np.int64], decided: NDArray[np.int64]) -> tuple[float, float]:
    return float(decided[target == 1].mean()), float(1 - decided[target == 0].mean())


def worth(rule: DecisionRule, target: NDArray[np.int64], decided: NDArray[np.int64]) -> float:
    """By the rule's definition; minus infinity where it is not allowed."""
    sensitivity, specificity = rates(target, decided)
    if rule.rule == "youden":
        return sensitivity + specificity - 1
    if rule.rule == "sensitivity":
        return specificity if sensitivity >= rule.at else -np.inf
    if rule.rule == "specificity":
        return sensitivity if specificity >= rule.at else -np.inf
    misses = int((target & ~decided & 1).sum())
    alarms = int((decided & ~target & 1).sum())
    return -(rule.false_negative * misses + rule.false_positive * alarms)


@settings(deadline=None, max_examples=150)
@given(validation(), st.sampled_from(RULES), st.sampled_from([0.5, 0.9, 1.0]))
def test_no_other_threshold_serves_the_rule_better(
    scans: tuple[NDArray[np.int64], Floats], name: str, at: float
) -> None:
    target, p = scans
    used = {"at": at} if name in ("sensitivity", "specificity") else {}
    used |= {"false_negative": 3} if name == "cost" else {}
    rule = DecisionRule.model_validate({"rule": name} | used)
    decision = fit_decision(rule, BINARY, target, rows(p))
    decided = decision.decide(BINARY, rows(p))
    found = worth(rule, target, decided)
    tried = [(p >= t).astype(np.int64) for t in np.linspace(-1 / 16, 17 / 16, 19)]
    others = [worth(rule, target, each) for each in tried]
    assert found == pytest.approx(max(others), abs=1e-12)
    best = [each for each, value in zip(tried, others, strict=True) if value > found - 1e-12]
    assert rates(target, decided)[0] == max(rates(target, each)[0] for each in best)


@settings(deadline=None, max_examples=60)
@given(validation(), st.sampled_from(RULES))
def test_a_rounding_error_changes_no_decision(
    scans: tuple[NDArray[np.int64], Floats], name: str
) -> None:
    target, p = scans
    decision = fit_decision(DecisionRule.model_validate({"rule": name}), BINARY, target, rows(p))
    decided = decision.decide(BINARY, rows(p))
    for error in (-1e-7, 1e-7):
        near = rows(np.clip(p + error, 0, 1).astype(np.float32).astype(np.float64))
        assert (decision.decide(BINARY, near) == decided).all()


def test_neighbouring_numbers_are_told_apart() -> None:
    for low in (0.5, np.nextafter(0.5, 1), 1 - 2**-53):
        high = np.nextafter(low, 2)
        scans = rows(np.array([low, high]))
        fitted = fit_decision(DecisionRule(rule="youden"), BINARY, np.array([0, 1]), scans)
        assert fitted.decide(BINARY, scans).tolist() == [0, 1]


def test_cost_is_near_elkans_threshold_where_probabilities_are_true() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    target = (rng.random(200_000) < p).astype(np.int64)
    rule = DecisionRule(rule="cost", false_negative=4, false_positive=1)
    assert fit_decision(rule, BINARY, target, rows(p)).thresholds[0] == pytest.approx(0.2, abs=0.02)


def test_a_dear_alarm_is_never_raised() -> None:
    rule = DecisionRule(rule="cost", false_positive=1e6)
    p = rows(np.array([1.0, 1.0, 0.2]))
    fitted = fit_decision(rule, BINARY, np.array([0, 1, 0]), p)
    assert fitted.thresholds[0] > 1
    assert not fitted.decide(BINARY, p).any()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"at": 0.8}, "at is for rule: sensitivity and specificity, .* with rule: argmax"),
        ({"rule": "youden", "false_negative": 2}, "false_negative is for rule: cost"),
        ({"rule": "cost", "at": 0.5}, "at is for rule"),
        ({"rule": "sensitivity", "false_positive": 2}, "leave it out, or change the rule"),
    ],
)
def test_a_parameter_that_the_rule_does_not_look_at_is_refused(
    content: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(content, DecisionRule, source="study.yaml")
    whole = DecisionRule.model_validate({"rule": "sensitivity", "at": 0.8})
    assert DecisionRule.model_validate(whole.model_dump(mode="json")) == whole


def test_each_label_has_its_threshold() -> None:
    target = np.array([[0, 1], [0, 1], [1, 0], [1, 0]])
    p = np.array([[0.1, 0.05], [0.2, 0.04], [0.3, 0.01], [0.4, 0.02]])
    fitted = fit_decision(DecisionRule(rule="youden"), LABELS, target, p)
    assert fitted.thresholds == pytest.approx((0.25, 0.03))
    assert (fitted.decide(LABELS, p) == target).all()
    again = Decision.model_validate_json(fitted.model_dump_json())
    assert again == fitted


@pytest.mark.parametrize("kind", ["binary", "multi-class", "ordinal", "multi-label"])
def test_argmax_fits_nothing_and_takes_the_most_probable(kind: str) -> None:
    names = ("a", "b") if kind == "binary" else ("a", "b", "c")
    task = Task.model_validate({"kind": kind, "class_names": names})
    p = np.random.default_rng(1).dirichlet(np.ones(len(names)), size=50)
    target = (p > 0.4).astype(np.int64) if task.is_multi_label else np.zeros(50, dtype=np.int64)
    fitted = fit_decision(DecisionRule(), task, target, p)
    assert fitted.thresholds == ()
    expected = p > 0.5 if task.is_multi_label else p.argmax(axis=1)
    assert (fitted.decide(task, p) == expected).all()


def test_a_tie_goes_to_the_first_class() -> None:
    assert Decision().decide(BINARY, np.array([[0.5, 0.5]])).tolist() == [0]


@pytest.mark.parametrize("kind", ["multi-class", "ordinal"])
def test_more_than_two_classes_take_no_threshold(kind: str) -> None:
    task = Task.model_validate({"kind": kind, "class_names": ("a", "b", "c")})
    with pytest.raises(ConfigError, match=r"decision\.rule 'youden'") as refused:
        fit_decision(DecisionRule(rule="youden"), task, np.array([0]), np.ones((1, 3)))
    assert refused.value.code == "config.decision_rule"
    with pytest.raises(ValueError, match="takes no thresholds"):
        Decision(thresholds=(0.5,)).decide(task, np.ones((1, 3)))


def test_thresholds_must_fit_the_task() -> None:
    with pytest.raises(ValueError, match="1 thresholds for 2"):
        Decision(thresholds=(0.5,)).decide(LABELS, np.ones((1, 2)))


@pytest.mark.parametrize(("every", "word"), [(0, "no"), (1, "every")])
def test_a_label_that_does_not_vary_is_named(every: int, word: str) -> None:
    target = np.array([[every, 0], [every, 1]])
    with pytest.raises(CohortError, match=f"{word} validation scan is 'a'") as refused:
        fit_decision(DecisionRule(rule="cost"), LABELS, target, np.full((2, 2), 0.5))
    assert refused.value.code == "decision.one_class"


def test_rules_in_words() -> None:
    assert str(DecisionRule(rule="sensitivity", at=0.95)) == "sensitivity of at least 0.95"
    assert str(DecisionRule(rule="cost")) == "cost 5 of a miss, 1 of an alarm"
    assert str(DecisionRule()) == "argmax"
