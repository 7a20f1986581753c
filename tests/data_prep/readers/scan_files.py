"""Small scan files for tests: each builder writes one valid file, which a test then spoils."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Change = Callable[[Dataset], None]


def uid(name: str) -> str:
    """A UID that is the same for the same name."""
    return str(generate_uid(entropy_srcs=[name]))


def slice_pixels(number: int = 0, rows: int = 32, columns: int = 40) -> np.ndarray:
    """(rows, columns) uint16 that differ from voxel to voxel and from slice to slice."""
    row, column = np.mgrid[:rows, :columns]
    return (100 * number + 10 * row + column + 5).astype(np.uint16)


def ct_dataset(number: int = 0, *, series: str = "a", pixels: np.ndarray | None = None) -> Dataset:
    """One CT slice, 2.5 mm above the one before it, pixels of 0.5 x 0.75 mm."""
    pixels = slice_pixels(number) if pixels is None else pixels
    ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = uid(f"{series}/{number}")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SeriesInstanceUID = uid(series)
    ds.StudyInstanceUID = uid("study")
    ds.PatientID = "patient-1"
    ds.Modality = "CT"
    ds.InstanceNumber = number + 1
    ds.ImagePositionPatient = [-10.0, -20.0, 30.0 + 2.5 * number]
    ds.ImageOrientationPatient = list(AXIAL)
    ds.PixelSpacing = [0.5, 0.75]
    ds.RescaleSlope = 1
    ds.RescaleIntercept = -1024
    set_pixels(ds, pixels)
    return ds


def set_pixels(ds: Dataset, pixels: np.ndarray, *, bits_stored: int | None = None) -> None:
    """Put (rows, columns[, 3]) integers into a data set, native little endian."""
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = bits_stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"


def save(ds: Dataset, path: Path) -> Path:
    """Write a data set as DICOM Part 10, whatever it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_ct(path: Path, number: int = 0, change: Change | None = None, **options: Any) -> Path:
    """Write one CT slice; ``change`` spoils the data set first."""
    ds = ct_dataset(number, **options)
    if change is not None:
        change(ds)
    return save(ds, path)


def write_series(
    folder: Path,
    count: int = 5,
    change: Callable[[Dataset, int], None] | None = None,
    *,
    series: str = "a",
) -> list[Path]:
    """Write a CT series; ``change(ds, number)`` spoils each slice first."""
    paths = []
    for number in range(count):
        ds = ct_dataset(number, series=series)
        if change is not None:
            change(ds, number)
        paths.append(save(ds, folder / f"{series}-{number:03d}.dcm"))
    return paths


def write_enhanced(path: Path, pixels: np.ndarray, positions: Sequence[float]) -> Path:
    """Enhanced MR: (frames, rows, columns) at these heights, with a rescale for each frame."""
    return save(enhanced_dataset(pixels, positions), path)


def enhanced_dataset(pixels: np.ndarray, positions: Sequence[float]) -> Dataset:
    """Enhanced MR of 2 x 3 mm pixels; frame n has slope n + 1."""
    ds = ct_dataset()
    ds.SOPClassUID = EnhancedMRImageStorage
    ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    ds.Modality = "MR"
    for name in ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "PixelSpacing"):
        delattr(ds, name)
    del ds.ImageOrientationPatient
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing = [2.0, 3.0]
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    shared.PixelMeasuresSequence = DicomSequence([measures])
    ds.SharedFunctionalGroupsSequence = DicomSequence([shared])
    groups = []
    for number, height in enumerate(positions):
        group, plane, values = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [1.0, 2.0, float(height)]
        values.RescaleSlope, values.RescaleIntercept = number + 1, 0
        group.PlanePositionSequence = DicomSequence([plane])
        group.PixelValueTransformationSequence = DicomSequence([values])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    ds.NumberOfFrames = len(positions)
    set_pixels(ds, pixels[0])
    ds.PixelData = pixels.astype("<u2").tobytes()
    return ds


def mosaic_dataset(
    volume: np.ndarray, *, normal: tuple[float, float, float] = (0, 0, 1)
) -> Dataset:
    """A Siemens mosaic of (rows, columns, slices) with its CSA header."""
    rows, columns, slices = volume.shape
    side = int(np.ceil(np.sqrt(slices)))
    image = np.zeros((rows * side, columns * side), dtype=np.uint16)
    for number in range(slices):
        down, across = divmod(number, side)
        image[down * rows : (down + 1) * rows, across * columns : (across + 1) * columns] = volume[
            :, :, number
        ]
    ds = ct_dataset(pixels=image)
    ds.SOPClassUID = MRImageStorage
    ds.Modality = "MR"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    ds.SpacingBetweenSlices = 4.0
    del ds.RescaleSlope, ds.RescaleIntercept
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(
        0x10,
        "OB",
        csa_header(
            {"NumberOfImagesInMosaic": ("US", [slices]), "SliceNormalVector": ("FD", normal)}
        ),
    )
    return ds


def csa_header(tags: dict[str, tuple[str, Sequence[float]]]) -> bytes:
    """A CSA2 header (nibabel, nicom/csareader.py documents the layout)."""
    out = b"SV10" + b"\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, (vr, values) in tags.items():
        out += struct.pack("<64si4s3i", name.encode(), len(values), vr.encode(), 0, len(values), 77)
        for value in values:
            text = f"{value}".encode() + b"\0"
            out += struct.pack("<4i", len(text), len(text), 77, len(text))
            out += text + b"\0" * (-len(text) % 4)
    return out


def nifti_image(
    array: np.ndarray | None = None, affine: np.ndarray | None = None, *, version: int = 1
) -> Any:
    """A NIfTI image of nibabel's, int16 (4, 5, 6) by default, sform and qform both set."""
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) if array is None else array
    affine = np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    image = kind(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    return image


def write_nifti(path: Path, image: Any | None = None) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nifti_image() if image is None else image, path)
    return path


def patch(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(bytes(content))
