"""Do intervals of where one family overtakes another hold the truth? On curves whose law is known.

    OMP_NUM_THREADS=1 python benchmarks/crossing_coverage.py

Each repetition is a study of two families on a cohort of its own. A cell's AUC is the family's law
at its size, plus the mean over its patients of what each of them does to the family, plus what the
test patients do to it. What patients do is normal, and correlated between the families by 0 (each
learns from patients of its own kind), 0.5 or 1 (a good patient is good for both alike). Test
patients move both families half together. The table has the share of repetitions whose 95 %
interval holds the number of patients at which the laws cross, and how often it lies within the
sizes looked at, by the size of the cohort: where subsets are most of it, nearly all that the
training patients do is common to them, and shows nowhere in their spread.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from pipeline.study.crossing import Crossing
from pipeline.study.forecast import outlook
from pipeline.study.learning_curve import Curves, Draws, Replicates, Where, curves

LEVEL = 0.95
SIZES = (16, 32, 64, 128, 256)
LAWS = {"steep": (0.05, 1.6, 0.7), "early": (0.15, 0.5, 0.9)}  # error = a + b n^-c


@dataclass(frozen=True)
class Design:
    """How large the measurement is.

    Attributes:
        cohort: Training patients; 256 are all at the largest size.
        correlation: Between what a patient does to the two families.
        subsets: Of each size.
        repetitions, resamples: How many.
        by_patient: Standard deviation of what one training patient does to an AUC.
        by_test: Standard deviation of what the test patients do to it.
    """

    cohort: int = 256
    correlation: float = 0.0
    subsets: int = 10
    repetitions: int = 200
    resamples: int = 400
    by_patient: float = 0.1
    by_test: float = 0.004


@dataclass(frozen=True)
class Coverage:
    """Shares of the repetitions."""

    covered: float
    settled: float


def error(family: str, size: float) -> float:
    """Expected error of a family by its law."""
    a, b, c = LAWS[family]
    return float(a + b * size**-c)


def crossing_point() -> float:
    """Patients at which the laws cross."""
    first, second = LAWS
    return float(brentq(lambda n: error(first, n) - error(second, n), SIZES[0], SIZES[-1]))


def study(design: Design, rng: np.random.Generator, draws: Draws) -> Curves:
    """The curves of one study."""
    common = np.sqrt([design.correlation, 1 - design.correlation])
    shared = rng.normal(size=design.cohort)
    orders = [rng.permutation(design.cohort) for _ in range(design.subsets)]
    tested, resampled = rng.normal(), rng.normal(size=design.resamples)
    places = {}
    for family in LAWS:
        patients = design.by_patient * (common @ [shared, rng.normal(size=design.cohort)])
        half = np.sqrt(0.5)
        shift = design.by_test * half * (tested + rng.normal())
        again = design.by_test * half * (resampled + rng.normal(size=design.resamples))
        for size in SIZES:
            effects = np.array([patients[order[:size]].mean() for order in orders])
            if size == design.cohort:
                effects[1:] = np.nan  # one subset takes them all
            values = (1 - error(family, size) + shift + effects)[:, None]
            where = Where(family, size, "test", "auc")
            places[where] = Replicates(values, values[..., None] + again)
    return curves(places, draws, LEVEL)


def coverage(design: Design, seed: int = 0) -> Coverage:
    """How often the interval of the crossing holds the truth."""
    rng, truth = np.random.default_rng(seed), crossing_point()
    found: list[Crossing] = []
    for number in range(design.repetitions):
        draws = Draws.of(design.subsets, 1, design.resamples, number)
        ahead = outlook(
            study(design, rng, draws),
            list(LAWS),
            "auc",
            (),
            train_patients=design.cohort,
            draws=draws,
            level=LEVEL,
        )
        found += ahead.crossings
    return Coverage(
        covered=float(np.mean([one.low <= truth <= one.high for one in found])),
        settled=float(np.mean([one.settled for one in found])),
    )


def main() -> int:
    """Print the table."""
    started = time.process_time()
    print("| Training patients | Correlation | Covered | Settled |\n|---|---|---|---|")
    for cohort in (256, 512, 4096):
        for correlation in (0.0, 0.5, 1.0):
            one = coverage(Design(cohort=cohort, correlation=correlation))
            told = f"{100 * one.covered:.0f} % | {100 * one.settled:.0f} %"
            print(f"| {cohort} | {correlation:g} | {told} |", flush=True)
    print(f"\n{time.process_time() - started:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
