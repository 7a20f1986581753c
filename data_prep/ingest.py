"""Ingest: from raw scans and labels to a manifest, with every input file accounted for.

Writes ``manifest.parquet`` (one row a scan), ``miniatures.parquet``, ``quarantine.csv`` (path,
code, reason), ``skipped.csv``, ``task.json`` and ``ingest.json`` (counts), and where the label
table or DICOM headers have attributes ``attributes.parquet``. Raw data is only read.
Scans are written as they come in, so that memory does not grow with their number.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from data_prep.cohort import (
    CohortConfig,
    MedMnistSource,
    PhantomSource,
    SceneSource,
    Source,
    TableLabels,
)
from data_prep.describe import describe
from data_prep.errors import CohortError, ScanError, StageError
from data_prep.files import digest, read_json, sha256_file, write_csv, write_json
from data_prep.header_attributes import with_header_attributes
from data_prep.labelling import LabelledScan, join_labels
from data_prep.labels import infer_task
from data_prep.manifest import ScanRecord
from data_prep.manifest_writer import ManifestWriter
from data_prep.phantom import PhantomConfig, write_phantom
from data_prep.progress import Progress, silent
from data_prep.readers import discover
from data_prep.readers.child_process import ChildProcess
from data_prep.readers.medmnist import (
    facts_of,
    find_npz,
    image_volume,
    is_official,
    npz_sources,
    open_npz,
)
from data_prep.readers.sandbox import DecodePool, NewChild
from data_prep.readers.source import Found, Rejected, ScanSource
from data_prep.scene import write_scenes
from data_prep.stage import is_current, new_stage, refuse_foreign, stage_config
from data_prep.task import Task


@dataclass(frozen=True)
class IngestSummary:
    """Counts of an ingest.

    Attributes:
        scans: Scans in the manifest, of ``patients`` patients.
        quarantined: Scans that were refused (as ``predict`` counts them), of
            ``quarantined_files`` files.
        skipped: Files that are not meant to be scans; the label table is not one of them.
        notes: What was accepted and should be known.
        task: What the labels say is to be predicted.
    """

    scans: int
    patients: int
    quarantined: int
    quarantined_files: int
    skipped: int
    notes: tuple[str, ...]
    task: Task


def raw_root(config: CohortConfig, runs: Path) -> Path:
    """Folder that the cohort's relative paths start from.

    Raises:
        CohortError: ``cohort.no_folder`` or ``cohort.not_downloaded`` with what to do.
    """
    return _source_root(config.name, config.source, runs)


def manifest_root(manifest: Path) -> Path:
    """Folder that a manifest's paths start from, by the config that it was ingested with.

    Args:
        manifest: The folder that ``ingest`` wrote: ``RUNS/COHORT/manifest``.

    Raises:
        StageError: ``stage.missing``, ``stage.incomplete`` or ``stage.not_a_manifest``.
        CohortError: As ``raw_root``.
    """
    stage, config = stage_config(manifest)
    if stage != "ingest":
        raise StageError(
            "stage.not_a_manifest",
            f"{manifest} was written by stage '{stage}', not by 'ingest'",
            fix="give the folder that `medcurve ingest` wrote",
        )
    cohort = config["cohort"]
    source = TypeAdapter[Source](Source).validate_python(cohort["source"])
    return _source_root(cohort["name"], source, manifest.absolute().parent.parent)


def _source_root(name: str, source: Source, runs: Path) -> Path:
    if isinstance(source, PhantomSource | SceneSource):
        return runs / name / "raw"
    if isinstance(source, MedMnistSource):
        path = find_npz(source.dataset, source.size)
        if path is None:
            raise CohortError(
                "cohort.not_downloaded",
                f"{source.dataset} at {source.size} px is neither in $MEDCURVE_DATA/medmnist nor "
                "in ~/.medmnist",
                fix=f"run `medcurve data {name}` (needs the network)",
            )
        return path.parent
    root = Path(source.root).expanduser()
    if not root.is_dir():
        raise CohortError(
            "cohort.no_folder",
            f"cohort '{name}': source.root {root.absolute()} is not a folder",
            fix="set source.root in the data config to the folder of scans",
        )
    return root


def make_phantom(config: CohortConfig, runs: Path, progress: Progress = silent) -> Path:
    """Write the scans of a phantom cohort or of scenes to disk, unless they stand there already."""
    source = config.source
    assert isinstance(source, PhantomSource | SceneSource)
    drawn = source.phantom if isinstance(source, PhantomSource) else source.scene
    folder, settings = raw_root(config, runs), drawn.model_dump(mode="json")
    if not is_current(folder, source.kind, {}, settings):
        with new_stage(folder, source.kind, {}, settings) as partial:
            if isinstance(drawn, PhantomConfig):
                write_phantom(drawn, partial, progress)
            else:
                write_scenes(drawn, partial, progress)
    return folder


def ingest(
    config: CohortConfig,
    runs: Path,
    out: Path,
    *,
    workers: int = 1,
    new_child: NewChild = ChildProcess,
    progress: Progress = silent,
) -> IngestSummary:
    """Read every scan of a cohort once, join it with its labels and write the manifest.

    A scan that cannot be read, or has no label, is quarantined; the rest goes on. Scans are read
    by so many ``workers``, each of which ``new_child`` starts.

    Raises:
        CohortError: The label table is unusable, a labelled scan does not exist, or nothing is
            left to learn from.
    """
    root = raw_root(config, runs)
    refuse_foreign(out)
    # How patients are divided and scans prepared is not ingest's: a change there reads nothing.
    # Nor does what is left empty: what was ingested before there were attributes still stands.
    others: dict[str, bool | set[str]] = {"split": True, "prep": True}
    if not config.attributes:
        others["labels"] = {"attributes"}
    settings = {
        "cohort": config.model_dump(mode="json", exclude=others),
        "columns": [
            field.name for record in (ScanRecord, IngestSummary) for field in fields(record)
        ],
    }
    if isinstance(config.source, MedMnistSource):
        path = root / facts_of(config.source.dataset).file_name(config.source.size)
        inputs = {path.name: sha256_file(path)}
        if not is_current(out, "ingest", inputs, settings):
            with new_stage(out, "ingest", inputs, settings) as folder:
                _ingest_medmnist(config.source, path, folder, progress)
        return _read_summary(out)
    found = discover(root, policy=config.read)
    stamps = {source: _stamp(root, source.paths) for source in found.sources}
    inputs = {"files": _listing(root, found, stamps)}
    if not is_current(out, "ingest", inputs, settings):
        labelled, quarantine, notes = join_labels(config, root, found, runs)
        described = with_header_attributes(config, labelled, runs)
        labelled, notes = described.scans, [*notes, *described.notes]
        labelled.sort(key=lambda scan: (scan.source.paths[0], scan.source.item))
        skipped = [
            (item.path, item.reason)
            for item in found.skipped
            if not _is_label_table(config, root, item.path)
        ]
        with new_stage(out, "ingest", inputs, settings) as folder:
            with (
                ManifestWriter(folder, described.attributes) as manifest,
                DecodePool(root, workers, policy=config.read, new_child=new_child) as pool,
            ):
                quarantine += _read_scans(pool, root, labelled, stamps, manifest, progress)
            _write(
                folder, manifest, _task(config, manifest, quarantine), quarantine, skipped, notes
            )
    return _read_summary(out)


def _read_scans(
    pool: DecodePool,
    root: Path,
    labelled: Sequence[LabelledScan],
    stamps: Mapping[ScanSource, str],
    manifest: ManifestWriter,
    progress: Progress,
) -> Iterator[Rejected]:
    """Add each scan to the manifest; yield those that cannot be used."""
    read = pool.read([scan.source for scan in labelled], describe)
    for done, (scan, (source, facts)) in enumerate(zip(labelled, read, strict=True), start=1):
        try:
            if isinstance(facts, ScanError):
                raise facts
            manifest.add(scan, facts, _sha256(root, source, stamps[source]))
        except ScanError as error:
            yield Rejected(source.paths, error.code, error.message)
        progress(done, len(labelled))


def _ingest_medmnist(source: MedMnistSource, path: Path, folder: Path, progress: Progress) -> None:
    """Every image counts as a patient of its own: MedMNIST does not publish patients."""
    facts = facts_of(source.dataset)
    task = Task(kind=facts.task, class_names=facts.class_names)
    arrays = open_npz(path, source.dataset)
    sources = sorted(npz_sources(path.name, arrays), key=lambda scan: scan.item)
    with ManifestWriter(folder) as manifest:
        for done, scan in enumerate(sources, start=1):
            split, number = scan.item.split("/")
            found = describe(image_volume(arrays.images[split][int(number)]))
            row = arrays.labels[split][int(number)]
            present = np.flatnonzero(row) if task.is_multi_label else row
            labelled = LabelledScan(
                scan,
                patient_id=f"{split}-{int(number):06d}",
                labels=tuple(task.class_names[int(index)] for index in present),
                official_split=split,
            )
            manifest.add(labelled, found, found.pixel_sha256)
            progress(done, len(sources))
    notes = []
    if not is_official(path, source.dataset, source.size):
        notes.append(f"{path.name} is not the official file (its md5 differs): say so with scores")
    _write(folder, manifest, task, [], [], notes)


def _sha256(root: Path, source: ScanSource, stamp: str) -> str:
    """Digest of a scan's files, which must be those that were decoded.

    Raises:
        ScanError: ``file.changed`` if one is not as it was when the folder was listed.
    """
    try:
        sha256 = digest([sha256_file(root / path) for path in source.paths])
    except OSError:
        sha256 = ""
    if not sha256 or _stamp(root, source.paths) != stamp:
        raise ScanError(
            "file.changed",
            f"{source.paths[0]}: changed while the cohort was read",
            fix="wait until the transfer has finished, then run again",
        )
    return sha256


def _stamp(root: Path, paths: Sequence[str]) -> str:
    """Digest of the files' names, sizes and times: enough to see that none was changed."""
    entries: list[object] = []
    for path in paths:
        entries.append(os.fsencode(path).hex())
        try:
            status = (root / path).lstat()
            entries += [status.st_size, status.st_mtime_ns]
        except OSError:
            entries.append("gone")
    return digest(entries)


def _listing(root: Path, found: Found, stamps: Mapping[ScanSource, str]) -> str:
    """Digest of everything under the root."""
    others = [rejected.paths for rejected in found.rejected]
    others += [(item.path,) for item in found.skipped]
    return digest(sorted([*stamps.values(), *(_stamp(root, paths) for paths in others)]))


def _is_label_table(config: CohortConfig, root: Path, path: str) -> bool:
    """Whether a file is the table that was read for the labels: nothing is lost with it."""
    return isinstance(config.labels, TableLabels) and root / config.labels.file == root / path


def _task(config: CohortConfig, manifest: ManifestWriter, quarantine: Sequence[Rejected]) -> Task:
    if not manifest.scans:
        raise CohortError(
            "cohort.empty",
            f"cohort '{config.name}': no scan could be read and labelled; refused: "
            f"{_by_code(quarantine) or 'nothing'}",
            fix="check source.root and the label table in the data config",
        )
    task = infer_task(config.labels, list(manifest.labels), where=f"cohort '{config.name}'")
    present = {name for labels in manifest.labels for name in labels}
    absent = [name for name in task.class_names if name not in present]
    if absent:
        raise CohortError(
            "cohort.empty_class",
            f"cohort '{config.name}': no readable scan of class '{absent[0]}'; refused: "
            f"{_by_code(quarantine) or 'nothing'}",
            fix="add scans of this class or take it out of the classes",
        )
    return task


def _by_code(quarantine: Sequence[Rejected]) -> str:
    counts = Counter(rejected.code for rejected in quarantine)
    return ", ".join(f"{count} × {code}" for code, count in sorted(counts.items()))


def _write(
    folder: Path,
    manifest: ManifestWriter,
    task: Task,
    quarantine: Sequence[Rejected],
    skipped: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> None:
    """Write all but the manifest."""
    skipped = sorted([*skipped, *manifest.copies])
    files = sorted((path, one.code, one.reason) for one in quarantine for path in one.paths)
    write_csv(folder / "quarantine.csv", ("path", "code", "reason"), files)
    write_csv(folder / "skipped.csv", ("path", "reason"), skipped)
    write_json(folder / "task.json", task.model_dump(mode="json"))
    codes = Counter(rejected.code for rejected in quarantine)
    counts = {
        "scans": manifest.scans,
        "patients": manifest.patients,
        "quarantined_scans": len(quarantine),
        "quarantined_files": len(files),
        "quarantined_by_code": dict(sorted(codes.items())),
        "skipped_files": len(skipped),
        "notes": list(notes),
    }
    write_json(folder / "ingest.json", counts)


def skipped_files(folder: Path) -> list[str]:
    """Each skipped file of an ingest that wrote ``folder``, with the reason in brackets."""
    with (folder / "skipped.csv").open(newline="", encoding="utf-8") as file:
        return [f"{row['path']} ({row['reason']})" for row in csv.DictReader(file)]


def _read_summary(folder: Path) -> IngestSummary:
    counts = read_json(folder / "ingest.json")
    return IngestSummary(
        scans=counts["scans"],
        patients=counts["patients"],
        quarantined=counts["quarantined_scans"],
        quarantined_files=counts["quarantined_files"],
        skipped=counts["skipped_files"],
        notes=tuple(counts["notes"]),
        task=Task.model_validate(read_json(folder / "task.json")),
    )
