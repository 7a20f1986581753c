"""What a model answers to the labelled test scans of a cohort, read again from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import ScanError
from data_prep.manifest import ScanReader, ScanRecord
from data_prep.progress import Progress, silent
from data_prep.scan_look import ScanLook
from pipeline.dataset import targets
from pipeline.serving.answers import Answer, answers, block_scans, not_finite
from pipeline.serving.labelled import nothing_answered
from pipeline.serving.package import ModelPackage
from pipeline.serving.prepared import PreparedScan, PrepareScan
from pipeline.serving.seen import NONE_SEEN
from pipeline.weighted_metrics import Floats, Labels


@dataclass(frozen=True, eq=False)
class AnsweredScans:
    """Test scans with what the model says of them.

    Attributes:
        records: (N,) the scans that were answered.
        answers: (N,) as ``medcurve predict`` gives them.
        looks: (N,) what was noted as they were read.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (N, n_classes) calibrated, before the rounding that a table needs.
        refused: Scans that could not be read, prepared or answered, and why.
    """

    records: tuple[ScanRecord, ...]
    answers: tuple[Answer, ...]
    looks: tuple[ScanLook, ...]
    target: Labels
    probability: Floats
    refused: tuple[tuple[ScanRecord, ScanError], ...]

    @property
    def patients(self) -> NDArray[np.str_]:
        """(N,) patient of each scan."""
        return np.array([record.patient_id for record in self.records], dtype=np.str_)

    @property
    def raw(self) -> Floats:
        """(N, n_classes) as the family gives them."""
        return np.stack([answer.raw for answer in self.answers])

    @property
    def shown(self) -> Floats:
        """(N, n_classes) calibrated and rounded, as ``medcurve predict`` writes them."""
        return np.stack([answer.probability for answer in self.answers])

    @property
    def features(self) -> NDArray[np.float32]:
        """(N, D) what the model sees of them."""
        return np.stack([answer.features for answer in self.answers])


def gather(
    package: ModelPackage,
    root: Path,
    records: Sequence[ScanRecord],
    workers: int = 1,
    progress: Progress = silent,
) -> AnsweredScans:
    """Read and prepare each scan as ``predict`` would, and take the model's answer.

    Args:
        package: The model.
        root: Folder that the records' paths are relative to.
        records: The scans.
        workers: Processes that read and prepare.
        progress: Told (scans done, scans in all).

    Raises:
        CohortError: ``cohort.nothing_answered``.
    """
    kept: list[tuple[ScanRecord, ScanLook, Answer]] = []
    refused: list[tuple[ScanRecord, ScanError]] = []
    reader = ScanReader(root, package.card.read, workers)
    read = zip(records, reader.read(records, PrepareScan(package.recipe, NONE_SEEN)), strict=True)
    for block in _blocks(read, block_scans(package), refused):
        # With the oddities of its files, as the looks of the training scans have them.
        looks = [replace(one.look, flags=record.flags) for record, one in block]
        found = answers(package, [one.array for _, one in block], looks)
        for (record, _), look, answer in zip(block, looks, found, strict=True):
            if answer.finite:
                kept.append((record, look, answer))
            else:
                refused.append((record, not_finite()))
        progress(len(kept) + len(refused), len(records))
    if not kept:
        raise nothing_answered(len(records), refused[0][1])
    task = package.task
    return AnsweredScans(
        records=tuple(record for record, _, _ in kept),
        answers=tuple(answer for _, _, answer in kept),
        looks=tuple(look for _, look, _ in kept),
        target=targets(task, [task.encode(record.labels) for record, _, _ in kept]),
        probability=package.calibrate(np.stack([answer.raw for _, _, answer in kept])),
        refused=tuple(refused),
    )


def _blocks(
    read: Iterator[tuple[ScanRecord, PreparedScan | ScanError]],
    size: int,
    refused: list[tuple[ScanRecord, ScanError]],
) -> Iterator[list[tuple[ScanRecord, PreparedScan]]]:
    """Prepared scans, ``size`` at a time; those that are none are added to ``refused``."""
    block: list[tuple[ScanRecord, PreparedScan]] = []
    for record, result in read:
        if isinstance(result, ScanError):
            refused.append((record, result))
            continue
        block.append((record, result))
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
