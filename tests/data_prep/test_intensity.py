"""Intensity scales: what each promises, and the operation of the same meaning elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import (
    HistogramNormalize,
    NormalizeIntensity,
    ScaleIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
)
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import exposure
from skimage.color import rgb2ycbcr

from data_prep import intensity

Floats = NDArray[np.float32]


def scan(seed: int = 0, shape: tuple[int, ...] = (1, 16, 15, 14)) -> Floats:
    """A bright, textured middle on a dark, noisy background."""
    rng = np.random.default_rng(seed)
    index = np.indices(shape[1:]) - (np.array(shape[1:]).reshape(-1, *[1] * (len(shape) - 1)) / 2)
    middle = np.sqrt((index**2).sum(axis=0)) < min(shape[1:]) / 3
    texture = ndimage.gaussian_filter(rng.normal(size=shape), (0, *[2] * (len(shape) - 1)))
    values = 100 * middle + 200 * texture * middle + rng.normal(size=shape)
    return np.asarray(values, dtype=np.float32)


ALL: dict[str, Callable[[Floats], Floats]] = {
    "window": lambda x: intensity.window(x, 40, 400),
    "min_max": intensity.min_max,
    "percentile": lambda x: intensity.percentile(x, 1, 99),
    "z_score": intensity.z_score,
    "z_score of foreground": lambda x: intensity.z_score(x, "foreground"),
    "standardise": lambda x: intensity.standardise(x, [3.0], [2.0]),
    "nyul": lambda x: intensity.nyul(x, np.linspace(0, 1, 11)),
    "equalize": intensity.equalize,
    "clahe": intensity.clahe,
}
# These undo a scanner's gain and offset.
PER_SCAN = ["min_max", "percentile", "z_score", "z_score of foreground", "nyul", "equalize"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 16, 15, 14), (1, 32, 31)])
def test_every_scale_gives_finite_float32_of_the_same_shape(
    name: str, shape: tuple[int, ...]
) -> None:
    for values in (scan(shape=shape), scan(shape=shape).astype(np.int16)):
        got = ALL[name](values)
        assert got.dtype == np.float32
        assert got.shape == shape
        assert np.isfinite(got).all()
        assert np.ptp(got) > 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0.0, -1000.0, 7.5])
def test_a_constant_scan_has_no_scale_and_no_nan(name: str, value: float) -> None:
    got = ALL[name](np.full((1, 8, 8, 8), value, dtype=np.float32))
    assert np.isfinite(got).all()
    assert np.ptp(got) == 0
    if name in PER_SCAN:
        assert not got.any()


@pytest.mark.parametrize("name", PER_SCAN)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(gain=st.floats(0.1, 20), offset=st.floats(-500, 500), seed=st.integers(0, 100))
def test_gain_and_offset_do_not_matter(name: str, gain: float, offset: float, seed: int) -> None:
    first = scan(seed).astype(np.float64)
    assert np.abs(ALL[name](gain * first + offset) - ALL[name](first)).max() <= 1e-3


@pytest.mark.parametrize("name", ["min_max", "percentile", "equalize", "clahe", "window"])
def test_fractions_lie_between_0_and_1(name: str) -> None:
    got = ALL[name](scan())
    assert got.min() >= 0
    assert got.max() <= 1


def test_a_lung_window_in_hounsfield_units() -> None:
    hu = np.array([-2000, -1350, -600, 150, 3000], dtype=np.int16).reshape(1, 5, 1)
    assert intensity.window(hu, -600, 1500).ravel().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_the_window_agrees_with_monai() -> None:
    theirs = ScaleIntensityRange(40 - 200, 40 + 200, b_min=0.0, b_max=1.0, clip=True)(scan())
    assert np.abs(intensity.window(scan(), 40, 400) - theirs.numpy()).max() <= 1e-6


def test_z_scores_agree_with_monai() -> None:
    assert np.abs(intensity.z_score(scan()) - NormalizeIntensity()(scan()).numpy()).max() <= 1e-5
    # Where exactly the voxels above the mean are not zero, MONAI's "nonzero" is the foreground.
    masked = np.where(intensity.foreground(scan()), scan(), 0).astype(np.float32)
    assert np.array_equal(intensity.foreground(masked), masked != 0)
    theirs = NormalizeIntensity(nonzero=True)(masked.copy()).numpy()  # it writes to its input
    ours = intensity.z_score(masked, "foreground")
    assert np.abs(ours - theirs)[masked != 0].max() <= 1e-5
    assert abs(float(ours[masked != 0].mean())) <= 1e-5
    assert float(ours[masked != 0].std()) == pytest.approx(1, abs=1e-5)


def test_the_z_score_keeps_its_digits_far_from_zero() -> None:
    values = 1e6 + np.arange(100, dtype=np.float64).reshape(1, 10, 10)
    got = intensity.z_score(values.astype(np.float32))
    assert np.abs(got - intensity.z_score(values - 1e6)).max() <= 1e-5


def test_percentiles_and_min_max_agree_with_monai() -> None:
    theirs = ScaleIntensityRangePercentiles(2, 97, b_min=0, b_max=1, clip=True)(scan()).numpy()
    assert np.abs(intensity.percentile(scan(), 2, 97) - theirs).max() <= 1e-5
    theirs = ScaleIntensity()(scan()).numpy()
    assert np.abs(intensity.min_max(scan()) - theirs).max() <= 1e-6


def test_percentiles_of_the_foreground_do_not_see_the_air() -> None:
    narrow = scan()
    wide = np.pad(narrow, [(0, 0), (6, 6), (6, 6), (6, 6)], constant_values=narrow.min())
    inside = (slice(None), *(slice(6, -6),) * 3)

    def change(region: intensity.Region) -> float:
        return float(
            np.abs(
                intensity.percentile(wide, 5, 95, region)[inside]
                - intensity.percentile(narrow, 5, 95, region)
            ).mean()
        )

    assert change("foreground") < 0.3 * change("whole")


def test_min_max_takes_fixed_ends() -> None:
    bytes_ = np.array([0, 51, 255], dtype=np.uint8).reshape(1, 3, 1)
    assert intensity.min_max(bytes_, 0, 255).ravel().tolist() == pytest.approx([0, 0.2, 1])


def test_standardise_wants_one_scale_a_channel() -> None:
    assert intensity.standardise(np.array([[[1.0]], [[5.0]]]), [1, 3], [2, 4]).ravel().tolist() == [
        0.0,
        0.5,
    ]
    with pytest.raises(ValueError, match="zip"):
        intensity.standardise(np.zeros((3, 2, 2)), [0.0], [1.0])


# --- Nyúl


def test_nyul_brings_landmarks_of_other_scanners_to_the_standard_ones() -> None:
    """The same tissue under any increasing, piecewise smooth scanner response."""
    standard = np.mean(
        [intensity.nyul_standard(intensity.nyul_landmarks(scan(seed))) for seed in range(5)], axis=0
    )
    assert standard[0] == 0
    assert standard[-1] == 1
    assert (np.diff(standard) > 0).all()
    for other in (scan(7), 3 * scan(7) + 40, np.expm1(scan(7) / 100)):
        mapped = intensity.nyul(other, standard)
        there = intensity.foreground(other)
        got = np.percentile(mapped[there], intensity.NYUL_PERCENTILES)
        assert np.abs(got - standard).max() <= 1e-3


# What TorchIO 0.23.1 makes of these scans (``histogram_standardization``: ``_get_average_mapping``
# of the foreground percentiles of scans 0 to 4, at the eleven landmarks that its ``_normalize``
# takes; then one line of scan 7 on its scale of 0 to 100). TorchIO itself is no dependency.
TORCHIO_LANDMARKS = (
    *(0.0, 17.2061, 27.7933, 35.0902, 42.5227, 49.0919),
    *(55.5357, 62.2275, 70.6973, 79.89, 100.0),
)
TORCHIO_LINE = (
    *(-234.815, -241.521, -240.17, -1.074, 0.746, 8.226, 15.793),
    *(23.761, 39.867, 51.747, 59.15, 76.319, -236.802, -237.51),
)


def test_nyul_agrees_with_torchio() -> None:
    """Within the digits written down: 1e-6 of the scale for landmarks, 1e-5 for voxels."""
    learned = [intensity.nyul_standard(intensity.nyul_landmarks(scan(n))) for n in range(5)]
    standard = np.mean(learned, axis=0)
    assert np.abs(100 * standard - TORCHIO_LANDMARKS).max() <= 1e-4
    mapped = intensity.nyul(3 * scan(7) + 40, standard)
    assert np.abs(100 * mapped[0, 8, 7] - TORCHIO_LINE).max() <= 1e-3


def test_nyul_keeps_the_order_of_voxels_and_goes_on_beyond_the_ends() -> None:
    values = np.arange(1000, dtype=np.float32).reshape(1, 10, 10, 10)
    got = intensity.nyul(values, np.linspace(0, 1, 11) ** 2)
    assert (np.diff(got.ravel()) > 0).all()
    assert got.min() < 0
    assert got.max() > 1
    slopes = np.diff(got.ravel())
    assert slopes[0] == pytest.approx(slopes[480], rel=0.2)
    assert slopes[-1] == pytest.approx(slopes[-6], rel=1e-3)


def test_nyul_survives_a_scan_of_two_values() -> None:
    values = np.zeros((1, 6, 6), dtype=np.float32)
    values[0, 2:4, 2:4] = 9
    got = intensity.nyul(values, np.linspace(0, 1, 11))
    assert np.isfinite(got).all()


def test_a_flat_scan_teaches_evenly_spaced_landmarks() -> None:
    assert intensity.nyul_standard(np.full(11, 4.0)).tolist() == np.linspace(0, 1, 11).tolist()


# --- histograms


def test_equalisation_agrees_with_monai() -> None:
    theirs = HistogramNormalize(num_bins=128, min=0, max=1)(torch.from_numpy(scan())).numpy()
    assert np.abs(intensity.equalize(scan(), 128) - theirs).max() <= 1e-5


def test_equalisation_makes_every_grey_level_as_common() -> None:
    skewed = np.random.default_rng(0).exponential(size=(1, 60, 60)).astype(np.float32)
    got = intensity.equalize(skewed, 1024)
    counts, _ = np.histogram(got, 10, range=(0, 1))
    assert counts.std() / counts.mean() <= 0.1


def test_clahe_agrees_with_scikit_image() -> None:
    """Mean difference within 0.02 on a scale of 0 to 1: grey levels and tile centres are rounded
    differently, and scikit-image hands out what is clipped in whole voxels."""
    image = intensity.min_max(scan(3, (1, 256, 240)))
    for limit in (0.01, 0.05):
        ours = intensity.clahe(image, clip_limit=limit)[0]
        theirs = exposure.equalize_adapthist(image[0], clip_limit=limit)
        assert np.abs(ours - theirs).mean() <= 0.02
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.99


def test_clahe_agrees_with_scikit_image_in_3d() -> None:
    image = intensity.min_max(scan(3, (1, 48, 40, 44)))
    ours = intensity.clahe(image, tiles=2, clip_limit=0.05)[0]
    theirs = exposure.equalize_adapthist(image[0], kernel_size=(24, 20, 22), clip_limit=0.05)
    assert np.abs(ours - theirs).mean() <= 0.02


def test_clahe_with_one_tile_and_no_limit_is_equalisation() -> None:
    image = np.random.default_rng(0).uniform(size=(1, 60, 60)) ** 2
    ours = intensity.clahe(image, tiles=1, clip_limit=1.0)
    assert np.abs(ours - intensity.equalize(image)).max() <= 0.02


def test_clahe_limits_the_contrast() -> None:
    """Noise of 1 in 1000 grey levels must not be blown up to the whole scale."""
    rng = np.random.default_rng(0)
    image = (np.linspace(0, 1000, 64)[None, None, :] + rng.normal(size=(1, 64, 64))).astype("f4")

    def roughness(limit: float) -> float:
        got = intensity.clahe(image, clip_limit=limit)
        return float(np.abs(np.diff(got, axis=1)).mean())

    assert roughness(0.01) < 0.5 * roughness(1.0)


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 9, 17), (2, 5, 4, 3)])
def test_clahe_takes_any_shape(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    got = intensity.clahe(values)
    assert got.shape == shape
    assert np.isfinite(got).all()


# --- colour


def test_luma_is_pillows() -> None:
    colours = np.random.default_rng(0).integers(0, 256, size=(3, 20, 30), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(np.moveaxis(colours, 0, -1)).convert("L"))
    ours = intensity.to_grey(colours)
    assert ours.shape == (1, 20, 30)
    assert np.abs(ours[0] - theirs).max() <= 1.0  # Pillow gives whole numbers


def test_grey_to_colour_and_back_is_the_same_grey() -> None:
    grey = scan(0, (1, 8, 9))
    colour = intensity.to_rgb(grey)
    assert colour.shape == (3, 8, 9)
    assert np.abs(intensity.to_grey(colour) - grey).max() <= 1e-4


def test_imagenet_agrees_with_monai() -> None:
    colours = intensity.min_max(scan(2, (3, 12, 10)))
    theirs = NormalizeIntensity(
        subtrahend=intensity.IMAGENET_MEAN, divisor=intensity.IMAGENET_STD, channel_wise=True
    )(colours.copy())  # it writes to its input
    assert np.abs(intensity.imagenet(colours) - np.asarray(theirs)).max() <= 1e-5


def test_luma_agrees_with_scikit_image() -> None:
    colours = np.random.default_rng(1).uniform(size=(3, 20, 30))
    theirs = rgb2ycbcr(np.moveaxis(colours, 0, -1))[..., 0]  # BT.601 luma on 16..235
    assert np.abs(intensity.to_grey(colours)[0] - (theirs - 16) / 219).max() <= 1e-4


def test_imagenet_scale() -> None:
    """The mean colour becomes 0; white becomes what torchvision's Normalize gives."""
    mean = np.array(intensity.IMAGENET_MEAN).reshape(3, 1, 1)
    assert np.abs(intensity.imagenet(mean)).max() == 0
    white = intensity.imagenet(np.ones((3, 1, 1))).ravel()
    assert white.tolist() == pytest.approx([2.2489, 2.4286, 2.6400], abs=1e-4)
