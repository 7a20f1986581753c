"""The evaluation's folder: the page with scans and without, the card, all numbers, the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from data_prep.files import write_bytes, write_csv, write_json
from pipeline.evaluation.results import Evaluation, Scores
from pipeline.model_page.curves import curves_figure, operating, shift_figure
from pipeline.model_page.facts import SHOWN_ABOVE, markdown, sections, set_names, thresholds
from pipeline.model_page.gather import AnsweredScans
from pipeline.model_page.judged import CALIBRATED, Judged
from pipeline.model_page.pictures import Example
from pipeline.model_page.summary import held, sentences
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
from pipeline.page import render
from pipeline.serving.answers import PROBABILITY_DECIMALS
from pipeline.serving.card import ModelCard
from pipeline.serving.package import ModelPackage
from pipeline.trust.figures import reliability_figure, risk_coverage_figure
from pipeline.trust.reliability import ReliabilityBin
from pipeline.wording import decimals, stated

PAGE: Final = "evaluation.html"
PAGE_WITHOUT_SCANS: Final = "evaluation_without_scans.html"
CARD: Final = "MODEL_CARD.md"
NUMBERS: Final = "evaluation.json"
ANSWERS: Final = "test_predictions.csv"
QUARANTINE: Final = "quarantine.csv"
# What may leave the site: counts and scores, no scan and no row of one.
TO_SHARE: Final = (PAGE_WITHOUT_SCANS, CARD, NUMBERS)

# Shown of each class and subgroup; evaluation.json has all.
_OF_CLASS: Final = ("auc", "average_precision", "sensitivity", "specificity", "ppv", "npv")
_OF_GROUP: Final = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")


def write_evaluation(
    package: ModelPackage,
    tested: AnsweredScans,
    judged: Judged,
    examples: Sequence[Example],
    folder: Path,
) -> None:
    """Write the pages, ``MODEL_CARD.md``, ``evaluation.json`` and two tables.

    What shows scans, or has a row for each, only its owner may read: ``evaluation.html``,
    ``test_predictions.csv`` and ``quarantine.csv``.

    Args:
        package: The model.
        tested: Its answers.
        judged: What they are worth.
        examples: Scans to show; may be none.
        folder: Exists.
    """
    write_json(folder / NUMBERS, judged.model_dump(mode="json"))
    answer = sentences(judged, package.card)
    write_bytes(folder / CARD, markdown(package, judged, answer).encode())
    _write_answers(package, tested, folder / ANSWERS)
    refused = [(path, e.code, e.message) for record, e in tested.refused for path in record.paths]
    write_csv(folder / QUARANTINE, ("path", "code", "reason"), refused)
    values = _values(package, tested, judged, answer)
    shown = {"examples": [asdict(one) | {"sure": percent(one.sure)} for one in examples]}
    for name, more in ((PAGE, shown), (PAGE_WITHOUT_SCANS, {"examples": []})):
        page = render("pipeline.model_page", "evaluation.html.j2", values | more)
        write_bytes(folder / name, page)
    for name in (PAGE, ANSWERS, QUARANTINE):
        (folder / name).chmod(0o600)


def _write_answers(package: ModelPackage, tested: AnsweredScans, path: Path) -> None:
    names = package.task.class_names
    header = [
        *("scan_id", "true", "predicted", "prediction_set"),
        *(f"raw_{name}" for name in names),
        *(f"p_{name}" for name in names),
        *("shift_score", "shift_p", "shift_flagged"),
    ]
    rows = []
    for record, answer in zip(tested.records, tested.answers, strict=True):
        shift = answer.shift
        rows.append(
            (
                record.scan_id,
                *(";".join(words) for words in (record.labels, answer.predicted, answer.within)),
                *(round(float(p), PROBABILITY_DECIMALS) for p in answer.raw),
                *(float(p) for p in answer.probability),
                *((round(shift.score, 4), shift.p_value, shift.flagged) if shift else ("",) * 3),
            )
        )
    write_csv(path, header, rows)


def _values(
    package: ModelPackage, tested: AnsweredScans, judged: Judged, answer: Sequence[str]
) -> dict[str, Any]:
    card, task, evaluation = package.card, package.task, judged.evaluation
    curves = list(
        operating(task, tested.target, tested.probability, card.trust.decision.thresholds)
    )
    of_group = [name for name in _OF_GROUP if name in evaluation.metrics]
    return {
        "family": card.family.family,
        "cohort": judged.cohort,
        "external": judged.external,
        "trained_on": card.training.data,
        "evaluation": evaluation,
        "level": f"{evaluation.level:.0%}",
        "sentences": answer,
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
        "rule": str(card.trust.decision.rule),
        "threshold": thresholds(card),
        "confusion": judged.confusion,
        "curves": curves_figure(curves) if curves else "",
        "dots": any(curve.at is not None for curve in curves),
        "method": card.trust.calibration.method,
        "calibrated": [
            (metric_name(name, evaluation.at), told(judged.before[name]), told(after))
            for name in CALIBRATED
            if name in judged.before and (after := evaluation.metrics.get(name))
        ],
        "reliability": reliability_figure(_reliability(card, judged)),
        "risk": risk_coverage_figure([("", judged.risk)]),
        "aurc": f"{decimals(judged.risk.aurc)} "
        f"[{decimals(judged.risk.aurc_low)}, {decimals(judged.risk.aurc_high)}]",
        "promised": stated(card.trust.conformal.coverage),
        "sets": _set_rows(package, judged),
        "mean_size": f"{judged.sets.mean_size:.2f}",
        "answered": told_share(judged.sets.answered),
        "right": told_share(judged.sets.right),
        "empty": told_share(judged.sets.empty),
        "foreign": judged.foreign,
        "shift": shift_figure(judged.foreign) if judged.foreign else "",
        "shift_rows": _shift_rows(judged),
        "audit": judged.audit,
        "dangers": [
            (
                one.shift,
                decimals(one.score),
                f"{decimals(one.loss)} [{decimals(one.low)}, {decimals(one.high)}]",
                percent(one.flips),
            )
            for one in (judged.audit.dangers if judged.audit else ())
        ],
        "audit_metric": metric_name(judged.audit.metric, 0) if judged.audit else "",
        "sections": [s for s in sections(package, judged) if s.title not in SHOWN_ABOVE],
        "numbers": NUMBERS,
        "card": CARD,
        "answers": ANSWERS,
        "quarantine": QUARANTINE if judged.refused else "",
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
