"""What a model says of the test scans of a cohort, unshifted and under every step of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import CohortError, ScanError
from data_prep.files import read_table
from data_prep.manifest import ScanRecord, load_manifest, source_of
from data_prep.progress import Progress, silent
from data_prep.readers.sandbox import MEMORY_BYTES, DecodePool
from data_prep.splits import SPLIT_TABLE, SplitRow
from data_prep.stage import check_inputs, stage_digest
from pipeline.audit.shifted import ShiftScan
from pipeline.audit.sweep import Step
from pipeline.serving.answers import probabilities
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


def labelled_scans(package: ModelPackage, manifest: Path, splits: Path) -> list[ScanRecord]:
    """The test scans of a cohort, whose labels the model is judged by.

    Args:
        package: The model.
        manifest: What ``medcurve ingest`` wrote.
        splits: What ``medcurve split`` wrote.

    Raises:
        StageError: ``stage.missing``, ``stage.incomplete`` or ``stage.stale``, naming the command.
        CohortError: ``audit.other_classes`` or ``audit.no_test_scans``.
    """
    check_inputs(splits, {"manifest": stage_digest(manifest)}, "run `medcurve split` again")
    records, task = load_manifest(manifest)
    mine = package.task
    if task.kind != mine.kind or set(task.class_names) != set(mine.class_names):
        raise CohortError(
            "audit.other_classes",
            f"{manifest}: a {task.kind} task of {', '.join(task.class_names)}; the model's is "
            f"{mine.kind} of {', '.join(mine.class_names)}",
            fix="give a cohort with the model's classes, or map its labels in the data config",
        )
    test = {
        row.scan_id for row in read_table(splits / SPLIT_TABLE, SplitRow) if row.split == "test"
    }
    if not (chosen := [record for record in records if record.scan_id in test]):
        raise CohortError(
            "audit.no_test_scans",
            f"{splits}: no labelled scan is in the test split",
            fix="give the cohort a test split (split.test in its data config), and run "
            "`medcurve split` again",
        )
    return chosen


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
                    refused.append((record, _not_finite()))
            progress(done, len(records))
    if not found:
        raise CohortError(
            "audit.nothing_answered",
            f"none of the {len(records)} test scans could be read and scored; the first: "
            f"{refused[0][1].message}",
            fix="see where the scans lie (source.root in the data config), and run "
            "`medcurve ingest` again",
        )
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


def _not_finite() -> ScanError:
    return ScanError("model.not_finite", "the model's answer is NaN or infinite")
