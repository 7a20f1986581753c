"""One cell: fit one family on one subset with one seed, predict validation and test scans.

This is the only place where a study trains. Every engine and the release call it, so that the
same cell gives the same bits wherever it is computed.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from data_prep.progress import Progress, silent
from data_prep.store import Store
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans, load_split
from pipeline.device import best_device, computes_bf16
from pipeline.families import FamilyConfig
from pipeline.families.base import Family
from pipeline.metrics import score
from pipeline.study.condition import Condition, under
from pipeline.study.grid import PlannedCell
from pipeline.study.journal import CellResult

BuildFamily = Callable[[FamilyConfig, Task, tuple[int, ...], int], Family[Any]]
# What probes say of a fitted family, by the name of the quantity.
Measure = Callable[[Family[Any]], Mapping[str, float]]
# What a family is given, (N, ...) by the name of the split.
Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits of a store in memory, raw or prepared by a family.

    Attributes:
        train, val, test: The three splits.
        shifted: The test scans once more under each condition, by the name of that split.
    """

    train: Scans
    val: Scans
    test: Scans
    shifted: Mapping[str, Scans] = field(default_factory=dict)

    @classmethod
    def load(cls, store: Store, conditions: Sequence[Condition] = ()) -> Splits:
        """Read a store.

        Raises:
            StageError: ``store.empty_split``.
            ConfigError: ``shift.no_axis``, ``shift.out_of_scan``: a condition does not fit them.
        """
        train, val, test = (load_split(store, name) for name in ("train", "val", "test"))
        shifted = {
            one.split: test.with_x(torch.from_numpy(under(test.x.numpy(), one)))
            for one in conditions
        }
        return cls(train, val, test, shifted)

    def by_name(self) -> dict[str, Scans]:
        """Every split."""
        return {"train": self.train, "val": self.val, "test": self.test, **self.shifted}

    def prepared_by(self, family: Family[Any], threads: int) -> Splits:
        """The splits with ``x`` prepared by this family."""
        with pinned_threads(threads):
            return self._with({n: family.prepare(scans.x) for n, scans in self.by_name().items()})

    def inputs(self) -> Inputs:
        """``x`` of each split."""
        return {split: scans.x.numpy() for split, scans in self.by_name().items()}

    def with_inputs(self, inputs: Inputs) -> Splits:
        """The splits with these ``x``, which are not copied; they may be read-only."""
        with warnings.catch_warnings():
            # torch has no tensors that are read-only; families do not write to their scans
            warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
            return self._with({split: torch.from_numpy(x) for split, x in inputs.items()})

    def _with(self, x: Mapping[str, Tensor]) -> Splits:
        known = {name: scans.with_x(x[name]) for name, scans in self.by_name().items()}
        return Splits(known.pop("train"), known.pop("val"), known.pop("test"), known)


def arithmetic(threads: int) -> dict[str, str]:
    """What decides the last bits of a result, for the key of a cell."""
    device = best_device()
    return {
        "torch": torch.__version__,
        **{name: version(name) for name in ("numpy", "scipy", "scikit-learn", "monai")},
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "bf16": str(computes_bf16(device)),
        "threads": str(threads),
    }


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Run a block with this many threads in torch, BLAS and OpenMP alike."""
    before = torch.get_num_threads()
    with threadpool_limits(limits=threads):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def fit_cell(
    planned: PlannedCell,
    family: Family[Any],
    prepared: Splits,
    threads: int,
    progress: Progress = silent,
    checkpoints: Checkpoints | None = None,
    measure: Measure | None = None,
) -> CellResult:
    """Fit ``family`` on the cell's patients; predict every validation, test and shifted scan.

    The scans that it was fitted on are predicted last, for their scores only: how much better they
    are than those on test scans is what the fit has learnt by heart.

    Args:
        planned: Which scans to train and choose on.
        family: Unfitted, built with the cell's seed; fitted afterwards.
        prepared: All scans, with ``x`` prepared by this family.
        threads: Threads to compute with.
        progress: Told (epochs done, epochs in all).
        checkpoints: Where the fit keeps its way back.
        measure: What probes measure on the fitted family.

    Raises:
        FamilyError: If the family refuses these scans.
        ProbeError: If a probe cannot look at the family.
    """
    with pinned_threads(threads):
        start = time.monotonic()
        train, chosen_on = prepared.train.take(planned.train), prepared.val.take(planned.val)
        fit = family.fit(train, chosen_on, progress, checkpoints)
        fitted = time.monotonic()
        val, test = (family.predict_proba(scans.x) for scans in (prepared.val, prepared.test))
        shifted = {n: family.predict_proba(scans.x) for n, scans in prepared.shifted.items()}
        predicted = time.monotonic()
        on_train = score(family.task, train.target, family.predict_proba(train.x))
        scored = time.monotonic()
        measured = measure(family) if measure else {}
    return CellResult(
        val=val,
        test=test,
        shifted=shifted,
        train=on_train,
        measured=measured,
        history=fit.history,
        chosen=fit.chosen,
        seconds={
            "fit": fit.seconds_before + fitted - start,
            "predict": predicted - fitted,
            "score_train": scored - predicted,
        },
        notes=fit.notes,
    )
