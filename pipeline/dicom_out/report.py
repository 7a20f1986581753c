"""An answer as a structured report: TID 1500 "Measurement Report" (PS3.16), made by highdicom.

One measurement group (TID 1501) holds what the model decides, as codes: the class, the prediction
set, whether the scan looks like the training scans, and what else was noted; it refers to the
objects that the scan was read from. A further group for each class holds its probability.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from data_prep.readers.quiet import quiet_pydicom
from data_prep.readers.source import SCAN_FLAGS
from pipeline.dicom_out.identity import (
    CAUTION,
    MANUFACTURER,
    SCHEME,
    class_code,
    describe_equipment,
    device_uid,
    file_meta,
    long_string,
    model_name,
    names,
    own_code,
)
from pipeline.dicom_out.source import SourceImages, copy_identity
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import SHIFT_FLAGS, UNLIKE_TRAINING, Prediction
from pipeline.serving.seen import PATIENT_FLAGS, SEEN_FLAGS

SERIES_NUMBER: Final = 9001
# When the report was made, and by which version of highdicom: type 3.
_OF_THE_RUN: Final = (
    *("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence"),
)
_FLAGS: Final = SCAN_FLAGS | SHIFT_FLAGS | SEEN_FLAGS | PATIENT_FLAGS
_PREDICTED: Final = own_code("mc.predicted", "Predicted class")
_SET: Final = own_code("mc.set", "Class within the prediction set")
_OPEN: Final = own_code("mc.open", "Class that may be present or not")  # of a multi-label task
_UNLIKE: Final = own_code("mc.unlike", "Scan is unlike the training scans")
_SHIFT: Final = own_code("mc.shift", "Distance of the scan from the training scans")
_NOTED: Final = own_code("mc.noted", "Noted of the scan")
_NONE: Final = own_code("mc.none", "No class is given")


def report_bytes(package: ModelPackage, source: SourceImages, row: Prediction) -> bytes:
    """A structured report as a DICOM file; the same bytes for the same answer about the same scan.

    Args:
        package: The model that answered.
        source: The objects of the scan.
        row: The answer.
    """
    uids = names(package, source, row, "report")
    with quiet_pydicom():
        report = EnhancedSR(
            evidence=_evidence(source),
            content=_content(package, source, row)[0],
            series_instance_uid=uids.series,
            series_number=SERIES_NUMBER,
            sop_instance_uid=uids.instance,
            instance_number=source.instance_number,
            manufacturer=MANUFACTURER,
            is_complete=True,
            series_description=f"medcurve report: {CAUTION}",
            content_date=source.when[0],
            content_time=source.when[1],
            coding_schemes=[
                CodingSchemeIdentificationItem(
                    designator=SCHEME,
                    name="medcurve: concepts and the classes of its models",
                    responsible_organization=MANUFACTURER,
                )
            ],
        )
        for keyword in _OF_THE_RUN:
            report.pop(keyword, None)
        describe_equipment(report, package, source)
        copy_identity(source, report)
        report.file_meta = file_meta(report.SOPClassUID, uids.instance)
        return encoded(report)


def encoded(dataset: Dataset) -> bytes:
    """A data set as the bytes of a file, its raw elements as they are."""
    # So that pydicom neither parses nor changes what was copied.
    dataset.set_original_encoding(False, True, dataset._character_set)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _evidence(source: SourceImages) -> list[Dataset]:
    """The referenced objects as highdicom takes them; patient and study are copied afterwards."""
    found = []
    for reference in source.references:
        item = Dataset()
        item.SOPClassUID = reference.sop_class
        item.SOPInstanceUID = reference.sop_instance
        item.StudyInstanceUID = source.study_uid
        item.SeriesInstanceUID = source.series_uid
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
            setattr(item, keyword, None)
        for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
            setattr(item, keyword, None)
        found.append(item)
    return found


def _content(package: ModelPackage, source: SourceImages, row: Prediction) -> MeasurementReport:
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(package),
            name=source.text(model_name(package)),
            manufacturer_name=MANUFACTURER,
            serial_number=package.digest,
        ),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[
            _decision(package, source, row),
            *_probabilities(package, source, row),
        ],
    )
    caution = TextContentItem(
        name=codes.DCM.Comment, value=CAUTION, relationship_type=RelationshipTypeValues.CONTAINS
    )
    content[0].ContentSequence.append(caution)
    return content


def _algorithm(package: ModelPackage, source: SourceImages) -> AlgorithmIdentification:
    """TID 4019: which model exactly."""
    version = package.card.versions["medcurve"]
    trust = package.card.trust
    parameters = (
        f"model digest sha256:{package.digest}",
        f"calibration {trust.calibration.method}",
        f"prediction set of {trust.conformal.coverage:.1%}",
        CAUTION,
    )
    return AlgorithmIdentification(
        name=source.text(model_name(package)),
        version=f"{version}+{package.digest[:12]}",
        manufacturer=MANUFACTURER,
        parameters=parameters,
    )


def _decision(
    package: ModelPackage, source: SourceImages, row: Prediction
) -> MeasurementsAndQualitativeEvaluations:
    predicted = [class_code(name, source) for name in row.predicted] or [_NONE]
    evaluations: list[tuple[Code, Code | CodedConcept]] = [
        *((_PREDICTED, code) for code in predicted),
        *_enclosed(package, source, row),
        (_UNLIKE, _unlike(row)),
        *((_NOTED, _flag_code(flag)) for flag in row.flags if flag != UNLIKE_TRAINING),
    ]
    shift = [] if row.shift is None else [_measurement(_SHIFT, row.shift)]
    images = [
        SourceImageForMeasurementGroup(r.sop_class, r.sop_instance, list(r.frames) or None)
        for r in source.references
    ]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(package, source, row, "decision"),
        algorithm_id=_algorithm(package, source),
        qualitative_evaluations=[QualitativeEvaluation(*pair) for pair in evaluations],
        measurements=shift,
        source_images=images,
    )


def _enclosed(
    package: ModelPackage, source: SourceImages, row: Prediction
) -> Sequence[tuple[Code, Code]]:
    """The prediction set; the table marks what may be true of a multi-label task by a "?"."""
    if not package.task.is_multi_label:
        return [(_SET, class_code(name, source)) for name in row.within]
    sure = set(package.task.class_names)
    return [
        (_SET if name in sure else _OPEN, class_code(name if name in sure else name[:-1], source))
        for name in row.within
    ]


def _probabilities(
    package: ModelPackage, source: SourceImages, row: Prediction
) -> Sequence[MeasurementsAndQualitativeEvaluations]:
    return [
        MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(package, source, row, f"class {number}"),
            finding_type=class_code(name, source),
            measurements=[_measurement(codes.DCM.Probability, probability)],
        )
        for number, (name, probability) in enumerate(
            zip(package.task.class_names, row.probability, strict=True)
        )
    ]


def _tracking(
    package: ModelPackage, source: SourceImages, row: Prediction, part: str
) -> TrackingIdentifier:
    uid = names(package, source, row, f"report {part}").instance
    return TrackingIdentifier(uid=uid, identifier=f"medcurve {part}")


def _measurement(name: Code, value: float) -> Measurement:
    return Measurement(name=name, value=value, unit=codes.UCUM.NoUnits)


def _unlike(row: Prediction) -> Code:
    if row.shift is None:
        found = codes.SCT.Unknown
    else:
        found = codes.SCT.Yes if UNLIKE_TRAINING in row.flags else codes.SCT.No
    assert isinstance(found, Code)
    return found


def _flag_code(flag: str) -> CodedConcept:
    """A flag under its own name, which tables and logs have too."""
    return CodedConcept(f"flag.{flag}", SCHEME, long_string(_FLAGS.get(flag, flag)))
