"""What a model says of the test scans of a cohort, unshifted and under every step of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import ScanError
from data_prep.manifest import ScanRecord, source_of
from data_prep.progress import Progress, silent
from data_prep.readers.sandbox import MEMORY_BYTES, DecodePool
from pipeline.audit.shifted import ShiftScan
from pipeline.audit.sweep import Step
from pipeline.serving.answers import not_finite, probabilities
from pipeline.serving.labelled import nothing_answered
from pipeline.serving.package import ModelPackage

# Shifting a large volume in sixty ways takes longer than reading it.
_TIMEOUT_S: Final = 1800.0


@dataclass(frozen=True, eq=False)
class Answers:
    """Probabilities of every scan that could be read, under every step.

    Attributes:
        records: The scans.
        steps: What was done to them.
        unshifted: (2, N, n_classes) float64; first with the recipe, then without it.
        shifted: (2, steps, N, n_classes), likewise.
        unnormalised: (N, n_classes); nothing shifted, the recipe's intensity step left out.
        refused: Scans that could not be read, prepared or answered, and why.
    """

    records: tuple[ScanRecord, ...]
    steps: tuple[Step, ...]
    unshifted: NDArray[np.float64]
    shifted: NDArray[np.float64]
    unnormalised: NDArray[np.float64]
    refused: tuple[tuple[ScanRecord, ScanError], ...]


def ask(
    package: ModelPackage,
    root: Path,
    records: Sequence[ScanRecord],
    steps: Sequence[Step],
    workers: int = 1,
    progress: Progress = silent,
) -> Answers:
    """Read each scan once, shift it in memory, and have the model answer, as ``predict`` would.

    An answer that is NaN or infinite under a step counts as none: all classes alike.

    Args:
        package: The model.
        root: Folder that the records' paths are relative to.
        records: The scans.
        steps: What is to be done to each.
        workers: Processes that read and shift.
        progress: Told (scans done, scans in all).

    Raises:
        CohortError: ``cohort.nothing_answered``.
    """
    shift = ShiftScan(package.recipe, tuple(steps))
    scan_bytes = 4 * int(np.prod(package.card.scan_shape))
    found: list[NDArray[np.float64]] = []
    answered, refused = [], []
    with DecodePool(
        root,
        workers,
        memory_bytes=MEMORY_BYTES + 2 * shift.count * scan_bytes,
        timeout_s=_TIMEOUT_S,
        policy=package.card.read,
    ) as pool:
        results = pool.read([source_of(record) for record in records], shift)
        for done, (record, (_, result)) in enumerate(zip(records, results, strict=True), start=1):
            if isinstance(result, ScanError):
                refused.append((record, result))
            else:
                rows = np.stack(list(probabilities(package, list(result))))
                if np.isfinite(rows[0]).all():
                    answered.append(record)
                    found.append(_no_answer_as_equal(rows, package))
                else:
                    refused.append((record, not_finite()))
            progress(done, len(records))
    if not found:
        raise nothing_answered(len(records), refused[0][1])
    stack = np.stack(found, axis=1)  # (count, N, n_classes)
    arms = stack[:-1].reshape(2, 1 + len(steps), *stack.shape[1:])
    return Answers(
        records=tuple(answered),
        steps=tuple(steps),
        unshifted=arms[:, 0],
        shifted=arms[:, 1:],
        unnormalised=stack[-1],
        refused=tuple(refused),
    )


def _no_answer_as_equal(rows: NDArray[np.float64], package: ModelPackage) -> NDArray[np.float64]:
    equal = 0.5 if package.task.is_multi_label else 1 / package.task.n_classes
    whole = np.isfinite(rows).all(axis=1, keepdims=True)
    return np.where(whole, rows, equal)
