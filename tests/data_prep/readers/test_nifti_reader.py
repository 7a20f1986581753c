"""NIfTI: FAULTS.md items 46 to 61, and what must come back unchanged."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from batch import read_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_files import nifti_image, patch, write_nifti

from data_prep.readers import ReadPolicy, discover, read_scan
from data_prep.volume import Volume

Case = Callable[[Path], object]

# Byte offsets in a NIfTI-1 header (nifti1.h).
DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET = 40, 70, 72, 76, 108
SLOPE, INTER, UNITS, QFORM, SFORM, SROW_X, MAGIC = 112, 116, 123, 252, 254, 280, 344


def read(path: Path, policy: ReadPolicy | None = None) -> Volume:
    policy = policy or ReadPolicy()
    (source,) = discover(path.parent, [path], policy).sources
    return read_scan(path.parent, source, policy)


def patched(*changes: tuple[int, bytes]) -> Case:
    def case(folder: Path) -> None:
        path = write_nifti(folder / "x.nii")
        for offset, data in changes:
            patch(path, offset, data)

    return case


def int16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def float32(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def gzipped(change: Callable[[bytes], bytes]) -> Case:
    def case(folder: Path) -> None:
        path = write_nifti(folder / "x.nii")
        data = change(gzip.compress(path.read_bytes(), mtime=0))
        (folder / "x.nii.gz").write_bytes(data)
        path.unlink()

    return case


def image(array: np.ndarray, affine: np.ndarray | None = None) -> Case:
    return lambda folder: write_nifti(folder / "x.nii", nifti_image(array, affine))


def header_alone(folder: Path) -> None:
    write_nifti(folder / "x.img")
    (folder / "x.img").unlink()


def image_alone(folder: Path) -> None:
    write_nifti(folder / "x.img")
    (folder / "x.hdr").unlink()


def image_twice(folder: Path) -> None:
    path = write_nifti(folder / "x.img")
    (folder / "x.img.gz").write_bytes(gzip.compress(path.read_bytes()))


def flip_last_voxel(data: bytes) -> bytes:
    """Recompress with one bit of the last voxel flipped, keeping the old CRC."""
    plain = bytearray(gzip.decompress(data))
    plain[-1] ^= 4
    return gzip.compress(bytes(plain), mtime=0)[:-8] + data[-8:]


def bomb(folder: Path) -> None:
    path = write_nifti(folder / "x.nii")
    plain = path.read_bytes() + bytes(1 << 25)
    path.unlink()
    (folder / "x.nii.gz").write_bytes(gzip.compress(plain))


def big_bomb(folder: Path) -> None:
    path = write_nifti(folder / "x.nii")
    patch(path, DIM, int16(3, 32767, 32767, 32767))
    (folder / "x.nii.gz").write_bytes(gzip.compress(path.read_bytes() + bytes(1 << 22)))
    path.unlink()


def rewritten(change: Callable[[bytes], bytes]) -> Case:
    def case(folder: Path) -> None:
        path = write_nifti(folder / "x.nii")
        path.write_bytes(change(path.read_bytes()))

    return case


def renamed(name: str, other: str) -> Case:
    return lambda folder: write_nifti(folder / name).rename(folder / other)


def big_endian(folder: Path) -> None:
    plain = nifti_image()
    swapped = plain.header.as_byteswapped(">")
    write_nifti(folder / "x.nii", type(plain)(plain.get_fdata().astype(">i2"), None, swapped))


def turned(angle: float) -> np.ndarray:
    """Voxels of 2 x 3 x 4 mm, turned about z."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0, 5], [sin, cos, 0, -7], [0, 0, 1, 1], [0, 0, 0, 1]])
    return turn @ np.diag([2.0, 3.0, 4.0, 1.0])


COUNTED = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])

QUARANTINED: list[tuple[str, Case, str]] = [
    ("46 wrong magic", patched((MAGIC, b"xxxx")), "file.unknown_format"),
    ("46 header without image", header_alone, "nifti.missing_pair"),
    ("46 image without header", image_alone, "nifti.missing_pair"),
    ("48 both codes 0", patched((QFORM, int16(0, 0))), "nifti.no_geometry"),
    ("49 NaN affine", patched((SROW_X, float32(np.nan))), "volume.bad_affine"),
    ("49 zero affine", patched((SROW_X, float32(*[0] * 12))), "volume.bad_affine"),
    (
        "49 singular affine",
        patched((SROW_X, float32(1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0))),
        "volume.bad_affine",
    ),
    ("49 bad quaternion", patched((SFORM, int16(0)), (256, float32(9, 9, 9))), "volume.bad_affine"),
    ("52 four dimensions", image(np.zeros((3, 4, 5, 2), np.int16)), "nifti.not_a_volume"),
    ("52 one dimension", patched((DIM, int16(1, 120, 1, 1))), "volume.bad_shape"),
    (
        "53 NaN voxel",
        image(np.array([1, np.nan, 3], np.float32).reshape(1, 1, 3)),
        "volume.not_finite",
    ),
    ("53 all infinite", image(np.full((2, 2, 2), np.inf, np.float32)), "volume.not_finite"),
    ("54 truncated gzip", gzipped(lambda data: data[: len(data) // 2]), "nifti.truncated"),
    ("54 no trailer", gzipped(lambda data: data[:-8]), "nifti.truncated"),
    ("54 half a trailer", gzipped(lambda data: data[:-3]), "nifti.truncated"),
    ("54 bad CRC", gzipped(flip_last_voxel), "nifti.truncated"),
    (
        "54 truncated plain",
        lambda folder: (p := write_nifti(folder / "x.nii")).write_bytes(p.read_bytes()[:-1]),
        "nifti.truncated",
    ),
    ("55 infinite slope", patched((SLOPE, float32(np.inf))), "nifti.bad_scaling"),
    ("55 infinite intercept", patched((SLOPE, float32(1, np.inf))), "nifti.bad_scaling"),
    ("55 NaN intercept", patched((SLOPE, float32(2, np.nan))), "nifti.bad_scaling"),
    ("57 zero dimension", patched((DIM + 2, int16(0))), "volume.bad_shape"),
    ("57 negative dimension", patched((DIM + 2, int16(-4))), "volume.bad_shape"),
    ("57 huge dimensions", patched((DIM, int16(3, 32767, 32767, 32767))), "file.too_large"),
    ("57 nine dimensions", patched((DIM, int16(9))), "nifti.malformed"),
    ("57 larger than the file", patched((DIM, int16(3, 40, 50, 60))), "nifti.truncated"),
    ("57 negative offset", patched((VOX_OFFSET, float32(-1))), "nifti.malformed"),
    ("57 endless offset", patched((VOX_OFFSET, float32(np.nan))), "nifti.malformed"),
    ("59 complex", image(np.ones((2, 3, 4), np.complex64)), "nifti.unsupported_dtype"),
    ("59 RGB", image(np.zeros((2, 3, 4), RGB)), "nifti.unsupported_dtype"),
    ("59 unknown type", patched((DATATYPE, int16(999))), "nifti.unsupported_dtype"),
    ("59 type and size differ", patched((BITPIX, int16(32))), "nifti.malformed"),
    (
        "60 text named .nii",
        lambda folder: (folder / "x.nii").write_text("no"),
        "file.unknown_format",
    ),
    ("61 gzip bomb", bomb, "file.too_large"),
    ("61 gzip bomb with a large header", big_bomb, "file.too_large"),
    ("83 no bytes", lambda folder: (folder / "x.nii").touch(), "file.empty"),
]


@pytest.mark.parametrize(
    ("case", "code"), [pytest.param(c, code, id=name) for name, c, code in QUARANTINED]
)
def test_a_bad_file_is_quarantined_and_the_rest_is_read(
    tmp_path: Path, case: Case, code: str
) -> None:
    outcome = read_batch(tmp_path, case)
    assert outcome.codes == [code]
    assert outcome.good_ones_read


def test_a_header_with_two_images_is_no_pair(tmp_path: Path) -> None:
    """Item 46; no file may be lost from the account."""
    outcome = read_batch(tmp_path, image_twice)
    assert outcome.codes == ["nifti.missing_pair"] * 3
    assert outcome.good_ones_read


ACCEPTED: list[tuple[str, Case, tuple[str, ...]]] = [
    ("46 header and image", lambda folder: write_nifti(folder / "x.img"), ()),
    ("47 qform differs", patched((SROW_X + 12, float32(5))), ("qform_differs",)),
    ("50 left-handed", image(COUNTED, np.diag([-2.0, 3.0, 4.0, 1.0])), ()),
    ("51 oblique", image(COUNTED, turned(0.3)), ()),
    ("51 sheared", patched((SROW_X + 4, float32(1)), (QFORM, int16(0))), ("sheared",)),
    ("52 trailing axes of one", image(COUNTED[..., np.newaxis, np.newaxis]), ()),
    ("54 two gzip members", gzipped(lambda data: data + gzip.compress(b"")), ()),
    ("55 slope 0", patched((SLOPE, float32(0, 7))), ()),
    ("55 slope NaN", patched((SLOPE, float32(np.nan, np.nan))), ()),
    ("56 big-endian", big_endian, ()),
    ("units in metres", patched((UNITS, b"\1")), ("units_converted",)),
    ("unknown units", patched((UNITS, b"\0")), ()),
    (
        "bytes after the last voxel",
        rewritten(lambda data: data + b"more"),
        ("trailing_bytes",),
    ),
    (
        "60 gzip named .nii",
        lambda folder: write_nifti(folder / "x.nii.gz").rename(folder / "x.nii"),
        (),
    ),
    (
        "60 NIfTI named .png",
        lambda folder: write_nifti(folder / "x.nii").rename(folder / "x.png"),
        (),
    ),
]


@pytest.mark.parametrize(
    ("case", "flags"), [pytest.param(c, flags, id=name) for name, c, flags in ACCEPTED]
)
def test_an_odd_file_is_read_and_flagged(
    tmp_path: Path, case: Case, flags: tuple[str, ...]
) -> None:
    outcome = read_batch(tmp_path, case)
    np.testing.assert_array_equal(outcome.volume.array[0], COUNTED)
    assert outcome.volume.flags == flags
    assert outcome.good_ones_read


DTYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    version=st.sampled_from([1, 2]),
    suffix=st.sampled_from([".nii", ".nii.gz", ".img"]),
    order=st.sampled_from("<>"),
    shape=st.tuples(*[st.integers(1, 4)] * 3),
    seed=st.integers(0, 2**16),
)
def test_written_by_nibabel_and_read_back(
    dtype: Any, version: int, suffix: str, order: str, shape: Any, seed: int
) -> None:
    """Items 50, 56: any type, byte order, container and (also left-handed, oblique) affine."""
    rng = np.random.default_rng(seed)
    array = (rng.random(shape) * 200 - 60).astype(dtype)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 4, 3)
    affine[:3, 3] = rng.normal(size=3) * 50
    plain = nifti_image(array, affine, version=version)
    kind = type(plain)
    if suffix == ".img":
        kind = nib.Nifti1Pair if version == 1 else nib.Nifti2Pair
    swapped = plain.header.as_byteswapped(order)
    with TemporaryDirectory() as name:
        path = Path(name) / f"x{suffix}"
        nib.save(kind(array, None, swapped), path)
        (source,) = discover(Path(name)).sources
        volume = read_scan(Path(name), source)
    expected = array if shape[2] > 1 else array[:, :, 0]
    np.testing.assert_array_equal(volume.array[0], expected)
    assert volume.array.dtype == dtype
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    assert volume.has_geometry
    assert volume.flags == ()


@pytest.mark.parametrize(
    "begin",
    [b"II*\0", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b\x08", b"\x08\0\x16\0UI", b"\x08\0\0\0\x02\0\0\0"],
    ids=["TIFF", "PNG", "gzip", "DICOM", "implicit DICOM"],
)
def test_voxels_of_an_img_may_look_like_another_format(tmp_path: Path, begin: bytes) -> None:
    voxels = np.frombuffer(begin.ljust(24, b"\7"), np.uint8).reshape(2, 3, 4)
    outcome = read_batch(
        tmp_path,
        lambda folder: write_nifti(folder / "x.img", nib.Nifti1Pair(voxels, np.eye(4))),
        ReadPolicy(nifti_without_geometry="accept"),
    )
    np.testing.assert_array_equal(outcome.volume.array[0], voxels)


@pytest.mark.fault(58)
@pytest.mark.parametrize(
    ("stored", "slope", "inter", "dtype"),
    [
        (np.int16, 1, -1024, np.int32),
        (np.uint8, 1, 3, np.int16),
        (np.int16, 0.5, 2, np.float32),
        (np.int32, 3, 0, np.float32),
        (np.int32, 1, 2.0**31, np.int64),  # item 58: beyond int32
        (np.float32, 1, 10, np.float32),
    ],
)
def test_scaling(tmp_path: Path, stored: Any, slope: float, inter: float, dtype: Any) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(stored)
    path = write_nifti(tmp_path / "x.nii", nifti_image(array))
    patch(path, SLOPE, float32(slope, inter))
    volume = read(path)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array[0], (array * float(slope) + inter).astype(dtype))


def test_scaling_beyond_float32_is_refused(tmp_path: Path) -> None:
    array = np.full((2, 2, 2), 1e300)
    path = write_nifti(tmp_path / "x.nii", nifti_image(array))
    patch(path, SLOPE, float32(2, 0))
    outcome = read_batch(tmp_path / "b", lambda folder: path.rename(folder / "x.nii"))
    assert outcome.codes == ["volume.not_finite"]


@pytest.mark.fault(48, 53)
def test_policies(tmp_path: Path) -> None:
    array = np.array([4, np.nan, -3, np.inf], np.float32).reshape(1, 2, 2)
    path = write_nifti(tmp_path / "x.nii", nifti_image(array))
    volume = read(path, ReadPolicy(not_finite="fill"))
    np.testing.assert_array_equal(volume.array.ravel(), [4, -3, -3, -3])
    assert volume.flags == ("not_finite_filled",)
    patch(path, QFORM, int16(0, 0))
    policy = ReadPolicy(not_finite="fill", nifti_without_geometry="accept")
    volume = read(path, policy)
    assert not volume.has_geometry
    assert volume.orientation == ""
    assert volume.spacing_mm == (2, 3, 4)
    assert "no_geometry" in volume.flags
    patch(path, PIXDIM + 4, float32(0, np.nan, 4))
    assert read(path, policy).spacing_mm == (1, 1, 4)


def test_qform_alone(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "x.nii")
    patch(path, SFORM, int16(0))
    np.testing.assert_allclose(read(path).affine, np.diag([2.0, 3.0, 4.0, 1.0]), atol=1e-6)


def test_metres_become_millimetres(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "x.nii", nifti_image(affine=np.diag([0.002, 0.003, 0.004, 1])))
    patch(path, UNITS, b"\1")
    np.testing.assert_allclose(read(path).spacing_mm, (2, 3, 4), rtol=1e-6)


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4, 1, 1)
    path = write_nifti(tmp_path / "x.nii", nifti_image(array))
    np.testing.assert_array_equal(read(path).array[0], array[..., 0, 0])
    flat = np.arange(6, dtype=np.int16).reshape(2, 3)
    volume = read(write_nifti(tmp_path / "flat.nii", nifti_image(flat)))
    np.testing.assert_array_equal(volume.array[0], flat)
    assert volume.orientation == "RA"


def test_a_gzip_file_of_two_members_is_one_stream(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "x.nii")
    plain = path.read_bytes()
    path.unlink()
    joined = tmp_path / "x.nii.gz"
    joined.write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]))
    np.testing.assert_array_equal(
        read(joined).array.ravel("F"), np.arange(120).reshape(4, 5, 6).ravel("F")
    )


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    """A2: whatever is read from a damaged .nii.gz is what was written."""
    path = write_nifti(tmp_path / "x.nii.gz")
    good = path.read_bytes()
    expected = read(path).array
    rng = np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(good)
        bad[rng.integers(10, len(bad))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(bad))
        outcome = discover(tmp_path)
        if not outcome.sources:
            continue
        try:
            volume = read_scan(tmp_path, outcome.sources[0])
        except Exception as error:
            assert type(error).__name__ == "ScanError"
        else:
            np.testing.assert_array_equal(volume.array, expected)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    """A3."""
    path = write_nifti(tmp_path / "x.nii.gz")
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        found = discover(tmp_path)
        for source in found.sources:
            with pytest.raises(Exception, match=r"\[(nifti|file|volume)\."):
                read_scan(tmp_path, source)
