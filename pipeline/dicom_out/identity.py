"""Who answers, and under which UIDs and codes.

Bytes must not depend on the run: a UID is a name-based UUID (RFC 9562, version 5) under the root
2.25 (PS3.5 B.2) of what was answered, by which model, about which objects.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from data_prep.files import digest, sha256_bytes
from pipeline.dicom_out.source import SourceImages
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import Prediction

# Changed whenever other bytes are written for the same answer: an instance never changes.
_LAYOUT: Final = 2
CAUTION: Final = "for research use; not a diagnosis"
MANUFACTURER: Final = "medcurve"
SCHEME: Final = "99MEDCURVE"  # private coding schemes begin with 99 (PS3.16 8.2)
# The namespace of the UUIDs: that of UIDs (RFC 9562, 6.6).
_NAMESPACE: Final = uuid.NAMESPACE_OID
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,16}")  # Code Value is an SH
_LO: Final = 64  # characters of a long string (PS3.5 6.2)


@dataclass(frozen=True)
class Names:
    """The UIDs of one kind of object (``report``, ``picture``) about one scan."""

    series: str
    instance: str


def names(
    package: ModelPackage, source: SourceImages, row: Prediction, kind: str, pixels: bytes = b""
) -> Names:
    """The UIDs of an object about a scan: other ones for any other answer, model, scan or picture.

    Args:
        package: The model that answered.
        source: The objects of the scan.
        row: The answer.
        kind: Of the object.
        pixels: Of a picture.
    """
    answer = (row.predicted, row.probability, row.within, row.shift, row.flags)
    drawn = sha256_bytes(pixels)
    references = [(r.sop_instance, r.frames) for r in source.references]
    of_series = (_LAYOUT, kind, package.digest, source.study_uid, source.series_uid)
    return Names(
        series=_uid([*of_series, "series"]),
        instance=_uid([*of_series, package.card.versions["medcurve"], references, answer, drawn]),
    )


def device_uid(package: ModelPackage) -> str:
    """The UID of the model as an observer."""
    return _uid(["device", package.digest])


def class_code(name: str, source: SourceImages) -> Code:
    """A class as a code: by its name where that can be a code, else by a digest of it."""
    value = name if _PLAIN.fullmatch(name) else f"x{sha256_bytes(name.encode())[:15]}"
    return Code(value, SCHEME, long_string(source.text(name)) or "-")


def own_code(value: str, meaning: str) -> Code:
    """A concept of our own; its value has a dot, which no class's has."""
    assert "." in value
    return Code(value, SCHEME, meaning)


def long_string(text: str) -> str:
    """A text as an LO can hold it: no backslash, no control character, 64 characters."""
    shown = "".join("/" if c == "\\" else c for c in text if c.isprintable()).strip()
    return shown if len(shown) <= _LO else f"{shown[: _LO - 3]}..."


def model_name(package: ModelPackage) -> str:
    """What a model is called, in words."""
    return f"{package.card.family.family} trained on {package.card.training.data}"


def describe_equipment(target: Dataset, package: ModelPackage, source: SourceImages) -> None:
    """Fill in General Equipment (PS3.3 C.7.5.1): what made the object."""
    target.Manufacturer = MANUFACTURER
    target.ManufacturerModelName = long_string(source.text(model_name(package)))
    target.DeviceSerialNumber = package.digest
    target.SoftwareVersions = package.card.versions["medcurve"]


def file_meta(sop_class: str, sop_instance: str) -> FileMetaDataset:
    """File meta information that says that medcurve wrote the file (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_uid(["implementation"]))
    meta.ImplementationVersionName = "MEDCURVE"
    return meta


def is_ours(header: Dataset) -> bool:
    """Whether medcurve wrote an object: then it is no scan to be scored."""
    return str(header.get("Manufacturer") or "") == MANUFACTURER


def _uid(content: object) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, 'medcurve ' + digest(content)).int}"
