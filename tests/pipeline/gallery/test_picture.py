"""Pictures are upright, bounded in bytes, and the same for the same scan."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from data_prep.preprocess import PrepConfig
from pipeline.gallery.picture import EDGE_PX, MAX_BYTES, picture
from pipeline.serving.upright import Upright, planes


def shown(array: np.ndarray, orientation: str = "as stored", **config) -> Image.Image:
    stated = PrepConfig.model_validate(
        {"shape": array.shape[1:], "orientation": orientation, **config}
    )
    upright = Upright.of(stated, array.ndim - 1)
    return Image.open(io.BytesIO(picture(planes(upright.turn(array.astype(np.float32))))))


def brightest(image: Image.Image) -> tuple[float, float]:
    """(down, across) of the bright spot as shares of the axial square."""
    grey = np.asarray(image.convert("L"), dtype=float)[:, : image.height]
    row, column = np.unravel_index(int(grey.argmax()), grey.shape)
    return row / grey.shape[0], column / grey.shape[1]


@pytest.mark.parametrize(
    "shape", [(5, 7), (96, 96), (500, 40), (9, 8, 7), (96, 96, 96), (64, 8, 3)]
)
def test_noise_stays_within_the_bound_and_repeats(shape):
    array = np.random.default_rng(0).standard_normal((1, *shape))
    stated = Upright.of(PrepConfig(shape=shape), len(shape))
    made = [picture(planes(stated.turn(array.astype(np.float32)))) for _ in range(2)]
    assert made[0] == made[1]
    assert len(made[0]) <= MAX_BYTES
    image = Image.open(io.BytesIO(made[0]))
    assert image.height <= EDGE_PX
    assert image.width == (image.height if len(shape) == 2 else image.height * 3 // 2)


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR", "PIR"])
def test_a_volume_is_shown_as_radiologists_look_at_it(orientation):
    # A bright spot to the patient's right, in front, in the axial plane through the middle.
    array = np.zeros((1, 16, 16, 16))
    place = {"R": 13, "L": 2, "A": 13, "P": 2, "S": 8, "I": 7}
    axis = {"R": "R", "L": "L", "A": "A", "P": "P", "S": "S", "I": "I"}
    array[(0, *(place[axis[letter]] for letter in orientation))] = 1
    down, across = brightest(shown(array, orientation))
    assert across < 0.3  # the patient's right is on the left
    assert down < 0.3  # anterior is up


def test_a_volume_of_unknown_orientation_is_cut_across_its_last_axis():
    array = np.zeros((1, 16, 16, 4))
    array[0, 13, 2, 2] = 1
    down, across = brightest(shown(array))
    assert (across > 0.7) and (down < 0.3)


def test_an_image_stays_as_it_is_and_is_not_stretched():
    array = np.zeros((1, 10, 40))
    array[0, 1, 35] = 1
    image = shown(array)
    grey = np.asarray(image)
    assert image.size[0] == image.size[1]
    assert not grey[: image.height // 4].any()  # black above and below a flat image
    down, across = brightest(image)
    assert across > 0.8
    assert 0.3 < down < 0.5


def test_spacing_counts_where_the_recipe_keeps_it():
    array = np.random.default_rng(0).random((1, 20, 20)) + 5
    flat = shown(array, spacing_mm=(1.0, 2.0), fit="crop_or_pad")
    square = shown(array, spacing_mm=(1.0, 2.0), fit="resize")
    assert np.count_nonzero(np.asarray(flat)[0] > 40) == 0
    assert np.count_nonzero(np.asarray(square)[0] > 40) > 10


def test_colour_is_shown_as_colour_and_grey_as_grey():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.random((1, 20, 20)), 3, axis=0)
    scaled = grey * np.array([1.0, 2.0, 3.0])[:, None, None] + 1
    assert shown(scaled).mode == "L"
    assert shown(rng.random((3, 20, 20))).mode == "RGB"


def test_a_constant_scan_is_black():
    assert not np.asarray(shown(np.full((1, 12, 12), 7.0))).any()


@pytest.mark.parametrize("orientation", ["PL", "LP", "AR", "SA", "RI"])
def test_an_image_with_geometry_is_turned_upright(orientation):
    array = np.zeros((1, 16, 16))
    # Towards the patient's right in an axial or coronal plane, anterior in a sagittal one: left.
    plane = set(orientation) & set("RL")
    side = "R" if plane else "A"
    axis, opposite = next(
        (n, letter)
        for n, letter in enumerate(orientation)
        if letter in {"R": "RL", "A": "AP"}[side]
    )
    index = [8, 8]
    index[axis] = 14 if opposite == side else 1
    array[(0, *index)] = 1
    _, across = brightest(shown(array, orientation))
    assert across < 0.2
