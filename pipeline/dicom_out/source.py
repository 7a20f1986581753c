"""What the DICOM objects of a scan say of themselves, for other objects to refer to them.

Only headers are read, with the limits of the readers. Patient and study are taken over byte by
byte: an object of a study must say the same of the patient as the others do, in the same character
set, also where what they say is empty or odd.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import VR

from data_prep.errors import ScanError
from data_prep.readers.dicom_file import lookup, read_header_dataset
from data_prep.readers.dicom_header import read_headers
from data_prep.readers.dicom_volumes import split_volumes
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.quiet import quiet_pydicom
from data_prep.readers.source import ScanSource

# Patient (PS3.3 C.7.1.1), General Study (C.7.2.1) and Patient Study (C.7.2.2) Module, and what
# is needed to read them: the character set, and the zone of the times.
COPIED: Final = (
    *("SpecificCharacterSet", "TimezoneOffsetFromUTC"),
    *("PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID"),
    *("IssuerOfPatientIDQualifiersSequence", "PatientBirthDate", "PatientSex"),
    *("QualityControlSubject", "ReferencedPatientSequence", "PatientBirthTime"),
    *("OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "EthnicGroup"),
    *("PatientComments", "PatientSpeciesDescription", "PatientSpeciesCodeSequence"),
    *("PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence"),
    *("ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
    *("ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "StudyID"),
    *("AccessionNumber", "IssuerOfAccessionNumberSequence", "StudyDescription"),
    *("PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "RequestingServiceCodeSequence"),
    *("ReferencedStudySequence", "ProcedureCodeSequence"),
    *("AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge"),
    *("PatientSize", "PatientWeight", "PatientBodyMassIndex", "MedicalAlerts", "Allergies"),
    *("SmokingStatus", "PregnancyStatus", "LastMenstrualDate", "PatientState", "Occupation"),
    *("AdditionalPatientHistory", "AdmissionID", "IssuerOfAdmissionIDSequence"),
    *("ServiceEpisodeID", "ServiceEpisodeDescription", "PatientSexNeutered"),
)
# Type 2: they stand in every object, empty where nothing is known (PS3.5 7.4.3).
TYPE_2: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
_WHEN: Final = (
    ("ContentDate", "ContentTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
_OWN: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_READ: Final = (
    *_OWN,
    *COPIED,
    *(name for pair in _WHEN for name in pair),
    *("InstanceNumber", "BurnedInAnnotation", "Laterality"),
)
_DATE: Final = re.compile(r"(?:1[89]|2[01])\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
_TIME: Final = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?)?")
# Where the source states no date at all; it is a type 1 element of a report.
_NO_DATE: Final = ("19000101", "000000")
# A UID has at most 64 characters, components without leading zeros (PS3.5 9.1).
_UID: Final = re.compile(r"(?=.{1,64}\Z)(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*")
# Character sets without code extensions that hold more than ASCII (PS3.3 C.12.1.1.2).
_WHOLE_CHARSETS: Final = frozenset(
    name
    for name in python_encoding
    if name == "GB18030" or (name.startswith("ISO_IR ") and name not in ("ISO_IR 6", "ISO_IR 13"))
)
# Those whose bytes are the same in every transfer syntax.
_TEXT_VRS: Final = frozenset(
    (
        *(VR.AS, VR.CS, VR.DA, VR.DS, VR.DT, VR.IS, VR.LO, VR.LT),
        *(VR.PN, VR.SH, VR.ST, VR.TM, VR.UC, VR.UI, VR.UT),
    )
)


@dataclass(frozen=True)
class Reference:
    """One object that a scan was read from.

    Attributes:
        sop_class: SOP Class UID.
        sop_instance: SOP Instance UID.
        frames: Frame numbers, from 1, where only some frames of it are the scan; else ().
    """

    sop_class: str
    sop_instance: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The objects of one scan.

    Attributes:
        study_uid: Study Instance UID of all of them.
        series_uid: Series Instance UID of all of them.
        references: In the order in which the scan was read.
        header: What the first one says; elements that nobody asked for are still raw.
        instance_number: Of the first one, or 1.
        when: (Content Date, Content Time) of the scan, or else when it was acquired, or when its
            series or study began.
        burned_in: Burned In Annotation of the first one; "" where it does not say.
        laterality: Of the first one's series; "" where it does not say.
    """

    study_uid: str
    series_uid: str
    references: tuple[Reference, ...]
    header: Dataset
    instance_number: int
    when: tuple[str, str]
    burned_in: str
    laterality: str

    def text(self, value: str) -> str:
        r"""A text as the source's character set can hold it; what it cannot becomes ``\uXXXX``.

        Only ASCII is used where there are several (code extensions, PS3.5 6.1.2.5), none, or one
        that is not known.
        """
        stated = _text(self.header, "SpecificCharacterSet")
        encoding = python_encoding[stated] if stated in _WHOLE_CHARSETS else "ascii"
        return value.encode(encoding, "backslashreplace").decode(encoding)


def is_uid(value: str) -> bool:
    """Whether a text is a UID: digits and dots, harmless as a name of a file or part of a URL."""
    return _UID.fullmatch(value) is not None


def read_source(root: Path, source: ScanSource, policy: ReadPolicy) -> SourceImages:
    """Read the headers of a DICOM scan's files.

    Raises:
        ScanError: ``dicom.no_reference`` if an object, its series or its study has no valid UID,
            or they are not all of one series; ``file.*`` or ``dicom.*`` if a file cannot be read.
    """
    with quiet_pydicom():
        try:
            headers = [read_header_dataset(root, source.paths[0], _READ)]
            headers += [read_header_dataset(root, path, _OWN) for path in source.paths[1:]]
            uids = [_uids(header, path) for header, path in zip(headers, source.paths, strict=True)]
            if len({(study, series) for _, _, study, series in uids}) > 1:
                raise ScanError(
                    "dicom.no_reference", f"{source.paths[0]}: its files are of several series"
                )
            frames = _frames(root, source, policy)
            return SourceImages(
                study_uid=uids[0][2],
                series_uid=uids[0][3],
                references=tuple(Reference(own, sop, frames) for own, sop, _, _ in uids),
                header=headers[0],
                instance_number=_number(headers[0]),
                when=_when(headers[0]),
                burned_in=_text(headers[0], "BurnedInAnnotation"),
                laterality=_text(headers[0], "Laterality"),
            )
        except ScanError:
            raise
        except Exception as error:  # a damaged value raises whatever its VR's parser raises
            raise ScanError(
                "dicom.malformed",
                f"{source.paths[0]}: its header is damaged ({type(error).__name__})",
            ) from None


def copy_identity(source: SourceImages, target: Dataset) -> None:
    """Put the source's patient and study into ``target``, byte by byte."""
    for keyword in COPIED:
        target.pop(keyword, None)
        tag = tag_for_keyword(keyword)
        assert tag is not None
        if tag not in source.header.keys():  # noqa: SIM118 - quick, and parses nothing
            if keyword in TYPE_2:
                setattr(target, keyword, None)
            continue
        element = source.header.get_item(tag)
        vr = VR(dictionary_VR(tag))
        if isinstance(element, RawDataElement) and vr in _TEXT_VRS:
            # an implicit VR source does not state it
            element = element._replace(
                VR=vr, is_implicit_VR=False, length=len(element.value or b"")
            )
        elif isinstance(element, RawDataElement):
            element = source.header[tag]
        target[tag] = element


def _uids(header: Dataset, path: str) -> tuple[str, str, str, str]:
    values = [str(lookup(header, name) or "") for name in _OWN]
    for name, value in zip(_OWN, values, strict=True):
        if not is_uid(value):
            found = "no" if not value else "an invalid"
            raise ScanError("dicom.no_reference", f"{path}: it has {found} {name}")
    sop_class, instance, study, series = values
    return sop_class, instance, study, series


def _frames(root: Path, source: ScanSource, policy: ReadPolicy) -> tuple[int, ...]:
    """Which frames of its one file a scan is; () for all."""
    if source.item:
        volumes = split_volumes(read_headers(root, source.paths[0]))
        return tuple(header.frame + 1 for header in volumes[int(source.item[len("volume/") :])])
    if "cine_frame" in source.flags:
        count = read_headers(root, source.paths[0])[0].frames
        return (1 if policy.cine == "first" else count // 2 + 1,)
    return ()


def _number(header: Dataset) -> int:
    try:
        return max(1, int(lookup(header, "InstanceNumber") or 1))
    except (TypeError, ValueError):
        return 1


def _when(header: Dataset) -> tuple[str, str]:
    for date_name, time_name in _WHEN:
        date, time = (_text(header, name) for name in (date_name, time_name))
        if _DATE.fullmatch(date):
            return date, time if _TIME.fullmatch(time) else _NO_DATE[1]
    return _NO_DATE


def _text(header: Dataset, name: str) -> str:
    try:
        value = lookup(header, name)
        parts = value if isinstance(value, MultiValue) else [value or ""]
        return "\\".join(str(part) for part in parts).strip()
    except Exception:  # a damaged date is no date
        return ""
