"""The quick way through plain DICOM files gives what pydicom gives, or leaves the file to it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from scan_files import ct_dataset, save, slice_pixels
from test_mutations import mutated

from data_prep.readers import discover, read_scan
from data_prep.readers.dicom_file import HEADER_BYTES, lookup, read_header_dataset
from data_prep.readers.dicom_header import HEADER_TAGS, read_headers
from data_prep.readers.dicom_plain import plain_dataset
from data_prep.readers.quiet import quiet_pydicom

TAGS = frozenset(Tag(tag) for tag in HEADER_TAGS)


def plain_bytes(folder: Path) -> bytes:
    """A plain file with private, empty, long, nested and unknown elements."""
    ds = ct_dataset(pixels=slice_pixels(rows=4, columns=6))
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientAge, ds.InstitutionName = "Müller^Jürgen", "", "Zürich"
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "UN", b"\x01\x00")
    item = Dataset()
    item.CodeValue = "T-1"
    ds.add_new("ProcedureCodeSequence", "SQ", Sequence([item]))
    ds.add_new("ImageComments", "LT", "a" * 300)
    ds.add_new((0xFFFC, 0xFFFC), "OB", b"\0" * 6)  # Data Set Trailing Padding
    return save(ds, folder / "plain.dcm").read_bytes()


def by_pydicom(data: bytes, tags: frozenset[int] | None) -> Dataset:
    with quiet_pydicom():
        return pydicom.dcmread(
            io.BytesIO(data),
            specific_tags=None if tags is None else list(tags),
            stop_before_pixels=tags is not None,
        )


def assert_equal(ours: Dataset, theirs: Dataset) -> None:
    for mine, other in ((ours, theirs), (ours.file_meta, theirs.file_meta)):
        raw = {tag: mine.get_item(tag) for tag in mine.keys()}  # noqa: SIM118
        assert raw.keys() == set(other.keys())
        for tag, found in raw.items():
            expected = other.get_item(tag)
            if getattr(expected, "is_raw", False) and getattr(found, "is_raw", False):
                assert found[:5] == expected[:5], tag  # tag, VR, length, value and place
            else:
                assert mine[tag] == other[tag], tag
    assert ours.preamble == theirs.preamble
    assert ours.original_character_set == theirs.original_character_set
    assert ours.original_encoding == theirs.original_encoding


def test_a_plain_file_is_cut_into_the_same_elements(tmp_path: Path) -> None:
    data = plain_bytes(tmp_path)
    for tags in (None, TAGS):
        ours = plain_dataset(data, tags, whole=True)
        assert ours is not None
        assert_equal(ours, by_pydicom(data, tags))
        assert str(ours.get("InstitutionName")) == "Zürich"


@settings(deadline=None, max_examples=300)
@given(seed=st.integers(0, 2**32 - 1), header=st.booleans())
def test_a_damaged_file_is_cut_as_pydicom_does_or_left_to_it(
    tmp_path_factory: pytest.TempPathFactory, seed: int, header: bool
) -> None:
    rng = np.random.default_rng(seed)
    data = mutated(plain_bytes(tmp_path_factory.mktemp("plain")), rng)
    tags = TAGS if header else None
    ours = plain_dataset(data, tags, whole=True)
    if ours is not None:
        assert_equal(ours, by_pydicom(data, tags))


@settings(deadline=None, max_examples=60)
@given(share=st.floats(0, 1))
def test_the_head_of_a_file_gives_its_header_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    data = plain_bytes(tmp_path_factory.mktemp("plain"))
    ours = plain_dataset(data[: int(share * len(data))], TAGS, whole=False)
    if ours is not None:
        assert_equal(ours, by_pydicom(data, TAGS))


def undefined_length(ds: Dataset) -> None:
    ds.add_new("ProcedureCodeSequence", "SQ", Sequence([Dataset()]))
    ds["ProcedureCodeSequence"].is_undefined_length = True


def many_elements(ds: Dataset) -> None:
    block = 0x0011
    for number in range(5000):
        ds.add_new((block + 2 * (number // 4000), 0x1000 + number % 4000), "US", 1)


def syntax(uid: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.file_meta.TransferSyntaxUID = uid

    return change


@pytest.mark.parametrize(
    "change",
    [
        undefined_length,
        many_elements,
        syntax(ImplicitVRLittleEndian),
        syntax(DeflatedExplicitVRLittleEndian),
        syntax("1.2.3.4"),
        lambda ds: ds.compress(RLELossless),
    ],
    ids=["undefined length", "many", "implicit", "deflated", "unknown", "encapsulated"],
)
def test_other_files_are_left_to_pydicom(tmp_path: Path, change: Callable[[Dataset], None]) -> None:
    ds = ct_dataset()
    change(ds)
    data = save(ds, tmp_path / "other.dcm").read_bytes()
    assert plain_dataset(data, None, whole=True) is None


def test_big_endian_and_what_lacks_a_part_are_left_to_pydicom(tmp_path: Path) -> None:
    data = plain_bytes(tmp_path)
    assert plain_dataset(data[132:], None, whole=True) is None
    meta = data.index(b"\x08\x00\x05\x00CS")  # where its data set begins
    assert plain_dataset(data[:meta], None, whole=True) is None
    uid = data.index(b"1.2.840.10008.1.2.1\0")
    big = data[:uid] + str(ExplicitVRBigEndian).encode() + b"\0" + data[uid + 20 :]
    assert plain_dataset(big, None, whole=True) is None


def test_a_value_is_converted_for_each_character_set(tmp_path: Path) -> None:
    """The same bytes are other letters in another character set: one must not stand for both."""
    found = {}
    for charset in ("ISO_IR 100", "ISO_IR 144", "ISO_IR 100"):
        ds = ct_dataset()
        ds.SpecificCharacterSet = charset
        ds.add_new("InstitutionName", "LO", b"\xb0\xb1\xb2\xb3")
        path = save(ds, tmp_path / f"{len(found)}.dcm")
        header = read_header_dataset(tmp_path, path.name, ("InstitutionName",))
        found.setdefault(charset, []).append(lookup(header, "InstitutionName"))
        assert (
            lookup(header, "InstitutionName")
            == by_pydicom(path.read_bytes(), None)["InstitutionName"].value
        )
    assert found["ISO_IR 100"] == ["°±²³"] * 2
    assert found["ISO_IR 144"] != ["°±²³"]


def test_a_header_longer_than_what_is_read_first_is_found(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.add_new((0x0009, 0x0010), "LO", "PRIVATE")
    ds.add_new((0x0009, 0x1001), "OB", b"\1" * 2 * HEADER_BYTES)
    path = save(ds, tmp_path / "long.dcm")
    (header,) = read_headers(tmp_path, path.name)
    assert (header.rows, header.modality) == (32, "CT")
    (source,) = discover(tmp_path).sources
    np.testing.assert_array_equal(
        read_scan(tmp_path, source).array[0], slice_pixels().astype(np.int32) - 1024
    )
