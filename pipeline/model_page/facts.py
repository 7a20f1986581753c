"""The model card: what is known of a model, from facts only. What nobody stated is said so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from data_prep.preprocess import PrepRecipe
from pipeline.model_page.judged import Judged
from pipeline.model_page.words import interval, metric_name, p_value, percent, told, told_share
from pipeline.page import markdown_table
from pipeline.serving.card import ModelCard
from pipeline.serving.package import ModelPackage
from pipeline.trust.calibration import Calibration
from pipeline.trust.conformal import Conformal
from pipeline.wording import counted, decimals, listed, stated

NOT_STATED: Final = "not stated"
# Sections that the page has as tables of its own.
SHOWN_ABOVE: Final = ("Results on test scans", "Subgroups")
# Parameters of a calibration that are written out; isotonic steps can be hundreds.
_MOST_NUMBERS: Final = 12
# Of fewer validation patients, calibration and thresholds are rough.
_FEW_PATIENTS: Final = 100


@dataclass(frozen=True)
class Section:
    """A part of the card.

    Attributes:
        title: Of the part.
        facts: Name and what is known.
    """

    title: str
    facts: tuple[tuple[str, str], ...]


def sections(package: ModelPackage, judged: Judged) -> list[Section]:
    """The whole card, in order."""
    return [
        Section(title, tuple(facts))
        for title, facts in (
            ("Intended use", _use()),
            ("Data", _data(package.card, judged)),
            ("Model", _model(package.card)),
            ("Preparation of scans", _recipe(package.recipe)),
            (SHOWN_ABOVE[0], _results(judged)),
            (SHOWN_ABOVE[1], _subgroups(judged)),
            ("Calibration and decision", _calibration(package.card, judged)),
            ("Prediction sets", _sets(package, judged)),
            ("Scans unlike the training scans", _shift(package, judged)),
            ("Known sensitivities", _sensitivities(judged)),
            ("Limits", _limits(package.card, judged)),
            ("Versions and digests", _identity(package)),
        )
    ]


def markdown(package: ModelPackage, judged: Judged, answer: list[str]) -> str:
    """The card as ``MODEL_CARD.md``; ``answer`` is what the page begins with."""
    lines = [f"# {package.card.family.family} on {judged.cohort}", ""]
    lines += [f"* {sentence}" for sentence in answer]
    for section in sections(package, judged):
        rows = [(_cell(name), _cell(what)) for name, what in section.facts]
        lines += ["", f"## {section.title}", "", *markdown_table(("What", "Known"), rows)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _use() -> Iterator[tuple[str, str]]:
    for name in ("Intended use", "Intended users", "Uses that are ruled out"):
        yield name, NOT_STATED


def _data(card: ModelCard, judged: Judged) -> Iterator[tuple[str, str]]:
    training = card.training
    yield "Trained on", training.data
    yield (
        "Training",
        f"{counted(training.patients, 'patient')}, {counted(training.scans, 'scan')}",
    )
    if again := training.refit:
        chosen = ", ".join(f"{name} {value:g}" for name, value in again.chosen.items())
        yield (
            "Refitted",
            f"training and validation patients together; what validation would choose is the "
            f"median of {again.folds} folds" + (f": {chosen}" if chosen else ""),
        )
    yield "Judged on", judged.cohort + (", an external cohort" if judged.external else "")
    for split in judged.splits:
        labels = "; ".join(f"{name}: {count:,}" for name, count in split.labels.items())
        yield (
            f"{judged.cohort}, {split.split}",
            f"{counted(split.patients, 'patient')}, {counted(split.scans, 'scan')} ({labels})",
        )
    yield "Of the test scans", f"{judged.evaluation.scans:,} answered, {judged.refused:,} not"


def _model(card: ModelCard) -> Iterator[tuple[str, str]]:
    yield "Family", card.family.family
    parameters = card.family.params.model_dump(mode="json")
    yield "Parameters", ", ".join(f"{k} {_plain(v)}" for k, v in parameters.items()) or "none"
    yield "Predicts", f"{card.task.kind}: {', '.join(card.task.class_names)}"
    yield "Chosen", card.training.chosen
    yield "Seed", str(card.seed)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(one) for one in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _recipe(recipe: PrepRecipe) -> Iterator[tuple[str, str]]:
    config = recipe.config
    axes = " × ".join(map(str, recipe.scan_shape[1:]))
    yield "Axes", config.orientation
    spacing = config.spacing_mm
    if spacing is None:
        yield "Voxel size", "each scan's own"
    else:
        sides = spacing if isinstance(spacing, tuple) else (spacing,)
        yield "Voxel size", " × ".join(f"{side:g}" for side in sides) + " mm"
    how = "stretched to it" if config.fit == "resize" else "cut or filled around the centre"
    yield "Shape", f"{axes}, {how}"
    yield "Channels", str(recipe.scan_shape[0])
    rule = config.intensity.model_dump(mode="json")
    more = ", ".join(f"{key} {_plain(value)}" for key, value in rule.items() if key != "kind")
    yield "Intensity", rule["kind"].replace("_", " ") + (f" ({more})" if more else "")


def _results(judged: Judged) -> Iterator[tuple[str, str]]:
    evaluation = judged.evaluation
    for name, score in evaluation.metrics.items():
        again = evaluation.delong if name == "auc" else None
        more = f"; DeLong's interval {interval(again)}" if again else ""
        yield metric_name(name, evaluation.at), told(score) + more
    for name, one in evaluation.untold.items():
        value = "" if one.value is None else f"{decimals(one.value)}, "
        yield metric_name(name, evaluation.at), f"{value}no interval: {one.why}"
    yield (
        "Intervals",
        f"{evaluation.level:.0%}, over patients, {evaluation.resamples:,} resamples",
    )


def _subgroups(judged: Judged) -> Iterator[tuple[str, str]]:
    evaluation = judged.evaluation
    for group in evaluation.subgroups:
        scores = [
            f"{metric_name(name, evaluation.at)} {told(score)}"
            for name in ("auc", "accuracy")
            if (score := group.metrics.get(name))
        ]
        known = "; ".join(scores) or "too few patients to be scored"
        same = f" (the same scans: {listed(group.also)})" if group.also else ""
        name = f"{group.attribute}: {group.group}{same}"
        yield name, f"{counted(group.patients, 'patient')}; {known}"
    if not evaluation.subgroups:
        yield "Subgroups", "nothing is noted by which 10 patients or more differ from the others"
    if not judged.attributes:
        yield "Sex, age, scanner, site", f"{NOT_STATED}: neither header nor named column has them"


def _calibration(card: ModelCard, judged: Judged) -> Iterator[tuple[str, str]]:
    calibration, decision = card.trust.calibration, card.trust.decision
    yield "Calibration", calibration.method
    if calibration.numbers:
        yield "Its numbers", _numbers(calibration)
    if calibration.candidates:
        yield (
            "Compared",
            "cross-validated log loss "
            + ", ".join(f"{name} {loss:.4f}" for name, loss in calibration.candidates.items()),
        )
    for name, before in judged.before.items():
        after = judged.evaluation.metrics.get(name)
        if after and calibration.method == "none":
            yield metric_name(name, 0), told(after)
        elif after:
            yield metric_name(name, 0), f"{told(before)} before, {told(after)} after"
    yield "Decision", str(decision.rule)
    yield "Threshold", thresholds(card)


def thresholds(card: ModelCard) -> str:
    """The thresholds of a model's decision, in words."""
    found, task = card.trust.decision.thresholds, card.task
    if not found:
        several = task.kind not in ("binary", "multi-label")
        return "none: the most probable class" if several else "above 0.5"
    names = task.class_names[1:] if task.kind == "binary" else task.class_names
    return ", ".join(f"{name} from {at:.4f}" for name, at in zip(names, found, strict=True))


def _numbers(calibration: Calibration) -> str:
    if sum(len(row) for row in calibration.numbers) > _MOST_NUMBERS:
        return "steps, in model.json"
    return "; ".join(", ".join(f"{value:.4g}" for value in row) for row in calibration.numbers)


def set_names(package: ModelPackage) -> list[str]:
    """What each quantile of the prediction sets is about."""
    task = package.task
    if not task.is_multi_label:
        return list(task.class_names)
    return [name for label in task.class_names for name in (f"no {label}", label)]


def _sets(package: ModelPackage, judged: Judged) -> Iterator[tuple[str, str]]:
    conformal: Conformal = package.card.trust.conformal
    promised = stated(conformal.coverage) + (", of each class" * conformal.by_class)
    if package.card.training.refit:
        promised += "; near it, not guaranteed, as the model was fitted on these patients (note 2)"
    yield "Promised", promised
    yield "Measured", told_share(judged.sets.coverage)
    rows = zip(
        set_names(package),
        conformal.quantiles,
        conformal.patients,
        conformal.pooled,
        judged.sets.classes,
        strict=True,
    )
    for name, quantile, patients, pooled, share in rows:
        own = "quantile of all classes" if pooled else "quantile"
        yield (
            name,
            f"{told_share(share)}; {own} {quantile:.4f} of "
            f"{counted(patients, 'validation patient')}",
        )
    yield "Classes in a set, on average", f"{judged.sets.mean_size:.2f}"


def _shift(package: ModelPackage, judged: Judged) -> Iterator[tuple[str, str]]:
    reference, foreign = package.reference, judged.foreign
    if reference is None or foreign is None:
        yield "Reference", "none: the model cannot tell whether a scan is unlike its training scans"
        return
    low, high = reference.rate_interval
    yield (
        "Reference",
        f"{reference.facts.training:,} training and {reference.facts.held_out:,} held-out scans, "
        f"by {', '.join(reference.parts)}",
    )
    yield (
        "False alarms",
        f"{percent(reference.rate)}; in the long run between {percent(low)} and {percent(high)}",
    )
    yield "What is done with a flagged scan", package.card.trust.on_shift
    yield "Flagged here", told_share(foreign.flagged)
    yield "All test scans together", f"p = {p_value(foreign.p_value)}"


def _sensitivities(judged: Judged) -> Iterator[tuple[str, str]]:
    audit = judged.audit
    if audit is None:
        yield "Audit", "not audited: run medcurve audit"
        return
    yield "Audit", f"{audit.folder}, {audit.tried} shifts, by {metric_name(audit.metric, 0)}"
    for one in audit.dangers:
        yield (
            one.shift,
            f"loss {decimals(one.loss)} [{decimals(one.low)}, {decimals(one.high)}], "
            f"{percent(one.flips)} of predictions flip",
        )
    if not audit.dangers:
        yield "Dangerous shifts", "none that chance does not explain"


def _limits(card: ModelCard, judged: Judged) -> Iterator[tuple[str, str]]:
    evaluation, conformal = judged.evaluation, card.trust.conformal
    yield (
        "Holds for",
        f"scans from where those of {judged.cohort} come from; nothing is known of others",
    )
    few = min(conformal.patients)
    if few < _FEW_PATIENTS:
        yield (
            "Few validation patients",
            f"{few} of the rarest class: calibration, threshold and sets are rough",
        )
    if unscored := sum(group.too_few for group in evaluation.subgroups):
        yield "Subgroups too small to be scored", str(unscored)
    if evaluation.untold:
        yield (
            "Not told with an interval",
            ", ".join(metric_name(name, evaluation.at) for name in evaluation.untold),
        )
    if judged.seen:
        yield "Test scans that the model has seen", str(judged.seen)
    for number, note in enumerate(card.trust.notes, start=1):
        yield f"Note {number}", note


def _identity(package: ModelPackage) -> Iterator[tuple[str, str]]:
    card = package.card
    yield "Versions", ", ".join(f"{name} {version}" for name, version in card.versions.items())
    for name, value in (
        ("Model", package.digest),
        ("Weights", card.weights_sha256),
        ("Reference", card.reference_sha256),
        ("Store", card.training.store),
        ("Study", card.training.study),
        ("Cell", card.training.cell),
    ):
        yield name, value or "none"
