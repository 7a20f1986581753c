"""How numbers and names of the page are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.evaluation.results import Evaluation, Score
from pipeline.trust.covered import Share
from pipeline.trust.shift_spaces import Part
from pipeline.wording import decimals

_METRICS: Final[Mapping[str, str]] = {
    "auc": "AUC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "mcc": "Matthews' correlation (MCC)",
    "kappa": "quadratic kappa",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "prevalence": "prevalence",
    "brier": "Brier score, sum over classes",
    "log_loss": "log loss",
    "ece": "calibration error (ECE), plain",
    "ece_debiased": "calibration error (ECE), debiased",
}
# For tables with many columns.
SHORT: Final[Mapping[str, str]] = {
    "average_precision": "AP",
    "balanced_accuracy": "balanced",
    "ppv": "PPV",
    "npv": "NPV",
}
METHODS: Final[Mapping[str, str]] = {
    "bootstrap": "bootstrap of patients (BCa)",
    "percentile": "bootstrap of patients (percentiles)",
    "wilson": "Wilson",
    "newcombe": "Newcombe",
    "inverted": "inverted bootstrap test",
    "delong": "DeLong",
}
SIDES: Final[Mapping[Part, str]] = {
    "metadata": "how they were taken",
    "histogram": "their intensities",
    "pixels": "what they show",
    "features": "what the model sees of them",
}


def metric_name(name: str, at: float) -> str:
    """A metric in words; ``at`` is the share that a fixed-point metric holds fixed."""
    if name == "sensitivity_at_specificity":
        return f"sensitivity at a specificity of {at:g}"
    if name == "specificity_at_sensitivity":
        return f"specificity at a sensitivity of {at:g}"
    return _METRICS.get(name, name.replace("_", " "))


def interval(score: Score) -> str:
    """``[0.876, 0.975]``."""
    return f"[{decimals(score.low)}, {decimals(score.high)}]"


def told(score: Score) -> str:
    """``0.934 [0.876, 0.975]``."""
    return f"{decimals(score.value)} {interval(score)}"


def percent(share: float) -> str:
    """``90.4 %``; the space does not break. Nearly all is not all: ``> 99.9 %``."""
    if 0.9995 <= share < 1:
        return ">\N{NO-BREAK SPACE}99.9\N{NO-BREAK SPACE}%"
    if 0 < share < 0.0005:
        return "<\N{NO-BREAK SPACE}0.1\N{NO-BREAK SPACE}%"
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def told_share(share: Share) -> str:
    """``90.4 % [84.8 %, 94.1 %]``, or a dash where there is no scan."""
    if share.value is None or share.low is None or share.high is None:
        return "–"
    return f"{percent(share.value)} [{percent(share.low)}, {percent(share.high)}]"


def p_value(p: float) -> str:
    """``0.042``; none is below what the divisions can tell."""
    return f"{p:.3f}"


def headline(evaluation: Evaluation) -> str:
    """The metric that a model is judged by first: AUC where it is defined, else accuracy."""
    return "auc" if "auc" in evaluation.metrics else "accuracy"
