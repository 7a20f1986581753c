"""Do calibration and prediction sets keep their word on MedMNIST's test scans?

    OMP_NUM_THREADS=1 python benchmarks/calibration_on_medmnist.py RUNS

RUNS is the folder of a finished ``medcurve leaderboard``: what every family predicted for
validation and test scans is read from its journals, nothing is trained. Calibration and prediction
sets are fitted on validation as a release fits them, and held against the test scans once. Printed
for each cohort and family, on average over seeds: the debiased calibration error before and after,
with its 95 % interval over patients (* where its low end is 0: none is shown); log loss before and
after; the method chosen by each seed; the share of test scans whose 90 % set holds the true class,
of all and of each class; the mean size of a set.

A validation split from another distribution than the test split's breaks any such method. So the
last columns are a control: the same, fitted on one half of the test patients and held against the
other half, and the reverse, over five divisions. And the error has a floor, by chance and by what
no smooth map mends: what Platt's map leaves that was fitted on the very test scans.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from data_prep.errors import MedcurveError
from data_prep.store import IndexRow, Store
from data_prep.task import Task
from pipeline.dataset import targets
from pipeline.evaluation.calibration_error import Bins, CalibrationError, estimate
from pipeline.metrics import patient_draws, score
from pipeline.page import markdown_table
from pipeline.study.journal import CELLS, Journal
from pipeline.trust.calibration import fit_calibration
from pipeline.trust.conformal import fit_conformal
from pipeline.trust.patient_folds import patient_folds

COVERAGE = 0.9
LEVEL = 0.95
RESAMPLES = 1000
DIVISIONS = 5
COLUMNS = (
    *("Family", "Method", "ECE before", "ECE after", "Log loss", "Coverage", "By class", "Size"),
    *("Floor", "Control: ECE", "Coverage", "By class", "Size"),
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """Scans of one split, or half of one."""

    target: NDArray[np.int64]
    probability: Floats
    patients: NDArray[np.str_]

    def of(self, chosen: NDArray[np.bool_]) -> Part:
        return Part(self.target[chosen], self.probability[chosen], self.patients[chosen])


@dataclass(frozen=True, eq=False)
class Answers:
    """Of test scans: calibrated probabilities, prediction sets, and the method chosen."""

    calibrated: Floats
    sets: NDArray[np.bool_]
    method: str


def answers(task: Task, known: Part, new: Part) -> Answers:
    """Fit on what is known, as a release does, and answer for what is new."""
    seen = (task, known.target, known.probability, known.patients)
    calibration = fit_calibration(*seen)
    fitted = calibration.apply(task, known.probability)
    conformal = fit_conformal(task, known.target, fitted, known.patients, COVERAGE)
    calibrated = calibration.apply(task, new.probability)
    return Answers(calibrated, conformal.sets(task, calibrated), calibration.method)


def control(task: Task, test: Part) -> Iterator[Answers]:
    """Answers for all test scans, each half's by what the other half teaches."""
    for seed in range(DIVISIONS):
        half = patient_folds(test.target, test.patients, 2, seed)
        calibrated = np.empty_like(test.probability)
        sets = np.empty(test.probability.shape, dtype=bool)
        for number in range(2):
            here = half == number
            found = answers(task, test.of(~here), test.of(here))
            calibrated[here], sets[here] = found.calibrated, found.sets
        yield Answers(calibrated, sets, "")


@dataclass(frozen=True)
class Error:
    """A debiased calibration error with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        mark = " \\*" if self.low == 0 else ""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]{mark}"

    def mends(self, before: Error) -> bool:
        """Whether it is smaller than before, or within its interval of zero."""
        return self.low == 0 or self.value < before.value


def calibration_error(task: Task, test: Part, several: Sequence[Floats]) -> Error:
    """Mean over several probabilities of the same scans."""
    patients, patient = np.unique(test.patients, return_inverse=True)
    errors = [CalibrationError.of(task, test.target, p, patient) for p in several]
    found = together([error(np.ones((len(patients), 1))) for error in errors])
    weights = np.concatenate(list(patient_draws(len(patients), RESAMPLES, 0)), axis=1)
    drawn = together([error(weights) for error in errors])
    # bins of several stand beside each other: as many patients to a bin as each by itself has
    return Error(*estimate(found, drawn, len(patients) * len(several), LEVEL))


def together(bins: Sequence[Bins]) -> Bins:
    """Bins whose error is the mean of the errors."""
    return Bins(
        np.concatenate([one.share for one in bins]) / len(bins),
        np.concatenate([one.gap for one in bins]),
    )


def coverage(test: Part, several: Sequence[Answers]) -> tuple[float, str, str]:
    """Share of scans covered, the same of each class, and the mean size of a set."""
    holds = np.mean([one.sets[np.arange(len(test.target)), test.target] for one in several], axis=0)
    classes = [holds[test.target == label].mean() for label in np.unique(test.target)]
    size = np.mean([one.sets.sum(axis=1).mean() for one in several])
    return float(holds.mean()), " / ".join(f"{share:.3f}" for share in classes), f"{size:.2f}"


def expected(known: Part, test: Part) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where coverage falls by the chance of the test scans; and by that of validation as well."""
    low, high = binom.interval(LEVEL, len(test.target), COVERAGE)
    spread = COVERAGE * (1 - COVERAGE)
    variance = spread / len(test.target)
    for label in np.unique(test.target):  # a class's coverage is Beta, of its validation patients
        share = (test.target == label).mean()
        variance += share**2 * spread / ((known.target == label).sum() + 2)
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * variance**0.5
    n = len(test.target)
    return (low / n, high / n), (COVERAGE - half, min(1.0, COVERAGE + half))


def print_cohort(study: Path) -> None:
    """The table of one cohort's study."""
    (folder,) = study.parent.glob("store-*")
    store = Store.open(folder, verify=False)
    val, test = store.rows("val"), store.rows("test")
    journal = Journal(study / CELLS)
    cells: dict[str, list[tuple[Part, Part]]] = {}
    for path in sorted(journal.folder.glob("*.json")):
        entry = journal.read(path.stem)
        if entry is not None and entry.failure is None:
            p_val, p_test = journal.probabilities(entry)
            pair = (part(store.task, val, p_val), part(store.task, test, p_test))
            cells.setdefault(entry.cell.family, []).append(pair)
    known, new = next(iter(cells.values()))[0]
    by_test, by_both = expected(known, new)
    print(f"\n### {study.parent.name}\n")
    print(
        f"{len(known.target)} validation and {len(new.target)} test patients with a scan each; "
        f"{' / '.join(map(str, np.bincount(known.target)))} and "
        f"{' / '.join(map(str, np.bincount(new.target)))} of each class. A coverage of 0.9 falls "
        f"within {by_test[0]:.3f} to {by_test[1]:.3f} by the chance of the test scans (binomial), "
        f"{by_both[0]:.3f} to {by_both[1]:.3f} with that of the validation scans.\n"
    )
    families = [held(store.task, name, cells[name]) for name in sorted(cells)]
    for line in markdown_table(COLUMNS, [row(one, by_test) for one in families]):
        print(line)
    trained = [one for one in families if one.name != "prior"]
    for words, shown in (("On test: ", 0), ("Control: ", 1)):
        mended = [one.after[shown].mends(one.before) for one in trained]
        covered = [one.coverage[shown][0] for one in trained]
        print(
            f"\n{words}the error falls or is within its interval of zero for {sum(mended)} of "
            f"{len(trained)} trained families; coverage is within the binomial interval for "
            f"{sum(by_test[0] <= share <= by_test[1] for share in covered)}, above it for "
            f"{sum(share > by_test[1] for share in covered)}, below it for "
            f"{sum(share < by_test[0] for share in covered)}.",
            flush=True,
        )


@dataclass(frozen=True)
class Family:
    """One family held against the test scans: fitted on validation, and in the control."""

    name: str
    methods: Counter[str]
    losses: tuple[float, float]
    before: Error
    after: tuple[Error, Error]
    floor: Error
    coverage: tuple[tuple[float, str, str], tuple[float, str, str]]


def held(task: Task, name: str, pairs: Sequence[tuple[Part, Part]]) -> Family:
    """Fit and hold against the test scans; a pair of validation and test for each seed."""
    test = pairs[0][1]
    fitted = [answers(task, known, new) for known, new in pairs]
    halves = [one for _, new in pairs for one in control(task, new)]

    def loss(several: Sequence[Floats]) -> float:
        return float(np.mean([score(task, test.target, p)["log_loss"] for p in several]))

    raw = [new.probability for _, new in pairs]
    calibrated = [one.calibrated for one in fitted]
    return Family(
        name=name,
        methods=Counter(one.method for one in fitted),
        losses=(loss(raw), loss(calibrated)),
        before=calibration_error(task, test, raw),
        after=(
            calibration_error(task, test, calibrated),
            calibration_error(task, test, [one.calibrated for one in halves]),
        ),
        floor=calibration_error(task, test, [on_itself(task, new) for _, new in pairs]),
        coverage=(coverage(test, fitted), coverage(test, halves)),
    )


def on_itself(task: Task, test: Part) -> Floats:
    """Test probabilities by a map that saw their truth."""
    seen = (task, test.target, test.probability, test.patients)
    return fit_calibration(*seen, method="platt").apply(task, test.probability)


def row(one: Family, by_test: tuple[float, float]) -> tuple[str, ...]:
    """A row of the table; a coverage that is too low or high by the test's chance is marked."""
    covered = [
        f"{share:.3f}{' **low**' if share < by_test[0] else ' high' if share > by_test[1] else ''}"
        for share, *_ in one.coverage
    ]
    return (
        one.name,
        ", ".join(f"{name} ({count})" for name, count in sorted(one.methods.items())),
        str(one.before),
        str(one.after[0]),
        f"{one.losses[0]:.3f} → {one.losses[1]:.3f}",
        *(covered[0], *one.coverage[0][1:]),
        str(one.floor),
        str(one.after[1]),
        *(covered[1], *one.coverage[1][1:]),
    )


def part(task: Task, rows: Sequence[IndexRow], probability: Floats) -> Part:
    """Scans of a store with what was predicted for them."""
    ids = np.array([row.patient_id for row in rows], dtype=np.str_)
    return Part(targets(task, [row.target for row in rows]), probability, ids)


def main() -> int:
    """Print the tables."""
    if len(sys.argv) < 2:
        print("left out: it reads the folder of a finished `medcurve leaderboard`; name it")
        return 0
    started = time.process_time()
    for study in sorted(Path(sys.argv[1]).glob("*/study-leaderboard")):
        try:
            print_cohort(study)
        except MedcurveError as error:
            print(f"\n{study}: {error}", file=sys.stderr)
            return 1
    print(f"\n{time.process_time() - started:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
