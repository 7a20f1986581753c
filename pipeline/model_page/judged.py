"""All that can be said of a model from its test scans, as numbers that JSON can hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Config
from data_prep.files import read_table
from data_prep.manifest import ScanRecord, load_manifest
from data_prep.splits import SPLIT_TABLE, SPLITS, SplitRow
from data_prep.task import Task
from pipeline.evaluation.results import Evaluation, Score
from pipeline.evaluation.scores import evaluate, evaluate_probabilities
from pipeline.model_page.gather import AnsweredScans
from pipeline.model_page.sensitivities import Sensitivities
from pipeline.model_page.subgroups import subgroups
from pipeline.serving.package import ModelPackage
from pipeline.trust.covered import Covered, Share, measure_sets, share_of
from pipeline.trust.reliability import ReliabilityBin, reliability
from pipeline.trust.selective import RiskCoverage, risk_coverage
from pipeline.trust.two_sample import batch_test
from pipeline.weighted_metrics import Labels

RESAMPLES: Final = 10_000
# What calibration is to mend.
CALIBRATED: Final = ("ece_debiased", "log_loss", "brier")


class SplitCount(Config):
    """What is in one split of the cohort.

    Attributes:
        split: Which.
        patients, scans: How many.
        labels: Class -> scans with it.
    """

    split: str
    patients: int
    scans: int
    labels: dict[str, int]


class Confusion(Config):
    """Counts of scans at the model's decision.

    Attributes:
        about: The label that it is about; "" for a task whose classes exclude each other.
        names: Of the rows (what is true) and of the columns (what was decided).
        counts: Row after row.
    """

    about: str
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Foreign(Config):
    """How the test scans look to the model.

    Attributes:
        flagged: Share of scans that are flagged as unlike the training scans.
        rate: The false-alarm rate that the threshold has.
        scores: Of each scan, rising, and whether it is flagged.
        p_value: That the scans, all together, are drawn like those held out of training.
        p_values: Side -> the same from that side alone.
        held_out: Held-out scans that the batch was compared with.
    """

    flagged: Share
    rate: float
    scores: tuple[tuple[float, bool], ...]
    p_value: float
    p_values: dict[str, float]
    held_out: int


class Judged(Config):
    """The evaluation of one model on one cohort's test scans.

    Attributes:
        model: Digest of the package.
        cohort: Whose scans.
        external: Whether that is another cohort than the model was trained on.
        refused: Test scans that could not be read, prepared or answered.
        seen: Test scans that were left out, as the model was fitted on, or chosen by, them or other
            scans of their patients.
        splits: What is in the cohort.
        evaluation: Every metric of calibrated probabilities.
        before: What calibration is to mend, of the family's own probabilities.
        reliability_before, reliability_after: Predicted against observed.
        confusion: At the decision; of each label for multi-label.
        risk: Share of wrong answers against the share of answers.
        sets: Prediction sets held against the truth.
        foreign: None where the model cannot tell.
        audit: None where this model has not been audited on this cohort.
        attributes: Those of the cohort's label table and DICOM headers.
    """

    model: str
    cohort: str
    external: bool
    refused: int
    seen: int
    splits: tuple[SplitCount, ...]
    evaluation: Evaluation
    before: dict[str, Score]
    reliability_before: tuple[ReliabilityBin, ...]
    reliability_after: tuple[ReliabilityBin, ...]
    confusion: tuple[Confusion, ...]
    risk: RiskCoverage
    sets: Covered
    foreign: Foreign | None
    audit: Sensitivities | None
    attributes: tuple[str, ...]


def judge_model(
    package: ModelPackage,
    tested: AnsweredScans,
    cohort: str,
    splits: tuple[SplitCount, ...],
    seen: int,
    audit: Sensitivities | None,
    named: Mapping[str, NDArray[np.str_]],
    resamples: int = RESAMPLES,
) -> Judged:
    """Hold a model's answers against the labels.

    Metrics are of the calibrated probabilities before rounding, as release has them: a log loss of
    a probability rounded to 0 is no log loss. Sets are of the rounded ones, as ``predict`` has
    them.

    Args:
        package: The model.
        tested: Its answers.
        cohort: Name of the cohort that the scans are of.
        splits: What is in it.
        seen: How many of its test scans were left out.
        audit: What an audit of this model on this cohort found.
        named: Attribute -> (N,) values, of the cohort's label table and DICOM headers.
        resamples: Of the bootstrap over patients.
    """
    card, task = package.card, package.task
    target, patients, level, seed = tested.target, tested.patients, card.test.level, card.test.seed
    after = evaluate(
        task,
        target,
        tested.probability,
        patients,
        card.trust.decision,
        subgroups=subgroups(tested.records, named),
        resamples=resamples,
        seed=seed,
        level=level,
        at=card.test.at,
        known=card.test,  # of its own cohort's test scans it has all this already
    )
    before = after.metrics
    if card.trust.calibration.method != "none":
        before = evaluate_probabilities(
            task, target, tested.raw, patients, resamples=resamples, seed=seed, level=level
        )
    sets = card.trust.conformal.sets(task, tested.shown)
    return Judged(
        model=package.digest,
        cohort=cohort,
        external=cohort != card.training.data,
        refused=len(tested.refused),
        seen=seen,
        splits=splits,
        evaluation=after,
        before={name: before[name] for name in CALIBRATED if name in before},
        reliability_before=reliability(task, target, tested.raw, patients, level),
        reliability_after=reliability(task, target, tested.probability, patients, level),
        confusion=confusion(task, target, card.trust.decision.decide(task, tested.probability)),
        risk=risk_coverage(task, target, tested.probability, patients, seed=seed, level=level),
        sets=measure_sets(task, target, sets, patients, card.trust.conformal, level),
        foreign=_foreign(package, tested, level),
        audit=audit,
        attributes=tuple(named),
    )


def split_counts(manifest: Path, splits: Path) -> tuple[SplitCount, ...]:
    """How many patients, scans and scans of each class each split has.

    Raises:
        StageError: ``stage.unreadable_table``.
    """
    records, task = load_manifest(manifest)
    where = {row.scan_id: row.split for row in read_table(splits / SPLIT_TABLE, SplitRow)}
    return tuple(
        _counted(split, [record for record in records if where.get(record.scan_id) == split], task)
        for split in SPLITS
    )


def _counted(split: str, records: list[ScanRecord], task: Task) -> SplitCount:
    counts = Counter(name for record in records for name in record.labels)
    return SplitCount(
        split=split,
        patients=len({record.patient_id for record in records}),
        scans=len(records),
        labels={name: counts[name] for name in task.class_names},
    )


def confusion(task: Task, target: Labels, decided: Labels) -> tuple[Confusion, ...]:
    """Counts of scans: what is true in rows, what was decided in columns."""
    if not task.is_multi_label:
        return (_counts("", task.class_names, target, decided),)
    return tuple(
        _counts(name, (f"no {name}", name), target[:, n], decided[:, n])
        for n, name in enumerate(task.class_names)
    )


def _counts(about: str, names: tuple[str, ...], target: Labels, decided: Labels) -> Confusion:
    n = len(names)
    counts = np.bincount(n * target + decided, minlength=n * n).reshape(n, n)
    return Confusion(about=about, names=names, counts=tuple(map(tuple, counts.tolist())))


def _foreign(package: ModelPackage, tested: AnsweredScans, level: float) -> Foreign | None:
    if package.reference is None:
        return None
    scores = [answer.shift for answer in tested.answers if answer.shift]
    patients = np.unique(tested.patients, return_inverse=True)[1]
    every = np.ones(len(patients), dtype=bool)
    flagged = np.array([one.flagged for one in scores])
    batch = batch_test(package.reference, tested.looks, tested.features, tested.patients.tolist())
    return Foreign(
        flagged=share_of(flagged, every, patients, np.ones(len(patients)), level),
        rate=package.reference.rate,
        scores=tuple(sorted((one.score, one.flagged) for one in scores)),
        p_value=batch.p_value,
        p_values=dict(batch.p_values),
        held_out=batch.scans[0],
    )
