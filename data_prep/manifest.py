"""The manifest: one row for every scan that can be read and has a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numpy as np

from data_prep.errors import ScanError, StageError
from data_prep.files import iterate_table, read_json, read_table
from data_prep.miniature import EDGE, Planes
from data_prep.readers.child_process import ChildProcess
from data_prep.readers.policy import DEFAULT_POLICY, ReadPolicy
from data_prep.readers.sandbox import DecodePool, NewChild
from data_prep.readers.source import Format, ScanSource
from data_prep.task import Task
from data_prep.volume import Volume

T = TypeVar("T")

MANIFEST = "manifest.parquet"
MINIATURES = "miniatures.parquet"


@dataclass(frozen=True)
class ScanRecord:
    """One scan of a cohort.

    Attributes:
        scan_id: 16 hexadecimal digits, a digest of the files' content and the item.
        patient_id: Unit of splitting; text, always.
        labels: Class names; one, or any number for a multi-label task.
        official_split: train | val | test where the cohort brings its own, else "".
        bayes: True class probabilities of a phantom, else ().
        format, paths, item: Where it lies (see ``readers.source.ScanSource``).
        modality, shape, spacing_mm, orientation, dtype: Read off the volume; shape is (C, I, J..).
        minimum, maximum, mean: Of the intensities as read.
        quantiles: Of the same, at ``scan_look.LEVELS``.
        sha256: Of the source files.
        pixel_sha256: Of shape, type and voxels: equal for identical images.
        flags: Accepted oddities.
        perceptual_hash: 256 bits of each plane in miniature, as hexadecimal digits; "" for a
            constant scan (see ``data_prep.miniature``).
    """

    scan_id: str
    patient_id: str
    labels: tuple[str, ...]
    official_split: str
    bayes: tuple[float, ...]
    format: str
    paths: tuple[str, ...]
    item: str
    modality: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    dtype: str
    minimum: float
    maximum: float
    mean: float
    quantiles: tuple[float, ...]
    sha256: str
    pixel_sha256: str
    flags: tuple[str, ...]
    perceptual_hash: str = ""


@dataclass(frozen=True)
class MiniatureRow:
    """One scan in miniature: its planes of 32 x 32 pixels, one after another."""

    scan_id: str
    planes: bytes


def load_manifest(folder: Path) -> tuple[list[ScanRecord], Task]:
    """Read the rows and the task that ingest wrote."""
    task = Task.model_validate(read_json(folder / "task.json"))
    return read_table(folder / MANIFEST, ScanRecord), task


def load_miniatures(folder: Path, records: Sequence[ScanRecord]) -> list[Planes]:
    """The miniature that ingest took of each scan.

    Raises:
        StageError: ``stage.unreadable_table``, or ``stage.incomplete`` if one is missing.
    """
    rows = iterate_table(folder / MINIATURES, MiniatureRow)
    planes = {
        row.scan_id: np.frombuffer(row.planes, np.uint8).reshape(-1, EDGE, EDGE) for row in rows
    }
    missing = [record.scan_id for record in records if record.scan_id not in planes]
    if missing:
        raise StageError(
            "stage.incomplete",
            f"{folder / MINIATURES}: {len(missing)} scans are not in it, first {missing[0]}",
            fix="run `medcurve ingest` again",
        )
    return [planes[record.scan_id] for record in records]


@dataclass(frozen=True)
class ScanReader:
    """How the scans of a manifest are read again.

    Attributes:
        root: Folder that the manifest's paths are relative to.
        policy: The one that the scans were found with.
        workers: Decode processes.
        new_child: Starts one.
    """

    root: Path
    policy: ReadPolicy = DEFAULT_POLICY
    workers: int = 1
    new_child: NewChild = ChildProcess

    @overload
    def read(self, records: Sequence[ScanRecord]) -> Iterator[Volume | ScanError]: ...

    @overload
    def read(
        self, records: Sequence[ScanRecord], transform: Callable[[Volume], T]
    ) -> Iterator[T | ScanError]: ...

    def read(
        self, records: Sequence[ScanRecord], transform: Callable[[Volume], Any] | None = None
    ) -> Iterator[Any]:
        """Each scan in the order of ``records``, or why it cannot be read.

        ``transform`` is applied to each volume in the decode process.
        """
        with DecodePool(
            self.root, self.workers, policy=self.policy, new_child=self.new_child
        ) as pool:
            sources = [source_of(record) for record in records]
            results = pool.read(sources, transform) if transform else pool.read(sources)
            for _, result in results:
                yield result


def source_of(record: ScanRecord) -> ScanSource:
    """Where a manifest row's scan lies."""
    return ScanSource(cast(Format, record.format), record.paths, record.item, flags=record.flags)
