"""The stage that takes a cohort's fingerprint: a few scans are read again, the rest is counted.

Writes ``fingerprint.json`` (numbers only), ``sample.parquet`` (one row for each scan that was read
again) and ``thumbnails/<scan_id>.png``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from data_prep.errors import CohortError, ScanError
from data_prep.files import read_json, read_table, write_bytes, write_json, write_table
from data_prep.fingerprint import CohortFingerprint, labels_of
from data_prep.fingerprinting import measure
from data_prep.glimpse import Glimpse, glimpse, png
from data_prep.manifest import ScanReader, ScanRecord, load_manifest
from data_prep.progress import Progress, silent
from data_prep.stage import is_current, new_stage, stage_digest

FINGERPRINT: Final = "fingerprint.json"
SAMPLE: Final = "sample.parquet"
THUMBNAILS: Final = "thumbnails"
# Enough for medians and percentiles over scans, and few enough to take a minute on large CT.
SAMPLE_SCANS: Final = 64
_SEED: Final = 0x5A41


@dataclass(frozen=True)
class SampledScan:
    """A scan that was read again.

    Attributes:
        scan_id: The manifest's id.
        labels: Its classes.
        quantiles: Evenly spaced quantiles of its intensities, from least to largest.
    """

    scan_id: str
    labels: tuple[str, ...]
    quantiles: tuple[float, ...]


def survey_cohort(
    cohort: str,
    reader: ScanReader,
    manifest_folder: Path,
    out: Path,
    progress: Progress = silent,
) -> CohortFingerprint:
    """Take the fingerprint of an ingested cohort, unless ``out`` holds it already.

    Deterministic: the sample is drawn with a fixed seed.

    Args:
        cohort: The cohort's name.
        reader: Reads the manifest's scans.
        manifest_folder: What ingest wrote.
        out: Where the fingerprint goes.
        progress: Told (scans read again, scans to read again).

    Raises:
        CohortError: ``fingerprint.unreadable`` if no scan of the sample can be read again.
        StageError: The manifest is missing or damaged.
    """
    inputs = {"manifest": stage_digest(manifest_folder)}
    settings = {"cohort": cohort, "scans": SAMPLE_SCANS, "read": reader.policy.model_dump()}
    if is_current(out, "fingerprint", inputs, settings):
        return CohortFingerprint.from_json(read_json(out / FINGERPRINT))
    records, task = load_manifest(manifest_folder)
    sample = draw_sample(records, SAMPLE_SCANS)
    seen: list[tuple[ScanRecord, Glimpse]] = []
    failures: list[ScanError] = []
    results = reader.read(sample, glimpse)
    for count, (record, result) in enumerate(zip(sample, results, strict=True), start=1):
        if isinstance(result, ScanError):
            failures.append(result)
        else:
            seen.append((record, result))
        progress(count, len(sample))
    if not seen:
        raise CohortError(
            "fingerprint.unreadable",
            f"none of {len(sample)} scans of cohort '{cohort}' can be read again; the first: "
            f"{failures[0]}",
            fix="check that the raw scans are still where `medcurve ingest` found them, and run "
            "it again",
        )
    fingerprint = measure(cohort, task, records, seen, len(failures))
    with new_stage(out, "fingerprint", inputs, settings) as folder:
        write_json(folder / FINGERPRINT, fingerprint.to_json())
        _write_sample(folder, seen)
    return fingerprint


def draw_sample(records: Sequence[ScanRecord], count: int) -> list[ScanRecord]:
    """At most ``count`` scans, as many of each class as there are, in the manifest's order.

    Scans of an official test split are left out wherever there are others: what is decided from
    the sample must not depend on them.
    """
    open_ = [at for at, record in enumerate(records) if record.official_split != "test"]
    rng = np.random.default_rng(_SEED)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at in open_ or range(len(records)):
        groups[records[at].labels].append(at)
    # Classes take turns: the nth scan of each class comes before the n+1st of any.
    turns = [
        (turn, name, groups[name][position])
        for name in sorted(groups)
        for turn, position in enumerate(rng.permutation(len(groups[name])))
    ]
    # In the manifest's order, so that a file that holds many scans is opened once.
    return [records[at] for at in sorted(at for _, _, at in sorted(turns)[:count])]


def load_sample(folder: Path) -> list[SampledScan]:
    """The scans that ``survey_cohort`` read again, in the manifest's order.

    Raises:
        StageError: As ``files.read_table``.
    """
    return read_table(folder / SAMPLE, SampledScan)


def thumbnail_path(folder: Path, scan_id: str) -> Path:
    """The picture of a sampled scan."""
    return folder / THUMBNAILS / f"{scan_id}.png"


def _write_sample(folder: Path, seen: Sequence[tuple[ScanRecord, Glimpse]]) -> None:
    (folder / THUMBNAILS).mkdir()
    for record, look in seen:
        write_bytes(thumbnail_path(folder, record.scan_id), png(look.thumbnail))
    rows = [
        SampledScan(record.scan_id, labels_of(record), tuple(look.quantiles.tolist()))
        for record, look in seen
    ]
    write_table(folder / SAMPLE, SampledScan, rows)
