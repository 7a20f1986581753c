"""From probabilities to decisions: a threshold that validation chose by a rule stated beforehand.

A threshold is never fitted on the test split, for what is tuned there is no longer tested. Each
rule looks at every threshold that tells two validation scans apart:

* ``argmax``: the most probable class; for two classes, and for each label, 0.5. Nothing is fitted.
* ``youden``: the largest sensitivity + specificity - 1 (Youden 1950, "Index for rating diagnostic
  tests").
* ``sensitivity``: the largest specificity with a sensitivity of at least ``at``.
* ``specificity``: the largest sensitivity with a specificity of at least ``at``.
* ``cost``: the smallest ``false_negative`` x misses + ``false_positive`` x false alarms (Metz 1978,
  "Basic principles of ROC analysis"). For calibrated probabilities that is near the threshold
  ``false_positive / (false_positive + false_negative)`` (Elkan 2001).

Of thresholds that serve a rule equally well, the one that misses least is taken. A threshold lies
half-way between two probabilities seen, so that a rounding error at predict time crosses it for
none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_prep.config import Config
from data_prep.errors import CohortError, ConfigError
from data_prep.task import Task
from pipeline.weighted_metrics import Floats, Labels, questions

# The parameters of each rule: to set another one is to expect what will not happen.
_USED: Final[Mapping[str, frozenset[str]]] = {
    "argmax": frozenset(),
    "youden": frozenset(),
    "sensitivity": frozenset({"at"}),
    "specificity": frozenset({"at"}),
    "cost": frozenset({"false_negative", "false_positive"}),
}
_PARAMETERS: Final = frozenset().union(*_USED.values())

ABOVE_ALL: Final = float(np.nextafter(1.0, 2.0))  # above every probability


class DecisionRule(Config):
    """How thresholds are chosen on validation.

    Attributes:
        rule: See the module.
        at: What ``sensitivity`` or ``specificity`` must reach.
        false_negative: Cost of a missed scan, for ``cost``.
        false_positive: Cost of a false alarm, for ``cost``.
    """

    rule: Literal["argmax", "youden", "sensitivity", "specificity", "cost"] = "argmax"
    at: Annotated[float, Field(gt=0, le=1)] = 0.9
    false_negative: Annotated[float, Field(gt=0)] = 5.0
    false_positive: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _only_what_is_used(self) -> DecisionRule:
        for name in sorted(_PARAMETERS - _USED[self.rule]):
            if getattr(self, name) != type(self).model_fields[name].default:
                rules = " and ".join(rule for rule, used in _USED.items() if name in used)
                raise ValueError(
                    f"{name} is for rule: {rules}, and does nothing with rule: {self.rule}; leave "
                    "it out, or change the rule"
                )
        return self

    def check(self, task: Task) -> None:
        """Refuse a rule that says nothing about the task.

        Raises:
            ConfigError: ``config.decision_rule``: more than two classes exclude each other, and
                there is no one threshold among them.
        """
        if self.rule != "argmax" and task.kind not in ("binary", "multi-label"):
            raise ConfigError(
                "config.decision_rule",
                f"decision.rule '{self.rule}' chooses a threshold; this is a {task.kind} task of "
                f"{task.n_classes} classes, of which the most probable one is taken",
                fix="set decision.rule to argmax, or make the task binary or multi-label",
            )

    def __str__(self) -> str:
        if self.rule in ("sensitivity", "specificity"):
            return f"{self.rule} of at least {self.at:g}"
        if self.rule == "cost":
            return f"cost {self.false_negative:g} of a miss, {self.false_positive:g} of an alarm"
        return self.rule


class Decision(Config):
    """A fitted rule.

    Attributes:
        rule: By which the thresholds were chosen.
        thresholds: Of class 1 (binary), or of each label; a scan is positive from there on. ()
            takes the most probable class, or labels above 0.5. A threshold above 1 is never met.
    """

    rule: DecisionRule = DecisionRule()
    thresholds: tuple[float, ...] = ()

    def decide(self, task: Task, probability: Floats) -> Labels:
        """Decisions of (N, n_classes) probabilities.

        Returns:
            (N,) class indices, or (N, L) 0/1 for multi-label.

        Raises:
            ValueError: If the number of thresholds does not fit the task.
        """
        if task.kind not in ("binary", "multi-label"):
            if self.thresholds:
                raise ValueError(f"a {task.kind} task takes no thresholds")
            most_probable: Labels = np.argmax(probability, axis=1)
            return most_probable
        positive = probability if task.is_multi_label else probability[:, 1:]
        if not self.thresholds:
            decided = positive > 0.5  # a tie goes to the first class, as with argmax
        elif len(self.thresholds) == positive.shape[1]:
            decided = positive >= np.array(self.thresholds)
        else:
            raise ValueError(f"{len(self.thresholds)} thresholds for {positive.shape[1]} questions")
        return (decided if task.is_multi_label else decided[:, 0]).astype(np.int64)


def fit_decision(rule: DecisionRule, task: Task, target: Labels, probability: Floats) -> Decision:
    """Choose the thresholds of a task by a rule.

    Args:
        rule: Which.
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label, of validation scans.
        probability: (N, n_classes), of the same scans, as they will be at predict time.

    Raises:
        ConfigError: ``config.decision_rule``.
        CohortError: ``decision.one_class`` where validation has no scan with, or none without.
    """
    rule.check(task)
    if rule.rule == "argmax":
        return Decision(rule=rule)
    names = task.class_names if task.is_multi_label else task.class_names[1:]
    asked = zip(names, questions(task, target, probability), strict=True)
    return Decision(
        rule=rule,
        thresholds=tuple(_threshold(rule, name, truth, p) for name, (truth, p) in asked),
    )


def _threshold(rule: DecisionRule, name: str, truth: NDArray[np.bool_], p: Floats) -> float:
    if truth.all() or not truth.any():
        raise CohortError(
            "decision.one_class",
            f"decision.rule '{rule.rule}': {'every' if truth.all() else 'no'} validation scan is "
            f"'{name}', so that no threshold can be chosen",
            fix="validate on patients with and without it, or set decision.rule to argmax",
        )
    # Candidates fall from "never" to "always": each admits one more distinct probability.
    seen, group = np.unique(-p, return_inverse=True)
    hits = np.concatenate([[0], np.cumsum(np.bincount(group, truth))])
    alarms = np.concatenate([[0], np.cumsum(np.bincount(group, ~truth))])
    gain, allowed = _worth(rule, hits, alarms)
    best = np.flatnonzero(allowed & (gain == gain[allowed].max()))[-1]
    return _between(-seen, int(best))


def _worth(rule: DecisionRule, hits: Floats, alarms: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """What each candidate is worth under the rule, and which are allowed."""
    sensitivity, specificity = hits / hits[-1], 1 - alarms / alarms[-1]
    every = np.ones(len(hits), dtype=bool)
    if rule.rule == "sensitivity":
        return specificity, sensitivity >= rule.at
    if rule.rule == "specificity":
        return sensitivity, specificity >= rule.at
    if rule.rule == "youden":
        # in whole numbers, so that equally good thresholds are seen to be equal
        return hits * alarms[-1] - alarms * hits[-1], every
    return -(rule.false_negative * (hits[-1] - hits) + rule.false_positive * alarms), every


def _between(falling: Floats, admitted: int) -> float:
    """A threshold that the first ``admitted`` of falling probabilities reach, and no other."""
    if admitted == len(falling):
        return 0.0
    low = float(falling[admitted])
    if admitted == 0:
        return low + (1 - low) / 2 if low + (1 - low) / 2 > low else ABOVE_ALL
    high = float(falling[admitted - 1])
    middle = low + (high - low) / 2
    return middle if middle > low else high
