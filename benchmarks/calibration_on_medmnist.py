"""Do calibration and prediction sets keep their word on MedMNIST's test scans?

    OMP_NUM_THREADS=1 python benchmarks/calibration_on_medmnist.py configs FOLDER SEED ...
    medcurve leaderboard FOLDER/*.yaml --study STUDY --runs RUNS
    OMP_NUM_THREADS=1 python benchmarks/calibration_on_medmnist.py RUNS

What is promised is promised for scans that come as validation's came. So the first table of a
cohort is of splits of medcurve's own: all scans pooled and divided anew, in the official counts,
identical images on one side (``configs`` writes their data configs, named ``COHORT-redrawn-SEED``).
Each split is judged as it is, and after its validation and test scans were divided again, several
times: new draws for the same fitted models. The second table is of the official split, where RUNS
has a leaderboard of it too.

Every family's probabilities are read from the journals, nothing is trained. Calibration and
prediction sets are fitted on validation as a release fits them, and held against the test scans
once. Printed are the debiased calibration error before and after, with its 95 % interval over
patients (\\* where its low end is 0: none is shown); log loss before and after; the methods chosen;
the share of test scans whose 90 % set holds the true class, of all and of each class; the mean size
of a set; and how many of the single tests cover within what 95 % of them do where the promise is
kept, by the chance of validation and test patients (``pipeline.trust.promised``).
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from data_prep.config import CONFIG_ROOT
from data_prep.errors import MedcurveError
from data_prep.store import IndexRow, Store
from data_prep.task import Task
from pipeline.dataset import targets
from pipeline.evaluation.calibration_error import Bins, CalibrationError, estimate
from pipeline.metrics import patient_draws, score
from pipeline.page import markdown_table
from pipeline.study.journal import CELLS, Journal
from pipeline.trust.calibration_fit import fit_calibration
from pipeline.trust.conformal import Conformal, fit_conformal
from pipeline.trust.promised import law_of_all
from pipeline.wording import counted

COVERAGE = 0.9
LEVEL = 0.95
RESAMPLES = 1000
DIVISIONS = 5
COLUMNS = (
    *("Family", "Method", "ECE before", "ECE after", "Log loss", "Coverage", "By class", "Size"),
    "Within",
)
REDRAWN = re.compile(r"(.+)-redrawn-(\d+)")
SHARES = {  # of validation and test, of all scans: the official counts
    "breastmnist": (78 / 780, 156 / 780),
    "pneumoniamnist_rebuilt": (524 / 5856, 624 / 5856),
    "adrenalmnist3d": (98 / 1584, 298 / 1584),
}

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """Scans of one split, or half of one."""

    target: NDArray[np.int64]
    probability: Floats
    patients: NDArray[np.str_]

    def of(self, chosen: NDArray[np.bool_]) -> Part:
        return Part(self.target[chosen], self.probability[chosen], self.patients[chosen])

    def with_(self, other: Part) -> Part:
        return Part(
            np.concatenate([self.target, other.target]),
            np.concatenate([self.probability, other.probability]),
            np.concatenate([self.patients, other.patients]),
        )


Pair = tuple[Part, Part]  # validation and test


@dataclass(frozen=True, eq=False)
class Answers:
    """Of test scans: calibrated probabilities, prediction sets, and what they were made by."""

    calibrated: Floats
    sets: NDArray[np.bool_]
    method: str
    conformal: Conformal


def answers(task: Task, known: Part, new: Part) -> Answers:
    """Fit on what is known, as a release does, and answer for what is new."""
    seen = (task, known.target, known.probability, known.patients)
    calibration = fit_calibration(*seen)
    fitted = calibration.apply(task, known.probability)
    conformal = fit_conformal(task, known.target, fitted, known.patients, COVERAGE)
    calibrated = calibration.apply(task, new.probability)
    sets = conformal.sets(task, calibrated)
    return Answers(calibrated, sets, calibration.method, conformal)


def divided_again(pair: Pair) -> Iterator[Pair]:
    """The pair as it is, and its scans in new pairs of the same numbers of each class."""
    yield pair
    known, new = pair
    pool = known.with_(new)
    for seed in range(DIVISIONS):
        rng, val = np.random.default_rng(seed), np.zeros(len(pool.target), dtype=bool)
        for label, count in enumerate(np.bincount(known.target)):
            val[rng.permutation(np.flatnonzero(pool.target == label))[:count]] = True
        yield pool.of(val), pool.of(~val)


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


def calibration_error(task: Task, tested: Sequence[tuple[Part, Floats]]) -> Error:
    """Mean over several probabilities, of the same scans or of others; patients are drawn once."""
    patients = np.unique(np.concatenate([test.patients for test, _ in tested]))
    errors = [
        CalibrationError.of(task, test.target, p, np.searchsorted(patients, test.patients))
        for test, p in tested
    ]
    weights = np.concatenate(list(patient_draws(len(patients), RESAMPLES, 0)), axis=1)
    found = together([error(np.ones((error.rows.shape[1], 1))) for error in errors])
    drawn = together([error(weights[: error.rows.shape[1]]) for error in errors])
    # bins of several stand beside each other: as many patients to a bin as each by itself has
    return Error(*estimate(found, drawn, sum(len(test.target) for test, _ in tested), LEVEL))


def together(bins: Sequence[Bins]) -> Bins:
    """Bins whose error is the mean of the errors."""
    return Bins(
        np.concatenate([one.share for one in bins]) / len(bins),
        np.concatenate([one.gap for one in bins]),
    )


def coverage(answered: Sequence[tuple[Part, Answers]]) -> tuple[float, str, str]:
    """Share of scans covered, the same of each class, and the mean size of a set."""
    shares = []
    for test, one in answered:
        holds = one.sets[np.arange(len(test.target)), test.target]
        classes = [holds[test.target == label].mean() for label in np.unique(test.target)]
        shares.append([holds.mean(), one.sets.sum(axis=1).mean(), *classes])
    share, size, *classes = np.mean(shares, axis=0)
    return float(share), " / ".join(f"{one:.3f}" for one in classes), f"{size:.2f}"


def kept(test: Part, one: Answers) -> bool:
    """Whether a coverage is as 95 % are where the promise is kept."""
    counts = np.bincount(test.target).astype(np.float64)
    law = law_of_all(one.conformal, counts, 1)
    if law is None:
        return False
    low, high = law.range(len(test.target), LEVEL)
    return bool(low <= one.sets[np.arange(len(test.target)), test.target].mean() <= high)


def by_chance(test: Part) -> tuple[float, float]:
    """Where a coverage falls by the chance of the test scans."""
    low, high = binom.interval(LEVEL, len(test.target), COVERAGE)
    return low / len(test.target), high / len(test.target)


def cells(study: Path) -> tuple[Task, dict[str, list[Pair]]]:
    """Family -> validation and test scans with what each cell said of them."""
    (folder,) = study.parent.glob("store-*")
    store = Store.open(folder, verify=False)
    val, test = store.rows("val"), store.rows("test")
    journal = Journal(study / CELLS)
    found: dict[str, list[Pair]] = defaultdict(list)
    for path in sorted(journal.folder.glob("*.json")):
        entry = journal.read(path.stem)
        if entry is not None and entry.failure is None:
            p_val, p_test = journal.probabilities(entry)
            pair = (part(store.task, val, p_val), part(store.task, test, p_test))
            found[entry.cell.family].append(pair)
    return store.task, found


def print_table(task: Task, families: Mapping[str, list[Pair]], *, own: bool) -> None:
    """The table of one cohort, and what it comes to."""
    known, new = next(iter(families.values()))[0]
    low, high = by_chance(new)
    print(
        f"{len(known.target)} validation and {len(new.target)} test patients with a scan each; "
        f"{' / '.join(map(str, np.bincount(known.target)))} and "
        f"{' / '.join(map(str, np.bincount(new.target)))} of each class. A coverage of 0.9 falls "
        f"within {low:.3f} to {high:.3f} by the chance of the test scans (binomial).\n"
    )
    found = [judged(task, name, families[name], (low, high), own) for name in sorted(families)]
    for line in markdown_table(COLUMNS, [one.row for one in found]):
        print(line)
    trained = [one for one in found if one.name != "prior"]
    mended = sum(one.mended for one in trained)
    print(
        f"\nThe error falls or is within its interval of zero for {mended} "
        f"of {len(trained)} trained families; coverage is within the binomial interval for "
        f"{sum(low <= one.covered <= high for one in trained)}, above it for "
        f"{sum(one.covered > high for one in trained)}, below it for "
        f"{sum(one.covered < low for one in trained)}.",
        flush=True,
    )


@dataclass(frozen=True)
class Judged:
    """A row of a table; whether the error is mended, and what is covered."""

    name: str
    row: tuple[str, ...]
    mended: bool
    covered: float


def judged(
    task: Task, name: str, pairs: Sequence[Pair], chance: tuple[float, float], own: bool
) -> Judged:
    """On average over pairs; those of own splits are divided again, too."""
    asked = [again for pair in pairs for again in divided_again(pair)] if own else pairs
    fitted = [(new, answers(task, known, new)) for known, new in asked]
    before = calibration_error(task, [(new, new.probability) for new, _ in fitted])
    after = calibration_error(task, [(new, one.calibrated) for new, one in fitted])
    methods = Counter(one.method for _, one in fitted)
    losses = [
        [score(task, new.target, p)["log_loss"] for p in (new.probability, one.calibrated)]
        for new, one in fitted
    ]
    loss_before, loss_after = np.mean(losses, axis=0)
    share, by_class, size = coverage(fitted)
    row = (
        name,
        ", ".join(f"{method} ({count})" for method, count in sorted(methods.items())),
        str(before),
        str(after),
        f"{loss_before:.3f} → {loss_after:.3f}",
        *(marked(share, chance), by_class, size),
        f"{sum(kept(new, one) for new, one in fitted)} of {len(fitted)}",
    )
    return Judged(name, row, after.mends(before), share)


def marked(share: float, chance: tuple[float, float]) -> str:
    """A coverage, and whether it is too low or high by the test's chance."""
    low, high = chance
    return f"{share:.3f}{' **low**' if share < low else ' high' if share > high else ''}"


def part(task: Task, rows: Sequence[IndexRow], probability: Floats) -> Part:
    """Scans of a store with what was predicted for them."""
    ids = np.array([row.patient_id for row in rows], dtype=np.str_)
    return Part(targets(task, [row.target for row in rows]), probability, ids)


def write_configs(folder: Path, seeds: Sequence[str]) -> None:
    """Data configs of the cohorts, divided anew by each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for cohort, (val, test) in SHARES.items():
        text = (CONFIG_ROOT / "data" / f"{cohort}.yaml").read_text(encoding="utf-8")
        kept = [line for line in text.splitlines() if line.startswith(("source:", "prep:"))]
        for seed in seeds:
            name = f"{cohort}-redrawn-{seed}"
            shares = f"val: {val:.6f}, test: {test:.6f}, seed: {seed}"
            rule = f"{{{shares}, accept_duplicates: true, redraw: true}}"
            lines = [f"name: {name}", *kept, f"split: {rule}"]
            (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def print_tables(runs: Path) -> None:
    """Of each cohort its own splits, then the official one."""
    redrawn: dict[str, list[Path]] = defaultdict(list)
    fixed: dict[str, Path] = {}
    for study in sorted(runs.glob("*/study-leaderboard")):
        match = REDRAWN.fullmatch(study.parent.name)
        if match:
            redrawn[match[1]].append(study)
        else:
            fixed[study.parent.name] = study
    for cohort in sorted({*redrawn, *fixed}):
        if cohort in redrawn:
            task, families = cells(redrawn[cohort][0])
            for study in redrawn[cohort][1:]:
                for name, pairs in cells(study)[1].items():
                    families[name] += pairs
            print(f"\n### {cohort}: {counted(len(redrawn[cohort]), 'split')} of its own\n")
            print_table(task, families, own=True)
        if cohort in fixed:
            print(f"\n### {cohort}: the official split\n")
            print_table(*cells(fixed[cohort]), own=False)


def main() -> int:
    """Print the tables, or write the configs of what they are read from."""
    if len(sys.argv) < 2:
        print("left out: it reads the folder of a finished `medcurve leaderboard`; name it")
        return 0
    if sys.argv[1] == "configs":
        write_configs(Path(sys.argv[2]), sys.argv[3:])
        return 0
    started = time.process_time()
    try:
        print_tables(Path(sys.argv[1]))
    except MedcurveError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"\n{time.process_time() - started:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
