"""A miniature does not change with gain, format or axis order; its hash is the low frequencies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from data_prep.geometry import reorient
from data_prep.miniature import hash_bits, miniature, perceptual_hash, pixel_digest
from data_prep.volume import Volume


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Smooth noise, (1, *shape) float64."""
    array = np.random.default_rng(seed).normal(size=(1, *shape))
    for axis in range(1, array.ndim):
        for _ in range(4):
            array = array + np.roll(array, 1, axis)
    return array


def image(array: np.ndarray) -> Volume:
    return Volume(array, np.eye(4), has_geometry=False)


@pytest.mark.parametrize("shape", [(28, 28), (64, 96), (200, 17), (5, 4), (20, 24, 16), (3, 40, 9)])
def test_planes_are_32_pixels_square_and_use_the_whole_grey_scale(shape: tuple[int, ...]) -> None:
    planes = miniature(image(blobs(shape, 0)))
    assert planes.shape == ({2: 1, 3: 3}[len(shape)], 32, 32)
    assert planes.dtype == np.uint8
    assert [(p.min(), p.max()) for p in planes] == [(0, 255)] * len(planes)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-1000, 1000))
def test_gain_and_offset_change_nothing_but_rounding(seed: int, gain: float, offset: float) -> None:
    array = blobs((30, 41), seed)
    a, b = miniature(image(array)), miniature(image(array * gain + offset))
    assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize("code", ["RAS", "LPS", "SPL", "IAR", "PSR"])
def test_the_order_of_a_volumes_axes_does_not_matter(code: str) -> None:
    scan = Volume(blobs((20, 26, 12), 3), np.diag([1.0, 1.5, 4.0, 1.0]))
    a, b = miniature(scan), miniature(reorient(scan, code))
    assert np.abs(a.astype(int) - b).max() <= 1


def test_pixels_are_area_means() -> None:
    array = blobs((96, 64), 1)
    means = array[0].reshape(32, 3, 32, 2).mean(axis=(1, 3))
    scaled = 255 * (means - means.min()) / np.ptp(means)
    assert np.abs(miniature(image(array))[0] - scaled).max() <= 0.5 + 1e-9


def test_projections_are_means_along_each_axis() -> None:
    array = blobs((32, 32, 32), 2)
    planes = miniature(image(array))
    for plane, axis in zip(planes, (0, 1, 2), strict=True):
        mean = array[0].mean(axis=axis)
        assert np.abs(plane - 255 * (mean - mean.min()) / np.ptp(mean)).max() <= 0.5 + 1e-9


def test_colours_are_averaged() -> None:
    grey = blobs((32, 32), 4)
    colour = np.concatenate([grey * 0.5, grey, grey * 1.5])
    assert np.abs(miniature(image(colour)).astype(int) - miniature(image(grey))).max() <= 1


def test_nothing_is_said_of_a_constant_scan() -> None:
    for shape in [(1, 9, 9), (1, 5, 6, 7), (3, 4, 4)]:
        planes = miniature(image(np.full(shape, 7.0)))
        assert planes.shape == (0, 32, 32)
        assert perceptual_hash(planes) == ""


def test_a_flat_projection_is_black() -> None:
    array = np.broadcast_to(np.arange(10.0) / 3, (1, 8, 9, 10))  # varies along k only
    planes = miniature(image(array))
    assert [bool(plane.any()) for plane in planes] == [True, True, False]


def test_bits_are_signs_of_the_lowest_frequencies() -> None:
    planes = miniature(image(blobs((40, 40), 5)))
    transformed = dctn(planes[0].astype(float), norm="ortho")
    frequency = np.hypot(*np.indices((32, 32)))
    bits = np.unpackbits(hash_bits(planes)[0])
    signs = transformed > 1e-3
    # stable order: by frequency, then row by row
    order = sorted(np.ndindex(32, 32), key=lambda at: (round(frequency[at] ** 2), at))
    assert [bool(bit) for bit in bits] == [bool(signs[at]) for at in order[1:257]]
    assert len(perceptual_hash(planes)) == 64
    assert len(perceptual_hash(miniature(image(blobs((9, 9, 9), 6))))) == 192


def test_a_hash_has_no_bits_of_rounding() -> None:
    """A gradient along one axis has exact zeros, whose computed sign would be chance."""
    rows = np.broadcast_to(np.arange(32.0)[:, None], (1, 32, 32))
    bits = np.unpackbits(hash_bits(miniature(image(rows)))[0])
    assert bits.sum() <= 15  # of the 15 frequencies down the rows at most


def test_the_pixel_digest_knows_shape_type_and_voxels() -> None:
    array = np.arange(12, dtype=np.int16).reshape(1, 3, 4)
    scans = [array, array.reshape(1, 4, 3), array.astype(np.uint16), array + 1]
    assert len({pixel_digest(image(scan)) for scan in scans}) == 4
    fortran = np.asfortranarray(array)
    assert pixel_digest(image(fortran)) == pixel_digest(image(array))
