"""Reports and pictures as DICOM objects: valid, of the source's patient, never by chance."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from answered import answer, complaints, write_series
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from scan_files import ct_dataset, save, uid, write_enhanced

from data_prep.errors import ScanError
from data_prep.readers import discover
from data_prep.readers.policy import DEFAULT_POLICY
from data_prep.task import Task
from pipeline.dicom_out.identity import CAUTION, class_code, is_ours
from pipeline.dicom_out.picture import answer_picture
from pipeline.dicom_out.source import COPIED, SourceImages, is_uid, read_source

MANY = Task(
    kind="multi-label",
    class_names=("mass", "Ödem", "健康", "a name that is far longer than 16 letters" * 3, "a\\b"),
)
# Names as PS3.5 annexes H, I and J write them, and one in UTF-8.
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
PATIENTS = {
    "no character set": ("", "Doe^Jane"),
    "latin": ("ISO_IR 100", "Buc^Jérôme"),
    "japanese": (["", "ISO 2022 IR 87"], JAPANESE),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "utf-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    "chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
}


def patient(charset: str | list[str] = "ISO_IR 192", name: str = JAPANESE) -> Dataset:
    ds = Dataset()
    if charset:
        ds.SpecificCharacterSet = charset
    ds.PatientName, ds.PatientID, ds.PatientSex = name, "=cmd|007 ", ""
    ds.PatientBirthDate, ds.PatientAge, ds.PregnancyStatus = "", "044Y", 4
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20240229", "235959.5", ""
    ds.StudyDescription, ds.AccessionNumber = "  two  blanks ", "A1"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "P1", "99LOCAL", "Kopf"
    ds.ProcedureCodeSequence = [code]
    ds.AcquisitionDate, ds.AcquisitionTime = "20240301", "0102"
    return ds


def raw(ds: Dataset, keyword: str) -> bytes:
    return ds.get_item(keyword).value or b""


def codes_of(item: Dataset, name: str) -> list[str]:
    """Meanings of the coded items of that name in a measurement group."""
    return [
        child.ConceptCodeSequence[0].CodeMeaning
        for child in item.ContentSequence
        if child.ConceptNameCodeSequence[0].CodeMeaning == name and child.ValueType == "CODE"
    ]


def groups_of(report: Dataset) -> list[Dataset]:
    (container,) = (
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    )
    return list(container.ContentSequence)


def texts_of(item: Dataset) -> list[str]:
    found = [str(item.TextValue)] if item.get("ValueType") == "TEXT" else []
    for child in item.get("ContentSequence", []):
        found += texts_of(child)
    return found


@pytest.fixture
def package(make_package):
    return make_package()


def test_a_report_says_class_probabilities_set_shift_and_model(package, tmp_path):
    write_series(tmp_path / "in", patient())
    answered = answer(package, tmp_path / "in")
    report = answered.report()
    decision, *classes = groups_of(report)
    assert codes_of(decision, "Predicted class") == ["lesion"]
    assert codes_of(decision, "Class within the prediction set") == ["healthy", "lesion"]
    assert codes_of(decision, "Scan is unlike the training scans") == ["Yes"]
    said = {
        codes_of(group, "Finding")[0]: group.ContentSequence[-1].MeasuredValueSequence[0]
        for group in classes
    }
    assert {name: float(value.NumericValue) for name, value in said.items()} == {
        "healthy": 0.333333,
        "lesion": 0.666667,
    }
    texts = texts_of(report)
    assert "linear trained on noise" in texts
    assert f"model digest sha256:{package.digest}" in texts
    assert any(text.endswith(f"+{package.digest[:12]}") for text in texts)
    assert CAUTION in texts
    assert CAUTION in report.SeriesDescription
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert report.DeviceSerialNumber == package.digest


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"predicted": (), "within": ()}, "Predicted class", ["No class is given"]),
        ({"within": ()}, "Class within the prediction set", []),
        ({"flags": ()}, "Scan is unlike the training scans", ["No"]),
        ({"shift": None, "flags": ()}, "Scan is unlike the training scans", ["Unknown"]),
    ],
)
def test_what_the_model_does_not_say_is_not_said(package, tmp_path, changes, name, said):
    write_series(tmp_path / "in")
    report = answer(package, tmp_path / "in", **changes).report()
    assert codes_of(groups_of(report)[0], name) == said


def test_labels_that_may_be_true_are_told_from_those_that_are(make_package, tmp_path):
    write_series(tmp_path / "in", patient())
    package = make_package(task=MANY)
    answered = answer(
        package, tmp_path / "in", predicted=("健康", "mass"), within=("健康", "Ödem?")
    )
    decision, *classes = groups_of(answered.report())
    assert codes_of(decision, "Predicted class") == ["健康", "mass"]
    assert codes_of(decision, "Class within the prediction set") == ["健康"]
    assert codes_of(decision, "Class that may be present or not") == ["Ödem"]
    assert len(classes) == 5


@pytest.mark.parametrize("kind", ["report", "picture"])
def test_every_object_that_was_read_is_referred_to(package, tmp_path, kind):
    slices = write_series(tmp_path / "in", patient())
    answered = answer(package, tmp_path / "in")
    instances = [(ds.SOPClassUID, ds.SOPInstanceUID) for ds in slices]
    made = answered.report() if kind == "report" else answered.picture()
    assert made.StudyInstanceUID == slices[0].StudyInstanceUID
    assert made.SeriesInstanceUID != slices[0].SeriesInstanceUID
    if kind == "picture":
        found = made.SourceImageSequence
    else:
        (study,) = made.CurrentRequestedProcedureEvidenceSequence
        (series,) = study.ReferencedSeriesSequence
        assert study.StudyInstanceUID == slices[0].StudyInstanceUID
        assert series.SeriesInstanceUID == slices[0].SeriesInstanceUID
        found = series.ReferencedSOPSequence
        items = groups_of(made)[0].ContentSequence
        images = [item.ReferencedSOPSequence[0] for item in items if item.ValueType == "IMAGE"]
        assert [image.ReferencedSOPInstanceUID for image in images] == [u for _, u in instances]
    assert [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in found] == instances


def test_of_a_multi_frame_object_the_frames_that_were_read_are_named(package, tmp_path):
    pixels = np.arange(6 * 8 * 10, dtype=np.uint16).reshape(6, 8, 10)
    # two volumes of three slices, by a time index that write_enhanced does not give: by position
    write_enhanced(tmp_path / "volume" / "a.dcm", pixels, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    whole = answer(package, tmp_path / "volume")
    assert whole.source.references[0].frames == ()
    cine = ct_dataset(0)
    for name in ("ImagePositionPatient", "ImageOrientationPatient"):
        delattr(cine, name)
    cine.NumberOfFrames, cine.PixelData = 5, cine.PixelData * 5
    save(cine, tmp_path / "cine" / "a.dcm")
    (source,) = discover(
        tmp_path / "cine", None, DEFAULT_POLICY.model_copy(update={"cine": "middle"})
    ).sources
    found = read_source(
        tmp_path / "cine", source, DEFAULT_POLICY.model_copy(update={"cine": "middle"})
    )
    assert found.references[0].frames == (3,)
    first = DEFAULT_POLICY.model_copy(update={"cine": "first"})
    assert read_source(tmp_path / "cine", source, first).references[0].frames == (1,)
    answered = replace(whole, source=found)
    image = next(
        item
        for item in groups_of(answered.report())[0].ContentSequence
        if item.ValueType == "IMAGE"
    )
    assert image.ReferencedSOPSequence[0].ReferencedFrameNumber == 3
    assert answered.picture().SourceImageSequence[0].ReferencedFrameNumber == 3


def test_one_volume_of_several_in_an_object_is_named_by_its_frames(package, tmp_path):
    pixels = np.arange(6 * 8 * 10, dtype=np.uint16).reshape(6, 8, 10)
    path = write_enhanced(tmp_path / "in" / "a.dcm", pixels, [0.0, 2.0, 4.0] * 2)
    ds = pydicom.dcmread(path)
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.TemporalPositionIndex = number // 3 + 1
        group.FrameContentSequence = [content]
    save(ds, path)
    answered = [answer(package, tmp_path / "in", number) for number in range(2)]
    assert [a.source.references[0].frames for a in answered] == [(1, 2, 3), (4, 5, 6)]
    assert len({a.report().SOPInstanceUID for a in answered}) == 2


@pytest.mark.parametrize(
    ("who", "syntax"), [*((who, "explicit") for who in PATIENTS), ("japanese", "implicit")]
)
def test_patient_and_study_are_the_sources_byte_by_byte(make_package, tmp_path, who, syntax):
    stated = patient(*PATIENTS[who])
    for ds in write_series(tmp_path / "in", stated, slices=2):
        if syntax == "implicit":
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            ds["PixelData"].VR = "OW"
            save(ds, tmp_path / "in" / f"{ds.InstanceNumber - 1}.dcm")
    package = make_package(task=MANY)
    answered = answer(package, tmp_path / "in", predicted=("健康",), within=("Ödem?",))
    for made in (answered.report(), answered.picture()):
        original = pydicom.dcmread(tmp_path / "in" / "0.dcm")
        for keyword in COPIED:
            if keyword in original and not keyword.endswith(("Sequence", "PregnancyStatus")):
                assert raw(made, keyword) == raw(original, keyword), keyword
        assert made.PregnancyStatus == 4
        assert made.ProcedureCodeSequence[0].CodeMeaning == "Kopf"
        assert str(made.PatientName) == PATIENTS[who][1]
    for data in (answered.report_bytes(), answered.picture_bytes()):
        errors, _ = complaints(data, tmp_path)
        assert errors == []


def test_what_the_source_does_not_state_of_a_patient_is_empty(package, tmp_path):
    write_series(tmp_path / "in")
    answered = answer(package, tmp_path / "in")
    for made in (answered.report(), answered.picture()):
        assert made.PatientName == made.StudyDate == made.AccessionNumber == ""
        assert (made.ContentDate, made.ContentTime) == ("19000101", "000000")
        assert "SpecificCharacterSet" not in made


def test_no_date_is_that_of_the_run(package, tmp_path):
    write_series(tmp_path / "in", patient())
    answered = answer(package, tmp_path / "in")
    for made in (answered.report(), answered.picture()):
        assert (made.ContentDate, made.ContentTime) == ("20240301", "0102")
        said = {element.value for element in made.iterall() if element.VR in ("DA", "DT")}
        assert said <= {"", "20240301", "20240229"}


def test_damaged_dates_are_no_dates(package, tmp_path):
    stated = patient()
    stated.add_new("AcquisitionDate", "UN", b"2024-1-1")
    stated.add_new("StudyTime", "UN", b"noon")
    write_series(tmp_path / "in", stated)
    assert answer(package, tmp_path / "in").source.when == ("20240229", "000000")


def test_bytes_and_uids_depend_on_model_scan_and_answer_alone(make_package, tmp_path):
    write_series(tmp_path / "in", patient())
    package, other = make_package(), make_package(name="other", family="prior")
    one, same = answer(package, tmp_path / "in"), answer(package, tmp_path / "in")
    assert one.report_bytes() == same.report_bytes()
    assert one.picture_bytes() == same.picture_bytes()
    write_series(tmp_path / "more", patient(), slices=5)
    others = [
        replace(one, row=replace(one.row, predicted=("healthy",))),
        answer(other, tmp_path / "in"),
        answer(package, tmp_path / "more"),
    ]
    made = [a.report() for a in (one, *others)] + [a.picture() for a in (one, *others)]
    assert len({ds.SOPInstanceUID for ds in made}) == len(made)
    assert made[0].SeriesInstanceUID == made[1].SeriesInstanceUID != made[2].SeriesInstanceUID
    for ds in made:
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
        assert is_uid(ds.SOPInstanceUID)
        assert ds.SOPInstanceUID.startswith("2.25.")
        assert is_ours(ds)


def test_burned_in_text_and_laterality_are_said_as_the_source_says(package, tmp_path):
    stated = patient()
    stated.BurnedInAnnotation, stated.Laterality = "YES", "L"
    write_series(tmp_path / "in", stated)
    policy = DEFAULT_POLICY.model_copy(update={"secondary_capture": "accept"})
    picture = answer(package, tmp_path / "in", policy=policy).picture()
    assert (picture.BurnedInAnnotation, picture.Laterality) == ("YES", "L")


@pytest.mark.parametrize(
    ("keyword", "value", "found"),
    [
        ("StudyInstanceUID", "", "no StudyInstanceUID"),
        ("StudyInstanceUID", "1.2/../../etc", "an invalid StudyInstanceUID"),
        ("SOPInstanceUID", "1." + "2" * 64, "an invalid SOPInstanceUID"),
        ("SOPInstanceUID", "1.02", "an invalid SOPInstanceUID"),
    ],
)
def test_what_cannot_be_referred_to_is_refused(tmp_path, keyword, value, found):
    ds = ct_dataset(0)
    ds.file_meta.MediaStorageSOPInstanceUID = uid("own")
    setattr(ds, keyword, value)
    save(ds, tmp_path / "a.dcm")
    (source,) = discover(tmp_path).sources
    with pytest.raises(ScanError, match=found) as caught:
        read_source(tmp_path, source, DEFAULT_POLICY)
    assert caught.value.code == "dicom.no_reference"


def test_files_that_changed_to_another_series_are_refused(tmp_path):
    write_series(tmp_path, slices=3)
    (source,) = discover(tmp_path).sources
    save(ct_dataset(1, series="other"), tmp_path / "1.dcm")
    with pytest.raises(ScanError, match="several series"):
        read_source(tmp_path, source, DEFAULT_POLICY)


@given(st.sets(st.text(min_size=1, max_size=80), min_size=2, max_size=6))
def test_no_two_classes_have_one_code(names):
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    source = SourceImages("1", "1", (), header, 1, ("", ""), "", "")
    made = [class_code(name, source) for name in names]
    assert len({code.value for code in made}) == len(names)
    for code in made:
        assert 1 <= len(code.value) <= 16
        assert "." not in code.value
        assert 1 <= len(code.meaning) <= 64
        assert "\\" not in code.meaning
        code.meaning.encode("latin-1")


def test_a_picture_is_an_image_that_anyone_can_show(package, tmp_path):
    write_series(tmp_path / "in", patient())
    answered = answer(package, tmp_path / "in")
    drawn = answer_picture(package, answered.array, answered.row)
    ds = pydicom.dcmread(io.BytesIO(answered.picture_bytes()))
    assert ds.file_meta.TransferSyntaxUID == RLELossless
    assert ds.LossyImageCompression == "00"
    assert np.array_equal(ds.pixel_array, drawn)
    assert len(ds.PixelData) < drawn.size / 3
    assert CAUTION in ds.DerivationDescription
