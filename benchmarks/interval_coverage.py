"""How often does each interval of an evaluation hold the truth?

    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py [SETS]

Each repetition is a test set of patients with one to four scans each, whose scores share a
patient's own deviation; the truth is the same metric on 200,000 patients. Printed is the share of
1,000 test sets whose nominal 95 % interval holds it, beside that of the plain percentile interval
of ``pipeline.metrics`` where that has the metric; the mean of the values found, and the share of
them below the truth, show how far an estimate is off. Coverage is itself uncertain by 1.4 points:
what lies outside 93 to 97 % is named beneath the table, with its binomial interval.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from data_prep.task import Task
from pipeline.evaluation.decision import Decision
from pipeline.evaluation.measures import Measures, Scans
from pipeline.evaluation.scores import evaluate
from pipeline.metrics import METRICS, bootstrap

_RESAMPLES = 1000
_POPULATION = 200_000
_OVER = 0.7  # deviation of a patient's scores, and of a scan's about it


@dataclass(frozen=True)
class Design:
    """A population, and how large its test sets are.

    Attributes:
        name: For the table.
        patients: Of a test set.
        shares: Of patients of each class.
        apart: Distance of a class's mean score from the next class's.
        sharpened: Factor on true log odds: above 1 is overconfident, 1 calibrated.
    """

    name: str
    patients: int
    shares: tuple[float, ...]
    apart: float
    sharpened: float

    @property
    def task(self) -> Task:
        """Binary, or ordinal for more classes."""
        names = tuple(f"grade {number}" for number in range(len(self.shares)))
        return Task(kind="binary" if len(names) == 2 else "ordinal", class_names=names)

    def draw(self, rng: np.random.Generator, patients: int) -> Scans:
        """A test set."""
        label = rng.choice(len(self.shares), size=patients, p=self.shares)
        patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
        own = self.apart * label + _OVER * rng.normal(size=patients)
        score = own[patient] + _OVER * rng.normal(size=len(patient))
        means = self.apart * np.arange(len(self.shares))
        log_odds = np.log(self.shares) - (score[:, None] - means) ** 2 / (4 * _OVER**2)
        odds = np.exp(self.sharpened * (log_odds - log_odds.max(axis=1, keepdims=True)))
        probability = odds / odds.sum(axis=1, keepdims=True)
        decided = Decision().decide(self.task, probability)
        return Scans(self.task, label[patient], probability, decided, patient)


DESIGNS = (
    Design("200 patients, 30 % ill, overconfident", 200, (0.7, 0.3), 1.5, 1.5),
    Design("100 patients, 20 % ill, calibrated", 100, (0.8, 0.2), 2.0, 1.0),
    Design("500 patients, 10 % ill, overconfident", 500, (0.9, 0.1), 1.5, 1.5),
    Design("200 patients, three grades, overconfident", 200, (0.5, 0.3, 0.2), 1.2, 1.5),
)


def truth_of(design: Design) -> dict[str, float]:
    """Metrics of the population."""
    scans = design.draw(np.random.default_rng(99), _POPULATION)
    measures, one = Measures.of(scans, 0.9), np.ones((_POPULATION, 1))
    truth = {name: float(value[0]) for name, value in measures(one)[0].items()}
    error = float(measures.calibration(one).ece[0])
    return truth | {"ece": error, "ece_debiased": error, "auc, DeLong": truth["auc"]}


@dataclass(frozen=True)
class Coverage:
    """What the test sets say of one metric.

    Attributes:
        truth: Of the population.
        held: Share of intervals that hold it.
        plain: Share of plain percentile intervals that do; NaN where there are none.
        mean: Of the values.
        below: Share of values below the truth.
        untold: Test sets without an interval.
    """

    truth: float
    held: float
    plain: float
    mean: float
    below: float
    untold: int


def coverage(design: Design, sets: int) -> dict[str, Coverage]:
    """Metric -> what the test sets say of it."""
    rng, truth = np.random.default_rng(1), truth_of(design)
    held, plain, values = defaultdict(list), defaultdict(list), defaultdict(list)
    for number in range(sets):
        scans = design.draw(rng, design.patients)
        ids: NDArray[np.str_] = scans.patient.astype(np.str_)
        asked = (design.task, scans.target, scans.probability, ids)
        found = evaluate(*asked, Decision(), resamples=_RESAMPLES, seed=number)
        scores = dict(found.metrics)
        if found.delong is not None:
            scores["auc, DeLong"] = found.delong
        for name, value in truth.items():
            if name in scores:
                held[name].append(scores[name].low <= value <= scores[name].high)
                values[name].append(scores[name].value)
        for name, one in bootstrap(*asked, resamples=_RESAMPLES, seed=number).items():
            plain[name].append(one.low <= truth[name] <= one.high)
    return {
        name: Coverage(
            truth=value,
            held=float(np.mean(held[name])) if held[name] else float("nan"),
            plain=float(np.mean(plain[name])) if name in METRICS else float("nan"),
            mean=float(np.mean(values[name])) if held[name] else float("nan"),
            below=float(np.mean(np.array(values[name]) < value)) if held[name] else float("nan"),
            untold=sets - len(held[name]),
        )
        for name, value in truth.items()
    }


def outside(found: Mapping[str, Coverage], sets: int) -> list[str]:
    """What does not hold the truth in 93 to 97 % of the sets, and how sure that is."""
    named = []
    for name, one in found.items():
        if not 0.93 <= one.held <= 0.97:  # NaN, where there is no interval, too
            told = sets - one.untold
            share = "none"
            if told:
                ends = binomtest(round(one.held * told), told).proportion_ci()
                share = f"{100 * ends.low:.1f} to {100 * ends.high:.1f} %"
            named.append(f"{name} ({share})")
    return named


def main() -> int:
    """Print a table for each design."""
    sets, started = int(sys.argv[1]) if len(sys.argv) > 1 else 1000, time.process_time()
    for design in DESIGNS:
        print(f"\n{design.name}; {sets} test sets\n")
        print("| Metric | Truth | Mean | Below the truth | Held | Plain percentiles | Untold |")
        print("|---|---|---|---|---|---|---|")
        found = coverage(design, sets)
        for name, one in found.items():
            beside = "" if np.isnan(one.plain) else f"{100 * one.plain:.1f} %"
            print(
                f"| {name} | {one.truth:.3f} | {one.mean:.3f} | {100 * one.below:.0f} % "
                f"| {100 * one.held:.1f} % | {beside} | {one.untold} |"
            )
        print(f"\nOutside 93 to 97 %: {', '.join(outside(found, sets)) or 'none'}")
        sys.stdout.flush()
    print(f"\n{time.process_time() - started:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
