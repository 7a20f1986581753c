"""A folder of scans -> a table of predictions: every scan accounted for, whatever it is.

The same ``PrepRecipe.apply`` that prepared the training scans prepares these, in decode children;
the model runs here, on blocks of fixed size. A scan that cannot be read is quarantined and the
batch goes on. The output stands whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import ScanError
from data_prep.files import write_csv
from data_prep.memory_reuse import keep_freed_memory, spare_standing_objects
from data_prep.readers.child_process import ChildProcess
from data_prep.readers.sandbox import DecodePool, NewChild
from data_prep.stage import new_stage
from pipeline.serving.answers import answers, block_scans
from pipeline.serving.batch_shift import BatchSample
from pipeline.serving.beside import Beside, ScoredScan, write_beside
from pipeline.serving.inputs import InputFolder, ListedPath, NamedScan, find_inputs, readable
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import (
    Prediction,
    PredictionSummary,
    Tally,
    answered,
    refused,
    write_predictions,
)
from pipeline.serving.prepared import PreparedScan, PrepareScan
from pipeline.serving.spill import Spill
from pipeline.trust.shift_policy import OnShift


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is.

    Attributes:
        scans: That there are.
        ok: Scored so far.
        quarantined: So far.
        skipped: Files that are not meant to be scans.
    """

    scans: int
    ok: int
    quarantined: int
    skipped: int

    @property
    def done(self) -> int:
        """Scans that have a row."""
        return self.ok + self.quarantined


def _silent(_: BatchProgress) -> None:
    """Report progress to nobody."""


def predict(
    package: ModelPackage,
    inputs: Sequence[Path],
    out: Path,
    *,
    batch_size: int = 64,
    workers: int = 1,
    new_child: NewChild = ChildProcess,
    pseudonym: Callable[[str], str] | None = None,
    on_shift: OnShift | None = None,
    beside: Sequence[Beside] = (),
    listed: Sequence[ListedPath] = (),
    progress: Callable[[BatchProgress], None] = _silent,
) -> PredictionSummary:
    """Score every scan under ``inputs`` and write the tables into ``out``.

    Writes ``predictions.csv``, ``predictions.parquet``, ``quarantine.csv``, ``skipped.csv`` and
    ``summary.json``, whose bytes do not depend on ``batch_size`` and ``workers``. Memory is
    bounded by ``batch_size`` prepared scans, the pool's look-ahead, and the names of the scans:
    rows lie on disk until they are sorted into the tables.

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
        on_shift: What to do with scans that do not look like the training scans; None: as the
            model was released.
        beside: What else is written of the scans that are scored; where there is any,
            ``extras.csv`` says which of it could not be written.
        listed: More files and folders, from a list: what of it does not exist is quarantined,
            where a path in ``inputs`` that does not exist is an error.
        progress: Told how far the batch is, whenever the model has run.

    Raises:
        InputError: ``predict.not_found``, ``predict.out_in_input`` or ``predict.no_scans``.
        StageError: ``stage.not_ours`` if ``out`` holds something else.
    """
    started = time.monotonic()
    keep_freed_memory()
    spare_standing_objects()
    on_shift = on_shift or package.card.trust.on_shift
    folders = find_inputs(inputs, out, package.card.read, listed)
    skipped = sorted((f.shown(item.path), item.reason) for f in folders for item in f.skipped)
    with new_stage(out, "predict", {"model": package.digest}, {"on_shift": on_shift}) as partial:
        partial.chmod(0o700)
        sample = BatchSample()
        with Spill(partial / ".rows", keys=2) as rows, Spill(partial / ".extras", keys=3) as failed:
            tally = Tally(rows)
            for row in _rejected_rows(folders):
                tally.add(row)
            total = tally.quarantined + sum(len(folder.scans) for folder in folders)
            progress(BatchProgress(total, tally.ok, tally.quarantined, len(skipped)))
            read = _read(folders, package, workers, new_child)
            for batch in _batches(read, _batch_scans(package, batch_size)):
                scored_rows = _score(package, batch, pseudonym, on_shift, sample)
                for one, row in zip(batch, scored_rows, strict=True):
                    tally.add(_written_beside(beside, partial, one, row, failed))
                progress(BatchProgress(total, tally.ok, tally.quarantined, len(skipped)))
            seconds = time.monotonic() - started
            shift = sample.test(package.reference)
            summary = tally.summary(skipped, package.task, _identity(package), shift, seconds)
            write_predictions(partial, package.task, tally, skipped, summary)
            if beside:
                write_csv(partial / "extras.csv", ("scan", "code", "reason"), failed.rows())
        for extra in beside:
            extra.finish(partial, package, summary)
        for path in partial.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
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
            results = pool.read(
                sources, PrepareScan(package.recipe, package.card.training.seen.maybe)
            )
            for scan, (_, result) in zip(folder.scans, results, strict=True):
                if isinstance(result, PreparedScan):
                    result = result.with_files_flags(scan.source.flags)
                yield _Read(folder, scan, result)


def _batch_scans(package: ModelPackage, batch_size: int) -> int:
    block = block_scans(package)
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
    package: ModelPackage,
    batch: Sequence[_Read],
    pseudonym: Callable[[str], str] | None,
    on_shift: OnShift,
    sample: BatchSample,
) -> list[Prediction]:
    """A row for each scan of a batch; ``sample`` takes note of those that were answered."""
    prepared = [read.result for read in batch if isinstance(read.result, PreparedScan)]
    found = answers(package, [scan.array for scan in prepared], [scan.look for scan in prepared])
    rows = []
    for read in batch:
        name, files, source = read.scan.name, read.files(), read.scan.source
        if isinstance(read.result, ScanError):
            rows.append(refused(name, files, source.flags, read.result))
            continue
        patient = pseudonym(source.patient_key) if source.patient_key and pseudonym else ""
        seen = package.card.training.seen.flags(read.result.pixel_sha256, patient)
        answer = next(found)
        if answer.finite:
            sample.add(name, read.result.look, answer.features, patient)
        rows.append(answered(name, files, (*read.result.flags, *seen), answer, on_shift))
    return rows


def _written_beside(
    beside: Sequence[Beside], folder: Path, read: _Read, row: Prediction, failed: Spill
) -> Prediction:
    """The row of a scan after what else there is was written of it."""
    if row.status != "ok" or not isinstance(read.result, PreparedScan):
        return row
    scan = ScoredScan(row, read.folder.root, read.scan.source, read.result.array)
    row, missed = write_beside(beside, folder, scan)
    for extra in missed:
        failed.add((extra.scan, extra.code, readable(extra.reason)))
    return row


def _rejected_rows(folders: Iterable[InputFolder]) -> Iterator[Prediction]:
    for folder in folders:
        for item in folder.rejected:
            files = tuple(folder.shown(path) for path in item.rejected.paths)
            code, reason = item.rejected.code, readable(item.rejected.reason)
            yield Prediction(item.name, files, "quarantined", code=code, reason=reason)


def _identity(package: ModelPackage) -> dict[str, str]:
    return {
        "digest": package.digest,
        "family": package.card.family.family,
        "data": package.card.training.data,
        "medcurve": package.card.versions["medcurve"],
        "runtime": package.runtime,
    }
