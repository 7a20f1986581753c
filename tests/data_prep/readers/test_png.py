"""The PNG stream that Pillow is given means what the file's own means."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.errors import ScanError
from data_prep.readers import png

# Pillow's mode, numpy type and samples a pixel.
MODES = {"L": ("u1", 1), "LA": ("u1", 2), "RGB": ("u1", 3), "RGBA": ("u1", 4), "I;16": ("<u2", 1)}


def made(mode: str, rows: int, columns: int, seed: int) -> Image.Image:
    """Smooth along the rows, so that all row filters are used."""
    kind, samples = MODES[mode]
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 4, (rows, columns, samples)).cumsum(axis=int(rng.integers(2)))
    return Image.frombytes(mode, (columns, rows), steps.astype(kind).tobytes())


def encoded(image: Image.Image, compress_level: int = 6) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", crc)


def stream(*data: bytes, width: int = 4, height: int = 3, interlace: int = 0) -> bytes:
    """An 8-bit grey PNG whose chunks after the header are ``data``."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlace)
    return png.MAGIC + chunk(b"IHDR", header) + b"".join(data) + chunk(b"IEND", b"")


def pixels(data: bytes) -> tuple[str, bytes]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return image.mode, image.tobytes()


ROWS = b"".join(bytes([0, *range(n, n + 4)]) for n in range(3))
DEFLATED = zlib.compress(ROWS)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(sorted(MODES)),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    level=st.sampled_from([0, 1, 6, 9]),
    seed=st.integers(0, 2**16),
)
def test_equal_pixels_without_compression(
    mode: str, rows: int, columns: int, level: int, seed: int
) -> None:
    data = encoded(made(mode, rows, columns, seed), level)
    found = png.readable_png(data, "x.png")
    assert pixels(found) == pixels(data)
    # deflate as it is takes five bytes a block, and two and four around it (RFC 1950, RFC 1951)
    samples = np.dtype(MODES[mode][0]).itemsize * MODES[mode][1]
    assert found.count(b"IDAT") == 1
    assert len(found) >= rows * (1 + columns * samples) + 11


@settings(max_examples=30, deadline=None)
@given(bits=st.sampled_from([1, 2, 4, 8]), columns=st.integers(1, 20), rows=st.integers(1, 9))
def test_palettes_of_few_bits(bits: int, columns: int, rows: int) -> None:
    image = Image.frombytes(
        "P", (columns, rows), bytes(n % (1 << bits) for n in range(rows * columns))
    )
    image.putpalette([n for level in range(1 << bits) for n in (level, 255 - level, 7)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=bits, transparency=0)
    data = buffer.getvalue()
    found = png.readable_png(data, "x.png")
    assert found != data
    with Image.open(io.BytesIO(found)) as ours, Image.open(io.BytesIO(data)) as theirs:
        assert ours.info == theirs.info
        assert ours.convert("RGBA").tobytes() == theirs.convert("RGBA").tobytes()


def test_pixel_data_in_several_chunks_and_other_chunks_around_them() -> None:
    parts = [chunk(b"IDAT", DEFLATED[n : n + 3]) for n in range(0, len(DEFLATED), 3)]
    data = stream(chunk(b"tEXt", b"a\0b"), *parts, chunk(b"tEXt", b"c\0d"))
    found = png.readable_png(data, "x.png")
    assert found != data
    assert pixels(found) == pixels(data)
    with Image.open(io.BytesIO(found)) as image:
        image.load()
        assert image.text == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(stream(chunk(b"IDAT", DEFLATED), interlace=1), id="interlaced"),
        pytest.param(stream(), id="no pixels"),
        pytest.param(
            stream(chunk(b"IDAT", DEFLATED[:5]), chunk(b"tEXt", b""), chunk(b"IDAT", DEFLATED[5:])),
            id="pixels in two places",
        ),
        pytest.param(stream(chunk(b"IDAT", DEFLATED[:-1] + b"\0")), id="wrong Adler-32"),
        pytest.param(stream(chunk(b"IDAT", DEFLATED[:-6])), id="cut off"),
        pytest.param(stream(chunk(b"IDAT", b"nothing")), id="not deflated"),
        pytest.param(stream(chunk(b"IDAT", zlib.compress(ROWS[:-1]))), id="too few rows"),
        pytest.param(stream(chunk(b"IDAT", zlib.compress(bytes(1 << 20)))), id="too many rows"),
        pytest.param(
            stream(chunk(b"IDAT", zlib.compress(bytes(1 << 20))), width=9999, height=9999),
            id="larger than is inflated here",
        ),
        pytest.param(stream(chunk(b"IDAT", DEFLATED), width=0), id="no columns"),
        pytest.param(png.MAGIC + chunk(b"IHDR", b"short") + chunk(b"IEND", b""), id="header"),
        pytest.param(
            png.MAGIC
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 3, 8, 5, 0, 0, 0))
            + chunk(b"IDAT", DEFLATED)
            + chunk(b"IEND", b""),
            id="unknown colour type",
        ),
    ],
)
def test_what_is_unusual_is_left_to_pillow(data: bytes) -> None:
    assert png.readable_png(data, "x.png") == data


@pytest.mark.parametrize("at", range(9, len(stream(chunk(b"IDAT", DEFLATED))), 5))
def test_a_flipped_bit_or_a_cut_is_found_anywhere(at: int) -> None:
    data = bytearray(stream(chunk(b"IDAT", DEFLATED)))
    with pytest.raises(ScanError) as caught:
        png.readable_png(bytes(data[:at]), "x.png")
    assert caught.value.code == "raster.malformed"
    data[at] ^= 4
    with pytest.raises(ScanError) as caught:
        png.readable_png(bytes(data), "x.png")
    assert caught.value.code in ("raster.malformed", "raster.unsupported_mode")
