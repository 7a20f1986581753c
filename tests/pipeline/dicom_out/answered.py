"""Builders: an answer about DICOM files, and what a checker of DICOM objects says of one."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scan_files import ct_dataset, save

from data_prep.readers import discover, read_scan
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.source import ScanSource
from pipeline.dicom_out.capture import capture_bytes
from pipeline.dicom_out.picture import answer_picture
from pipeline.dicom_out.report import report_bytes
from pipeline.dicom_out.source import SourceImages, read_source
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import UNLIKE_TRAINING, Prediction
from pipeline.trust.explain_methods import Method
from pipeline.trust.explain_scan import Explanation

CINE = ReadPolicy(cine="middle")


@dataclass(frozen=True, eq=False)
class Answered:
    """A scan, what was read of its objects, and an answer."""

    package: ModelPackage
    source: SourceImages
    row: Prediction
    array: NDArray[np.float32]

    def report(self) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.report_bytes()))

    def picture(self) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.picture_bytes()))

    def report_bytes(self) -> bytes:
        return report_bytes(self.package, self.source, self.row)

    def picture_bytes(self) -> bytes:
        picture = answer_picture(self.package, self.array, self.row)
        return capture_bytes(self.package, self.source, self.row, picture)


def row_of(package: ModelPackage, source: ScanSource, **changes: object) -> Prediction:
    """An answer: the last class, and every class in the prediction set."""
    names = package.task.class_names
    share = [(n + 1) / sum(range(len(names) + 1)) for n in range(len(names))]
    row = {
        "scan": "a",
        "files": source.paths,
        "status": "ok",
        "predicted": (names[-1],),
        "probability": tuple(round(p, 6) for p in share),
        "within": names,
        "shift": 1.25,
        "flags": (UNLIKE_TRAINING, "localizer_removed"),
    }
    return Prediction(**(row | changes))


def explanation_of(prepared: NDArray[np.float32], method: Method = "grad_cam") -> Explanation:
    """A map on the recipe's grid, which speaks for the class ``lesion``."""
    return Explanation(prepared, prepared, 1, "lesion", 0.6, method)


def answer(
    package: ModelPackage,
    root: Path,
    number: int = 0,
    policy: ReadPolicy = CINE,
    **changes: object,
) -> Answered:
    """An answer about the ``number``-th scan under ``root``."""
    source = discover(root, None, policy).sources[number]
    array = package.recipe.apply(read_scan(root, source, policy))
    row = row_of(package, source, **changes)
    return Answered(package, read_source(root, source, policy), row, array)


def write_series(folder: Path, patient: Dataset | None = None, slices: int = 4) -> list[Dataset]:
    """An axial CT series, each slice with the elements of ``patient``."""
    found = []
    for number in range(slices):
        ds = ct_dataset(number)
        ds.update(patient or Dataset())
        save(ds, folder / f"{number}.dcm")
        found.append(ds)
    return found


def complaints(data: bytes, folder: Path) -> tuple[list[str], list[str]]:
    """(errors, warnings) of ``dciodvfy``; the test is skipped where it is not installed."""
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    path = folder / "checked.dcm"
    path.write_bytes(data)
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, timeout=60)
    lines = re.split(r"\n", done.stdout + done.stderr)
    errors = [line for line in lines if line.startswith("Error")]
    return errors, [line for line in lines if line.startswith("Warning")]
