"""What an evaluation says, in sentences: the answer first."""

from __future__ import annotations

from typing import Final

from pipeline.evaluation.results import Score, SubgroupScores
from pipeline.model_page.judged import Judged
from pipeline.model_page.words import (
    SIDES,
    headline,
    metric_name,
    p_value,
    percent,
    told,
    told_share,
)
from pipeline.serving.card import ModelCard
from pipeline.trust.covered import Coverage
from pipeline.wording import counted, decimals, listed, stated

# Below it, a batch is not drawn like the scans held out of training.
_SIGNIFICANT: Final = 0.05


def sentences(judged: Judged, card: ModelCard) -> list[str]:
    """How good, calibrated or not, how sets cover, what looks foreign, what is weak."""
    found = [_left_out(judged)] if judged.seen else []
    found += [_how_good(judged, card), *_external(judged, card), _calibrated(judged, card)]
    found += [_sets(judged, card), _foreign(judged), *_weakest(judged), _dangers(judged)]
    return found


def _left_out(judged: Judged) -> str:
    return (
        f"Caution: {counted(judged.seen, 'test scan')} of {judged.cohort} were left out, as the "
        "model was fitted on, or chosen by, them or other scans of their patients."
    )


def _how_good(judged: Judged, card: ModelCard) -> str:
    evaluation = judged.evaluation
    scores = [
        f"{metric_name(name, evaluation.at)} {told(score)}"
        for name in ("auc", "accuracy")
        if (score := evaluation.metrics.get(name))
    ]
    of = f"{counted(evaluation.scans, 'test scan')} of {counted(evaluation.patients, 'patient')}"
    if not scores:
        return f"On {of} of {judged.cohort} neither AUC nor accuracy can be told with an interval."
    text = f"On {of} of {judged.cohort}, {card.family.family} has {listed(scores)}"
    if (name := headline(evaluation)) == "auc" and evaluation.metrics[name].low <= 0.5:
        return f"{text}: it may be no better than chance."
    return f"{text}."


def _external(judged: Judged, card: ModelCard) -> list[str]:
    if not judged.external:
        return []
    return [
        f"This is an external test: the model was trained on {card.training.data}, and nothing of "
        f"it was fitted on {judged.cohort}."
    ]


def _calibrated(judged: Judged, card: ModelCard) -> str:
    error = judged.evaluation.metrics.get("ece_debiased")
    if error is None:
        return "Whether its probabilities come true cannot be told."
    method = card.trust.calibration.method
    before = judged.before.get("ece_debiased") if method != "none" else None
    how = "Not calibrated" if method == "none" else f"After calibration by {method}"
    was = f" ({decimals(before.value)} before)" if before else ""
    if error.low <= 0:
        return (
            f"{how}, its probabilities show no error that chance does not explain: {told(error)}"
            f"{was}; it may be as large as {decimals(error.high)}."
        )
    return f"{how}, its probabilities are off by {told(error)} on average{was}."


def _sets(judged: Judged, card: ModelCard) -> str:
    coverage = judged.sets.coverage
    empty = (
        f"; {told_share(judged.sets.empty)} have an empty one" if judged.sets.empty.value else ""
    )
    return (
        f"Prediction sets of {stated(card.trust.conformal.coverage)} hold the true class for "
        f"{told_share(coverage)} of the scans, each patient counting once, {held(coverage)}; "
        f"{told_share(judged.sets.answered)} of the scans have a set of one class, and of these "
        f"{told_share(judged.sets.right)} are right{empty}."
    )


def held(coverage: Coverage) -> str:
    """Whether a coverage contradicts the promise, by the chance of validation and test patients."""
    if coverage.value is None:
        return "of no scan"
    if coverage.least is None or coverage.most is None:
        return "not promised: too few validation patients of a class"
    if coverage.value < coverage.least:
        return "less than promised by more than the chance of so many validation and test patients"
    if coverage.value > coverage.most:
        return "more than promised"
    return "which does not contradict the promise"


def _foreign(judged: Judged) -> str:
    foreign = judged.foreign
    if foreign is None:
        return (
            "Whether scans look foreign cannot be told: the package holds no reference of what "
            "the training scans look like."
        )
    flagged = (
        f"{told_share(foreign.flagged)} of the scans are flagged as unlike the training scans, "
        f"where {percent(foreign.rate)} would be by chance"
    )
    p = p_value(foreign.p_value)
    if foreign.p_value > _SIGNIFICANT:
        return f"{flagged}; all together they cannot be told from them (p = {p})."
    by = [SIDES[side] for side in SIDES if foreign.p_values.get(side, 1) <= _SIGNIFICANT]
    why = f", by {listed(by)} (each side by itself, not adjusted)" if by else ""
    return f"{flagged}; all together they differ from them (p = {p}){why}."


def weakest(judged: Judged) -> tuple[SubgroupScores, Score] | None:
    """The subgroup with the lowest AUC (else accuracy), and its score."""
    name = headline(judged.evaluation)
    scored = [
        (group, score)
        for group in judged.evaluation.subgroups
        if (score := group.metrics.get(name)) is not None
    ]
    return min(scored, key=lambda pair: pair[1].value, default=None)


def _weakest(judged: Judged) -> list[str]:
    evaluation, found = judged.evaluation, weakest(judged)
    if found is None:
        return ["No subgroup has patients enough to be scored by itself."]
    name = headline(evaluation)
    group, score = found
    whole = evaluation.metrics[name].value if name in evaluation.metrics else score.value
    within = "its interval holds that of all scans" if score.high >= whole else "below all scans"
    tried = sum(name in one.metrics for one in evaluation.subgroups)
    chance = f" Of {tried} groups the lowest is low by chance as well." if tried > 1 else ""
    return [
        f"The weakest subgroup is {group.attribute} {group.group}: {metric_name(name, 0)} "
        f"{told(score)} ({counted(group.patients, 'patient')}) against {decimals(whole)}, "
        f"{within}.{chance}"
    ]


def _dangers(judged: Judged) -> str:
    audit = judged.audit
    if audit is None:
        return "Its sensitivity to shifts is not known: not audited, run medcurve audit."
    metric = metric_name(audit.metric, 0)
    if not audit.dangers:
        return (
            f"Of {audit.tried} shifts that were tried, no realistic one costs {metric} more than "
            "chance explains."
        )
    shown = [f"{one.shift} (loss {decimals(one.loss)})" for one in audit.dangers]
    return (
        f"Dangerous to it {'are' if len(shown) > 1 else 'is'} {listed(shown)}, of {metric} "
        f"{decimals(audit.base)}; {audit.tried} shifts were tried."
    )
