"""Do prediction sets hold the truth as often as they say, where a patient has several scans?

    OMP_NUM_THREADS=1 python benchmarks/conformal_coverage.py

Each repetition draws validation patients and many new ones, one scan of each of which is asked.
Scans of a patient have nearly one severity, and a classifier says probabilities that are too sure.
Printed are the coverage of 90 % sets, on average over repetitions, and the mean size: of the
probabilities as they come, of calibrated ones (what medcurve does), of probabilities calibrated out
of fold, and of scans that are taken as if each were a patient.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from data_prep.task import Task
from pipeline.page import markdown_table
from pipeline.trust.calibration_fit import cross_fitted, fit_calibration
from pipeline.trust.conformal import fit_conformal

REPETITIONS = 200
NEW_PATIENTS = 1000
TEMPERATURE = 0.5
WAYS = ("as they come", "calibrated", "out of fold", "scans as patients")


@dataclass(frozen=True)
class Design:
    """What is simulated: so many classes, validation patients, and at most so many scans each."""

    classes: int
    patients: int
    scans: int
    by_class: bool


def measure(design: Design) -> dict[str, tuple[float, float]]:
    """Coverage and size of each way."""
    rng = np.random.default_rng(0)
    names = tuple(f"class {number}" for number in range(design.classes))
    task = Task(kind="binary" if design.classes == 2 else "multi-class", class_names=names)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(REPETITIONS):
        target, said, ids = draw(rng, design, design.patients)
        known = (task, target, said, ids)
        new_target, new_said, new_ids = draw(rng, design, NEW_PATIENTS)
        asked = np.unique(new_ids, return_index=True)[1]  # scans come in random order
        truth, new = new_target[asked], new_said[asked]
        calibration = fit_calibration(*known)
        mine, calibrated = calibration.apply(task, said), calibration.apply(task, new)
        left_out = cross_fitted(*known, method=calibration.method)
        scan_ids = np.arange(len(ids)).astype(str)
        for way, rows, who, shown in (
            (WAYS[0], said, ids, new),
            (WAYS[1], mine, ids, calibrated),
            (WAYS[2], left_out, ids, calibrated),
            (WAYS[3], mine, scan_ids, calibrated),
        ):
            sets = fit_conformal(task, target, rows, who, by_class=design.by_class).sets(
                task, shown
            )
            held = sets[np.arange(len(truth)), truth].mean()
            found[way].append((float(held), float(sets.sum(axis=1).mean())))
    return {way: tuple(np.mean(rows, axis=0)) for way, rows in found.items()}


def draw(
    rng: np.random.Generator, design: Design, patients: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    """Targets, probabilities and patients of scans; each patient has 1 to ``scans``."""
    counts = rng.integers(1, design.scans + 1, size=patients)
    ids = np.repeat([f"p{number:05}" for number in range(patients)], counts)
    severity = np.repeat(rng.normal(size=(patients, design.classes)), counts, axis=0)
    logits = 1.5 * severity + 0.3 * rng.normal(size=severity.shape)
    seen = np.repeat(rng.random(patients), counts)  # one answer to all scans of a patient
    passed = seen[:, None] > np.cumsum(softmax(logits, axis=1), axis=1)[:, :-1]
    return passed.sum(axis=1).astype(np.int64), softmax(logits / TEMPERATURE, axis=1), ids


def main() -> int:
    """Print the table."""
    started = time.process_time()
    rows = []
    for design in (
        Design(2, 60, 1, True),
        Design(2, 60, 1, False),
        Design(2, 60, 8, True),
        Design(2, 60, 8, False),
        Design(2, 15, 8, False),
        Design(5, 150, 1, True),
        Design(5, 150, 4, True),
        Design(5, 150, 4, False),
    ):
        found = measure(design)
        asked = (design.classes, design.patients, design.scans, "yes" if design.by_class else "no")
        told = [f"{100 * held:.1f} % ({size:.2f})" for held, size in found.values()]
        rows.append((*map(str, asked), *told))
    columns = ("Classes", "Patients", "Scans each, at most", "By class", *map(str.capitalize, WAYS))
    for line in markdown_table(columns, rows):
        print(line)
    print(f"\n{time.process_time() - started:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
