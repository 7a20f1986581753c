"""The picture of an answer as a secondary capture image (PS3.3 A.8.1) of the scan's study."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RLELossless, SecondaryCaptureImageStorage

from data_prep.readers.quiet import quiet_pydicom
from pipeline.dicom_out.identity import CAUTION, describe_equipment, file_meta, names
from pipeline.dicom_out.picture import Pixels
from pipeline.dicom_out.report import encoded
from pipeline.dicom_out.source import SourceImages, copy_identity
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import Prediction
from pipeline.trust.explain_picture import TITLES
from pipeline.trust.explain_scan import Explanation

SERIES_NUMBER: Final = 9002
_ENCODER: Final = "pydicom"


def capture_bytes(
    package: ModelPackage,
    source: SourceImages,
    row: Prediction,
    picture: Pixels,
    explanation: Explanation | None = None,
) -> bytes:
    """A picture as a DICOM file; the same bytes for the same picture of the same scan.

    Args:
        package: The model that answered.
        source: The objects of the scan.
        row: The answer.
        picture: (rows, columns, 3) RGB.
        explanation: Whose map it shows.
    """
    uids = names(package, source, row, "picture", picture.tobytes())
    image = Dataset()
    with quiet_pydicom():
        copy_identity(source, image)
        describe_equipment(image, package, source)
        image.SOPClassUID = SecondaryCaptureImageStorage
        image.SOPInstanceUID = uids.instance
        # General Series (C.7.3.1) and SC Equipment (C.8.6.1): drawn by a workstation
        image.Modality = "OT"
        image.ConversionType = "WSD"
        image.SeriesInstanceUID = uids.series
        image.SeriesNumber = SERIES_NUMBER
        image.SeriesDescription = f"medcurve picture: {CAUTION}"
        # type 2C: also there, and empty, where nobody knows whether the body part is paired
        image.Laterality = source.laterality if source.laterality in ("L", "R") else ""
        # General Image (C.7.6.1)
        image.InstanceNumber = source.instance_number
        image.PatientOrientation = None  # several planes, or not known
        image.ImageType = ["DERIVED", "SECONDARY"]
        image.ContentDate, image.ContentTime = source.when
        image.DerivationDescription = _description(explanation)
        image.SourceImageSequence = _references(source)
        if source.burned_in in ("YES", "NO"):  # what is drawn identifies nobody: as the scan does
            image.BurnedInAnnotation = source.burned_in
        image.LossyImageCompression = "00"
        image.file_meta = file_meta(SecondaryCaptureImageStorage, uids.instance)
        _add_pixels(image, picture)
        return encoded(image)


def _description(explanation: Explanation | None) -> str:
    drawn = "a model's answer drawn below the scan"
    if explanation is not None:
        drawn += f", and on it what the answer rests on ({TITLES[explanation.method]})"
    return f"{drawn}; {CAUTION}"


def _references(source: SourceImages) -> list[Dataset]:
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator = code.value, code.scheme_designator
    purpose.CodeMeaning = code.meaning
    found = []
    for reference in source.references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class
        item.ReferencedSOPInstanceUID = reference.sop_instance
        if reference.frames:
            item.ReferencedFrameNumber = list(reference.frames)
        item.PurposeOfReferenceCodeSequence = [purpose]
        found.append(item)
    return found


def _add_pixels(image: Dataset, picture: Pixels) -> None:
    """Image Pixel (C.7.6.3), as RLE Lossless (PS3.5 annex G): archives and viewers know it."""
    rows, columns, samples = picture.shape
    image.SamplesPerPixel, image.PlanarConfiguration = samples, 0
    image.PhotometricInterpretation = "RGB"
    image.Rows, image.Columns = rows, columns
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    image.PixelRepresentation = 0
    # by pydicom itself: other encoders find other bytes for the same pixels
    image.compress(RLELossless, picture, encoding_plugin=_ENCODER, generate_instance_uid=False)
