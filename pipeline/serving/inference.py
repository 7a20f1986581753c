"""A folder of scans -> a table of predictions: every scan accounted for, whatever it is.

The same ``PrepRecipe.apply`` that prepared the training scans prepares these, in decode children;
the model runs here, on blocks of fixed size. A scan that cannot be read is quarantined and the
batch goes on. The output stands whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.errors import ScanError
from data_prep.progress import Progress, silent
from data_prep.readers.child_process import ChildProcess
from data_prep.readers.sandbox import DecodePool, NewChild
from data_prep.stage import new_stage
from pipeline.serving.inputs import InputFolder, NamedScan, find_inputs, readable
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import (
    Prediction,
    PredictionSummary,
    scored,
    summarise,
    write_predictions,
)
from pipeline.serving.prepared import PreparedScan, PrepareScan

# A block is what the model sees at once: at most 16 scans and about a million voxels.
MAX_BLOCK_SCANS: Final = 16
MAX_BLOCK_VOXELS: Final = 1 << 20


def predict(
    package: ModelPackage,
    inputs: Sequence[Path],
    out: Path,
    *,
    batch_size: int = 64,
    workers: int = 1,
    new_child: NewChild = ChildProcess,
    pseudonym: Callable[[str], str] | None = None,
    progress: Progress = silent,
) -> PredictionSummary:
    """Score every scan under ``inputs`` and write the tables into ``out``.

    Writes ``predictions.csv``, ``predictions.parquet``, ``quarantine.csv``, ``skipped.csv`` and
    ``summary.json``, whose bytes do not depend on ``batch_size`` and ``workers``. Memory is
    bounded by ``batch_size`` prepared scans, the pool's look-ahead, and a row of text per scan.

    Args:
        package: The model.
        inputs: Files and folders; folders are searched through.
        out: Folder for the tables; an earlier batch's is replaced.
        batch_size: Prepared scans that are held before the model runs on them, rounded up to
            whole blocks.
        workers: Decode children.
        new_child: Starts one.
        pseudonym: From a DICOM PatientID to the name under the site's key, by which scans of a
            patient whom the model has seen are flagged; None where there is no key.
        progress: Told (scans done, scans in all).

    Raises:
        InputError: ``predict.not_found``, ``predict.out_in_input`` or ``predict.no_scans``.
        StageError: ``stage.not_ours`` if ``out`` holds something else.
    """
    started = time.monotonic()
    folders = find_inputs(inputs, out, package.card.read)
    with new_stage(out, "predict", {"model": package.digest}, {}) as partial:
        partial.chmod(0o700)
        rows = [_rejected_row(folder, n) for folder in folders for n in range(len(folder.rejected))]
        total = len(rows) + sum(len(folder.scans) for folder in folders)
        read = _read(folders, package, workers, new_child)
        for batch in _batches(read, _batch_scans(package, batch_size)):
            rows += _score(package, batch, pseudonym)
            progress(len(rows), total)
        rows.sort(key=lambda row: (row.scan, row.files))
        skipped = sorted((f.shown(item.path), item.reason) for f in folders for item in f.skipped)
        seconds = time.monotonic() - started
        summary = summarise(rows, skipped, package.task, _identity(package), seconds)
        write_predictions(partial, package.task, rows, skipped, summary)
    return summary


@dataclass(frozen=True, eq=False)
class _Read:
    """A scan after reading: prepared, or the reason why not."""

    folder: InputFolder
    scan: NamedScan
    result: PreparedScan | ScanError

    def files(self) -> tuple[str, ...]:
        return tuple(self.folder.shown(path) for path in self.scan.source.paths)


def _read(
    folders: Iterable[InputFolder], package: ModelPackage, workers: int, new_child: NewChild
) -> Iterator[_Read]:
    policy = package.card.read
    for folder in folders:
        with DecodePool(folder.root, workers, policy=policy, new_child=new_child) as pool:
            sources = [scan.source for scan in folder.scans]
            results = pool.read(sources, PrepareScan(package.recipe))
            for scan, (_, result) in zip(folder.scans, results, strict=True):
                yield _Read(folder, scan, result)


def _block_scans(package: ModelPackage) -> int:
    voxels = int(np.prod(package.card.scan_shape))
    return max(1, min(MAX_BLOCK_SCANS, MAX_BLOCK_VOXELS // voxels))


def _batch_scans(package: ModelPackage, batch_size: int) -> int:
    block = _block_scans(package)
    return -(-max(1, batch_size) // block) * block


def _batches(scans: Iterator[_Read], size: int) -> Iterator[list[_Read]]:
    """Scans in lists that hold ``size`` prepared ones each (the last list may hold fewer)."""
    batch: list[_Read] = []
    prepared = 0
    for scan in scans:
        batch.append(scan)
        prepared += isinstance(scan.result, PreparedScan)
        if prepared == size:
            yield batch
            batch, prepared = [], 0
    if batch:
        yield batch


def _score(
    package: ModelPackage, batch: Sequence[_Read], pseudonym: Callable[[str], str] | None
) -> list[Prediction]:
    """A row for each scan of a batch."""
    arrays = [read.result.array for read in batch if isinstance(read.result, PreparedScan)]
    answers = iter(probabilities(package, arrays))
    rows = []
    for read in batch:
        name, files = read.scan.name, read.files()
        if isinstance(read.result, ScanError):
            rows.append(_quarantined(name, files, read.scan.source.flags, read.result))
            continue
        key = read.scan.source.patient_key
        patient = pseudonym(key) if key and pseudonym else ""
        seen = package.card.training.seen.flags(read.result.pixel_sha256, patient)
        flags = tuple(dict.fromkeys((*read.scan.source.flags, *read.result.flags, *seen)))
        probability = next(answers)
        if np.isfinite(probability).all():
            rows.append(scored(name, files, flags, package.task, probability))
        else:
            error = ScanError("model.not_finite", "the model's answer is NaN or infinite")
            rows.append(_quarantined(name, files, flags, error))
    return rows


def probabilities(
    package: ModelPackage, arrays: Sequence[NDArray[np.float32]]
) -> Iterator[NDArray[np.float64]]:
    """One row of probabilities a scan, as ``predict`` computes them.

    Libraries choose another kernel, and so other last bits, for another number of rows. The model
    therefore always sees blocks of the same shape, the last one filled up with zeros.
    """
    size = _block_scans(package)
    remaining = iter(arrays)
    while chosen := list(islice(remaining, size)):
        block = np.zeros((size, *package.card.scan_shape), dtype=np.float32)
        block[: len(chosen)] = chosen
        yield from package.predict(torch.from_numpy(block))[: len(chosen)]


def _rejected_row(folder: InputFolder, number: int) -> Prediction:
    name, rejected = folder.rejected[number].name, folder.rejected[number].rejected
    files = tuple(folder.shown(path) for path in rejected.paths)
    return Prediction(
        name, files, "quarantined", code=rejected.code, reason=readable(rejected.reason)
    )


def _quarantined(
    scan: str, files: tuple[str, ...], flags: tuple[str, ...], error: ScanError
) -> Prediction:
    return Prediction(
        scan, files, "quarantined", flags=flags, code=error.code, reason=readable(error.message)
    )


def _identity(package: ModelPackage) -> dict[str, str]:
    return {
        "digest": package.digest,
        "family": package.card.family.family,
        "data": package.card.training.data,
        "medcurve": package.card.versions["medcurve"],
    }
