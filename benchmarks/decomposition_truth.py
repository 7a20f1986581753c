"""Do intervals of noise, bias^2, variance and forecasts hold the truth? On phantoms it is known.

    OMP_NUM_THREADS=1 python benchmarks/decomposition_truth.py

The truth comes from 200 independent training sets of each size, every one drawn from a cohort of
its own, tested on 2,000 patients: means and variances of their predictions against the Bayes
probabilities, by their definitions. Each of 20 repetitions is a study as a user has it: one cohort
of 160 training patients, ten nested subsets of each size, 100 test patients, some with several
scans. The table has the share of repetitions whose 95 % interval holds the truth, at each size and
over all, and the mean estimate beside it. Curves of sizes up to 64 are forecast to 128 patients,
twice the largest; a back-test's "truth" is the score that the same study measured.

The family is ``linear`` with one penalty: nothing is chosen on validation, so the truth does not
depend on a validation set, and no seed matters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.phantom import PhantomConfig, draw_patient
from data_prep.phantom_law import LesionLaw
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families.linear import Linear, LinearParams
from pipeline.metrics import resample, score
from pipeline.study.components import (
    Component,
    Truth,
    decomposed,
    patient_numbers,
    scan_weights,
)
from pipeline.study.decomposition import squared
from pipeline.study.forecast import outlook
from pipeline.study.learning_curve import Draws, Replicates, Where, curves
from pipeline.study.nested_subsets import nested_order
from pipeline.study.terms import Cells

Floats = NDArray[np.float64]

TASK = Task(kind="binary", class_names=("benign", "malignant"))
PHANTOM = PhantomConfig(
    ndim=2,
    n_patients=100_000,
    dicom=0.0,
    any_orientation=False,
    gain=(1.0, 1.0),
    vessels=0,
    jitter=0.3,
    law=LesionLaw(strength=6.0),
)
RECIPE = PrepRecipe(
    config=PrepConfig.model_validate(
        {
            "orientation": "PL",
            "spacing_mm": 4,
            "shape": 24,
            "fit": "crop_or_pad",
            "intensity": {"kind": "z_score"},
            "channels": 1,
        }
    ),
    spatial_ndim=2,
    channels=1,
)
LEVEL = 0.95
PENALTY = 3e-3  # weak enough for variance to matter
TERMS = ("noise", "bias2", "variance_data", "total")


@dataclass(frozen=True)
class Design:
    """How large the measurement is."""

    sizes: tuple[int, ...] = (12, 16, 24, 32, 48, 64)
    ahead: int = 128  # twice the largest size
    subsets: int = 10
    cohort: int = 160
    test_patients: int = 100
    repetitions: int = 20
    resamples: int = 1000
    truth_sets: int = 200
    truth_patients: int = 2000


@dataclass(frozen=True)
class Known:
    """The truth at one size: terms of the expected squared loss, and the mean AUC."""

    terms: Mapping[str, float]
    auc: float


@dataclass(frozen=True)
class Held:
    """One interval of one repetition, and the truth that it should hold."""

    what: str
    size: int
    value: float
    low: float
    high: float
    truth: float

    @property
    def covered(self) -> bool:
        return self.low <= self.truth <= self.high


def scans_of(numbers: Iterable[int]) -> Scans:
    """Phantom patients by their numbers, drawn and prepared as the pipeline does."""
    x, target, patients, bayes = [], [], [], []
    for number in numbers:
        patient = draw_patient(PHANTOM, number)
        for scan in patient.scans:
            x.append(RECIPE.apply(scan.volume))
            target.append(TASK.class_names.index(patient.label))
            patients.append(patient.patient_id)
            bayes.append(patient.bayes)
    ids = np.array(patients)
    return Scans(torch.from_numpy(np.stack(x)), np.array(target), ids, ids, np.array(bayes))


def orders(train: Scans, seeds: Iterable[int]) -> list[list[NDArray[np.int64]]]:
    """For each seed, the scans of each patient in the order in which subsets take them."""
    _, of_scan = np.unique(train.patient_ids, return_inverse=True)
    labels = np.zeros((of_scan.max() + 1, 2), dtype=bool)
    labels[of_scan, train.target] = True
    return [
        [np.flatnonzero(of_scan == patient) for patient in nested_order(labels, [seed])[0]]
        for seed in seeds
    ]


def predictions(
    train: Scans, order: list[NDArray[np.int64]], sizes: Iterable[int], test: Scans
) -> dict[int, Floats]:
    """(N, 2) probabilities on the test scans after training on the first patients of an order."""
    found = {}
    for size in sizes:
        chosen = train.take(np.sort(np.concatenate(order[:size])))
        family = Linear(LinearParams(penalties=(PENALTY,)), TASK, test.scan_shape, 0)
        family.fit(chosen, chosen)
        found[size] = family.predict_proba(test.x)
    return found


def truth(design: Design) -> dict[int, Known]:
    """From independent training sets, by the definitions."""
    test = scans_of(range(design.truth_patients))
    sizes = (*design.sizes, design.ahead)
    by_size: dict[int, list[Floats]] = {size: [] for size in sizes}
    for number in range(design.truth_sets):
        start = design.truth_patients + number * design.cohort
        train = scans_of(range(start, start + design.cohort))
        (order,) = orders(train, [0])
        for size, rows in predictions(train, order, sizes, test).items():
            by_size[size].append(rows)
    return {size: _known(np.stack(rows), test) for size, rows in by_size.items()}


def _known(p: Floats, test: Scans) -> Known:
    q = test.bayes
    assert q is not None
    variance = p.var(axis=0, ddof=1).sum(axis=1).mean()
    terms = {
        "noise": (q * (1 - q)).sum(axis=1).mean(),
        "bias2": ((q - p.mean(axis=0)) ** 2).sum(axis=1).mean() - variance / len(p),
        "variance_data": variance,
    }
    terms["total"] = sum(terms.values())
    aucs = [score(TASK, test.target, rows)["auc"] for rows in p]
    return Known({name: float(value) for name, value in terms.items()}, mean(aucs))


def repetition(design: Design, number: int, known: Mapping[int, Known]) -> list[Held]:
    """One study of its own patients: every interval, with what it should hold."""
    start = design.truth_patients + design.truth_sets * design.cohort
    start += number * (design.cohort + design.test_patients)
    train = scans_of(range(start, start + design.cohort))
    test = scans_of(range(start + design.cohort, start + design.cohort + design.test_patients))
    p = {size: [] for size in design.sizes}  # type: dict[int, list[Floats]]
    for order in orders(train, range(design.subsets)):
        for size, rows in predictions(train, order, design.sizes, test).items():
            p[size].append(rows)
    draws = Draws.of(design.subsets, 1, design.resamples, number)
    held = []
    for size, rows in p.items():
        for found in _components(design, np.stack(rows)[:, None], size, test, draws, number):
            expected = known[size].terms[found.term]
            held.append(Held(found.term, size, found.value, found.low, found.high, expected))
        assert test.bayes is not None
        plain = squared(Cells.of(np.stack(rows)[:, None]), test.bayes, bayes=True, corrected=False)
        value = float(plain["bias2"].value.mean())
        held.append(Held("bias2, plain", size, value, np.nan, np.nan, known[size].terms["bias2"]))
    return [*held, *_forecasts(design, p, test, draws, number, known)]


def _components(
    design: Design, p: Floats, size: int, test: Scans, draws: Draws, seed: int
) -> list[Component]:
    weights = scan_weights(test.patient_ids, design.resamples, seed)
    patients = patient_numbers(test.patient_ids)
    seen = Truth(TASK, test.target, test.bayes, patients, weights, draws, LEVEL)
    found = decomposed("linear", size, p, seen, overlap=size / design.cohort)
    return [
        one
        for one in found.components
        if one.loss == "squared" and not one.class_name and one.term in TERMS
    ]


def _forecasts(
    design: Design,
    p: Mapping[int, list[Floats]],
    test: Scans,
    draws: Draws,
    seed: int,
    known: Mapping[int, Known],
) -> list[Held]:
    replicates = {}
    for size, cells in p.items():
        again = [
            resample(
                TASK,
                test.target,
                rows,
                test.patient_ids,
                names=("auc",),
                resamples=design.resamples,
                seed=seed,
            )["auc"]
            for rows in cells
        ]
        values = np.array([score(TASK, test.target, rows)["auc"] for rows in cells])
        where = Where("linear", size, "test", "auc")
        replicates[where] = Replicates(values[:, None], np.stack(again)[:, None])
    found = outlook(
        curves(replicates, draws, LEVEL),
        ["linear"],
        "auc",
        (),
        train_patients=design.cohort,
        draws=draws,
        level=LEVEL,
    )
    (one,) = found.ahead
    held = [Held("AUC forecast", one.size, one.value, one.low, one.high, known[one.size].auc)]
    held += [
        Held("AUC back-test", told.size, told.value, told.low, told.high, told.measured)
        for told in found.backtest
    ]
    return held


def table(held: list[Held]) -> str:
    """Coverage by term, over sizes and at each of them."""
    lines = ["| What | Patients | Truth | Mean estimate | Mean width | Covered |", "|" + "---|" * 6]
    for what in dict.fromkeys(one.what for one in held):
        mine = [one for one in held if one.what == what]
        sizes = list(dict.fromkeys(one.size for one in mine))
        lines += [_row(what, str(n), [one for one in mine if one.size == n]) for n in sizes]
        if len(sizes) > 1:
            lines.append(_row(f"**{what}**", "all", mine))
    return "\n".join(lines)


def _row(what: str, size: str, held: list[Held]) -> str:
    width, covered = mean(one.high - one.low for one in held), mean(one.covered for one in held)
    shown = "– | –" if np.isnan(width) else f"{width:.3f} | {100 * covered:.0f} %"
    truth_, value = mean(one.truth for one in held), mean(one.value for one in held)
    return f"| {what} | {size} | {truth_:.3f} | {value:.3f} | {shown} |"


def measure(design: Design) -> list[Held]:
    """Every interval of every repetition."""
    known = truth(design)
    return [one for n in range(design.repetitions) for one in repetition(design, n, known)]


def main() -> int:
    """Print the table."""
    started = time.process_time()
    print(table(measure(Design())))
    print(f"\n{time.process_time() - started:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
