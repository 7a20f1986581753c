"""PNG, JPEG and TIFF: FAULTS.md items 62 to 69."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch import read_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.readers import ReadPolicy

Case = Callable[[Path], object]

GREY = (np.arange(12 * 9).reshape(12, 9) * 2).astype(np.uint8)
COLOUR = np.random.default_rng(0).integers(0, 255, (12, 9, 3), endpoint=True).astype(np.uint8)


def saved(image: Image.Image, name: str, **options: Any) -> Case:
    return lambda folder: image.save(folder / name, **options)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def stored(name: str, data: bytes) -> Case:
    return lambda folder: (folder / name).write_bytes(data)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(
    bits: int, values: bytes, *, samples: int = 1, photometric: int = 1, sample_format: int = 1
) -> bytes:
    """A little-endian TIFF of 2 x 1 pixels, in ways that Pillow does not write."""
    tags = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, samples, bits), (259, 3, 1, 1)]
    tags += [(262, 3, 1, photometric), (273, 4, 1, 140), (277, 3, 1, samples), (278, 3, 1, 1)]
    tags += [(279, 4, 1, len(values)), (339, 3, 1, sample_format)]
    if samples > 1:  # too many to stand in their tag: they stand behind the tags
        tags[2] = (258, 3, samples, 134)
    out = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags))
    for tag, kind, count, value in tags:
        out += struct.pack("<HHII", tag, kind, count, value)
    out += struct.pack("<I", 0) + struct.pack("<3H", bits, bits, bits)
    assert len(out) == 140
    return out + values


def rgba(alpha: int) -> Image.Image:
    image = Image.fromarray(COLOUR).convert("RGBA")
    image.putalpha(alpha)
    return image


def flipped_chunk() -> bytes:
    data = bytearray(encoded(Image.fromarray(GREY), "PNG"))
    data[data.index(b"IDAT") + 12] ^= 1
    return bytes(data)


def exif_turned(upright: np.ndarray) -> bytes:
    """Stored upside down, and EXIF says so (orientation 3)."""
    exif = Image.Exif()
    exif[0x0112] = 3
    image = Image.fromarray(np.ascontiguousarray(upright[::-1, ::-1]))
    return encoded(image, "PNG", exif=exif.tobytes())


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


PNG, JPEG = encoded(Image.fromarray(GREY), "PNG"), encoded(Image.fromarray(GREY), "JPEG")
COLOUR_16_BIT = tiff(16, struct.pack("<6H", *range(1000, 1006)), samples=3, photometric=2)
TIFF = encoded(Image.fromarray(GREY), "TIFF")

QUARANTINED: list[tuple[str, Case, str]] = [
    (
        "62 16-bit colour PNG",
        stored("x.png", png(1, 1, 16, 2, b"\0" * 7)),
        "raster.unsupported_mode",
    ),
    (
        "62 16-bit grey and alpha",
        stored("x.png", png(1, 1, 16, 4, b"\0" * 5)),
        "raster.unsupported_mode",
    ),
    ("62 16-bit colour TIFF", stored("x.tif", COLOUR_16_BIT), "raster.unsupported_mode"),
    ("66 truncated PNG", stored("x.png", PNG[: len(PNG) // 2]), "raster.malformed"),
    ("66 PNG without end", stored("x.png", PNG[:-12]), "raster.malformed"),
    ("66 flipped bit", stored("x.png", flipped_chunk()), "raster.malformed"),
    ("66 truncated JPEG", stored("x.jpg", JPEG[: len(JPEG) * 3 // 4]), "raster.malformed"),
    ("66 JPEG without end", stored("x.jpg", JPEG[:-2]), "raster.malformed"),
    ("66 truncated TIFF", stored("x.tif", TIFF[: len(TIFF) // 2]), "raster.malformed"),
    ("66 magic alone", stored("x.png", PNG[:8]), "raster.malformed"),
    ("67 PNG bomb", stored("x.png", png(60000, 60000, 8, 0, bytes(1 << 20))), "file.too_large"),
    (
        "67 bomb below Pillow's limit",
        stored("x.png", png(20000, 4000, 8, 2, bytes(1 << 20))),
        "file.too_large",
    ),
    ("68 animated PNG", stored("x.png", animation("PNG")), "raster.multi_page"),
    ("68 multi-page TIFF", stored("x.tif", animation("TIFF")), "raster.multi_page"),
    ("69 EPS as PNG", stored("x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n" * 9), "file.unknown_format"),
    (
        "69 GIF as PNG",
        stored("x.png", encoded(Image.fromarray(GREY), "GIF")),
        "file.unknown_format",
    ),
    (
        "12 float TIFF, smallest value white",
        stored("x.tif", tiff(32, struct.pack("<2f", 1, 2), photometric=0, sample_format=3)),
        "raster.unsupported_mode",
    ),
    ("LAB TIFF", saved(Image.new("LAB", (4, 4)), "x.tif"), "raster.unsupported_mode"),
    (
        "NaN TIFF",
        saved(Image.fromarray(np.full((3, 3), np.nan, np.float32)), "x.tif"),
        "volume.not_finite",
    ),
]


@pytest.mark.parametrize(
    ("case", "code"), [pytest.param(c, code, id=name) for name, c, code in QUARANTINED]
)
def test_a_bad_file_is_quarantined_and_the_rest_is_read(
    tmp_path: Path, case: Case, code: str
) -> None:
    policy = ReadPolicy(max_volume_bytes=900_000_000)
    outcome = read_batch(tmp_path, case, policy)
    assert outcome.codes == [code]
    assert outcome.good_ones_read


WIDE = (np.arange(12 * 9).reshape(12, 9) * 600).astype(np.uint16)
PALETTE = Image.fromarray(COLOUR).quantize(256)
TRANSPARENT = Image.fromarray(GREY).convert("P")

ACCEPTED: list[tuple[str, Case, np.ndarray, tuple[str, ...]]] = [
    ("grey PNG", saved(Image.fromarray(GREY), "x.png"), GREY[None], ()),
    ("62 16-bit PNG", saved(Image.fromarray(WIDE), "x.png"), WIDE[None], ()),
    ("62 16-bit TIFF", saved(Image.fromarray(WIDE), "x.tif"), WIDE[None], ()),
    (
        "12 16-bit TIFF, smallest value white",
        stored("x.tif", tiff(16, struct.pack("<2H", 1000, 60000), photometric=0)),
        np.array([[[64535, 5535]]]),
        ("monochrome1_inverted",),
    ),
    (
        "12 8-bit TIFF, smallest value white",
        stored("x.tif", tiff(8, bytes([10, 250]), photometric=0)),
        np.array([[[245, 5]]]),
        ("monochrome1_inverted",),
    ),
    (
        "13 signed 8-bit TIFF",
        stored("x.tif", tiff(8, struct.pack("<2b", -5, 7), sample_format=2)),
        np.array([[[-5, 7]]]),
        (),
    ),
    (
        "13 signed 16-bit TIFF",
        stored("x.tif", tiff(16, struct.pack("<2h", -5, 7), sample_format=2)),
        np.array([[[-5, 7]]]),
        (),
    ),
    (
        "13 unsigned 32-bit TIFF",
        stored("x.tif", tiff(32, struct.pack("<2I", 7, 4_000_000_000))),
        np.array([[[7, 4_000_000_000]]]),
        (),
    ),
    (
        "63 a transparent grey",
        saved(Image.fromarray(GREY), "x.png", transparency=int(GREY[0, 3])),
        GREY[None],
        ("alpha_dropped",),
    ),
    (
        "63 a transparent grey that does not occur",
        saved(Image.fromarray(GREY), "x.png", transparency=255),
        GREY[None],
        (),
    ),
    (
        "63 a transparent colour",
        saved(Image.fromarray(COLOUR), "x.png", transparency=tuple(map(int, COLOUR[1, 2]))),
        COLOUR.transpose(2, 0, 1),
        ("alpha_dropped",),
    ),
    ("32-bit TIFF", saved(Image.fromarray(WIDE.astype(np.int32)), "x.tif"), WIDE[None], ()),
    (
        "float TIFF",
        saved(Image.fromarray(WIDE / np.float32(7)), "x.tif"),
        WIDE[None] / np.float32(7),
        (),
    ),
    (
        "1-bit PNG",
        saved(Image.fromarray(GREY > 99), "x.png"),
        np.where(GREY > 99, 255, 0)[None],
        (),
    ),
    ("colour PNG", saved(Image.fromarray(COLOUR), "x.png"), COLOUR.transpose(2, 0, 1), ()),
    ("63 opaque", saved(rgba(255), "x.png"), COLOUR.transpose(2, 0, 1), ()),
    ("63 not opaque", saved(rgba(9), "x.png"), COLOUR.transpose(2, 0, 1), ("alpha_dropped",)),
    (
        "63 grey and alpha",
        saved(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (9, 12), 4)]), "x.png"),
        GREY[None],
        ("alpha_dropped",),
    ),
    (
        "palette",
        saved(PALETTE, "x.png"),
        np.array(PALETTE.convert("RGB")).transpose(2, 0, 1),
        (),
    ),
    (
        "palette with a transparent colour",
        saved(TRANSPARENT, "x.png", transparency=int(GREY[0, 3])),
        np.array(TRANSPARENT.convert("RGB")).transpose(2, 0, 1),
        ("alpha_dropped",),
    ),
    (
        "64 CMYK",
        saved(Image.fromarray(COLOUR).convert("CMYK"), "x.tif"),
        np.array(Image.fromarray(COLOUR).convert("CMYK").convert("RGB")).transpose(2, 0, 1),
        ("converted_to_rgb",),
    ),
    (
        "65 EXIF orientation",
        stored("x.png", exif_turned(GREY)),
        GREY[None],
        ("exif_oriented",),
    ),
    ("60 PNG named .jpg", saved(Image.fromarray(GREY), "x.jpg", format="PNG"), GREY[None], ()),
]


@pytest.mark.parametrize(
    ("case", "expected", "flags"), [pytest.param(c, e, f, id=name) for name, c, e, f in ACCEPTED]
)
def test_an_image_is_read_as_it_is(
    tmp_path: Path, case: Case, expected: np.ndarray, flags: tuple[str, ...]
) -> None:
    outcome = read_batch(tmp_path, case)
    volume = outcome.volume
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.flags == flags
    assert outcome.good_ones_read
    assert not volume.has_geometry
    np.testing.assert_array_equal(volume.affine, np.eye(4))


def test_infinite_voxels_are_filled_on_request(tmp_path: Path) -> None:
    values = np.array([[1, np.inf], [-2, 3]], np.float32)
    case = saved(Image.fromarray(values), "x.tif")
    volume = read_batch(tmp_path, case, ReadPolicy(not_finite="fill")).volume
    np.testing.assert_array_equal(volume.array[0], [[1, -2], [-2, 3]])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@settings(max_examples=8, deadline=None)
@given(orientation=st.integers(1, 8))
def test_exif_orientation_is_applied_once(
    kind: str, orientation: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Item 65: the stored image is the upright one, turned as EXIF says (Exif 2.3, 4.6.4 A)."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: a.T[::-1],
        7: lambda a: a.T[::-1, ::-1],
        8: lambda a: a.T[:, ::-1],
    }
    upright = np.add.outer(np.arange(12) * 15, np.arange(9) * 4).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if kind == "JPEG" else {}
    data = encoded(image, kind, exif=exif.tobytes(), **options)
    volume = read_batch(tmp_path_factory.mktemp("exif"), stored("x", data)).volume
    assert volume.array.shape == (1, 12, 9)
    assert np.abs(volume.array[0].astype(int) - upright).max() <= 2
    assert volume.flags == (() if orientation == 1 else ("exif_oriented",))


@pytest.mark.parametrize("data", [PNG], ids=["PNG"])
def test_no_truncation_gives_an_image(tmp_path: Path, data: bytes) -> None:
    """A3."""
    for length in range(1, len(data)):
        folder = tmp_path / str(length)
        outcome = read_batch(folder, stored("x.png", data[:length]))
        assert outcome.codes
        assert not outcome.volumes
