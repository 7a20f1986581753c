"""Geometry: exact where no voxel is interpolated, equal to the references where it is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from monai.transforms import (
    CenterSpatialCrop,
    Orientation,
    Resize,
    ResizeWithPadOrCrop,
    Spacing,
    SpatialResample,
)
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.transform import resize as skimage_resize

from data_prep.errors import ScanError
from data_prep.geometry import (
    MAX_VOXELS,
    check_orientation,
    crop_or_pad,
    reorient,
    resample,
    resize,
    to_grid,
)
from data_prep.volume import Affine, Volume

CODES_3D = [
    "".join(letters)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*axes)
]
CODES_AXIAL = [code for code in CODES_3D if code[2] == "S"]


def rotated_affine(seed: int, spacing: Sequence[float] = (0.7, 1.3, 4.0)) -> Affine:
    """Any rotation, spacing and origin; left-handed for odd seeds."""
    affine = np.eye(4)
    turned = Rotation.random(rng=np.random.default_rng(seed)).as_matrix() * np.array(spacing)
    affine[:3, :3] = turned * np.array([1, 1, -1 if seed % 2 else 1])
    affine[:3, 3] = (-90.0, 14.5, 33.3)
    return affine


def volume(shape: Sequence[int] = (1, 7, 6, 5), affine: Affine | None = None) -> Volume:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Volume(array, np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine)


def world(volume: Volume, index: Sequence[float]) -> NDArray[np.float64]:
    return volume.affine[:3, :3] @ np.array([*index, 0.0][:3]) + volume.affine[:3, 3]


def to_monai(volume: Volume) -> MetaTensor:
    return MetaTensor(torch.from_numpy(np.array(volume.array)), affine=torch.tensor(volume.affine))


# --- orientation


def test_there_are_48_orientations() -> None:
    assert len(CODES_3D) == len(set(CODES_3D)) == 48
    for code in CODES_3D:
        check_orientation(code)


@pytest.mark.parametrize("code", ["", "R", "RA?", "RAA", "RLS", "ras", "RASI", "RR", "PLL"])
def test_what_is_not_an_orientation_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="is not an orientation"):
        check_orientation(code)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    channels=st.integers(1, 2),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_500_volumes_come_back_exactly_from_all_48_orientations(
    shape: tuple[int, ...], channels: int, seed: int, data: st.DataObject
) -> None:
    dtype = data.draw(st.sampled_from(["uint8", "int16", "float32"]))
    array = np.random.default_rng(seed).integers(0, 200, size=(channels, *shape)).astype(dtype)
    first = Volume(array, rotated_affine(seed))
    start = first.orientation
    for code in CODES_3D:
        there = reorient(first, code)
        back = reorient(there, start)
        assert there.orientation == code
        assert back.array.dtype == array.dtype
        assert np.array_equal(back.array, array)
        assert np.abs(back.affine - first.affine).max() <= 1e-6
    # A voxel keeps its place in the patient.
    there = reorient(first, CODES_3D[seed % 48])
    index = np.linalg.solve(there.affine, first.affine[:, 3])[:3]
    at = np.rint(index).astype(int)
    assert np.abs(index - at).max() <= 1e-6
    assert np.array_equal(there.array[(slice(None), *at)], array[:, 0, 0, 0])


@pytest.mark.parametrize("code", ["RAS", "LPI", "SAL", "PIR"])
@pytest.mark.parametrize("seed", range(4))
def test_orientation_agrees_with_nibabel_and_monai(code: str, seed: int) -> None:
    scan = volume(affine=rotated_affine(seed))
    ours = reorient(scan, code)

    image = nib.Nifti1Image(scan.array[0], scan.affine)
    change = nib.orientations.ornt_transform(
        nib.io_orientation(scan.affine), nib.orientations.axcodes2ornt(code)
    )
    theirs = image.as_reoriented(change)
    assert np.array_equal(ours.array[0], np.asarray(theirs.dataobj))
    assert np.abs(ours.affine - theirs.affine).max() <= 1e-6

    labels = (("L", "R"), ("P", "A"), ("I", "S"))
    turned = Orientation(axcodes=code, labels=labels)(to_monai(scan))
    assert np.array_equal(ours.array, turned.numpy())
    assert np.abs(ours.affine - turned.affine.numpy()).max() <= 1e-6


@pytest.mark.parametrize("code", CODES_AXIAL)
def test_images_turn_in_their_plane(code: str) -> None:
    upright = volume((3, 4, 5), affine=np.diag([2.0, 3.0, 1.0, 1.0]))
    turned = reorient(upright, code[:2])
    assert turned.orientation == code[:2]
    assert np.array_equal(turned.affine[:3, 2], upright.affine[:3, 2])
    back = reorient(turned, "RA")
    assert np.array_equal(back.array, upright.array)
    assert np.abs(back.affine - upright.affine).max() <= 1e-6


def test_rows_to_posterior_and_columns_to_left_is_the_radiologists_view() -> None:
    array = np.zeros((1, 4, 5), dtype=np.uint8)
    array[0, 3, 4] = 1  # far right, far anterior, in an image whose axes are R and A
    shown = reorient(Volume(array, np.eye(4)), "PL")
    assert shown.array[0, 0, 0] == 1


def test_another_plane_is_refused() -> None:
    sagittal = Volume(
        np.zeros((1, 4, 5)), np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    )
    assert sagittal.orientation == "AS"
    with pytest.raises(ScanError, match="plane is AS") as caught:
        reorient(sagittal, "PL")
    assert caught.value.code == "volume.wrong_plane"


def test_orientation_of_the_other_dimension_is_refused() -> None:
    with pytest.raises(ScanError) as caught:
        reorient(volume(), "PL")
    assert caught.value.code == "volume.wrong_ndim"


def test_scans_without_geometry_stay_as_they_are() -> None:
    scan = Volume(np.arange(6.0).reshape(1, 2, 3), np.eye(4), has_geometry=False)
    assert reorient(scan, "PL") is scan
    assert reorient(scan, "RAS") is scan


# --- resampling and resizing


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    target=st.tuples(*[st.floats(0.5, 5.0)] * 3),
    seed=st.integers(0, 1000),
)
def test_resampling_keeps_the_centre_and_sets_the_spacing(
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    target: tuple[float, ...],
    seed: int,
) -> None:
    scan = volume((1, *shape), affine=rotated_affine(seed, spacing))
    for order in ("linear", "nearest"):
        got = resample(scan, target, order)
        assert got.spacing_mm == pytest.approx(target, rel=1e-9)
        middle = [(n - 1) / 2 for n in shape]
        new_middle = [(n - 1) / 2 for n in got.array.shape[1:]]
        assert np.abs(world(got, new_middle) - world(scan, middle)).max() <= 1e-6
        for n, m, have, want in zip(shape, got.array.shape[1:], spacing, target, strict=True):
            assert m == 1 or abs(m * want - n * have) <= want / 2 + 1e-9
        assert got.array.min() >= scan.array.min() - 1e-5
        assert got.array.max() <= scan.array.max() + 1e-5


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    slope=hnp.arrays(np.float64, 3, elements=st.floats(-2, 2)),
    spacing=st.tuples(*[st.floats(0.5, 1.5)] * 3),
)
def test_a_ramp_in_space_stays_that_ramp(
    slope: NDArray[np.float64], spacing: tuple[float, ...]
) -> None:
    """Linear interpolation and a symmetric Gaussian are exact on a ramp, away from the edge."""
    affine = rotated_affine(3, spacing)
    index = np.stack(np.meshgrid(*[np.arange(24.0)] * 3, indexing="ij"), axis=-1)
    values = (index @ affine[:3, :3].T + affine[:3, 3]) @ slope
    got = resample(Volume(values[None].astype(np.float32), affine), (1.1, 0.8, 1.7))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in got.array.shape[1:]], indexing="ij"), -1)
    expected = (index @ got.affine[:3, :3].T + got.affine[:3, 3]) @ slope
    inside = (slice(2, -2),) * 3
    assert np.abs(got.array[0] - expected)[inside].max() <= 1e-3


@pytest.mark.parametrize("shape", [(20, 60, 23), (11, 25, 40), (37, 50, 23), (1, 1, 1)])
def test_resizing_agrees_with_scikit_image(shape: tuple[int, ...]) -> None:
    scan = volume((2, 37, 50, 23))
    got = resize(scan, shape)
    for ours, channel in zip(got.array, scan.array, strict=True):
        theirs = skimage_resize(
            channel.astype(np.float64), shape, order=1, mode="edge", anti_aliasing=True
        )
        assert np.abs(ours - theirs).max() <= 2e-6


def test_resizing_an_image_agrees_with_scikit_image() -> None:
    scan = volume((3, 50, 41))
    got = resize(scan, (17, 80))
    theirs = [
        skimage_resize(c.astype(float), (17, 80), order=1, mode="edge", anti_aliasing=True)
        for c in scan.array
    ]
    assert np.abs(got.array - np.stack(theirs)).max() <= 2e-6


@pytest.mark.parametrize("shape", [(14, 12, 10), (9, 20, 31)])
def test_enlarging_agrees_with_monai(shape: tuple[int, ...]) -> None:
    """MONAI cuts its Gaussian elsewhere, so only without shrinking are the two the same."""
    scan = volume()
    theirs = Resize(shape, mode="trilinear", align_corners=False)(to_monai(scan))
    ours = resize(scan, shape)
    assert np.abs(ours.array - theirs.numpy()).max() <= 2e-6
    assert np.abs(ours.affine - theirs.affine.numpy()).max() <= 1e-6


def test_shrinking_agrees_with_monai_within_its_cut_of_the_gaussian() -> None:
    smooth = ndimage.gaussian_filter(volume((1, 40, 36, 30)).array[0], 2)[None]
    scan = Volume(smooth / np.abs(smooth).max(), np.eye(4))
    theirs = Resize((16, 20, 15), mode="trilinear", align_corners=False, anti_aliasing=True)(
        to_monai(scan)
    ).numpy()
    ours = resize(scan, (16, 20, 15)).array
    inside = (slice(None), *(slice(2, -2),) * 3)  # MONAI pads with zeros
    assert np.abs(ours - theirs)[inside].max() <= 0.02


@pytest.mark.parametrize("order", ["linear", "nearest"])
def test_resampling_agrees_with_monai_on_the_same_grid(order: str) -> None:
    scan = volume((1, 12, 10, 8), affine=rotated_affine(2, (2.0, 3.0, 4.0)))
    ours = resample(scan, (1.7, 2.2, 4.1), "linear" if order == "linear" else "nearest")
    theirs = SpatialResample(
        mode="bilinear" if order == "linear" else "nearest",
        padding_mode="border",
        align_corners=False,
        dtype=np.float64,
    )(to_monai(scan), dst_affine=torch.tensor(ours.affine), spatial_size=ours.array.shape[1:])
    assert np.abs(ours.array - theirs.numpy()).max() <= 1e-4


def test_resampling_agrees_with_monai_spacing() -> None:
    """MONAI's scale_extent keeps the field of view, as we do."""
    scan = volume((1, 12, 10, 8), affine=np.diag([2.0, 3.0, 4.0, 1.0]))
    theirs = Spacing(
        pixdim=(1.0, 1.5, 2.0), mode="bilinear", padding_mode="border", scale_extent=True
    )(to_monai(scan))
    ours = resample(scan, (1.0, 1.5, 2.0))
    assert ours.array.shape == tuple(theirs.shape)
    assert np.abs(ours.affine - theirs.affine.numpy()).max() <= 1e-6
    assert np.abs(ours.array - theirs.numpy()).max() <= 1e-4


def test_nearest_keeps_labels_and_their_type() -> None:
    labels = Volume(np.array([0, 7, 7, 3], dtype=np.int16).reshape(1, 1, 1, 4), np.eye(4))
    got = resample(labels, (1.0, 1.0, 0.5), "nearest")
    assert got.array.dtype == np.int16
    assert got.array.ravel().tolist() == [0, 0, 7, 7, 7, 7, 3, 3]
    assert resize(labels, (1, 1, 2), "nearest").array.ravel().tolist() == [7, 3]


def test_shrinking_does_not_fold_fine_stripes_into_coarse_ones() -> None:
    stripes = np.tile(np.array([0.0, 1.0], dtype=np.float32), 32)[None, None, :]
    got = resize(Volume(np.repeat(stripes, 4, axis=1), np.eye(4)), (4, 9)).array
    assert np.abs(got[:, :, 1:-1] - 0.5).max() <= 0.01
    folded = resize(Volume(np.repeat(stripes, 4, axis=1), np.eye(4)), (4, 9), "nearest").array
    assert np.ptp(folded) == 1.0


def test_integers_are_not_wrapped_or_rounded() -> None:
    scan = Volume(np.array([-1000, 3000], dtype=np.int16).reshape(1, 1, 1, 2), np.eye(4))
    got = resize(scan, (1, 1, 4))
    assert got.array.dtype == np.float32
    assert got.array.ravel().tolist() == [-1000.0, 0.0, 2000.0, 3000.0]


def test_a_grid_that_would_fill_the_memory_is_refused() -> None:
    scan = volume(affine=np.diag([1e6, 1e6, 1e6, 1.0]))
    with pytest.raises(ScanError, match=f"at most {MAX_VOXELS}") as caught:
        resample(scan, (1.0, 1.0, 1.0))
    assert caught.value.code == "volume.bad_shape"
    with pytest.raises(ScanError):
        to_grid(scan, (1.0, 1.0, 1.0), (8, 8, 8), "resize")


# --- cropping and padding


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=st.tuples(*[st.integers(1, 9)] * 3), target=st.tuples(*[st.integers(1, 12)] * 3))
def test_crop_or_pad_agrees_with_monai(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    scan = volume((2, *shape), affine=rotated_affine(1))
    kept = CenterSpatialCrop([min(n, m) for n, m in zip(shape, target, strict=True)])(
        to_monai(scan)
    )
    theirs = ResizeWithPadOrCrop(target, mode="constant", value=float(kept.min()))(to_monai(scan))
    ours = crop_or_pad(scan, target)
    assert np.array_equal(ours.array, theirs.numpy())
    assert np.abs(ours.affine - theirs.affine.numpy()).max() <= 1e-6


def test_padding_takes_the_value_asked_for() -> None:
    scan = Volume(np.ones((1, 2, 2), dtype=np.int16), np.eye(4))
    got = crop_or_pad(scan, (4, 2), value=-1024)
    assert got.array.dtype == np.int16
    assert got.array[0, :, 0].tolist() == [-1024, 1, 1, -1024]


# --- in one pass


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(2, 14)] * 3),
    target=st.tuples(*[st.integers(1, 14)] * 3),
    spacing=st.one_of(st.none(), st.tuples(*[st.floats(0.5, 5.0)] * 3)),
    mode=st.sampled_from(["resize", "crop_or_pad"]),
    order=st.sampled_from(["C", "F"]),
)
def test_one_pass_equals_the_steps(
    shape: tuple[int, ...],
    target: tuple[int, ...],
    spacing: tuple[float, ...] | None,
    mode: str,
    order: str,
) -> None:
    scan = volume((2, *shape), affine=rotated_affine(5, (2.0, 1.0, 3.0)))
    stored = Volume(np.asarray(scan.array, order="C" if order == "C" else "F"), scan.affine)
    step = scan if spacing is None else resample(scan, spacing)
    if mode == "resize":
        expected, got = resize(step, target), to_grid(stored, spacing, target, "resize")
    else:
        expected, got = crop_or_pad(step, target), to_grid(stored, spacing, target, "crop_or_pad")
    assert got.array.dtype == np.float32
    assert got.array.flags.c_contiguous
    assert np.abs(got.array - expected.array).max() <= 1e-5
    assert np.abs(got.affine - expected.affine).max() <= 1e-6


@pytest.mark.parametrize("wrong", [(4, 4), (4, 4, 4, 4)])
def test_a_grid_of_the_other_dimension_is_refused(wrong: tuple[int, ...]) -> None:
    for refused in (
        lambda: resample(volume(), wrong),
        lambda: resize(volume(), wrong),
        lambda: crop_or_pad(volume(), wrong),
        lambda: to_grid(volume(), None, wrong, "resize"),
    ):
        with pytest.raises(ScanError) as caught:
            refused()
        assert caught.value.code == "volume.wrong_ndim"


def test_flags_and_modality_are_kept() -> None:
    scan = Volume(np.ones((1, 4, 4, 4)), np.eye(4), modality="CT", flags=("lossy",))
    got = to_grid(reorient(scan, "LPS"), (2.0, 2.0, 2.0), (3, 3, 3), "crop_or_pad")
    assert (got.modality, got.flags) == ("CT", ("lossy",))
