"""Phantom scans as real files: DICOM series, NIfTI and PNG.

Scanner values are stored as whole numbers with a scale of the file's own, as scanners do, so that
a reader that forgets the scale is wrong by far more than noise.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from data_prep.errors import StageError
from data_prep.files import write_csv
from data_prep.volume import Affine, Volume

_LABELS: Final = "labels.csv"
_STORED_LEVELS: Final = 4000  # of a 12-bit scanner's 4096
# RAS+ to LPS+: x and y change sign (DICOM PS3.3 C.7.6.2.1.1).
_LPS: Final = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class ScanHeader:
    """What a DICOM header says beside the pixels.

    Attributes:
        patient_id: Also the (made-up) name.
        series: Number of the series; with ``patient_id`` and ``cohort`` it decides the UIDs.
        cohort: What tells this cohort from all others, so that two never share a UID.
        modality: "MR" or "CT".
    """

    patient_id: str
    series: int
    cohort: str
    modality: str


def write_labels(root: Path, class_names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write ``labels.csv``: scan, patient_id, label, and ``bayes_<class>`` for each class."""
    bayes = (f"bayes_{name}" for name in class_names)
    write_csv(root / _LABELS, ("scan", "patient_id", "label", *bayes), rows)


def refuse_full(root: Path) -> None:
    """Refuse a folder that holds anything: a slice left there would become part of a new series.

    Raises:
        StageError: ``phantom.not_empty``.
    """
    if root.is_dir() and any(root.iterdir()):
        raise StageError(
            "phantom.not_empty",
            f"{root} is not empty; a phantom cohort is written into a folder of its own",
            fix="choose another folder, or remove this one yourself",
        )


def write_dicom(path: Path, volume: Volume, header: ScanHeader) -> None:
    """Write a volume as a folder with one file a slice, or an image as one file.

    Args:
        path: Folder to make (3D) or file to write (2D).
        volume: (1, rows, columns[, slices]) scanner values with geometry.
        header: Who and what.
    """
    array = volume.array[0]
    slope, intercept, stored = _stored(array)
    series = _series(volume, header, slope, intercept)
    if array.ndim == 2:
        _write_slice(path, series, stored, volume.affine, 0)
        return
    path.mkdir(parents=True)
    for number in range(array.shape[2]):
        _write_slice(path / f"{number:03d}.dcm", series, stored[..., number], volume.affine, number)


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume as int16 .nii.gz; nibabel chooses scl_slope and scl_inter.

    Args:
        path: File to write.
        volume: (1, I, J, K) scanner values with geometry.
    """
    image = nib.Nifti1Image(  # type: ignore[no-untyped-call]
        volume.array[0].astype(np.float32), volume.affine
    )
    image.set_data_dtype(np.int16)  # type: ignore[no-untyped-call]
    image.set_sform(volume.affine, code="scanner")  # type: ignore[no-untyped-call]
    image.set_qform(volume.affine, code="scanner")  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    # No name and no time in the gzip header: the same scan gives the same bytes.
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def write_png(path: Path, volume: Volume) -> None:
    """Write an image as 16-bit grey PNG; its geometry and the fractions of its values are lost.

    Args:
        path: File to write.
        volume: (1, rows, columns) scanner values, clipped to 0..65535.
    """
    values = np.clip(np.rint(volume.array[0]), 0, 65535).astype(np.uint16)
    write_pixels(path, values)


def write_pixels(path: Path, pixels: NDArray[np.uint16]) -> None:
    """Write (rows, columns) as 16-bit grey PNG, exactly."""
    Image.fromarray(pixels).save(path)


def _stored(values: NDArray[np.float64]) -> tuple[float, float, NDArray[np.int16]]:
    """Rescale slope and intercept (as their decimal strings have them), and stored values."""
    low, high = float(values.min()), float(values.max())
    # A DICOM decimal string (DS) holds 16 characters: PS3.5 6.2.
    slope = float(f"{max(high - low, 1.0) / _STORED_LEVELS:.6g}")
    intercept = float(f"{low:.6g}")
    return slope, intercept, np.rint((values - intercept) / slope).astype(np.int16)


def _series(volume: Volume, header: ScanHeader, slope: float, intercept: float) -> Dataset:
    """All that the slices of a series have in common."""
    key = [header.cohort, header.patient_id]
    columns = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    rows, cols = volume.array.shape[1:3]
    step_mm = float(np.linalg.norm(volume.affine[:3, 2]))
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage if header.modality == "MR" else CTImageStorage
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[*key, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*key, f"series {header.series}"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[*key, f"frame {header.series}"])
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if header.modality == "CT" else "OTHER"]
    dataset.Modality = header.modality
    dataset.Manufacturer = "medcurve phantom"
    dataset.PatientID = header.patient_id
    dataset.PatientName = f"Phantom^{header.patient_id}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyID = "1"
    dataset.StudyDate = "20000101"
    dataset.StudyTime = "000000"
    dataset.SeriesNumber = header.series
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, cols
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.RescaleType = "HU" if header.modality == "CT" else "US"
    # PS3.3 10.7.1.3: spacing between rows first, then between columns.
    dataset.PixelSpacing = [_decimal(v) for v in volume.spacing_mm[:2]]
    dataset.SliceThickness = _decimal(step_mm)
    dataset.SpacingBetweenSlices = _decimal(step_mm)
    # PS3.3 C.7.6.2.1.1: the direction of a row (in which the column index grows), then a column's.
    directions = np.concatenate([columns[:, 1] * _LPS, columns[:, 0] * _LPS])
    dataset.ImageOrientationPatient = [_decimal(v) for v in directions]
    return dataset


def _write_slice(
    path: Path, series: Dataset, stored: NDArray[np.int16], affine: Affine, number: int
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = series.SOPClassUID
    meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[series.SeriesInstanceUID, str(number)]
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    series.file_meta = meta
    series.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    series.InstanceNumber = number + 1
    position = (affine[:3, 3] + number * affine[:3, 2]) * _LPS
    series.ImagePositionPatient = [_decimal(v) for v in position]
    series.PixelData = np.ascontiguousarray(stored).tobytes()
    series.save_as(path, enforce_file_format=True)


def _decimal(value: float) -> float:
    """A number that fits into a DICOM decimal string (16 characters), without -0."""
    return float(f"{value:.8g}") + 0.0
