"""Headers of codestreams, read without decoding."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from dicom_streams import HTJ2K_STREAM, JPEG_12_BIT_STREAM
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.readers.codestream import FrameHeader, frame_header, is_irreversible


def jpeg(colour: bool) -> bytes:
    stream = io.BytesIO()
    shape = (5, 7, 3) if colour else (5, 7)
    Image.fromarray(np.zeros(shape, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def jp2(codestream: bytes) -> bytes:
    """The codestream in the boxes of a .jp2 file, which some archives send."""
    signature = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
    return signature + struct.pack(">I", len(codestream) + 8) + b"jp2c" + codestream


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(jpeg(False), FrameHeader(5, 7, 1, 8, True), id="grey JPEG"),
        pytest.param(jpeg(True), FrameHeader(5, 7, 3, 8, True), id="colour JPEG"),
        pytest.param(JPEG_12_BIT_STREAM, FrameHeader(16, 12, 1, 12, True), id="12-bit JPEG"),
        pytest.param(HTJ2K_STREAM, FrameHeader(16, 12, 1, 16, True), id="JPEG 2000"),
        pytest.param(jp2(HTJ2K_STREAM), FrameHeader(16, 12, 1, 16, True), id="boxed"),
        pytest.param(
            b"\xff\xd8\xff\xff\xff\x01" + jpeg(False)[2:], FrameHeader(5, 7, 1, 8, True), id="fill"
        ),
        pytest.param(jpeg(False) + b"\0\xff", FrameHeader(5, 7, 1, 8, True), id="padded"),
        pytest.param(jpeg(False)[:-3], FrameHeader(5, 7, 1, 8, False), id="cut JPEG"),
        pytest.param(HTJ2K_STREAM[:99], FrameHeader(16, 12, 1, 16, False), id="cut JPEG 2000"),
        pytest.param(jpeg(False)[:20], None, id="cut before the frame header"),
        pytest.param(b"\xff\xd8\0\0", None, id="no marker"),
        pytest.param(HTJ2K_STREAM[:20], None, id="cut within SIZ"),
        pytest.param(jp2(b"nothing"), None, id="a box without codestream"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_size_and_end_are_found(data: bytes, expected: FrameHeader | None) -> None:
    assert frame_header(data) == expected


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from([b"\xff\xd8\xff", HTJ2K_STREAM[:4], b"\x00\x00\x00\x0cjP  ", b""]),
    rest=st.binary(max_size=80),
)
def test_any_bytes_are_answered(start: bytes, rest: bytes) -> None:
    found = frame_header(start + rest)
    assert found is None or isinstance(found, FrameHeader)


def test_the_wavelet_tells_loss() -> None:
    at = HTJ2K_STREAM.index(b"\xff\x52") + 13
    lossy = HTJ2K_STREAM[:at] + b"\0" + HTJ2K_STREAM[at + 1 :]
    for wrap in (bytes, jp2):
        assert not is_irreversible(wrap(HTJ2K_STREAM))
        assert is_irreversible(wrap(lossy))
    for data in (b"", jpeg(False), lossy[:40], lossy[: at - 1]):
        assert not is_irreversible(data)
