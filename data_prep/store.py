"""The store: preprocessed scans as memory-mapped shards of one shape, with an index.

``store/`` holds ``shard-00000.npy`` ... (n, C, I, J[, K]) float32, ``index.parquet`` (one row a
scan), ``shards.json`` (sha256 per shard), ``recipe.json``, ``task.json``, and where the label
table has attributes ``attributes.parquet``. A damaged shard is refused by name.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import StageError
from data_prep.files import (
    read_json,
    read_table,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
    write_table,
)
from data_prep.stage import stage_digest
from data_prep.task import Task

SHARD_BYTES = 64 << 20


@dataclass(frozen=True)
class IndexRow:
    """One scan of a store.

    Attributes:
        scan_id: The manifest's id.
        patient_id: Unit of splitting and of every bootstrap.
        split: ``train``, ``val`` or ``test``.
        target: (class index,), or one 0/1 per label for a multi-label task.
        shard: Number of the shard file.
        row: Position within the shard.
        bayes: True class probabilities where the truth is known (a phantom), else ().
    """

    scan_id: str
    patient_id: str
    split: str
    target: tuple[int, ...]
    shard: int
    row: int
    bayes: tuple[float, ...]


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.npy"


def scans_per_shard(scan_bytes: int) -> int:
    """How many scans fill a shard of about ``SHARD_BYTES``."""
    return max(1, SHARD_BYTES // scan_bytes)


def write_shard(folder: Path, number: int, scans: NDArray[np.float32]) -> str:
    """Write one shard, (n, C, I, J[, K]) float32, atomically, and return its sha256."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(scans), allow_pickle=False)
    data = buffer.getvalue()
    write_bytes(folder / shard_name(number), data)
    return sha256_bytes(data)


def write_index(folder: Path, rows: list[IndexRow], digests: list[str], task: Task) -> None:
    """Write the index, the shard digests and the task."""
    write_table(folder / "index.parquet", IndexRow, rows)
    write_json(folder / "shards.json", {shard_name(n): sha for n, sha in enumerate(digests)})
    write_json(folder / "task.json", task.model_dump(mode="json"))


@dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes:
        folder: Where it lies.
        task: What is to be predicted.
        index: One row a scan, in store order.
        digest: Digest of the stage, part of every cell's key.
    """

    folder: Path
    task: Task
    index: tuple[IndexRow, ...]
    digest: str

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> Store:
        """Open a store; ``verify`` reads every shard and checks its sha256.

        Raises:
            StageError: ``stage.missing`` or ``stage.incomplete``, or ``store.damaged_shard``
                naming the shard.
        """
        stage = stage_digest(folder)
        digests = read_json(folder / "shards.json")
        if verify:
            for name, expected in digests.items():
                path = folder / name
                found = sha256_file(path) if path.is_file() else "nothing (the file is gone)"
                if found != expected:
                    raise StageError(
                        "store.damaged_shard",
                        f"{path}: sha256 is {found}, the store's record says {expected}",
                        fix="run `medcurve prep` again: it writes what is damaged anew",
                    )
        task = Task.model_validate(read_json(folder / "task.json"))
        rows = read_table(folder / "index.parquet", IndexRow)
        return cls(folder=folder, task=task, index=tuple(rows), digest=stage)

    def rows(self, split: str) -> list[IndexRow]:
        """Rows of one split, in store order."""
        return [row for row in self.index if row.split == split]

    def read(self, rows: list[IndexRow]) -> NDArray[np.float32]:
        """Scans of the given rows as one array (N, C, I, J[, K]) float32, in the given order.

        Raises:
            StageError: ``store.empty_split`` if there is no row.
        """
        shards = {
            number: np.load(self.folder / shard_name(number), mmap_mode="r", allow_pickle=False)
            for number in sorted({row.shard for row in rows})
        }
        if not rows:
            raise StageError("store.empty_split", f"{self.folder}: no scans in the split asked for")
        first = shards[rows[0].shard]
        scans = np.empty((len(rows), *first.shape[1:]), dtype=np.float32)
        for position, row in enumerate(rows):
            scans[position] = shards[row.shard][row.row]
        return scans
