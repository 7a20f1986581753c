"""A shift does what its name says, by its amount, and nothing at its neutral amount."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.errors import ConfigError
from pipeline.shifting import misread, shift_batch, shift_scan
from pipeline.shifts import KINDS, NEUTRAL, ORIENTATION_MISTAKES, Kind, Shift

# One amount of each kind that changes any scan that is not constant.
AMOUNTS: dict[Kind, float] = {
    "gain": 2.0,
    "bias": 0.2,
    "field": 1.5,
    "gamma": 0.7,
    "noise": 0.1,
    "blur": 1.0,
    "rotation": 30.0,
    "flip": 1.0,
    "shift": 2.0,
    "scale": 1.2,
    "orientation": 1.0,
}
SHAPES = [(1, 9, 9), (3, 7, 5), (1, 6, 5, 4)]
INTENSITY: tuple[Kind, ...] = ("gain", "bias", "field", "gamma")


def scan_of(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def of(kind: Kind, amount: float, **more: Any) -> Shift:
    return Shift(kind=kind, amount=amount, **more)


def test_every_kind_has_an_example_here() -> None:
    assert set(AMOUNTS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_neutral_amount_keeps_every_bit_and_others_keep_shape_and_type(
    kind: Kind, shape: tuple[int, ...]
) -> None:
    scan = scan_of(shape)
    before = scan.copy()
    assert shift_scan(scan, of(kind, NEUTRAL[kind])).tobytes() == before.tobytes()
    shifted = shift_scan(scan, of(kind, AMOUNTS[kind]))
    assert shifted.shape == shape
    assert shifted.dtype == np.float32
    assert np.isfinite(shifted).all()
    assert not np.array_equal(shifted, before)
    assert np.array_equal(scan, before), "the scan itself was changed"


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_scans_one_by_one_each_with_noise_of_its_own(kind: Kind) -> None:
    x = np.stack([scan_of((2, 8, 6), seed) for seed in (0, 0, 1)])
    shift = of(kind, AMOUNTS[kind])
    shifted = shift_batch(x, shift, seed=5)
    for number, scan in enumerate(x):
        assert np.array_equal(shifted[number], shift_scan(scan, shift, (5, number)))
    assert np.array_equal(shifted, shift_batch(x, shift, seed=5))
    assert np.array_equal(shifted[0], shifted[1]) == (kind != "noise")
    assert shift_batch(x, of(kind, NEUTRAL[kind])) is x


def test_noise_has_its_share_of_the_range_and_grows_in_place() -> None:
    scan = np.linspace(0, 50, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    width = float(np.subtract(*np.percentile(scan, (99, 1))))
    little, more = (shift_scan(scan, of("noise", a), 3) - scan for a in (0.1, 0.2))
    assert little.std() == pytest.approx(0.1 * width, rel=0.05)
    assert np.allclose(more, 2 * little, atol=1e-4)


def test_a_small_pattern_before_a_constant_background_still_has_a_range() -> None:
    scan = np.zeros((1, 40, 40), np.float32)
    scan[0, 3, 4] = 8
    assert np.allclose(shift_scan(scan, of("bias", 0.5)), scan + 4)


@pytest.mark.parametrize("kind", [*INTENSITY, "noise", "blur", "rotation", "shift", "scale"])
def test_a_constant_scan_stays_finite(kind: Kind) -> None:
    scan = np.full((1, 6, 6), 7, np.float32)
    shifted = shift_scan(scan, of(kind, AMOUNTS[kind]))
    assert np.isfinite(shifted).all()
    if kind not in ("gain", "field"):
        assert np.allclose(shifted, 7)


@given(factor=st.floats(0.1, 10), share=st.floats(-2, 2))
@settings(deadline=None, max_examples=25)
def test_gain_and_bias_are_linear(factor: float, share: float) -> None:
    scan = scan_of((1, 12, 12))
    width = float(np.subtract(*np.percentile(scan, (99, 1))))
    assert np.allclose(shift_scan(scan, of("gain", factor)), scan * factor, rtol=1e-5)
    assert np.allclose(shift_scan(scan, of("bias", share)), scan + share * width, atol=1e-3)


@given(exponent=st.floats(0.2, 5))
@settings(deadline=None, max_examples=25)
def test_gamma_keeps_the_order_and_the_ends_of_the_range(exponent: float) -> None:
    values = np.linspace(-50, 50, 101, dtype=np.float32)  # percentiles 1 and 99: -49 and 49
    shifted = shift_scan(values.reshape(1, 101, 1), of("gamma", exponent)).ravel()
    assert (np.diff(shifted) >= 0).all()
    assert shifted[[0, 1, 99]] == pytest.approx([-50, -49, 49], abs=1e-3)
    assert shifted[50] == pytest.approx(-49 + 98 * 0.5**exponent, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 9, 7), (1, 5, 7, 9)])
def test_the_field_runs_from_one_corner_to_the_other(shape: tuple[int, ...]) -> None:
    shifted = shift_scan(np.ones(shape, np.float32), of("field", 2))[0]
    first, last = (0,) * shifted.ndim, (-1,) * shifted.ndim
    middle = tuple(length // 2 for length in shifted.shape)
    found = [shifted[place] for place in (first, middle, last)]
    assert found == pytest.approx([0.5, 1, 2])
    assert all((np.diff(shifted, axis=axis) > 0).all() for axis in range(shifted.ndim))


@pytest.mark.parametrize("voxels", [-3, 1, 4])
def test_a_shift_moves_along_every_axis_and_the_edge_goes_on(voxels: int) -> None:
    scan = scan_of((2, 8, 6))
    rows = np.clip(np.arange(8) - voxels, 0, 7)
    columns = np.clip(np.arange(6) - voxels, 0, 5)
    assert np.array_equal(shift_scan(scan, of("shift", voxels)), scan[:, rows][:, :, columns])
    assert np.array_equal(shift_scan(scan, of("shift", voxels, axes=(1,))), scan[:, :, columns])


def test_a_wrapped_shift_loses_nothing() -> None:
    scan = scan_of((1, 8, 6, 5))
    shifted = shift_scan(scan, of("shift", 3, axes=(0, 2), beyond="wrap"))
    assert np.array_equal(shifted, np.roll(scan, (3, 3), (1, 3)))


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 7, 7), (1, 6, 6, 4)])
def test_quarter_turns_are_exact_and_go_from_the_first_axis_to_the_second(
    turns: int, shape: tuple[int, ...]
) -> None:
    scan = scan_of(shape)
    turned = shift_scan(scan, of("rotation", 90 * turns))
    assert np.array_equal(turned, np.rot90(scan, turns, axes=(1, 2)))
    other = shift_scan(scan, of("rotation", 90 * turns, axes=(1, 0)))
    assert np.array_equal(other, np.rot90(scan, -turns, axes=(1, 2)))


@given(degrees=st.floats(-40, 40))
@settings(deadline=None, max_examples=15)
def test_turning_there_and_back_restores_the_middle(degrees: float) -> None:
    i, j = np.mgrid[:25, :25]
    scan = np.exp(-((i - 12) ** 2 + (j - 8) ** 2) / 30)[None].astype(np.float32)
    back = shift_scan(shift_scan(scan, of("rotation", degrees)), of("rotation", -degrees))
    assert np.allclose(back, scan, atol=0.06)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_scale_changes_sizes_by_its_factor(factor: float) -> None:
    i, j = np.mgrid[:41, :41] - 20
    disc = (np.hypot(i, j) <= 8).astype(np.float32)[None]
    scaled = shift_scan(disc, of("scale", factor))
    assert scaled.sum() / disc.sum() == pytest.approx(factor**2, rel=0.08)
    assert scaled[0, 20, 20] == pytest.approx(1, abs=0.01)


def test_blur_keeps_the_mean_and_lowers_the_spread() -> None:
    scan = scan_of((1, 30, 30))
    shifted = shift_scan(scan, of("blur", 1.5))
    assert shifted.mean() == pytest.approx(scan.mean(), rel=0.01)
    assert shifted.std() < 0.35 * scan.std()


def test_flips_mirror_the_axes_that_are_named() -> None:
    scan = scan_of((1, 4, 5, 6))
    assert np.array_equal(shift_scan(scan, of("flip", 1)), scan[:, :, ::-1])
    assert np.array_equal(shift_scan(scan, of("flip", 1, axes=(0, 2))), scan[:, ::-1, :, ::-1])


@pytest.mark.parametrize("mistake", range(1, 1 + len(ORIENTATION_MISTAKES)))
@pytest.mark.parametrize("shape", [(1, 6, 6), (2, 6, 6, 4)])
def test_a_misread_orientation_moves_voxels_and_changes_none(
    mistake: int, shape: tuple[int, ...]
) -> None:
    scan = scan_of(shape)
    shifted = shift_scan(scan, of("orientation", mistake))
    assert np.array_equal(shifted, misread(scan, mistake))
    assert np.array_equal(np.sort(shifted, axis=None), np.sort(scan, axis=None))
    assert not np.array_equal(shifted, scan)


def test_mistakes_of_orientation_are_those_that_they_are_called() -> None:
    scan = scan_of((1, 3, 4, 5))
    assert np.array_equal(misread(scan, 0), scan)
    assert np.array_equal(misread(scan, 1), scan.transpose(0, 2, 1, 3))
    assert np.array_equal(misread(scan, 2), scan[:, ::-1, ::-1])
    assert np.array_equal(misread(scan, 3), scan[..., ::-1])
    assert np.array_equal(misread(scan, 4), np.rot90(scan, axes=(1, 2)))


def test_exchanged_axes_of_other_lengths_are_stretched_to_the_shape() -> None:
    rows = np.broadcast_to(np.linspace(0, 1, 12, dtype=np.float32)[:, None], (1, 12, 6))
    shifted = shift_scan(np.ascontiguousarray(rows), of("orientation", 1))
    assert shifted.shape == (1, 12, 6)
    assert np.allclose(shifted, shifted[:, :1])
    assert (np.diff(shifted[0, 0]) > 0).all()


def test_an_axis_that_the_scan_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="none is number 2"):
        shift_scan(scan_of((1, 5, 5)), of("shift", 1, axes=(0, 2)))
