"""Where DICOM voxels lie: order, affine, gaps, tilt, time points, mosaics and enhanced objects."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation
from scan_files import (
    ct_dataset,
    enhanced_dataset,
    mosaic_dataset,
    save,
    set_pixels,
    slice_pixels,
    uid,
    write_ct,
    write_enhanced,
    write_series,
)

from data_prep.errors import ScanError
from data_prep.readers import ReadPolicy, discover, discovery, read_scan
from data_prep.readers.dicom_header import SliceHeader
from data_prep.readers.dicom_stack import plane_affine
from data_prep.readers.source import SCAN_FLAGS
from data_prep.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read_all(folder: Path, policy: ReadPolicy | None = None) -> list[Volume]:
    policy = policy or ReadPolicy()
    found = discover(folder, policy=policy)
    assert not found.rejected, found.rejected
    volumes = [read_scan(folder, source, policy) for source in found.sources]
    assert all(set(volume.flags) <= set(SCAN_FLAGS) for volume in volumes)
    return volumes


def canonical(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """nibabel's closest RAS+ orientation: the independent judge of array and affine together."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, dtype=np.int32), affine))
    return np.asarray(image.dataobj), image.affine


def write_oriented(
    folder: Path,
    array: np.ndarray,
    axes: Sequence[Sequence[float]],
    spacing: Sequence[float],
    order: Sequence[int],
) -> np.ndarray:
    """Write (rows, columns, slices) whose axes run along these LPS directions; its RAS affine."""
    down, across, up = (np.array(axis, dtype=float) for axis in axes)
    origin = np.array([3.5, -7.25, 11.0])
    for file_number, k in enumerate(order):
        ds = ct_dataset(pixels=array[:, :, k])
        ds.SOPInstanceUID = uid(f"oriented/{k}")
        ds.InstanceNumber = file_number + 1
        ds.ImageOrientationPatient = [f"{v:.10g}" for v in (*across, *down)]
        ds.ImagePositionPatient = [f"{v:.10g}" for v in origin + k * spacing[2] * up]
        ds.PixelSpacing = [spacing[0], spacing[1]]
        save(ds, folder / f"{file_number}.dcm")
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ np.stack([down, across, up], axis=1) * np.array(spacing)
    affine[:3, 3] = LPS_TO_RAS @ origin
    return affine


def signed_axes() -> list[tuple[tuple[int, ...], ...]]:
    """All 48 ways to lay three axes along plus or minus x, y and z."""
    unit = np.eye(3, dtype=int)
    return [
        tuple(tuple(int(v) for v in s * unit[p]) for s, p in zip(signs, order, strict=True))
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]


@settings(max_examples=60, deadline=None)
@given(
    axes=st.sampled_from(signed_axes()),
    turn=st.sampled_from([0.0, 0.1, 0.35]),
    shape=st.tuples(*[st.integers(2, 5)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 0.9765625, 1.0, 3.3])] * 3),
    seed=st.integers(0, 2**16),
)
def test_any_orientation_comes_back_as_the_same_canonical_volume(
    axes: Any, turn: float, shape: tuple[int, int, int], spacing: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 4000, shape).astype(np.uint16)
    c, s = np.cos(turn), np.sin(turn)
    oblique = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, -s], [0, s, c]]
    )
    turned = [oblique @ np.array(axis) for axis in axes]
    with TemporaryDirectory() as name:
        order = list(map(int, rng.permutation(shape[2])))
        affine = write_oriented(Path(name), array, turned, spacing, order)
        (volume,) = read_all(Path(name))
    expected, expected_affine = canonical(array.astype(np.int64) - 1024, affine)
    found, found_affine = canonical(volume.array[0], volume.affine)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found_affine, expected_affine, atol=1e-4)
    assert volume.flags == ()


def test_instance_numbers_do_not_order_slices(tmp_path: Path) -> None:
    def change(ds: Dataset, number: int) -> None:
        ds.InstanceNumber = "7" if number % 2 else ""

    write_series(tmp_path, 5, change)  # item 43
    (volume,) = read_all(tmp_path)
    expected = np.stack([slice_pixels(n) for n in range(5)], axis=-1).astype(int) - 1024
    np.testing.assert_array_equal(volume.array[0], expected)
    assert volume.spacing_mm == (0.5, 0.75, 2.5)


@pytest.mark.parametrize("jitter", [0.001, 0.05])
def test_rounded_positions_are_no_fault(tmp_path: Path, jitter: float) -> None:
    def change(ds: Dataset, number: int) -> None:
        ds.ImagePositionPatient = [-10, -20, 30 + 2.5 * number + (jitter if number % 2 else 0)]

    write_series(tmp_path, 7, change)
    (volume,) = read_all(tmp_path)
    assert volume.flags == ()
    assert volume.spacing_mm[2] == pytest.approx(2.5, abs=0.01)


def test_stated_spacing_that_differs_is_flagged(tmp_path: Path) -> None:
    write_series(tmp_path, 3, lambda ds, _: setattr(ds, "SpacingBetweenSlices", 5.0))
    (volume,) = read_all(tmp_path)
    assert volume.flags == ("spacing_differs",)


def test_a_single_slice_is_an_image_in_the_patient(tmp_path: Path) -> None:
    write_ct(tmp_path / "x.dcm")  # item 42
    (volume,) = read_all(tmp_path)
    assert volume.array.shape == (1, 32, 40)
    assert volume.orientation == "PL"
    np.testing.assert_allclose(
        volume.affine, [[0, -0.75, 0, 10], [-0.5, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]]
    )


@pytest.mark.parametrize("name", ["PixelSpacing", "ImagerPixelSpacing"])
def test_images_without_position_are_2d_with_spacing(tmp_path: Path, name: str) -> None:
    def change(ds: Dataset, number: int) -> None:
        del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing
        ds.Modality = "DX"
        ds.SOPClassUID = DigitalXRayImageStorageForPresentation
        setattr(ds, name, [0.2, 0.3])

    write_series(tmp_path, 3, change)
    volumes = read_all(tmp_path)
    assert len(volumes) == 3
    for volume in volumes:
        assert not volume.has_geometry
        assert volume.spacing_mm == (0.2, 0.3)
        assert volume.modality == "DX"


def test_series_in_one_folder_are_split(tmp_path: Path) -> None:
    write_series(tmp_path, 3, series="a")  # item 36
    write_series(tmp_path, 4, series="b")
    assert sorted(v.array.shape[3] for v in read_all(tmp_path)) == [3, 4]


def test_patients_and_classes_under_one_uid_are_split(tmp_path: Path) -> None:
    def other_patient(ds: Dataset, number: int) -> None:
        ds.PatientID = "patient-2" if number >= 3 else "patient-1"

    write_series(tmp_path, 6, other_patient)
    assert [v.array.shape[3] for v in read_all(tmp_path)] == [3, 3]


def test_files_without_series_uid_are_scans_of_their_own(tmp_path: Path) -> None:
    write_series(tmp_path, 2, lambda ds, _: delattr(ds, "SeriesInstanceUID"))
    assert [v.array.ndim for v in read_all(tmp_path)] == [3, 3]


def test_a_localizer_within_a_series_is_left_out(tmp_path: Path) -> None:
    def localizer(ds: Dataset) -> None:
        ds.SOPInstanceUID = uid("localizer")
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        set_pixels(ds, slice_pixels(9, 20, 20))

    write_series(tmp_path, 4)  # item 37
    write_ct(tmp_path / "scout.dcm", change=localizer)
    found = discover(tmp_path)
    (source,) = found.sources
    assert source.flags == ("localizer_removed",)
    assert [entry.path for entry in found.skipped] == ["scout.dcm"]
    assert read_scan(tmp_path, source).array.shape == (1, 32, 40, 4)


def test_identical_copies_count_once(tmp_path: Path) -> None:
    write_series(tmp_path, 4)  # item 44
    write_ct(tmp_path / "copy.dcm", 2)
    found = discover(tmp_path)
    (source,) = found.sources
    assert len(source.paths) == 4
    assert [entry.reason for entry in found.skipped] == ["an identical copy of a-002.dcm"]


def test_the_same_slice_twice_counts_once(tmp_path: Path) -> None:
    write_series(tmp_path, 4)  # item 35
    write_ct(tmp_path / "again.dcm", 2, lambda ds: setattr(ds, "SOPInstanceUID", uid("again")))
    found = discover(tmp_path)
    (source,) = found.sources
    assert source.flags == ("duplicate_dropped",)
    assert len(found.skipped) == 1
    assert read_scan(tmp_path, source).array.shape == (1, 32, 40, 4)


@pytest.mark.parametrize("spoilt", [b"", b"\0" * 128 + b"DICMxxxx", b"no DICOM at all"])
def test_an_end_slice_that_cannot_be_read_leaves_a_trace(tmp_path: Path, spoilt: bytes) -> None:
    paths = write_series(tmp_path, 6)
    write_series(tmp_path / "other", 3, series="b")
    paths[-1].write_bytes(spoilt)
    found = discover(tmp_path)
    assert [entry.paths for entry in found.rejected] == [("a-005.dcm",)]
    assert [source.flags for source in found.sources] == [("beside_rejected",), ()]


def test_a_copy_that_vanishes_is_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, 3)
    write_ct(tmp_path / "copy.dcm", 1)

    def gone(root: Path, path: str) -> bytes:
        raise ScanError("file.unreadable", path)

    monkeypatch.setattr(discovery, "read_bytes", gone)
    (rejected,) = discover(tmp_path).rejected
    assert rejected.code == "dicom.duplicate_instance"


def test_gantry_tilt_is_undone_by_shearing(tmp_path: Path) -> None:
    """A ball, scanned with a gantry tilted by 20 degrees, is a ball again."""
    tilt, n, centre = np.deg2rad(20), 24, 23.5
    rows, columns = np.mgrid[:48, :48].astype(float)

    def change(ds: Dataset, number: int) -> None:
        # the couch moves along z; the slices are tilted about x
        ds.ImageOrientationPatient = [1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)]
        table = 2.0 * (number - (n - 1) / 2)
        ds.ImagePositionPatient = [-centre, -centre * np.cos(tilt), centre * np.sin(tilt) + table]
        ds.PixelSpacing = [1, 1]
        down = (rows - centre) * np.array([[np.cos(tilt)]])
        height = -(rows - centre) * np.sin(tilt) + table
        distance = np.sqrt(down**2 + (columns - centre) ** 2 + height**2)
        set_pixels(ds, np.clip(1000 * (14 - distance), 0, 4000).astype(np.uint16))

    write_series(tmp_path, n, change)
    (volume,) = read_all(tmp_path)
    assert volume.flags == ("tilt_corrected",)
    columns_of = volume.affine[:3, :3] / np.array(volume.spacing_mm)
    np.testing.assert_allclose(columns_of.T @ columns_of, np.eye(3), atol=1e-6)
    index = np.indices(volume.array.shape[1:]).reshape(3, -1)
    world = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    distance = np.sqrt((world**2).sum(axis=0)).reshape(volume.array.shape[1:])
    expected = np.clip(1000 * (14 - distance), 0, 4000) - 1024
    inside = np.abs(distance - 10) > 1.5  # away from the kink that linear interpolation rounds
    inside &= np.abs(distance - 14) > 1.5
    assert np.abs(volume.array[0] - expected)[inside].max() < 60


def test_uneven_slices_are_resampled_on_request(tmp_path: Path) -> None:
    heights = [0.0, 2.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.4]

    def change(ds: Dataset, number: int) -> None:
        ds.ImagePositionPatient = [0, 0, heights[number]]
        set_pixels(ds, np.full((4, 4), 100 * heights[number], dtype=np.uint16))

    write_series(tmp_path, len(heights), change)
    (volume,) = read_all(tmp_path, ReadPolicy(uneven_spacing="resample"))  # item 40
    assert volume.flags == ("uneven_resampled",)
    world = volume.affine[2, 2] * np.arange(volume.array.shape[3]) + volume.affine[2, 3]
    # the intensity is linear in height, so linear interpolation is exact
    np.testing.assert_allclose(volume.array[0, 0, 0], 100 * world - 1024, atol=0.01)
    assert world[0] == 0
    assert world[-1] == pytest.approx(13.4)


def write_repeats(folder: Path, count: int, change: Any) -> None:
    """Three positions, each imaged ``count`` times."""
    for repeat, number in itertools.product(range(count), range(3)):
        ds = ct_dataset(number, pixels=slice_pixels(10 * repeat + number))
        ds.SOPInstanceUID = uid(f"repeat/{repeat}/{number}")
        ds.InstanceNumber = 3 * repeat + number + 1
        change(ds, repeat)
        save(ds, folder / f"{repeat:02d}-{number}.dcm")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda ds, n: setattr(ds, "TemporalPositionIdentifier", n + 1), id="time point"
        ),
        pytest.param(lambda ds, n: setattr(ds, "EchoTime", 10.0 * n + 2), id="echo"),
        pytest.param(lambda ds, n: setattr(ds, "AcquisitionNumber", n + 8), id="acquisition"),
        pytest.param(lambda ds, n: setattr(ds, "DiffusionBValue", 500.0 * n), id="b-value"),
        pytest.param(lambda ds, n: setattr(ds, "NumberOfTemporalPositions", 12), id="count only"),
    ],
)
def test_several_volumes_in_one_series_become_several_scans(tmp_path: Path, change: Any) -> None:
    write_repeats(tmp_path, 12, change)
    volumes = read_all(tmp_path)
    assert len(volumes) == 12
    for repeat, volume in enumerate(volumes):
        expected = np.stack([slice_pixels(10 * repeat + n) for n in range(3)], axis=-1)
        np.testing.assert_array_equal(volume.array[0], expected.astype(int) - 1024)
        assert volume.flags == ("time_point",)


def test_repeats_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    write_repeats(tmp_path, 2, lambda ds, n: None)
    (rejected,) = discover(tmp_path).rejected
    assert rejected.code == "dicom.duplicate_slices"
    assert len(rejected.paths) == 6


def test_images_of_one_place_over_time_are_images(tmp_path: Path) -> None:
    for phase in range(4):
        ds = ct_dataset(pixels=slice_pixels(phase))
        ds.SOPInstanceUID, ds.TriggerTime = uid(f"phase/{phase}"), 40.0 * phase
        save(ds, tmp_path / f"{phase}.dcm")
    volumes = read_all(tmp_path)
    assert [volume.array.shape for volume in volumes] == [(1, 32, 40)] * 4


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("slices", [5, 9])
def test_a_mosaic_is_cut_into_slices(tmp_path: Path, slices: int, sign: int) -> None:
    tiles = np.stack([slice_pixels(n, 6, 8) for n in range(slices)], axis=-1)
    save(mosaic_dataset(tiles, normal=(0, 0, sign)), tmp_path / "m.dcm")
    (volume,) = read_all(tmp_path)
    np.testing.assert_array_equal(volume.array[0], tiles)
    # the mosaic's corner is (-10, -20) for 3 x 3 tiles of 8 columns of 0.75 and 6 rows of 0.5 mm
    np.testing.assert_allclose(volume.affine[:3, 3], [10 - 6, 20 - 3, 30])
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0, 4.0 * sign])
    assert volume.flags == ("mosaic",)


def without_csa(ds: Dataset) -> None:
    del ds[0x0029, 0x1010]


def without_normal(ds: Dataset) -> None:
    ds[0x0029, 0x1010].value = ds[0x0029, 0x1010].value.replace(
        b"SliceNormalVector", b"SliceNormalXector"
    )


def broken_csa(ds: Dataset) -> None:
    ds[0x0029, 0x1010].value = ds[0x0029, 0x1010].value[:100]


def without_count(ds: Dataset) -> None:
    ds[0x0029, 0x1010].value = ds[0x0029, 0x1010].value.replace(
        b"NumberOfImages", b"NumberOfXmages"
    )


def without_slice_spacing(ds: Dataset) -> None:
    del ds.SpacingBetweenSlices


def indivisible(ds: Dataset) -> None:
    set_pixels(ds, np.zeros((19, 24), np.uint16))


def pixels_beyond(ds: Dataset) -> None:
    pixels = ds.pixel_array.copy()
    pixels[-1, -1] = 1
    set_pixels(ds, pixels)


@pytest.mark.parametrize(
    "spoil",
    [
        without_csa,
        without_normal,
        broken_csa,
        without_count,
        without_slice_spacing,
        indivisible,
        pixels_beyond,
    ],
)
def test_a_mosaic_that_is_not_stated_completely_is_refused(tmp_path: Path, spoil: Any) -> None:
    ds = mosaic_dataset(np.stack([slice_pixels(n, 6, 8) for n in range(5)], axis=-1))
    spoil(ds)
    save(ds, tmp_path / "m.dcm")
    (source,) = discover(tmp_path).sources
    with pytest.raises(ScanError, match=r"dicom\.mosaic"):
        read_scan(tmp_path, source)


def test_a_mosaic_is_known_by_its_private_tag_too(tmp_path: Path) -> None:
    tiles = np.stack([slice_pixels(n, 6, 8) for n in range(5)], axis=-1)
    ds = mosaic_dataset(tiles)
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 5)
    without_count(ds)
    save(ds, tmp_path / "m.dcm")
    (volume,) = read_all(tmp_path)
    np.testing.assert_array_equal(volume.array[0], tiles)


def test_an_enhanced_object_has_geometry_and_scale_for_each_frame(tmp_path: Path) -> None:
    heights = [4.0, 0.0, 2.0, 6.0]  # item 19: frames need not be in order
    pixels = np.stack([slice_pixels(n, 6, 8) for n in range(4)])
    write_enhanced(tmp_path / "e.dcm", pixels, heights)
    (volume,) = read_all(tmp_path)
    scaled = pixels * np.arange(1, 5)[:, None, None]
    np.testing.assert_array_equal(volume.array[0], np.moveaxis(scaled[[1, 2, 0, 3]], 0, -1))
    expected = [[0, -3, 0, -1], [-2, 0, 0, -2], [0, 0, 2, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected)
    assert volume.modality == "MR"


def test_an_enhanced_object_of_several_time_points_is_several_scans(tmp_path: Path) -> None:
    pixels = np.stack([slice_pixels(n, 6, 8) for n in range(6)])
    ds = enhanced_dataset(pixels, [0, 2, 4, 0, 2, 4])
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.TemporalPositionIndex = number // 3 + 1
        group.FrameContentSequence = [content]
        del group.PixelValueTransformationSequence
    save(ds, tmp_path / "e.dcm")
    found = discover(tmp_path)
    assert [source.item for source in found.sources] == ["volume/0", "volume/1"]
    for number, source in enumerate(found.sources):
        volume = read_scan(tmp_path, source)
        expected = np.moveaxis(pixels[3 * number : 3 * number + 3], 0, -1)
        np.testing.assert_array_equal(volume.array[0], expected)


@pytest.mark.parametrize(
    ("heights", "code"),
    [
        ([0, 2, 6, 8], "dicom.missing_slices"),
        ([0, 2, 2, 4], "dicom.duplicate_slices"),
        ([0, 2, 4.7, 8], "dicom.uneven_spacing"),
    ],
)
def test_faults_between_frames(tmp_path: Path, heights: list[float], code: str) -> None:
    pixels = np.stack([slice_pixels(n, 6, 8) for n in range(4)])
    write_enhanced(tmp_path / "e.dcm", pixels, heights)
    (rejected,) = discover(tmp_path).rejected
    assert rejected.code == code


def test_one_enhanced_frame_is_an_image(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "e.dcm", slice_pixels(0, 6, 8)[np.newaxis], [5])
    (volume,) = read_all(tmp_path)
    assert volume.array.shape == (1, 6, 8)
    assert volume.orientation == "PL"


@pytest.mark.parametrize(("gone", "said"), [(1, "1 slice is missing"), (2, "2 slices are missing")])
def test_missing_slices_are_counted_in_words(tmp_path: Path, gone: int, said: str) -> None:
    for path in write_series(tmp_path, 7)[3 : 3 + gone]:
        path.unlink()
    (rejected,) = discover(tmp_path).rejected
    assert said in rejected.reason


def test_a_series_that_changed_since_it_was_found(tmp_path: Path) -> None:
    write_series(tmp_path, 4)
    (source,) = discover(tmp_path).sources
    write_ct(tmp_path / "a-001.dcm", 1, lambda ds: delattr(ds, "PixelSpacing"))
    with pytest.raises(ScanError, match=r"dicom\.no_geometry"):
        read_scan(tmp_path, source)
    write_ct(tmp_path / "a-001.dcm", 1, lambda ds: set_pixels(ds, slice_pixels(1, 6, 8)))
    with pytest.raises(ScanError, match=r"dicom\.mixed_matrix"):
        read_scan(tmp_path, source)
    (tmp_path / "a-001.dcm").unlink()
    with pytest.raises(ScanError, match=r"file\.unreadable"):
        read_scan(tmp_path, source)


def test_a_series_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, 4)
    policy = ReadPolicy(max_volume_bytes=3 * 32 * 40 * 4)
    (source,) = discover(tmp_path).sources
    with pytest.raises(ScanError, match=r"file\.too_large"):
        read_scan(tmp_path, source, policy)


def test_screen_captures_by_policy(tmp_path: Path) -> None:
    def capture(ds: Dataset) -> None:
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        del ds.ImagePositionPatient

    write_ct(tmp_path / "a.dcm", 0, capture)  # item 31
    write_ct(tmp_path / "b.dcm", 1, capture)
    assert [v.flags for v in read_all(tmp_path)] == [("secondary_capture",)] * 2
    (rejected,) = discover(tmp_path, policy=ReadPolicy(secondary_capture="refuse")).rejected
    assert rejected.code == "dicom.secondary_capture"


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.2.840.10008.5.1.4.1.1.88.11",  # text report
        "1.2.840.10008.5.1.4.1.1.481.3",  # structure set
        "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
        "1.2.840.10008.5.1.4.1.1.11.1",  # presentation state
        "1.2.840.10008.5.1.4.1.1.104.1",  # PDF
        "1.2.840.10008.1.3.10",  # DICOMDIR under another name
    ],
)
def test_objects_without_an_image_are_skipped_and_counted(tmp_path: Path, sop_class: str) -> None:
    write_ct(tmp_path / "x.dcm", change=lambda ds: setattr(ds, "SOPClassUID", sop_class))
    found = discover(tmp_path)  # items 32, 33
    assert not found.sources
    assert not found.rejected
    assert [entry.path for entry in found.skipped] == ["x.dcm"]


def test_dicomdir_is_never_followed(tmp_path: Path) -> None:
    write_ct(tmp_path / "DICOMDIR")  # item 33: whatever it holds
    found = discover(tmp_path)
    assert not found.sources
    assert [entry.path for entry in found.skipped] == ["DICOMDIR"]


def test_private_class_with_an_image_is_read(tmp_path: Path) -> None:
    write_ct(tmp_path / "x.dcm", change=lambda ds: setattr(ds, "SOPClassUID", "1.3.999.1"))
    (volume,) = read_all(tmp_path)
    assert volume.array.shape == (1, 32, 40)


def test_patient_id_is_not_shown(tmp_path: Path) -> None:
    write_ct(tmp_path / "x.dcm")
    (source,) = discover(tmp_path).sources
    assert source.patient_key == "patient-1"
    assert "patient-1" not in repr(source)


def test_padding_in_some_slices_takes_the_smallest_value_of_the_whole_volume(
    tmp_path: Path,
) -> None:
    def change(ds: Dataset, number: int) -> None:
        pixels = slice_pixels(number)
        if number in (0, 2):
            pixels[:5] = 60000
        set_pixels(ds, pixels)
        ds.PixelPaddingValue = 60000
        ds["PixelPaddingValue"].VR = "US"

    write_series(tmp_path, 3, change)
    (volume,) = read_all(tmp_path)
    rest = np.stack([slice_pixels(n) for n in range(3)], axis=-1).astype(int) - 1024
    padding = np.zeros(rest.shape, bool)
    padding[:5, :, [0, 2]] = True
    assert (volume.array[0][padding] == rest[~padding].min()).all()
    np.testing.assert_array_equal(volume.array[0][~padding], rest[~padding])
    assert volume.flags == ("padding_filled",)


def test_a_multi_frame_object_that_changed_since_it_was_found(tmp_path: Path) -> None:
    pixels = np.stack([slice_pixels(n, 6, 8) for n in range(3)])
    write_enhanced(tmp_path / "e.dcm", pixels, [0, 2, 4])
    (source,) = discover(tmp_path).sources
    for item in ("volume/3", "volume/x"):
        with pytest.raises(ScanError, match=r"file\.changed"):
            read_scan(tmp_path, type(source)("dicom", source.paths, item=item))
    ds = ct_dataset(pixels=slice_pixels(0, 6, 8))
    ds.NumberOfFrames, ds.PixelData = 2, slice_pixels(0, 12, 8).astype("<u2").tobytes()
    save(ds, tmp_path / "e.dcm")
    with pytest.raises(ScanError, match=r"dicom\.multi_frame"):
        read_scan(tmp_path, source)


def test_a_mosaic_in_colour_is_refused(tmp_path: Path) -> None:
    ds = mosaic_dataset(np.stack([slice_pixels(n, 6, 8) for n in range(5)], axis=-1))
    set_pixels(ds, np.zeros((18, 24, 3), np.uint8))
    save(ds, tmp_path / "m.dcm")
    (source,) = discover(tmp_path).sources
    with pytest.raises(ScanError, match=r"dicom\.mosaic"):
        read_scan(tmp_path, source)


def test_a_normal_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    tiles = np.stack([slice_pixels(n, 6, 8) for n in range(5)], axis=-1)
    save(mosaic_dataset(tiles, normal=(0, 1)), tmp_path / "m.dcm")  # type: ignore[arg-type]
    (source,) = discover(tmp_path).sources
    with pytest.raises(ScanError, match=r"dicom\.mosaic"):
        read_scan(tmp_path, source)


@pytest.mark.parametrize("broken", [False, True])
def test_the_number_of_time_points_must_fit(tmp_path: Path, broken: bool) -> None:
    """Twelve images at three places are four volumes only if each place has four."""

    def change(ds: Dataset, repeat: int) -> None:
        ds.NumberOfTemporalPositions = 4
        if broken and repeat == 3:
            ds.ImagePositionPatient = [-10, -20, 30]

    write_repeats(tmp_path, 4, change)
    found = discover(tmp_path)
    if broken:
        assert [entry.code for entry in found.rejected] == ["dicom.duplicate_slices"]
    else:
        assert len(found.sources) == 4


def test_geometry_needs_a_place(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"dicom\.no_geometry"):
        plane_affine(SliceHeader("x"))


def test_burned_in_text_by_policy(tmp_path: Path) -> None:
    write_ct(tmp_path / "a.dcm", 0, lambda ds: setattr(ds, "BurnedInAnnotation", "YES"))
    assert read_all(tmp_path)[0].flags == ("burned_in_annotation",)
    (rejected,) = discover(tmp_path, policy=ReadPolicy(secondary_capture="refuse")).rejected
    assert rejected.code == "dicom.secondary_capture"
