"""What an evaluation says: typed, frozen, and the same again from JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from data_prep.config import Config
from pipeline.evaluation.decision import Decision

Method = Literal["bootstrap", "percentile", "wilson", "newcombe", "inverted", "delong"]


class Score(Config):
    """A metric with its interval.

    Attributes:
        value: On all scans.
        low, high: The interval.
        method: ``bootstrap`` (of patients, BCa); ``percentile`` (of the same resamples, for a
            metric at a threshold that keeps a share fixed); ``wilson``, for shares less than five
            patients away from 0 or 1; ``newcombe``, for an AUC of 0 or 1; ``inverted``, a bootstrap
            test of each calibration error; ``delong``.
    """

    value: float
    low: float
    high: float
    method: Method = "bootstrap"


class Untold(Config):
    """A metric without an interval.

    Attributes:
        value: On all scans; None where it is not defined.
        why: What is lacking.
    """

    value: float | None
    why: str


class Scores(Config):
    """Metrics of some scans.

    Attributes:
        patients, scans: How many there are.
        metrics: Metric -> value and interval.
        untold: Metric -> why there is no interval.
        delong: The AUC with DeLong's interval, clustered by patient, to hold against the
            bootstrap's.
    """

    patients: int
    scans: int
    metrics: dict[str, Score]
    untold: dict[str, Untold] = Field(default_factory=dict)
    delong: Score | None = None


class ClassScores(Scores):
    """One class, or label, against the rest.

    Attributes:
        name: Which.
        with_it: Patients with a scan of it.
    """

    name: str
    with_it: int


class SubgroupScores(Scores):
    """The scans that have one value of an attribute in common.

    Attributes:
        attribute, group: Which; ``other`` are all groups of fewer than 10 patients.
        also: What the same scans have in common besides, by other attributes.
        too_few: True where they are of fewer than 10 patients all the same, so that nothing is
            scored.
    """

    attribute: str
    group: str
    also: tuple[str, ...] = ()
    too_few: bool = False


class Evaluation(Scores):
    """The one evaluation on the test split.

    Attributes:
        resamples: Bootstrap resamples of patients.
        level: Confidence level of the intervals.
        seed: Of the resamples.
        at: Specificity at which ``sensitivity_at_specificity`` is taken, and the reverse.
        decision: What the decisions that are counted were made by.
        classes: Each class, or label, against the rest; of a binary task class 1.
        subgroups: Each group of each attribute.
    """

    resamples: int
    level: float
    seed: int = 0
    at: float = 0.9
    decision: Decision = Decision()
    classes: tuple[ClassScores, ...] = ()
    subgroups: tuple[SubgroupScores, ...] = ()
