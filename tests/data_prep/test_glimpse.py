"""A glimpse tells what numpy tells, and does not depend on how a scan happens to be stored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import glimpse as module
from data_prep.geometry import reorient
from data_prep.glimpse import Glimpse, glimpse, plane_code, thumbnail
from data_prep.intensity import nyul_landmarks
from data_prep.volume import Volume

CODES = [
    "".join(letters)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*order)
]


def ball(shape: tuple[int, ...], spacing: tuple[float, ...], centre: tuple[float, ...]) -> Volume:
    """A bright ball of 12 mm radius on a dark ground; ``centre`` in voxels. Oriented RAS."""
    grid = np.indices(shape)
    away = sum(
        ((axis - middle) * mm) ** 2 for axis, middle, mm in zip(grid, centre, spacing, strict=True)
    )
    array = np.where(away < 12**2, 500, 20) + grid[0]
    return Volume(array[np.newaxis].astype(np.int16), np.diag([*spacing, 1.0]))


BALL = ball((40, 30, 24), (1.0, 1.5, 2.0), (12.0, 15.0, 14.0))


def test_numbers_are_numpys() -> None:
    seen = glimpse(BALL)
    assert np.array_equal(seen.quantiles, np.quantile(BALL.array, np.linspace(0, 1, 257)))
    assert np.array_equal(seen.landmarks, nyul_landmarks(BALL.array))
    assert seen.at(0.5) == np.median(BALL.array)
    assert seen.tissue == tuple(np.percentile(BALL.array, (0.5, 99.5)))


def test_air_is_left_out_of_tissue() -> None:
    array = np.full((1, 10, 10, 10), -1000, dtype=np.int16)
    array[0, 5] = 40
    seen = glimpse(Volume(array, np.eye(4)))
    assert seen.tissue == (40.0, 40.0)
    assert glimpse(Volume(np.full_like(array, -1000), np.eye(4))).tissue == ()


def test_of_a_large_scan_a_sample_is_taken_and_always_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_VOXELS", 4000)
    noise = np.random.default_rng(0).normal(100, 15, (1, 40, 40, 20)).astype(np.float32)
    volume = Volume(noise, np.eye(4))
    first, again = glimpse(volume), glimpse(volume)
    assert np.array_equal(first.quantiles, again.quantiles)
    assert first.at(0.5) == pytest.approx(np.median(noise), abs=1.5)
    assert first.at(0) > noise.min()


@settings(max_examples=48, deadline=None)
@given(code=st.sampled_from(CODES))
def test_a_stored_orientation_changes_nothing_that_is_seen(code: str) -> None:
    expected, found = glimpse(BALL), glimpse(reorient(BALL, code))
    assert np.array_equal(found.quantiles, expected.quantiles)
    # A cut through an even number of slices takes the one behind the middle, whichever way round.
    odd = ball((41, 31, 25), (1.0, 1.5, 2.0), (12.0, 15.0, 14.0))
    assert np.allclose(thumbnail(reorient(odd, code)), thumbnail(odd), atol=1)
    in_ras = dict(zip(code.translate(str.maketrans("LPI", "RAS")), found.reach_mm, strict=True))
    assert [in_ras[letter] for letter in "RAS"] == pytest.approx(expected.reach_mm)


def test_reach_is_the_far_side_of_the_body_from_the_centre() -> None:
    array = np.zeros((1, 20, 20), dtype=np.uint8)
    array[0, 2:9, 8:12] = 200
    seen = glimpse(Volume(array, np.diag([0.5, 2.0, 1.0, 1.0]), has_geometry=False))
    # Rows 2 to 8 of 20: 8 rows of 0.5 mm from the centre. Columns 8 to 11: 2 of 2 mm.
    assert seen.reach_mm == (8.0, 8.0)


def test_a_speck_is_no_body() -> None:
    array = np.zeros((1, 100, 100), dtype=np.float32)
    array[0, 10:90, 20:80] = 100
    array[0, 1, 50] = 100  # its row holds 1 bright pixel, the body's rows 60: less than 2 %
    assert glimpse(Volume(array, np.eye(4))).reach_mm == (80.0, 60.0)
    array[0, 1, 50:52] = 100
    assert glimpse(Volume(array, np.eye(4))).reach_mm == (98.0, 60.0)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [("RA", "PL"), ("PL", "PL"), ("SR", "IL"), ("LI", "IL"), ("AS", "IP"), ("IP", "IP")],
)
def test_a_plane_has_one_way_up(orientation: str, expected: str) -> None:
    assert plane_code(orientation) == expected


def test_rows_of_an_axial_slice_run_from_front_to_back_and_columns_from_right_to_left() -> None:
    array = np.zeros((1, 16, 16, 8), dtype=np.float32)
    array[0, 12:, :, :] += 1  # right: a patient's right is at the viewer's left
    array[0, :, 12:, :] += 2  # front: at the top
    picture = thumbnail(Volume(array, np.eye(4)))
    assert picture[0, 0] > picture[0, -1] > picture[-1, 0] > picture[-1, -1]


def test_a_slice_lies_as_the_scan_was_taken() -> None:
    sagittal = np.zeros((1, 12, 40, 60), dtype=np.float32)
    sagittal[0, 6] = np.arange(40)[:, np.newaxis]
    picture = thumbnail(Volume(sagittal, np.diag([5.0, 1.0, 1.0, 1.0])))
    assert picture.shape == (60, 40)  # rows to inferior, columns to posterior
    assert (np.diff(picture[30].astype(int)) <= 0).all()
    coronal = Volume(np.moveaxis(sagittal, 1, 2), np.diag([1.0, 5.0, 1.0, 1.0]))
    assert thumbnail(coronal).shape == (60, 40)


def test_pixels_are_square_and_few() -> None:
    long = Volume(np.ones((1, 50, 400), np.uint8), np.diag([2.0, 1.0, 1.0, 1.0]), False)
    assert thumbnail(long).shape == (28, 112)
    tiny = Volume(np.ones((1, 28, 28), np.uint8), np.eye(4), False)
    assert thumbnail(tiny).shape == (28, 28)


def test_without_geometry_a_volume_is_cut_across_its_first_axis() -> None:
    array = np.zeros((1, 9, 6, 4), dtype=np.uint8)
    array[0, 4, :3] = 255
    picture = thumbnail(Volume(array, np.eye(4), has_geometry=False))
    assert picture.tolist() == [[255] * 4] * 3 + [[0] * 4] * 3


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_scan_is_black(value: int) -> None:
    seen = glimpse(Volume(np.full((1, 5, 5), value, np.uint8), np.eye(4), has_geometry=False))
    assert not seen.thumbnail.any()
    assert seen.reach_mm == (5.0, 5.0)


def test_a_rare_structure_still_shows() -> None:
    mask = np.zeros((1, 100, 100), dtype=np.uint8)
    mask[0, 40:44, 40:44] = 255  # fewer than one pixel in a hundred
    assert thumbnail(Volume(mask, np.eye(4), has_geometry=False)).max() == 255


def test_colour_is_told_from_grey_that_is_saved_as_colour() -> None:
    rng = np.random.default_rng(1)
    grey = np.repeat(rng.integers(0, 256, (1, 40, 40)), 3, axis=0)
    rounded = np.clip(grey + rng.integers(-1, 2, grey.shape), 0, 255).astype(np.uint8)
    coloured = rounded.copy()
    coloured[0, :10] = 255 - coloured[0, :10]

    def of(array: np.ndarray) -> Glimpse:
        return glimpse(Volume(array, np.eye(4), has_geometry=False))

    assert not of(rounded).is_colour
    assert of(coloured).is_colour
    assert not of(rounded[:1]).is_colour
    assert not of(np.concatenate([coloured, coloured[:1]])).is_colour
    assert of(coloured).thumbnail.shape == (40, 40, 3)
    assert np.array_equal(of(coloured).thumbnail, np.moveaxis(coloured, 0, -1))
    assert of(coloured.astype(np.float32)).thumbnail.shape == (40, 40)
