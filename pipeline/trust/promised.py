"""What coverage prediction sets promise, by the chance of validation and of test patients.

Over validation splits of n patients, the coverage that a quantile has for new patients is spread as
Beta(n + 1 - l, l), l = floor((n + 1)(1 - coverage)) (Vovk 2012, "Conditional validity of inductive
conformal predictors", proposition 2a). So of m test patients the number that is covered is
beta-binomial (Angelopoulos and Bates 2023, "Conformal prediction: a gentle introduction", appendix
C): a coverage of 80 % on 150 test patients is no broken promise of 90 % where 20 validation
patients had that class.

It is exact for one class, one scan a patient and scores without ties. Ties cover more; several
scans of a patient vary less than one, so that the range is then on the wide side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from scipy.stats import betabinom, binom

from pipeline.trust.conformal import Conformal
from pipeline.weighted_metrics import Floats

_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Law:
    """Coverage for new patients, over validation splits.

    Attributes:
        mean: Of it; the stated coverage or a little more.
        deviation: Of it.
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, patients: int, coverage: float) -> Law:
        """That of a quantile of so many patients' scores."""
        above = math.floor((patients + 1) * (1 - coverage) + _ROUNDING)
        mean = 1 - above / (patients + 1)
        return cls(mean, math.sqrt(mean * (1 - mean) / (patients + 2)))

    def range(self, patients: float, level: float) -> tuple[float, float]:
        """Where the coverage of so many test patients falls, at the level."""
        count, tail = max(1, math.floor(patients + _ROUNDING)), (1 - level) / 2
        spread = self.mean * (1 - self.mean)
        if self.deviation > 0:
            size = spread / self.deviation**2 - 1
            covered = betabinom(count, self.mean * size, (1 - self.mean) * size)
        else:
            covered = binom(count, self.mean)
        least, most = covered.ppf((tail, 1 - tail))
        return float(least) / count, float(most) / count


_EVERYTHING: Final = Law(1.0, 0.0)


def law_of_class(conformal: Conformal, number: int) -> Law | None:
    """That of one class; None where it has no quantile of its own, and so no promise."""
    if conformal.quantiles[number] == 1:
        return _EVERYTHING
    if conformal.pooled[number]:
        return None
    return Law.of(conformal.patients[number], conformal.coverage)


def law_of_all(conformal: Conformal, weights: Floats, questions: int) -> Law | None:
    """That of all classes together, or of all labels.

    Args:
        conformal: What the sets were made by.
        weights: (K,) of the test scans, in the order of its quantiles.
        questions: 1, or the number of labels: each has a set of its own.

    Returns:
        None where some of the classes have a quantile of their own and others not: the coverage of
        these is not promised.
    """
    each = len(weights) // questions
    laws = [
        _law_of_question(conformal, range(at, at + each), weights)
        for at in range(0, len(weights), each)
    ]
    known = [law for law in laws if law]
    if len(known) < len(laws):
        return None
    # labels of one patient may be covered together, or missed together
    return Law(
        sum(law.mean for law in known) / questions,
        sum(law.deviation for law in known) / questions,
    )


def _law_of_question(conformal: Conformal, answers: range, weights: Floats) -> Law | None:
    if all(conformal.pooled[at] for at in answers):
        if conformal.quantiles[answers[0]] == 1:
            return _EVERYTHING
        return Law.of(sum(conformal.patients[at] for at in answers), conformal.coverage)
    total = sum(float(weights[at]) for at in answers)
    mean = variance = 0.0
    for at in answers:
        share, law = float(weights[at]) / total, law_of_class(conformal, at)
        if share and law is None:
            return None
        if law:
            mean, variance = mean + share * law.mean, variance + (share * law.deviation) ** 2
    return Law(mean, math.sqrt(variance))
