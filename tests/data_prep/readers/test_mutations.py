"""Damaged files of every format: read, or refused with a code, within memory and time (A1, A10)."""

from __future__ import annotations

import gzip
import io
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from scan_files import (
    ct_dataset,
    enhanced_dataset,
    mosaic_dataset,
    nifti_image,
    save,
    slice_pixels,
    write_ct,
    write_nifti,
)
from test_dicom_pixels import HTJ2K_STREAM, JPEG_12_BIT_STREAM, encapsulated, lossless_jpeg

from data_prep.errors import SCAN_CODES, ScanError
from data_prep.readers import ScanSource, discover, read_scan
from data_prep.readers.sandbox import DecodePool
from data_prep.volume import Volume

MUTANTS = int(os.environ.get("MEDCURVE_MUTANTS", "400"))


def seeds(folder: Path) -> list[Path]:
    """One small valid file of every kind."""
    made = [
        write_nifti(folder / "plain.nii"),
        write_nifti(folder / "zipped.nii.gz"),
        write_nifti(folder / "two.nii", nifti_image(version=2)),
        write_ct(folder / "native.dcm"),
        save(enhanced_dataset(np.stack([slice_pixels()] * 3), [0, 1, 2]), folder / "enhanced.dcm"),
        save(mosaic_dataset(np.stack([slice_pixels()] * 5, axis=-1)), folder / "mosaic.dcm"),
    ]
    for number, syntax in enumerate((RLELossless, JPEGLSLossless, JPEG2000Lossless)):
        ds = ct_dataset(pixels=slice_pixels(number))
        ds.compress(syntax)
        made.append(save(ds, folder / f"{number}.dcm"))
    made.append(save(lossless_jpeg(folder, ct_dataset()), folder / "lossless.dcm"))
    for name, stream, syntax in (
        ("ht.dcm", HTJ2K_STREAM, "1.2.840.10008.1.2.4.201"),
        ("extended.dcm", JPEG_12_BIT_STREAM, "1.2.840.10008.1.2.4.51"),
    ):
        ds = encapsulated(ct_dataset(pixels=np.zeros((16, 12), np.uint16)), stream, syntax)
        made.append(save(ds, folder / name))
    for kind in ("PNG", "JPEG", "TIFF"):
        pixels = (slice_pixels() % 256).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"image.{kind.lower()}", kind)
        made.append(folder / f"image.{kind.lower()}")
    return made


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, cut, delete, insert or splice."""
    out = bytearray(data)
    kind = rng.integers(5)
    at = int(rng.integers(len(out)))
    if kind == 0:
        for _ in range(int(rng.integers(1, 9))):
            out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del out[at:]
    elif kind == 2:
        del out[at : at + int(rng.integers(1, 64))]
    elif kind == 3:
        out[at:at] = rng.bytes(int(rng.integers(1, 64)))
    else:
        other = int(rng.integers(len(out)))
        length = int(rng.integers(1, 256))
        out[at : at + length] = out[other : other + length]
    return bytes(out)


def test_mutants_are_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    contents = [path.read_bytes() for path in seeds(tmp_path / "seeds")]
    rng = np.random.default_rng(20240607)
    root = tmp_path / "mutants"
    sources: list[ScanSource] = []
    answered = 0
    for number in range(MUTANTS):
        folder = root / f"{number:05d}"
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(mutated(contents[number % len(contents)], rng))
        begin = time.process_time()
        found = discover(root, [Path(folder.name)])
        assert time.process_time() - begin < 2
        assert len(found.sources) + len(found.rejected) + len(found.skipped) >= 1
        assert all(entry.code in SCAN_CODES for entry in found.rejected)
        answered += not found.sources
        sources += found.sources
    with DecodePool(root, workers=2, timeout_s=30) as pool:
        for _, result in pool.read(sources):
            assert isinstance(result, Volume | ScanError)
            if isinstance(result, ScanError):
                assert result.code in SCAN_CODES
                assert result.code != "file.timeout"
                assert "decoder failed" not in result.message  # an untyped exception of ours
            answered += 1
    assert answered >= MUTANTS


@pytest.mark.parametrize("name", ["native.dcm", "image.png", "zipped.nii.gz", "0.dcm", "1.dcm"])
def test_no_truncation_gives_a_wrong_array(tmp_path: Path, name: str) -> None:
    """A3: every length of a small file; what is read is what the whole file holds."""
    (path,) = [path for path in seeds(tmp_path / "seeds") if path.name == name]
    data = path.read_bytes()
    (source,) = discover(path.parent, [path]).sources
    whole = read_scan(path.parent, source)
    root = tmp_path / "cut"
    root.mkdir()
    step = max(1, len(data) // 250)
    for length in [*range(0, len(data), step), len(data) - 1]:
        (root / "x").write_bytes(data[:length])
        for source in discover(root).sources:
            try:
                volume = read_scan(root, source)
            except ScanError:
                continue
            np.testing.assert_array_equal(volume.array, whole.array)


def png_bomb(folder: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + crc

    header = (9000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9000 * 27001), 9))
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


def png_text_bomb(folder: Path) -> None:
    image = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(image, "PNG")
    data = image.getvalue()
    text = b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9)
    chunk = len(text).to_bytes(4, "big") + b"zTXt" + text
    chunk += zlib.crc32(b"zTXt" + text).to_bytes(4, "big")
    (folder / "x.png").write_bytes(data[:33] + chunk + data[33:])


def nifti_bomb(folder: Path) -> None:
    path = write_nifti(folder / "x.nii", nifti_image(np.zeros((1, 1, 1), np.int16)))
    data = bytearray(path.read_bytes())
    data[40:48] = np.array([3, 1000, 1000, 500], "<i2").tobytes()  # just below the size limit
    path.unlink()
    (folder / "x.nii.gz").write_bytes(gzip.compress(bytes(data) + bytes(1 << 28), 9))


def jpeg_2000_bomb(folder: Path) -> None:
    ds = ct_dataset(pixels=np.zeros((16, 12), np.uint16))
    ds.Rows = ds.Columns = 20000
    stream = HTJ2K_STREAM.replace((12).to_bytes(4, "big"), (20000).to_bytes(4, "big"))
    stream = stream.replace((16).to_bytes(4, "big"), (20000).to_bytes(4, "big"))
    save(encapsulated(ds, stream, "1.2.840.10008.1.2.4.201"), folder / "x.dcm")


def jpeg_bomb(folder: Path) -> None:
    ds = ct_dataset(pixels=np.zeros((16, 12), np.uint16))
    ds.Rows = ds.Columns = 20000
    size = (16).to_bytes(2, "big") + (12).to_bytes(2, "big")
    stream = JPEG_12_BIT_STREAM.replace(size, (20000).to_bytes(2, "big") * 2)
    save(encapsulated(ds, stream, "1.2.840.10008.1.2.4.51"), folder / "x.dcm")


def rle_bomb(folder: Path) -> None:
    ds = ct_dataset()
    ds.compress(RLELossless)
    ds.Rows = ds.Columns = 20000
    save(ds, folder / "x.dcm")


def lossy_tiff_bomb(folder: Path) -> None:
    image = Image.new("L", (30000, 2900))
    image.save(folder / "x.tif", compression="tiff_deflate")


BOMBS: list[Callable[[Path], object]] = [
    png_bomb,
    png_text_bomb,
    nifti_bomb,
    jpeg_2000_bomb,
    jpeg_bomb,
    rle_bomb,
    lossy_tiff_bomb,
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_neither_the_parent_nor_its_memory(
    tmp_path: Path, bomb: Callable[[Path], object]
) -> None:
    """A10: files of at most a megabyte; the next scan is read all the same."""
    bomb(tmp_path)
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 1 << 20
    write_nifti(tmp_path / "z.nii")
    sources = discover(tmp_path).sources
    begin = time.monotonic()
    with DecodePool(tmp_path, memory_bytes=3 << 29, timeout_s=60) as pool:
        (_, result), (_, good) = pool.read(sources, shape_of)
    assert time.monotonic() - begin < 40
    assert good == (1, 4, 5, 6)
    if not isinstance(result, ScanError):  # it did not go off: an image of a size that is allowed
        assert np.prod(result) < 1 << 28


def shape_of(volume: Volume) -> tuple[int, ...]:
    """The transform of the bomb test: nothing large comes back."""
    return volume.array.shape


def test_the_bombs_streams_were_changed() -> None:
    """The bombs above rest on replacing bytes of streams: they must be there."""
    assert (12).to_bytes(4, "big") in HTJ2K_STREAM
    assert (16).to_bytes(2, "big") + (12).to_bytes(2, "big") in JPEG_12_BIT_STREAM
