"""What a DICOM header says about where its pixels lie, without reading the pixels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset

from data_prep.readers.dicom_attributes import ATTRIBUTE_TAGS, header_attributes
from data_prep.readers.dicom_file import element, lookup, read_header_dataset
from data_prep.readers.mosaic import MOSAIC_TAGS, is_mosaic
from data_prep.readers.quiet import quiet_pydicom

# No position or spacing is larger: a kilometre.
_MAX_MM: Final = 1e6

# What can tell apart images that lie at one position, most telling first.
TIME_KEYS: Final = (
    "TemporalPositionIdentifier",
    "ImageType",
    "EchoNumbers",
    "EchoTime",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TriggerTime",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContentTime",
)

# A preamble may be the start of another file (PS3.10 7.1), even of a program: Windows, Linux,
# macOS (32 and 64 bits, and for several processors), script.
_PROGRAMS: Final = (
    b"MZ",
    b"\x7fELF",
    b"\xfe\xed\xfa",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"#!",
)

HEADER_TAGS: Final[tuple[str | int, ...]] = (
    *TIME_KEYS,
    *MOSAIC_TAGS,
    *ATTRIBUTE_TAGS,
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "PatientID",
    "SeriesInstanceUID",
    "SpacingBetweenSlices",
    "InstanceNumber",
    "NumberOfTemporalPositions",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SamplesPerPixel",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "BurnedInAnnotation",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One image, or one frame of a multi-frame object, in DICOM's own terms.

    Attributes:
        path: POSIX path relative to the root.
        frame: Frame number, from 0, within the file.
        frames: Number of Frames of the file.
        position: Image Position (Patient) in LPS millimetres, or None.
        orientation: Image Orientation (Patient), six direction cosines, or None.
        pixel_spacing: Millimetres (between rows, between columns), or None.
        slice_spacing: Spacing Between Slices in millimetres, or None.
        time_points: Number of Temporal Positions, 0 if not stated.
        time_key: Values of ``TIME_KEYS``, as text.
        attributes: Of patient, scanner and site, in the order of ``ATTRIBUTE_TAGS``.
        mosaic: The image is a Siemens mosaic: a whole volume in tiles.
        flags: Oddities seen in the header.
    """

    path: str
    frame: int = 0
    frames: int = 1
    sop_class: str = ""
    sop_instance: str = ""
    series_uid: str = ""
    patient_id: str = field(default="", repr=False)
    attributes: tuple[str, ...] = field(default=(), repr=False)
    modality: str = ""
    rows: int = 0
    columns: int = 0
    samples: int = 1
    image_type: tuple[str, ...] = ()
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    pixel_spacing: tuple[float, ...] | None = None
    slice_spacing: float | None = None
    instance_number: int = 0
    time_points: int = 0
    time_key: tuple[str, ...] = ()
    mosaic: bool = False
    flags: tuple[str, ...] = ()


def read_headers(root: Path, path: str, head: bytes = b"") -> tuple[SliceHeader, ...]:
    """Headers of all frames of a file; a plain image has one.

    Args:
        root: Folder that ``path`` is relative to.
        path: The file.
        head: As in ``read_header_dataset``.

    Raises:
        ScanError: As ``read_header_dataset``.
    """
    return headers_of(read_header_dataset(root, path, HEADER_TAGS, head), path)


def headers_of(dataset: Dataset, path: str) -> tuple[SliceHeader, ...]:
    """Headers of all frames of a data set that is already read.

    Raises:
        ScanError: ``dicom.malformed``.
    """
    with quiet_pydicom():
        single = _header(dataset, path)
        groups = _value(dataset, "PerFrameFunctionalGroupsSequence", list) or []
        if not groups:
            return (single,)
        shared = (_value(dataset, "SharedFunctionalGroupsSequence", list) or [Dataset()])[0]
        return tuple(
            _frame_header(single, number, group, shared) for number, group in enumerate(groups)
        )


def pixel_transformations(dataset: Dataset, frame: int, path: str) -> tuple[Dataset, ...]:
    """Items of a frame's Pixel Value Transformation Sequence (PS3.3 C.7.6.16.2.9).

    Raises:
        ScanError: ``dicom.malformed`` if they are damaged.
    """
    found: list[Dataset] = []
    for name, number in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = element(dataset, name, path) or []
        if number < len(groups):
            found += element(groups[number], "PixelValueTransformationSequence", path) or []
    return tuple(found)


def _header(dataset: Dataset, path: str) -> SliceHeader:
    return SliceHeader(
        path=path,
        frames=max(1, _value(dataset, "NumberOfFrames", int) or 1),
        sop_class=_text(dataset, "SOPClassUID") or _media_class(dataset),
        sop_instance=_text(dataset, "SOPInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        patient_id=_text(dataset, "PatientID"),
        attributes=_attributes(tuple(_text(dataset, name) for name in ATTRIBUTE_TAGS)),
        modality=_text(dataset, "Modality"),
        rows=_value(dataset, "Rows", int) or 0,
        columns=_value(dataset, "Columns", int) or 0,
        samples=_value(dataset, "SamplesPerPixel", int) or 1,
        image_type=_texts(dataset, "ImageType"),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=_pixel_spacing(dataset),
        slice_spacing=_positive(dataset, "SpacingBetweenSlices"),
        instance_number=_value(dataset, "InstanceNumber", int) or 0,
        time_points=_value(dataset, "NumberOfTemporalPositions", int) or 0,
        time_key=_shared(tuple(_text(dataset, name) for name in TIME_KEYS)),
        mosaic=is_mosaic(dataset, path),
        flags=_flags(dataset),
    )


def _frame_header(single: SliceHeader, number: int, group: Dataset, shared: Dataset) -> SliceHeader:
    """One frame of an enhanced object: its own functional groups, else the shared ones.

    PS3.3 C.7.6.16: a functional group macro stands in either sequence, never in both.
    """

    def macro(name: str) -> Dataset:
        items = _value(group, name, list) or _value(shared, name, list) or [Dataset()]
        item: Dataset = items[0]
        return item

    measures = macro("PixelMeasuresSequence")
    content = macro("FrameContentSequence")
    diffusion = macro("MRDiffusionSequence")
    times = {
        "TemporalPositionIdentifier": _text(content, "TemporalPositionIndex"),
        "ImageType": "\\".join(_texts(macro("MRImageFrameTypeSequence"), "FrameType")),
        "EchoTime": _text(macro("MREchoSequence"), "EffectiveEchoTime"),
        "DiffusionBValue": _text(diffusion, "DiffusionBValue"),
        "DiffusionGradientOrientation": "\\".join(
            _texts(
                (_value(diffusion, "DiffusionGradientDirectionSequence", list) or [Dataset()])[0],
                "DiffusionGradientOrientation",
            )
        ),
        "AcquisitionNumber": _text(content, "StackID"),
    }
    return replace(
        single,
        frame=number,
        position=_numbers(macro("PlanePositionSequence"), "ImagePositionPatient", 3),
        orientation=_numbers(macro("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        pixel_spacing=_pixel_spacing(measures),
        slice_spacing=_positive(measures, "SpacingBetweenSlices"),
        instance_number=number + 1,
        time_key=_shared(tuple(times.get(name, "") for name in TIME_KEYS)),
    )


def _media_class(dataset: Dataset) -> str:
    return _text(getattr(dataset, "file_meta", Dataset()), "MediaStorageSOPClassUID")


def _flags(dataset: Dataset) -> tuple[str, ...]:
    flags = []
    if any(name not in python_encoding for name in _texts(dataset, "SpecificCharacterSet")):
        flags.append("bad_charset")
    if _text(dataset, "BurnedInAnnotation") == "YES":
        flags.append("burned_in_annotation")
    if (getattr(dataset, "preamble", None) or b"").startswith(_PROGRAMS):
        flags.append("executable_preamble")
    return tuple(flags)


def _pixel_spacing(dataset: Dataset) -> tuple[float, ...] | None:
    """Pixel Spacing, or for a projection the spacing at the detector (PS3.3 10.7.1.3)."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = _numbers(dataset, name, 2)
        if spacing is not None and min(spacing) > 0:
            return spacing
    return None


def _value(dataset: Dataset, name: str, kind: Callable[[Any], Any]) -> Any:
    """An element's value through ``kind``, or None where it is absent, empty or invalid."""
    try:
        value = lookup(dataset, name)
        return None if value is None else kind(value)
    except Exception:  # a damaged value raises whatever its VR's parser raises
        return None


def _texts(dataset: Dataset, name: str) -> tuple[str, ...]:
    try:
        value = lookup(dataset, name)
        if value is None:
            return ()
        many = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
        return _shared(tuple(str(part).strip(" \0") for part in many))
    except Exception:
        return ()


@functools.lru_cache(maxsize=1024)
def _shared(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """One object for equal tuples: slices repeat them, and a folder may hold 100,000 slices."""
    return value


@functools.lru_cache(maxsize=1024)
def _attributes(texts: tuple[str, ...]) -> tuple[str, ...]:
    return header_attributes(dict(zip(ATTRIBUTE_TAGS, texts, strict=True)))


def _text(dataset: Dataset, name: str) -> str:
    return "\\".join(_texts(dataset, name))


def _numbers(dataset: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    # + 0.0 makes -0.0 a 0.0: equal tuples are shared, and must be the same bits
    numbers = _value(dataset, name, lambda value: tuple(float(part) + 0.0 for part in value))
    if numbers is None or len(numbers) != count:
        return None
    if not all(abs(number) <= _MAX_MM for number in numbers):  # NaN fails as well
        return None
    found: tuple[float, ...] = _shared(numbers)
    return found


def _positive(dataset: Dataset, name: str) -> float | None:
    value = _value(dataset, name, float)
    return float(value) if value is not None and 0 < value < math.inf else None
