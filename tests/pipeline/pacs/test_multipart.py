"""Parts of an answer, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pacs.arrival import PacsError
from pipeline.pacs.multipart import boundary_of, joined, parts

BOUNDARY = b"b-1"
BODIES = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"\r\n--b-", b"\r\n--b", b"\r\n\r\n", b"-b-1"]),
    max_size=4,
    # a part must not begin with the delimiter (RFC 2046 5.1.1)
).filter(lambda bodies: not any(body.startswith(b"--b-1") for body in bodies))


def blocks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(BODIES, st.integers(1, 30))
def test_what_was_joined_is_parted_again_however_it_comes(bodies, size):
    data = joined(bodies, BOUNDARY)
    assert list(parts(blocks(data, size), BOUNDARY, 1000)) == bodies
    assert list(parts(blocks(data + b"\r\nepilogue", size), BOUNDARY, 1000)) == bodies


@given(BODIES.filter(bool), st.data())
def test_an_answer_that_breaks_off_is_refused(bodies, data):
    whole = joined(bodies, BOUNDARY)
    end = data.draw(st.integers(0, len(whole) - 5))
    with pytest.raises(PacsError) as caught:
        list(parts(blocks(whole[:end], 7), BOUNDARY, 1000))
    assert caught.value.code == "pacs.bad_answer"


def test_a_part_that_is_too_large_is_not_waited_for():
    asked = []

    def endless():
        yield b"--b-1\r\n\r\n"
        while True:
            asked.append(1)
            yield b"x" * 10_000

    with pytest.raises(PacsError) as caught:
        list(parts(endless(), BOUNDARY, 50_000))
    assert caught.value.code == "pacs.too_large"
    assert len(asked) < 10


def test_a_part_without_header_is_refused():
    with pytest.raises(PacsError, match="no header"):
        list(parts([b"--b-1\r\nX: y\r\n--b-1--"], BOUNDARY, 100))


@pytest.mark.parametrize(
    "stated",
    [
        "multipart/related; type=application/dicom; boundary=b-1",
        'Multipart/Related; boundary="b-1"; type="application/dicom"',
    ],
)
def test_the_boundary_is_read(stated):
    assert boundary_of(stated) == BOUNDARY


@pytest.mark.parametrize(
    "stated", ["", "text/html", "multipart/related; type=x", "application/zip"]
)
def test_what_is_not_multipart_is_refused(stated):
    with pytest.raises(PacsError, match="multipart/related is due"):
        boundary_of(stated)
