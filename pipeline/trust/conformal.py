"""Prediction sets that hold the true class at a stated rate, whatever the classifier.

Split conformal prediction (Vovk et al. 2005; Papadopoulos et al. 2002): a class is in the set of a
scan where 1 - p of it is at most a quantile of 1 - p of the true classes of validation scans. This
score gives the smallest sets on average of all that have the coverage (Sadinle et al. 2019, "Least
ambiguous set-valued classifiers"); adaptive scores (APS, Romano et al. 2020) level coverage between
easy and hard scans at the cost of larger sets, while what a reader asks for is the coverage of each
class, which the quantiles below see to.

* **Class by class** (Mondrian): each class has the quantile of its own scans, so that the rare one
  is covered as often as the common one (Sadinle et al. 2019, section 2.2). A class needs patients
  enough that its quantile is not the largest score of all, which is the least stable of them; one
  that has fewer takes the quantile of all scans.
* **Patient by patient**: scans of one patient are not exchangeable with those of others. Each
  patient weighs 1, shared among the patient's scans, and one more patient weighs at infinity: a
  random scan of a new patient is then covered at the stated rate or above, exactly (Lee, Barber and
  Willett 2023, "Distribution-free inference with hierarchical data", hierarchical conformal
  prediction). With one scan each it is the common rule, the ceil((n + 1) coverage)-th score. A
  class keeps the shares of its scans: patients are exchangeable, so the expected weight above the
  end is the same for a new one, whose weight is 1 at most.

A set can be empty: no class looks like its scans of validation. A set with several classes leaves
open which it is. Either way the classifier does not answer (``answered``).

Calibration may be fitted on the same validation scans. Between two classes it is monotone: it moves
scores and keeps their order, so where each class has its own quantile the sets are those of
uncalibrated probabilities, exactly. Between five classes, simulated coverage is equal to 0.1
percentage points (150 patients; ``docs/calibration.md``). Out-of-fold probabilities would be no
better: each fold's calibration differs a little from the one that new scans get, and a classifier
that says the same of all its scans can then lose a class from every set.

Coverage holds on average over validation splits and scans; of one validation split of n patients it
is spread as Beta(n + 1 - l, l) is, l = floor((n + 1)(1 - coverage)) (Vovk 2012): with 80 patients
and 90 %, by 3 percentage points. It does not hold where scans come from elsewhere than validation.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_prep.config import Config
from data_prep.task import Task
from pipeline.metrics import check, check_probability
from pipeline.trust.errors import TrustError
from pipeline.weighted_metrics import Floats, Labels, no_and_yes

# Sums of weights differ by less between machines.
_ROUNDING: Final = 1e-9
# Answers are of probabilities of six decimals, and their last bits differ between machines: a class
# whose scores all are equal (a nearest neighbour's are) must not fall out by that.
_WRITTEN: Final = 1e-6

Probability = Annotated[float, Field(ge=0, le=1)]


class Conformal(Config):
    """Where prediction sets end.

    Attributes:
        coverage: Share of scans whose set is to hold the true class; between 0 and 1.
        by_class: Whether each class has a quantile of its own, where it has patients enough.
        quantiles: Of 1 - p, for each class; for multi-label two for each label, of no and of yes.
            1 where patients are too few for any: the class is in every set.
        patients: Validation patients with each class, which the quantiles rest on.
        pooled: Of each class whether its quantile is that of all classes together.
    """

    coverage: Annotated[float, Field(gt=0, lt=1)]
    by_class: bool
    quantiles: tuple[Probability, ...]
    patients: tuple[Annotated[int, Field(ge=0)], ...]
    pooled: tuple[bool, ...]

    @model_validator(mode="after")
    def _check(self) -> Conformal:
        counts = {len(self.quantiles), len(self.patients), len(self.pooled)}
        if len(counts) > 1 or min(counts) < 2:
            raise ValueError(
                f"{len(self.quantiles)} quantiles, {len(self.patients)} numbers of patients and "
                f"{len(self.pooled)} of pooled; each class has one of each"
            )
        return self

    def sets(self, task: Task, calibrated: Floats) -> NDArray[np.bool_]:
        """Which classes cannot be left out.

        Args:
            task: What is predicted.
            calibrated: (N, n_classes) probabilities, calibrated as those were that this was
                fitted on.

        Returns:
            (N, n_classes); for multi-label (N, n_classes, 2), whether no and yes can be left out.

        Raises:
            TrustError: ``trust.sets_of_another_task``.
            ValueError: If the shape does not fit, or a probability is NaN or infinite.
        """
        check_probability(task, calibrated)
        answers = _answers(task, np.asarray(calibrated, dtype=np.float64))
        needed = math.prod(answers.shape[1:])
        if len(self.quantiles) != needed:
            raise TrustError(
                "trust.sets_of_another_task",
                f"{len(self.quantiles)} quantiles do not fit a {task.kind} task of "
                f"{task.n_classes} classes, which has {needed}",
                fix="fit the prediction sets again, on this task's validation scans",
            )
        ends = np.array(self.quantiles).reshape(answers.shape[1:])
        within: NDArray[np.bool_] = 1 - answers <= ends + _WRITTEN
        return within

    def told(self, task: Task) -> tuple[str, ...]:
        """What a user must know of classes with few validation patients, a sentence for each."""
        names = _answer_names(task)
        sentences = []
        for name, quantile, patients, pooled in zip(
            names, self.quantiles, self.patients, self.pooled, strict=True
        ):
            if quantile == 1:
                sentences.append(
                    f"'{name}' is in every set: with {patients} validation patients, no smaller "
                    f"sets have a coverage of {self.coverage:g}"
                )
            elif self.by_class and pooled:
                sentences.append(
                    f"'{name}' has the quantile of all classes: {patients} validation patients "
                    f"have it, a quantile of its own needs {enough_patients(self.coverage)} all of "
                    "whose scans do"
                )
        return tuple(sentences)


def fit_conformal(
    task: Task,
    target: Labels,
    calibrated: Floats,
    patient_ids: NDArray[np.str_],
    coverage: float = 0.9,
    *,
    by_class: bool = True,
) -> Conformal:
    """Learn from validation scans where sets must end.

    Args:
        task: What is predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label, whose labels are each taken by
            themselves.
        calibrated: (N, n_classes) probabilities of the validation scans, calibrated as those of
            new scans will be.
        patient_ids: (N,) patient of each scan.
        coverage: Share of scans whose set is to hold the true class.
        by_class: Whether this is to hold of each class, not of all together only.

    Raises:
        ValueError: If the shapes do not fit, a probability is NaN or infinite, or the coverage is
            not between 0 and 1.
    """
    check(task, target, calibrated)
    if not 0 < coverage < 1:
        raise ValueError(f"a coverage of {coverage}; between 0 and 1 are allowed")
    rows = np.asarray(calibrated, dtype=np.float64)
    parts = (
        [(truth, no_and_yes(p)) for truth, p in zip(target.T, rows.T, strict=True)]
        if task.is_multi_label
        else [(target, rows)]
    )
    _, patient, scans = np.unique(patient_ids, return_inverse=True, return_counts=True)
    weight = 1 / scans[patient]
    quantiles: list[float] = []
    patients: list[int] = []
    pooled: list[bool] = []
    for truth, p in parts:
        scores = 1 - p[np.arange(len(truth)), truth]
        of_all = _quantile(scores, weight, coverage)
        for label in range(p.shape[1]):
            mine = truth == label
            patients.append(len(np.unique(patient[mine])))
            few = weight[mine].sum() < enough_patients(coverage) - _ROUNDING
            pooled.append(not by_class or bool(few))
            quantiles.append(
                of_all if pooled[-1] else _quantile(scores[mine], weight[mine], coverage)
            )
    return Conformal(
        coverage=coverage,
        by_class=by_class,
        quantiles=tuple(quantiles),
        patients=tuple(patients),
        pooled=tuple(pooled),
    )


def answered(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,), or (N, L) for multi-label: whether a set holds one class, and so is an answer."""
    single: NDArray[np.bool_] = sets.sum(axis=-1) == 1
    return single


def enough_patients(coverage: float) -> int:
    """Patients with whom a quantile is the second largest score at most: 19 at 90 %.

    Of a class, a patient counts by the share of the patient's scans that are of it.
    """
    return math.ceil(2 / (1 - coverage) - 1 - _ROUNDING)


def _quantile(scores: Floats, weight: Floats, coverage: float) -> float:
    """The least score that ``coverage`` of the weight does not exceed; 1 where none is.

    (Lee, Barber and Willett 2023, section 3.1.)
    """
    order = np.argsort(scores, kind="stable")
    share = np.cumsum(weight[order]) / (weight.sum() + 1)
    reached = np.flatnonzero(share >= coverage - _ROUNDING)
    return float(np.clip(scores[order[reached[0]]], 0, 1)) if len(reached) else 1.0


def _answers(task: Task, probability: Floats) -> Floats:
    """(N, K) probabilities, for multi-label (N, L, 2) of no and yes."""
    if task.is_multi_label:
        return no_and_yes(probability)
    return probability


def _answer_names(task: Task) -> list[str]:
    if task.is_multi_label:
        return [f"{answer} {name}" for name in task.class_names for answer in ("no", "yes")]
    return list(task.class_names)
