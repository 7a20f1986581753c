"""What the evaluation's page shows, in words: the values of its template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pipeline.evaluation.results import Evaluation, Scores
from pipeline.model_page.curves import curves_figure, operating, shift_figure
from pipeline.model_page.facts import SHOWN_ABOVE, sections, set_names, thresholds
from pipeline.model_page.gather import AnsweredScans
from pipeline.model_page.judged import CALIBRATED, Judged
from pipeline.model_page.summary import held
from pipeline.model_page.words import (
    METHODS,
    SHORT,
    SIDES,
    interval,
    metric_name,
    p_value,
    percent,
    told,
    told_share,
)
from pipeline.serving.card import ModelCard
from pipeline.serving.package import ModelPackage
from pipeline.trust.figures import reliability_figure, risk_coverage_figure
from pipeline.trust.reliability import ReliabilityBin
from pipeline.wording import decimals, stated

# Shown of each class and subgroup; evaluation.json has all.
_OF_CLASS: Final = ("auc", "average_precision", "sensitivity", "specificity", "ppv", "npv")
_OF_GROUP: Final = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")


def page_values(
    package: ModelPackage, tested: AnsweredScans, judged: Judged, answer: Sequence[str]
) -> dict[str, Any]:
    """Every value of ``evaluation.html.j2``, but for the examples and the names of other files.

    Args:
        package: The model.
        tested: Its answers.
        judged: What they are worth.
        answer: The same in sentences.
    """
    card = package.card
    return {
        "family": card.family.family,
        "cohort": judged.cohort,
        "external": judged.external,
        "trained_on": card.training.data,
        "sentences": answer,
        **_of_scores(judged),
        **_of_decision(card, tested, judged),
        **_of_probabilities(card, judged),
        **_of_sets(package, judged),
        **_of_shift(judged),
        **_of_audit(judged),
        "sections": [s for s in sections(package, judged) if s.title not in SHOWN_ABOVE],
    }


def _of_scores(judged: Judged) -> dict[str, Any]:
    evaluation = judged.evaluation
    of_group = [name for name in _OF_GROUP if name in evaluation.metrics]
    return {
        "evaluation": evaluation,
        "level": f"{evaluation.level:.0%}",
        "metrics": _metric_rows(evaluation),
        "untold": [
            (metric_name(name, evaluation.at), one.value and decimals(one.value), one.why)
            for name, one in evaluation.untold.items()
        ],
        "class_columns": _columns(_OF_CLASS),
        "classes": [(one.name, one.with_it, _cells(one, _OF_CLASS)) for one in evaluation.classes],
        "group_columns": _columns(of_group),
        "groups": [
            (
                "; ".join((one.attribute, *one.also)),
                one.group,
                one.patients,
                one.too_few,
                _cells(one, of_group),
            )
            for one in evaluation.subgroups
        ],
        "attributes": ", ".join(judged.attributes),
    }


def _of_decision(card: ModelCard, tested: AnsweredScans, judged: Judged) -> dict[str, Any]:
    decision = card.trust.decision
    curves = list(operating(card.task, tested.target, tested.probability, decision.thresholds))
    return {
        "rule": str(decision.rule),
        "threshold": thresholds(card),
        "confusion": judged.confusion,
        "curves": curves_figure(curves) if curves else "",
        "dots": any(curve.at is not None for curve in curves),
    }


def _of_probabilities(card: ModelCard, judged: Judged) -> dict[str, Any]:
    evaluation, risk = judged.evaluation, judged.risk
    return {
        "method": card.trust.calibration.method,
        "calibrated": [
            (metric_name(name, evaluation.at), told(judged.before[name]), told(after))
            for name in CALIBRATED
            if name in judged.before and (after := evaluation.metrics.get(name))
        ],
        "reliability": reliability_figure(_reliability(card, judged)),
        "risk": risk_coverage_figure([("", risk)]),
        "aurc": f"{decimals(risk.aurc)} [{decimals(risk.aurc_low)}, {decimals(risk.aurc_high)}]",
    }


def _of_sets(package: ModelPackage, judged: Judged) -> dict[str, Any]:
    sets = judged.sets
    return {
        "promised": stated(package.card.trust.conformal.coverage),
        "sets": _set_rows(package, judged),
        "mean_size": f"{sets.mean_size:.2f}",
        "answered": told_share(sets.answered),
        "right": told_share(sets.right),
        "empty": told_share(sets.empty),
    }


def _of_shift(judged: Judged) -> dict[str, Any]:
    return {
        "foreign": judged.foreign,
        "shift": shift_figure(judged.foreign) if judged.foreign else "",
        "shift_rows": _shift_rows(judged),
    }


def _of_audit(judged: Judged) -> dict[str, Any]:
    audit = judged.audit
    return {
        "audit": audit,
        "dangers": [
            (
                one.shift,
                decimals(one.score),
                f"{decimals(one.loss)} [{decimals(one.low)}, {decimals(one.high)}]",
                percent(one.flips),
            )
            for one in (audit.dangers if audit else ())
        ],
        "audit_metric": metric_name(audit.metric, 0) if audit else "",
    }


def _metric_rows(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    """Metric, value, interval and how that was made; DeLong's beside the bootstrap's."""
    rows = []
    for name, score in evaluation.metrics.items():
        how = METHODS[score.method]
        if name == "auc" and (again := evaluation.delong):
            how = f"{how}; {METHODS[again.method]}'s is {interval(again)}"
        words = metric_name(name, evaluation.at)
        rows.append((words, decimals(score.value), interval(score), how))
    return rows


def _reliability(card: ModelCard, judged: Judged) -> list[tuple[str, tuple[ReliabilityBin, ...]]]:
    if card.trust.calibration.method == "none":
        return [("as they are", judged.reliability_after)]
    return [("before", judged.reliability_before), ("after", judged.reliability_after)]


def _columns(names: Sequence[str]) -> list[str]:
    return [SHORT.get(name) or metric_name(name, 0) for name in names]


def _cells(scores: Scores, names: Sequence[str]) -> list[tuple[str, str]]:
    """Value and interval of each metric, or what there is of them."""
    cells = []
    for name in names:
        if score := scores.metrics.get(name):
            cells.append((decimals(score.value), interval(score)))
        elif (one := scores.untold.get(name)) and one.value is not None:
            cells.append((decimals(one.value), "no interval"))
        else:
            cells.append(("–", ""))
    return cells


def _set_rows(package: ModelPackage, judged: Judged) -> list[tuple[str, int, str, str, int]]:
    """Class, scans, coverage, whether it is as promised, and validation patients behind it."""
    conformal = package.card.trust.conformal
    patients = conformal.patients
    names = zip(set_names(package), judged.sets.classes, patients, strict=True)
    rows = [("all", judged.sets.coverage, sum(patients)), *((n, s, p) for n, s, p in names)]
    return [(n, s.scans, told_share(s), held(s), p) for n, s, p in rows]


def _shift_rows(judged: Judged) -> list[tuple[str, str, str]]:
    """Side, p-value, and whether it allows for there being several."""
    if judged.foreign is None:
        return []
    found = judged.foreign.p_values
    rows = [
        (f"{words}, alone", p_value(found[side]), "not adjusted")
        for side, words in SIDES.items()
        if side in found
    ]
    together = p_value(judged.foreign.p_value)
    return [("all sides together", together, f"adjusted for {len(rows)}"), *rows]
