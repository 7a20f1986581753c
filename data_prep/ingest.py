"""Ingest: from raw scans and labels to a manifest, with every input file accounted for.

Writes ``manifest.parquet`` (one row a scan), ``quarantine.csv`` (path, code, reason),
``skipped.csv``, ``task.json`` and ``ingest.json`` (counts). Raw data is only ever read.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.cohort import CohortConfig, MedMnistSource, PhantomSource
from data_prep.errors import CohortError, ScanError
from data_prep.files import digest, read_json, sha256_file, write_csv, write_json, write_table
from data_prep.labelling import LabelledScan, Quarantined, join_labels
from data_prep.labels import infer_task
from data_prep.manifest import MANIFEST, ScanRecord
from data_prep.phantom import write_phantom
from data_prep.progress import Progress, silent
from data_prep.readers import discover
from data_prep.readers.medmnist import (
    facts_of,
    find_npz,
    image_volume,
    is_official,
    npz_sources,
    open_npz,
)
from data_prep.readers.sandbox import DecodePool
from data_prep.readers.source import Found, ScanSource
from data_prep.stage import is_current, new_stage, refuse_foreign
from data_prep.task import Task
from data_prep.volume import Volume


@dataclass(frozen=True)
class IngestSummary:
    """Counts of an ingest: ``scans`` in the manifest, files quarantined and skipped."""

    scans: int
    patients: int
    quarantined: int
    skipped: int
    notes: tuple[str, ...]
    task: Task


@dataclass(frozen=True)
class _Facts:
    """What the decode child reports of a volume, in place of the volume itself."""

    modality: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    dtype: str
    minimum: float
    maximum: float
    mean: float
    pixel_sha256: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class _Ingested:
    """Everything that ingest found, before it is written."""

    records: list[ScanRecord]
    quarantine: list[Quarantined]
    skipped: list[tuple[str, str]]
    notes: list[str]
    task: Task


def raw_root(config: CohortConfig, runs: Path) -> Path:
    """Folder that the cohort's relative paths start from.

    Raises:
        CohortError: ``cohort.no_folder`` or ``cohort.not_downloaded`` with what to do.
    """
    source = config.source
    if isinstance(source, PhantomSource):
        return runs / config.name / "raw"
    if isinstance(source, MedMnistSource):
        path = find_npz(source.dataset, source.size)
        if path is None:
            raise CohortError(
                "cohort.not_downloaded",
                f"{source.dataset} at {source.size} px is neither in $MEDCURVE_DATA/medmnist nor "
                "in ~/.medmnist",
                fix=f"run `medcurve data {config.name}` (needs the network)",
            )
        return path.parent
    root = Path(source.root).expanduser()
    if not root.is_dir():
        raise CohortError(
            "cohort.no_folder",
            f"cohort '{config.name}': source.root {root} is not a folder",
            fix="set source.root in the data config to the folder of scans",
        )
    return root


def make_phantom(config: CohortConfig, runs: Path, progress: Progress = silent) -> Path:
    """Write a phantom cohort's scans to disk, unless they stand there already."""
    assert isinstance(config.source, PhantomSource)
    folder = raw_root(config, runs)
    settings = config.source.phantom.model_dump(mode="json")
    if not is_current(folder, "phantom", {}, settings):
        with new_stage(folder, "phantom", {}, settings) as partial:
            write_phantom(config.source.phantom, partial, progress)
    return folder


def ingest(
    config: CohortConfig,
    runs: Path,
    out: Path,
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> IngestSummary:
    """Read every scan of a cohort once, join it with its labels and write the manifest.

    A scan that cannot be read, or has no label, is quarantined; the rest goes on.

    Raises:
        CohortError: The label table is unusable, a labelled scan does not exist, or nothing is
            left to learn from.
    """
    root = raw_root(config, runs)
    refuse_foreign(out)
    settings = config.model_dump(mode="json")
    if isinstance(config.source, MedMnistSource):
        path = root / facts_of(config.source.dataset).file_name(config.source.size)
        inputs = {path.name: sha256_file(path)}
        if is_current(out, "ingest", inputs, settings):
            return _read_summary(out)
        result = _ingest_medmnist(config.source, path, progress)
    else:
        found = discover(root, policy=config.read)
        inputs = {"files": _listing(root, found)}
        if is_current(out, "ingest", inputs, settings):
            return _read_summary(out)
        result = _ingest_folder(config, root, found, runs, workers, progress)
    with new_stage(out, "ingest", inputs, settings) as folder:
        _write(folder, result)
    return _read_summary(out)


def _ingest_folder(
    config: CohortConfig, root: Path, found: Found, runs: Path, workers: int, progress: Progress
) -> _Ingested:
    labelled, quarantine, notes = join_labels(config, root, found, runs)
    records: list[ScanRecord] = []
    with DecodePool(root, workers, policy=config.read) as pool:
        read = pool.read([scan.source for scan in labelled], describe)
        for done, (scan, (_, facts)) in enumerate(zip(labelled, read, strict=True), start=1):
            if isinstance(facts, ScanError):
                quarantine += [(path, facts.code, facts.message) for path in scan.source.paths]
            else:
                records.append(_record(scan, facts, _sha256(root, scan.source)))
            progress(done, len(labelled))
    records, twins = _drop_repeats(records)
    skipped = [(item.path, item.reason) for item in found.skipped] + twins
    return _Ingested(records, quarantine, skipped, notes, _task(config, records))


def describe(volume: Volume) -> _Facts:
    """What the manifest says of a volume (runs in the decode child)."""
    array = np.ascontiguousarray(volume.array)
    header = f"{array.shape}{array.dtype.str}".encode()
    return _Facts(
        modality=volume.modality,
        shape=array.shape,
        spacing_mm=volume.spacing_mm,
        orientation=volume.orientation,
        dtype=array.dtype.name,
        minimum=float(array.min()),
        maximum=float(array.max()),
        mean=float(array.mean(dtype=np.float64)),
        pixel_sha256=hashlib.sha256(header + array.tobytes()).hexdigest(),
        flags=volume.flags,
    )


def _ingest_medmnist(source: MedMnistSource, path: Path, progress: Progress) -> _Ingested:
    """Every image counts as a patient of its own: MedMNIST does not publish patients."""
    facts = facts_of(source.dataset)
    task = Task(kind=facts.task, class_names=facts.class_names)
    arrays = open_npz(path, source.dataset)
    sources = npz_sources(path.name, arrays)
    records: list[ScanRecord] = []
    for scan in sources:
        split, number = scan.item.split("/")
        volume = describe(image_volume(arrays.images[split][int(number)]))
        row = arrays.labels[split][int(number)]
        present = np.flatnonzero(row) if task.is_multi_label else row
        labelled = LabelledScan(
            scan,
            patient_id=f"{split}-{int(number):06d}",
            labels=tuple(task.class_names[int(index)] for index in present),
            official_split=split,
        )
        records.append(_record(labelled, volume, volume.pixel_sha256))
        progress(len(records), len(sources))
    notes = []
    if not is_official(path, source.dataset, source.size):
        notes.append(f"{path.name} is not the official file (its md5 differs): say so with scores")
    return _Ingested(records, [], [], notes, task)


def _sha256(root: Path, source: ScanSource) -> str:
    return digest([sha256_file(root / path) for path in source.paths])


def _record(scan: LabelledScan, facts: _Facts, sha256: str) -> ScanRecord:
    source = scan.source
    return ScanRecord(
        scan_id=digest([sha256, source.item])[:16],
        patient_id=scan.patient_id,
        labels=scan.labels,
        official_split=scan.official_split,
        bayes=scan.bayes,
        format=source.format,
        paths=source.paths,
        item=source.item,
        modality=facts.modality,
        shape=facts.shape,
        spacing_mm=facts.spacing_mm,
        orientation=facts.orientation,
        dtype=facts.dtype,
        minimum=facts.minimum,
        maximum=facts.maximum,
        mean=facts.mean,
        sha256=sha256,
        pixel_sha256=facts.pixel_sha256,
        flags=tuple(dict.fromkeys((*source.flags, *facts.flags))),
    )


def _drop_repeats(
    records: Sequence[ScanRecord],
) -> tuple[list[ScanRecord], list[tuple[str, str]]]:
    """Keep one of the scans whose files are the same byte for byte.

    Raises:
        CohortError: ``cohort.contradiction`` if the copies differ in patient or label.
    """
    kept: dict[str, ScanRecord] = {}
    twins = []
    for record in records:
        first = kept.setdefault(record.scan_id, record)
        if first is record:
            continue
        if (first.patient_id, first.labels) != (record.patient_id, record.labels):
            raise CohortError(
                "cohort.contradiction",
                f"'{first.paths[0]}' and '{record.paths[0]}' are the same bytes under different "
                "patients or labels",
                fix="find out which is right and remove the other",
            )
        twins += [(path, f"a copy of '{first.paths[0]}'") for path in record.paths]
    return list(kept.values()), twins


def _task(config: CohortConfig, records: Sequence[ScanRecord]) -> Task:
    if not records:
        raise CohortError(
            "cohort.empty",
            f"cohort '{config.name}': no scan could be read and labelled",
            fix="see quarantine.csv of a run with readable scans, and source.root in the config",
        )
    task = infer_task(
        config.labels, [record.labels for record in records], where=f"cohort '{config.name}'"
    )
    counts = Counter(name for record in records for name in record.labels)
    absent = [name for name in task.class_names if not counts[name]]
    if absent:
        raise CohortError(
            "cohort.empty_class",
            f"cohort '{config.name}': no readable scan of class '{absent[0]}'",
            fix="add scans of this class or take it out of the classes",
        )
    return task


def _listing(root: Path, found: Found) -> str:
    """Digest of every file's name, size and time: enough to see that nothing was changed."""
    paths = [path for source in found.sources for path in source.paths]
    paths += [path for rejected in found.rejected for path in rejected.paths]
    paths += [item.path for item in found.skipped]
    entries = []
    for path in sorted(paths):
        status = (root / path).lstat()
        entries.append([os.fsencode(path).hex(), status.st_size, status.st_mtime_ns])
    return digest(entries)


def _write(folder: Path, result: _Ingested) -> None:
    ordered = sorted(result.records, key=lambda record: (record.paths[0], record.item))
    write_table(folder / MANIFEST, ScanRecord, ordered)
    write_csv(folder / "quarantine.csv", ("path", "code", "reason"), sorted(result.quarantine))
    write_csv(folder / "skipped.csv", ("path", "reason"), sorted(result.skipped))
    write_json(folder / "task.json", result.task.model_dump(mode="json"))
    codes = Counter(code for _, code, _ in result.quarantine)
    counts = {
        "scans": len(ordered),
        "patients": len({record.patient_id for record in ordered}),
        "quarantined_files": len(result.quarantine),
        "quarantined_by_code": dict(sorted(codes.items())),
        "skipped_files": len(result.skipped),
        "notes": result.notes,
    }
    write_json(folder / "ingest.json", counts)


def _read_summary(folder: Path) -> IngestSummary:
    counts = read_json(folder / "ingest.json")
    return IngestSummary(
        scans=counts["scans"],
        patients=counts["patients"],
        quarantined=counts["quarantined_files"],
        skipped=counts["skipped_files"],
        notes=tuple(counts["notes"]),
        task=Task.model_validate(read_json(folder / "task.json")),
    )
