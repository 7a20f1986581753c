"""Where one scan lies, and what was found in a folder of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

# Every oddity that is accepted and recorded, as ``Volume.flags`` and ``ScanSource.flags`` name it.
SCAN_FLAGS: Final[dict[str, str]] = {
    # how files were grouped
    "beside_rejected": "a file of the stack's folder was rejected: an end slice may be missing",
    "cine_frame": "one frame of a multi-frame object that is not a volume",
    "duplicate_dropped": "a slice that was there twice, with equal pixels, counts once",
    "localizer_removed": "localizers of the same series were left out",
    "mosaic": "slices were cut from a Siemens mosaic",
    "split_by_geometry": "one of several stacks of a series, of other planes or matrices",
    "time_point": "one of several volumes of a series (time, echo, diffusion direction)",
    # geometry
    "no_geometry": "only voxel sizes are known, by policy",
    "qform_differs": "qform and sform disagree; the sform was taken",
    "sheared": "the voxel axes are not at right angles",
    "spacing_differs": "Spacing Between Slices is not what the positions say",
    "tilt_corrected": "a gantry tilt was undone by resampling",
    "uneven_resampled": "slices were interpolated to even spacing, by policy",
    "units_converted": "the file's lengths were not in millimetres",
    # intensities
    "alpha_dropped": "a transparency that is not opaque was left out",
    "converted_to_rgb": "CMYK or YCbCr colours were converted",
    "exif_oriented": "turned upright as EXIF says",
    "lossy": "compressed with loss, now or before",
    "monochrome1_inverted": "stored with the smallest value white",
    "no_rescale": "CT without rescale: values are not Hounsfield units",
    "not_finite_filled": "NaN or infinite voxels were replaced, by policy",
    "padding_filled": "voxels outside the image took the smallest value inside it",
    "trailing_bytes": "bytes after the last voxel",
    # header
    "bad_charset": "an unknown character set",
    "burned_in_annotation": "the image states burned-in text",
    "executable_preamble": "the file begins like a program",
    "secondary_capture": "a screen capture",
}

Format = Literal["dicom", "nifti", "raster", "npz"]


@dataclass(frozen=True)
class ScanSource:
    """The files of one scan.

    Attributes:
        format: Which reader reads it.
        paths: POSIX paths relative to the root; a DICOM series in slice order.
        item: Item within a file that holds many scans ("train/17" in a MedMNIST npz), else "".
        series_uid: DICOM SeriesInstanceUID, else "".
        patient_key: DICOM PatientID as written, else "". It identifies a person: it is never
            written anywhere, only turned into a keyed pseudonym.
        header: What the DICOM header says of patient, scanner and site, in the order of
            ``dicom_attributes.ATTRIBUTE_TAGS``; () for other formats. The site's name is never
            written either.
        flags: Oddities that were accepted while the files were grouped.
    """

    format: Format
    paths: tuple[str, ...]
    item: str = ""
    series_uid: str = ""
    patient_key: str = field(default="", repr=False)
    header: tuple[str, ...] = field(default=(), repr=False)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """Files that could not become a scan, with a stable code of ``errors.SCAN_CODES``."""

    paths: tuple[str, ...]
    code: str
    reason: str


@dataclass(frozen=True)
class Skipped:
    """A file that is not meant to be a scan (a report object, a table, a hidden file)."""

    path: str
    reason: str


@dataclass(frozen=True)
class Found:
    """Everything under a root: each input file is in exactly one of the three."""

    sources: tuple[ScanSource, ...]
    rejected: tuple[Rejected, ...] = ()
    skipped: tuple[Skipped, ...] = ()
