"""Prep: fit the recipe on training scans, apply it to all, write the store.

Shards are written one by one, each with a record of the scans in it; an interrupted prep goes on
behind its last whole shard.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.attributes import ATTRIBUTES, AttributeRow, read_attributes
from data_prep.errors import CohortError, ScanError
from data_prep.files import (
    digest,
    read_json,
    read_table,
    sha256_file,
    write_csv,
    write_json,
    write_table,
)
from data_prep.manifest import ScanReader, ScanRecord, load_manifest
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.progress import Progress, silent
from data_prep.readers.policy import ReadPolicy
from data_prep.scan_look import AsRead
from data_prep.splits import SPLIT_TABLE, SPLITS, SplitRow, check_leaks
from data_prep.stage import (
    check_inputs,
    is_current,
    refuse_foreign,
    replace_folder,
    stage_digest,
    write_provenance,
)
from data_prep.store import IndexRow, scans_per_shard, write_index, write_shard
from data_prep.task import Task
from data_prep.volume import Volume

RECIPE = "recipe.json"
POLICY = "policy.json"
AS_READ = "as_read.parquet"
_PLAN = "plan.json"

_Refused = tuple[int, str, str]  # position in the manifest, code, reason


@dataclass(frozen=True)
class PrepSummary:
    """What prep did: scans in the store, scans refused, shards kept from a broken run."""

    scans: int
    quarantined: int
    kept_shards: int


@dataclass(frozen=True)
class _Shard:
    """A whole shard: the positions in the manifest of its scans, and those refused on the way."""

    sha256: str
    rows: tuple[int, ...]
    refused: tuple[_Refused, ...]
    next_record: int


def prepare_store(
    reader: ScanReader,
    manifest_folder: Path,
    splits_folder: Path,
    config: PrepConfig,
    out: Path,
    *,
    progress: Progress = silent,
) -> PrepSummary:
    """Write the store of one cohort under one recipe.

    Args:
        reader: Reads the manifest's scans.
        manifest_folder: What ingest wrote.
        splits_folder: What split wrote.
        config: The recipe to fit.
        out: The store's folder.
        progress: Told (scans read, of how many); fitting reads the training scans once more.

    Raises:
        StageError: ``stage.stale`` if the splits are of another manifest.
        CohortError: ``split.patient_leak``, or ``prep.nothing_left`` where a split has no scan.
    """
    inputs = {"manifest": stage_digest(manifest_folder), "splits": stage_digest(splits_folder)}
    check_inputs(splits_folder, {"manifest": inputs["manifest"]}, "run `medcurve split` again")
    settings = prep_settings(config, reader.policy)
    if is_current(out, "prep", inputs, settings):
        counts = read_json(out / "prep.json")
        return PrepSummary(counts["scans"], counts["quarantined"], 0)
    refuse_foreign(out)
    records, task = load_manifest(manifest_folder)
    rows = read_table(splits_folder / SPLIT_TABLE, SplitRow)
    check_leaks(rows)
    split = {row.scan_id: row.split for row in rows}
    training = [record for record in records if split[record.scan_id] == "train"]
    total = len(training) + len(records)

    # The name carries no process id: a later run must find what a killed one left.
    folder = out.with_name(f".{out.name}.part")
    recipe = _resume_or_start(folder, digest([inputs, settings]))
    if recipe is None:
        recipe = PrepRecipe.fit(config, _readable(reader, training, lambda n: progress(n, total)))
        write_json(folder / RECIPE, recipe.to_json())
    kept = _whole_shards(folder)
    further = _write_shards(
        reader, records, recipe, folder, kept, lambda n: progress(len(training) + n, total)
    )
    shards = [*kept, *further]
    refused = [item for shard in shards for item in shard.refused]
    index = _index(records, split, task, shards)
    _check_splits(index, len(refused))
    for path in [folder / _PLAN, *folder.glob("shard-*.json")]:
        path.unlink()
    write_index(folder, index, [shard.sha256 for shard in shards if shard.rows], task)
    _write_quarantine(folder, records, refused)
    by_id = {record.scan_id: record for record in records}
    write_table(folder / AS_READ, AsRead, [as_read(by_id[row.scan_id]) for row in index])
    _copy_attributes(manifest_folder, folder, [row.scan_id for row in index])
    write_json(folder / POLICY, reader.policy.model_dump(mode="json"))
    write_json(folder / "prep.json", {"scans": len(index), "quarantined": len(refused)})
    write_provenance(folder, "prep", inputs, settings)
    replace_folder(folder, out)
    return PrepSummary(len(index), len(refused), len(kept))


def as_read(record: ScanRecord) -> AsRead:
    """What a store keeps of a scan as the manifest has it."""
    return AsRead(
        scan_id=record.scan_id,
        pixel_sha256=record.pixel_sha256,
        shape=record.shape,
        spacing_mm=record.spacing_mm,
        orientation=record.orientation,
        modality=record.modality,
        dtype=record.dtype,
        flags=record.flags,
        quantiles=record.quantiles,
    )


def prep_settings(config: PrepConfig, policy: ReadPolicy) -> dict[str, Any]:
    """What decides a store beside its inputs, as its provenance records it."""
    return {"prep": config.model_dump(mode="json"), "read": policy.model_dump(mode="json")}


def _resume_or_start(folder: Path, plan: str) -> PrepRecipe | None:
    """The recipe that a broken run of the same plan fitted; else an empty folder and None."""
    begun = (folder / _PLAN).is_file() and (folder / RECIPE).is_file()
    if begun and read_json(folder / _PLAN) == {"plan": plan}:
        return PrepRecipe.from_json(read_json(folder / RECIPE))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / _PLAN, {"plan": plan})
    return None


def _readable(
    reader: ScanReader, records: Sequence[ScanRecord], done: Callable[[int], None]
) -> Iterator[Volume]:
    for count, volume in enumerate(reader.read(records), start=1):
        done(count)
        if not isinstance(volume, ScanError):
            yield volume


def _whole_shards(folder: Path) -> list[_Shard]:
    """Shards that a broken run finished, up to the first that is missing or damaged."""
    shards = []
    for path in sorted(folder.glob("shard-*.json")):
        content = read_json(path)
        refused = tuple((at, code, why) for at, code, why in content["refused"])
        shard = _Shard(content["sha256"], tuple(content["rows"]), refused, content["next_record"])
        array = path.with_suffix(".npy")
        if not array.is_file() or sha256_file(array) != shard.sha256:
            break
        shards.append(shard)
    return shards


def _write_shards(
    reader: ScanReader,
    records: Sequence[ScanRecord],
    recipe: PrepRecipe,
    folder: Path,
    kept: Sequence[_Shard],
    done: Callable[[int], None],
) -> Iterator[_Shard]:
    """Apply the recipe to the records behind those of ``kept``, and write shard after shard.

    ``done`` is told how many records are dealt with.
    """
    start, number = (kept[-1].next_record if kept else 0), len(kept)
    arrays: list[NDArray[np.float32]] = []
    rows: list[int] = []
    refused: list[_Refused] = []
    results = reader.read(records[start:], recipe.apply)
    for at, result in enumerate(results, start=start):
        done(at + 1)
        if isinstance(result, ScanError):
            refused.append((at, result.code, result.message))
        else:
            arrays.append(result)
            rows.append(at)
        last = at == len(records) - 1
        if arrays and (last or len(arrays) == scans_per_shard(arrays[0].nbytes)):
            shard = _Shard(
                write_shard(folder, number, np.stack(arrays)), tuple(rows), tuple(refused), at + 1
            )
            write_json(folder / f"shard-{number:05d}.json", asdict(shard))
            yield shard
            arrays, rows, refused, number = [], [], [], number + 1
    if refused:
        yield _Shard("", (), tuple(refused), len(records))


def _index(
    records: Sequence[ScanRecord], split: dict[str, str], task: Task, shards: Sequence[_Shard]
) -> list[IndexRow]:
    return [
        IndexRow(
            scan_id=records[at].scan_id,
            patient_id=records[at].patient_id,
            split=split[records[at].scan_id],
            target=task.encode(records[at].labels),
            shard=number,
            row=row,
            bayes=records[at].bayes,
        )
        for number, shard in enumerate(shards)
        for row, at in enumerate(shard.rows)
    ]


def _write_quarantine(
    folder: Path, records: Sequence[ScanRecord], refused: Sequence[_Refused]
) -> None:
    write_csv(
        folder / "quarantine.csv",
        ("path", "code", "reason"),
        [(path, code, why) for at, code, why in refused for path in records[at].paths],
    )


def _copy_attributes(manifest_folder: Path, folder: Path, scan_ids: Sequence[str]) -> None:
    """Write those of the store's scans, where the manifest has any."""
    if found := read_attributes(manifest_folder, scan_ids):
        rows = [
            AttributeRow(scan_id, attribute, str(values[position]))
            for position, scan_id in enumerate(scan_ids)
            for attribute, values in found.items()
        ]
        write_table(folder / ATTRIBUTES, AttributeRow, rows)


def _check_splits(index: Sequence[IndexRow], refused: int) -> None:
    for name in SPLITS:
        if not any(row.split == name for row in index):
            raise CohortError(
                "prep.nothing_left",
                f"no {name} scan is left after prep: the recipe refused {refused} scans",
                fix="check the prep config against `medcurve ingest`'s summary of the cohort",
            )
