"""Are bins of a reliability diagram called off by chance alone as often as they should be?

    OMP_NUM_THREADS=1 python benchmarks/calibration_coverage.py

Each repetition is a family whose probabilities are true by construction: a scan is ill where its
hidden severity is above a threshold, every fit sees the severity through noise of its own, and says
how probable illness is given what it sees. Severity is a patient's: scans of one patient have one
label, so that they count for less than as many patients would. Printed are the share of bins whose
95 % interval leaves the mean prediction out (5 % is wanted), how many of those that observe 0 or 1
do so, and the mean width of an interval.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from data_prep.task import Task
from pipeline.study.components import Truth, patient_numbers, scan_weights
from pipeline.study.learning_curve import Draws
from pipeline.study.reliability import reliability
from pipeline.study.terms import Cells

LEVEL = 0.95
TASK = Task(kind="binary", class_names=("healthy", "ill"))


@dataclass(frozen=True)
class Design:
    """How large the measurement is.

    Attributes:
        patients: In the test split.
        prevalence: Share of them that is ill.
        noise: Standard deviation of what a fit sees around the severity, whose own is 1.
        scans: Of each patient.
        subsets: Fits.
        repetitions: How many.
    """

    patients: int
    prevalence: float = 0.3
    noise: float = 0.5
    scans: int = 1
    subsets: int = 5
    repetitions: int = 200


@dataclass(frozen=True)
class Coverage:
    """Of bins.

    Attributes:
        off: Share whose interval leaves the prediction out.
        ends, off_ends: How many observe 0 or 1, and how many of those are off.
        width: Mean width of the interval.
    """

    off: float
    ends: int
    off_ends: int
    width: float


def coverage(design: Design, seed: int = 0) -> Coverage:
    """Look at perfectly calibrated families."""
    rng, bins = np.random.default_rng(seed), []
    ids = np.repeat([f"p{n:04}" for n in range(design.patients)], design.scans)
    threshold = norm.ppf(1 - design.prevalence)
    for number in range(design.repetitions):
        severity = np.repeat(rng.normal(size=design.patients), design.scans)
        seen = severity + design.noise * rng.normal(size=(design.subsets, 1, len(ids)))
        known = 1 + design.noise**2  # severity given seen is normal: seen / known, 1 - 1 / known
        ill = norm.sf(threshold, seen / known, np.sqrt(1 - 1 / known))
        truth = Truth(
            task=TASK,
            target=(severity > threshold).astype(np.int64),
            bayes=None,
            patients=patient_numbers(ids),
            weights=scan_weights(ids, 1, number),  # shares are not resampled
            draws=Draws.of(design.subsets, 1, 1, number),
            level=LEVEL,
        )
        bins += reliability("f", 1, Cells.of(np.stack([1 - ill, ill], axis=-1)), truth)
    off = np.array([not one.low <= one.predicted <= one.high for one in bins])
    ends = np.array([one.observed in (0, 1) for one in bins])
    return Coverage(
        off=float(off.mean()),
        ends=int(ends.sum()),
        off_ends=int(off[ends].sum()),
        width=float(np.mean([one.high - one.low for one in bins])),
    )


def main() -> int:
    """Print the table."""
    started = time.process_time()
    print("| Patients | Ill | Scans each | Fits | Noise | Off | Off at 0 and 1 | Width |")
    print("|---|---|---|---|---|---|---|---|")
    for design in (
        *(Design(n, prevalence) for n in (60, 150, 600) for prevalence in (0.02, 0.1, 0.3)),
        *(Design(150, scans=3), Design(150, noise=0.2), Design(150, noise=2.0)),
        Design(150, subsets=1),
    ):
        one = coverage(design)
        asked = f"{100 * design.prevalence:g} % | {design.scans} | {design.subsets}"
        told = f"{100 * one.off:.1f} % | {one.off_ends} of {one.ends} | {one.width:.3f}"
        print(f"| {design.patients} | {asked} | {design.noise:g} | {told} |", flush=True)
    print(f"\n{time.process_time() - started:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
