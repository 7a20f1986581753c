"""Beside the tables of a batch: a report and a picture of each scored scan that is DICOM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from data_prep.files import write_bytes
from pipeline.dicom_out.capture import capture_bytes
from pipeline.dicom_out.picture import answer_picture
from pipeline.dicom_out.report import report_bytes
from pipeline.dicom_out.source import read_source
from pipeline.serving.beside import ScoredScan
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import PredictionSummary
from pipeline.trust.explain_files import file_stem
from pipeline.trust.explain_scan import Explanation

FOLDER: Final = "dicom"

# From a scored scan to what its answer rests on, where a map of that was made.
ExplanationOf = Callable[[ScoredScan], Explanation | None]


class DicomOut:
    """A ``Beside`` that writes ``dicom/STEM-report.dcm`` and ``dicom/STEM-picture.dcm``.

    STEM is ``explain_files.file_stem`` of the scan's name in the tables. The bytes depend on model,
    scan and answer only: dates are the scan's.

    Args:
        package: The model that answers.
        explanation: Where the maps come from that pictures show; None: there are none.

    Attributes:
        written: Scans that have a report and a picture, once the batch is finished.
        without: Scored scans that have none: they are not DICOM, or ``extras.csv`` says why.
    """

    def __init__(self, package: ModelPackage, explanation: ExplanationOf | None = None) -> None:
        self._package = package
        self._explanation = explanation
        self.written = 0
        self.without = 0

    def scan(self, folder: Path, scored: ScoredScan) -> None:
        """Write the two objects of a scan; nothing of a scan that is not DICOM.

        Raises:
            ScanError: As ``source.read_source``.
        """
        if scored.source.format != "dicom":
            return
        package, row = self._package, scored.row
        source = read_source(scored.root, scored.source, package.card.read)
        explanation = self._explanation(scored) if self._explanation else None
        picture = answer_picture(package, scored.array, row, explanation)
        report = report_bytes(package, source, row)
        out = folder / FOLDER
        out.mkdir(mode=0o700, exist_ok=True)
        stem = file_stem(row.scan)
        capture = capture_bytes(package, source, row, picture, explanation)
        write_bytes(out / f"{stem}-picture.dcm", capture)
        write_bytes(out / f"{stem}-report.dcm", report)

    def finish(self, folder: Path, package: ModelPackage, summary: PredictionSummary) -> None:
        """Count what was written."""
        self.written = sum(1 for _ in (folder / FOLDER).glob("*-report.dcm"))
        self.without = summary.ok - self.written
