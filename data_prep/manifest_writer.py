"""Writing a manifest as scans come in: memory does not grow with what is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from data_prep.attributes import ATTRIBUTES, AttributeRow
from data_prep.describe import ScanFacts
from data_prep.errors import CohortError
from data_prep.files import TableWriter, digest
from data_prep.labelling import LabelledScan
from data_prep.manifest import MANIFEST, MINIATURES, MiniatureRow, ScanRecord


class ManifestWriter:
    """Writes ``manifest.parquet`` and ``miniatures.parquet``; a context manager.

    Of scans whose files are the same byte for byte the first is written. Where the scans have
    ``attributes``, ``attributes.parquet`` is written too.

    Attributes:
        scans: Rows written.
        labels: How many rows have which labels.
        copies: (path, reason) of each file of a scan that was not written.
    """

    def __init__(self, folder: Path, attributes: Sequence[str] = ()) -> None:
        self.scans = 0
        self.labels: Counter[tuple[str, ...]] = Counter()
        self.copies: list[tuple[str, str]] = []
        self._first: dict[bytes, LabelledScan] = {}
        with ExitStack() as stack:
            self._records = stack.enter_context(TableWriter(folder / MANIFEST, ScanRecord))
            self._miniatures = stack.enter_context(TableWriter(folder / MINIATURES, MiniatureRow))
            self._attributes = attributes
            self._values: TableWriter[AttributeRow] | None = None
            if attributes:
                self._values = stack.enter_context(TableWriter(folder / ATTRIBUTES, AttributeRow))
            self._open = stack.pop_all()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def patients(self) -> int:
        """Patients of the rows written."""
        return len({scan.patient_id for scan in self._first.values()})

    def add(self, scan: LabelledScan, facts: ScanFacts, sha256: str) -> None:
        """Append a scan whose source files have the digest ``sha256``.

        Raises:
            CohortError: ``cohort.contradiction`` if it is a copy under another patient, label or
                attribute.
        """
        record = _record(scan, facts, sha256)
        first = self._first.setdefault(bytes.fromhex(record.scan_id), scan)
        if first is not scan:
            self.copies += _copies(first, scan)
            return
        self._records.add(record)
        self._miniatures.add(MiniatureRow(record.scan_id, facts.planes.tobytes()))
        if self._values is not None:
            for attribute, value in zip(self._attributes, scan.attributes, strict=True):
                self._values.add(AttributeRow(record.scan_id, attribute, value))
        self.scans += 1
        self.labels[scan.labels] += 1


def _record(scan: LabelledScan, facts: ScanFacts, sha256: str) -> ScanRecord:
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
        quantiles=facts.quantiles,
        sha256=sha256,
        pixel_sha256=facts.pixel_sha256,
        flags=tuple(dict.fromkeys((*source.flags, *facts.flags))),
        perceptual_hash=facts.perceptual_hash,
    )


def _copies(first: LabelledScan, again: LabelledScan) -> list[tuple[str, str]]:
    kept = first.source.paths[0]
    told = [(scan.patient_id, scan.labels, scan.attributes) for scan in (first, again)]
    if told[0] != told[1]:
        what = "attributes" if told[0][:2] == told[1][:2] else "patients or labels"
        raise CohortError(
            "cohort.contradiction",
            f"'{kept}' and '{again.source.paths[0]}' are the same bytes under different {what}",
            fix="find out which is right and remove the other",
        )
    return [(path, f"a copy of '{kept}'") for path in again.source.paths]
