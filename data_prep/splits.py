"""Who is trained on and who is tested on: by patient, stratified, with a gate against leaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from data_prep.cohort import SplitConfig
from data_prep.errors import CohortError
from data_prep.files import read_table, write_json, write_table
from data_prep.leaks import KINDS, Leaks, find_leaks, refuse
from data_prep.manifest import ScanRecord, load_manifest, load_miniatures
from data_prep.progress import Progress, silent
from data_prep.stage import is_current, new_stage, stage_digest
from data_prep.task import Task

SPLITS = ("train", "val", "test")
SPLIT_TABLE = "splits.parquet"
SPLIT_SUMMARY = "splits.json"


@dataclass(frozen=True)
class SplitRow:
    """Where one scan belongs; ``fold`` is -1 for test scans."""

    scan_id: str
    patient_id: str
    split: str
    fold: int


# Shows what was found, and says where it can be looked at.
Publish = Callable[[Leaks], str]


def _unpublished(_: Leaks) -> str:
    """Show it to nobody."""
    return ""


def split_cohort(
    manifest_folder: Path,
    config: SplitConfig,
    out: Path,
    *,
    publish: Publish = _unpublished,
    progress: Progress = silent,
) -> list[SplitRow]:
    """Divide an ingested cohort and write ``splits.parquet`` and ``splits.json``.

    Args:
        manifest_folder: What ingest wrote.
        config: How to divide; its ``accept_duplicates`` is part of the provenance.
        out: The folder of the splits.
        publish: Given what the leak gate found, before it is refused or accepted.
        progress: Told (pairs of scans compared, pairs in all).

    Raises:
        CohortError: A class too small to divide (``split.small_class``), a patient in two
            official splits (``split.patient_leak``), or images that stand twice (see ``leaks``).
    """
    inputs = {"manifest": stage_digest(manifest_folder)}
    settings = config.model_dump(mode="json")
    if is_current(out, "split", inputs, settings):
        return read_table(out / SPLIT_TABLE, SplitRow)
    records, task = load_manifest(manifest_folder)
    rows = assign_splits(records, config)
    check_leaks(rows)
    check_classes(records, rows, task)
    split = {row.scan_id: row.split for row in rows}
    leaks = find_leaks(records, split, load_miniatures(manifest_folder, records), progress)
    listing = publish(leaks)
    if not config.accept_duplicates:
        refuse(leaks, listing)
    with new_stage(out, "split", inputs, settings) as folder:
        write_table(folder / SPLIT_TABLE, SplitRow, rows)
        write_json(folder / SPLIT_SUMMARY, _summary(records, rows, leaks))
    return rows


def assign_splits(records: Sequence[ScanRecord], config: SplitConfig) -> list[SplitRow]:
    """Give every scan a split and a fold; all scans of a patient stay together.

    Official splits are kept, unless all is to be drawn anew. A cohort with an official test split
    but no validation split has one drawn from its training patients.

    Returns:
        One row for each record, in their order.

    Raises:
        CohortError: ``split.incomplete``.
    """
    of = (
        _one_for_all_alike(records)
        if config.redraw
        else {r.patient_id: r.patient_id for r in records}
    )
    by_patient = defaultdict(list)
    for record in records:
        by_patient[of[record.patient_id]].append(record)
    stratum = {patient: _stratum(scans) for patient, scans in by_patient.items()}
    official = {} if config.redraw else _official(by_patient)
    rng = np.random.default_rng([config.seed, 0x5B117])
    split = dict(official)
    free = {patient: name for patient, name in stratum.items() if patient not in split}
    if not official:
        split |= _draw(free, {"test": config.test, "val": config.val}, rng)
    elif "val" not in official.values():
        training = {p: s for p, s in stratum.items() if split.get(p) == "train"}
        share = config.val / (1 - config.test)
        split |= {p: s for p, s in _draw(training, {"val": share}, rng).items() if s == "val"}
    unsplit = [patient for patient in by_patient if patient not in split]
    if unsplit:
        raise CohortError(
            "split.incomplete",
            f"{len(unsplit)} of {len(by_patient)} patients have no official split",
            fix="fill the split column for all scans or for none",
        )
    folds = draw_folds({p: s for p, s in stratum.items() if split[p] != "test"}, config.folds, rng)
    return [
        SplitRow(r.scan_id, r.patient_id, split[of[r.patient_id]], folds.get(of[r.patient_id], -1))
        for r in records
    ]


def _one_for_all_alike(records: Sequence[ScanRecord]) -> dict[str, str]:
    """Patient -> the first of those that identical images join, from one to the next."""
    of = {record.patient_id: record.patient_id for record in records}
    seen: dict[str, str] = {}
    for record in records:
        mine, other = (
            of[record.patient_id],
            of[seen.setdefault(record.pixel_sha256, record.patient_id)],
        )
        if mine != other:
            kept, gone = sorted((mine, other))
            of = {patient: kept if first == gone else first for patient, first in of.items()}
    return of


class _Placed(Protocol):
    """A scan of a patient in a split: a row of the splits, or of a store."""

    @property
    def patient_id(self) -> str: ...

    @property
    def split(self) -> str: ...


def check_leaks(rows: Iterable[_Placed]) -> None:
    """Stop if any patient stands in two splits.

    Raises:
        CohortError: ``split.patient_leak`` with the number of patients.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row.patient_id].add(row.split)
    torn = [names for names in splits.values() if len(names) > 1]
    if torn:
        raise CohortError(
            "split.patient_leak",
            f"{len(torn)} patients stand in more than one split ({' and '.join(sorted(torn[0]))})",
            fix="correct the split column: all scans of a patient belong to one split",
        )


def check_classes(records: Sequence[ScanRecord], rows: Sequence[SplitRow], task: Task) -> None:
    """Stop if a class is missing from a split: it can then not be learned, chosen by or tested.

    Of a multi-label task only training is asked to have every label.

    Raises:
        CohortError: ``split.absent_class``.
    """
    split = {row.scan_id: row.split for row in rows}
    present = {(split[record.scan_id], name) for record in records for name in record.labels}
    for where in ("train",) if task.is_multi_label else SPLITS:
        absent = [name for name in task.class_names if (where, name) not in present]
        if absent:
            raise CohortError(
                "split.absent_class",
                f"no {where} scan is of class '{absent[0]}'",
                fix="correct the split column so that each class has patients in train, val and "
                "test, or leave the column out and let medcurve divide the patients",
            )


def _stratum(scans: Sequence[ScanRecord]) -> str:
    """A patient's class for stratification: the commonest, ties by name; labels joined."""
    counts = Counter("+".join(scan.labels) for scan in scans)
    return min(counts, key=lambda name: (-counts[name], name))


def _official(by_patient: Mapping[str, Sequence[ScanRecord]]) -> dict[str, str]:
    official = {}
    for patient, scans in by_patient.items():
        names = {scan.official_split for scan in scans}
        if len(names) > 1:
            raise CohortError(
                "split.patient_leak",
                "a patient's scans stand in different official splits "
                f"({' and '.join(sorted(name or 'none' for name in names))}; "
                f"scan {scans[0].scan_id} is one of them)",
                fix="correct the split column: all scans of a patient belong to one split",
            )
        if scans[0].official_split:
            official[patient] = scans[0].official_split
    return official


def _draw(
    stratum: Mapping[str, str], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, str]:
    """Draw each share from every stratum (rounded, at least one patient); the rest trains.

    Strata of fewer than 3 patients are pooled into one (rare label combinations); a class that
    is itself so small cannot be in all three splits and is refused.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(stratum):
        groups[stratum[patient]].append(patient)
    small = {name: who for name, who in groups.items() if len(who) < 3}
    if small and not any("+" in name or not name for name in groups):
        name, who = next(iter(small.items()))
        raise CohortError(
            "split.small_class",
            f"class '{name}' has {len(who)} patient{'s' * (len(who) != 1)}; at least 3 are needed, "
            "one for each of train, val and test",
            fix="add patients of this class, merge it with another, or leave it out",
        )
    pooled = [patient for who in small.values() for patient in who]
    split = dict.fromkeys(stratum, "train")
    large = [who for name, who in sorted(groups.items()) if name not in small]
    for who in [*large, pooled]:
        order = rng.permutation(len(who))
        start = 0
        for name, share in shares.items():
            count = max(1, round(share * len(who))) if len(who) >= 3 else 0
            for position in order[start : start + count]:
                split[who[position]] = name
            start += count
    return split


def draw_folds(stratum: Mapping[str, str], folds: int, rng: np.random.Generator) -> dict[str, int]:
    """Folds 0..k-1, each stratum dealt out in turn so that fold sizes differ by at most one."""
    patients = sorted(stratum)
    order = rng.permutation(len(patients))
    dealt = sorted((patients[n] for n in order), key=lambda patient: stratum[patient])
    return {patient: position % folds for position, patient in enumerate(dealt)}


def _summary(
    records: Sequence[ScanRecord], rows: Sequence[SplitRow], leaks: Leaks
) -> dict[str, object]:
    labels = {record.scan_id: "+".join(record.labels) or "(none)" for record in records}
    found = {kind: [[p.a.scan_id, p.b.scan_id] for p in leaks.of_kind(kind)] for kind in KINDS}
    return {
        name: {
            "patients": len({row.patient_id for row in rows if row.split == name}),
            "scans": sum(row.split == name for row in rows),
            "scans_per_label": dict(
                sorted(Counter(labels[row.scan_id] for row in rows if row.split == name).items())
            ),
        }
        for name in SPLITS
    } | {"accepted": list(leaks.counts), "duplicates": found, "repeats": leaks.repeats}
