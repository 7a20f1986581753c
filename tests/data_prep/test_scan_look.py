"""What is noted of a scan: little, the same each time, and of the patient's axes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_prep.describe import describe
from data_prep.geometry import reorient
from data_prep.scan_look import (
    LEVELS,
    MAX_VOXELS,
    AsRead,
    ScanLook,
    intensity_quantiles,
    look_at,
    look_back,
)
from data_prep.volume import Volume


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_child_that_looks_does_not_pay_for_torch() -> None:
    code = "import sys, data_prep.scan_look; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_look_survives_the_way_to_the_parent_and_is_small() -> None:
    volume = Volume(noise((1, 12, 11, 10)), np.diag([1.0, 2.0, 3.0, 1.0]), modality="MR")
    look = look_at(volume, noise((1, 16, 16, 16)))
    sent = pickle.dumps(look)
    assert len(sent) < 4000
    back = pickle.loads(sent)
    assert np.array_equal(back.raw, look.raw) and np.array_equal(back.small, look.small)


@pytest.mark.parametrize("shape", [(1, 5, 1), (2, 7, 9), (1, 120, 90), (1, 30, 25, 16), (1, 1, 1)])
def test_texture_is_of_steps_along_every_axis(shape: tuple[int, ...]) -> None:
    """All of them, or for many voxels 8,192 drawn for each axis from all with a next one."""
    prepared = noise(shape, seed=2)
    steps = [np.zeros(int(prepared[0].size == 1))]
    for axis in range(1, prepared.ndim):
        along = np.moveaxis(prepared, axis, 1)
        upper, lower = along[:, 1:].reshape(-1), along[:, :-1].reshape(-1)
        if upper.size > MAX_VOXELS:
            drawn = np.random.default_rng(0x54F1).integers(upper.size, size=MAX_VOXELS)
            upper, lower = upper[drawn], lower[drawn]
        steps.append(np.abs(upper - lower))
    look = look_at(Volume(noise((1, 4, 4)), np.eye(4)), prepared)
    expected = np.quantile(np.concatenate(steps).astype(np.float64), LEVELS)
    np.testing.assert_allclose(look.texture, expected, rtol=1e-6)


def test_what_a_store_keeps_gives_the_same_look() -> None:
    volume = Volume(
        noise((1, 12, 11, 10)), np.diag([-1.0, 2, 3, 1]), modality="CT", flags=("no_rescale",)
    )
    prepared = noise((1, 8, 8, 8), seed=1)
    facts = describe(volume)
    read = AsRead(
        "scan",
        facts.pixel_sha256,
        facts.shape,
        facts.spacing_mm,
        facts.orientation,
        facts.modality,
        facts.dtype,
        facts.flags,
        facts.quantiles,
    )
    now, then = asdict(look_at(volume, prepared)), asdict(look_back(read, prepared))
    assert {name: repr(value) for name, value in now.items()} == {
        name: repr(value) for name, value in then.items()
    }
    assert look_at(volume, prepared).fingerprint == read.fingerprint


def test_fingerprints_stay_what_packages_hold() -> None:
    # Were numpy to draw other voxels one day, no scan that a model has seen would be known again.
    ramp = np.arange(1 << 15, dtype=np.int16).reshape(1, 32, 32, 32)
    drawn = look_at(Volume(ramp, np.eye(4)), ramp.astype(np.float32)).fingerprint
    assert drawn.startswith("28b484a65f5a")
    few = Volume(ramp[0, :1, :3], np.eye(4), has_geometry=False)
    assert look_at(few, few.array.astype(np.float32)).fingerprint.startswith("b0521346a94b")


def test_fingerprints_differ_with_shape_type_and_intensities() -> None:
    array = noise((1, 6, 4)).astype(np.float64)
    brighter = array.copy()
    brighter[0, 2, 2] = array.max() + 1
    kinds = (array, array.astype(np.float32), array.reshape(1, 4, 6), brighter)
    looks = [look_at(Volume(a, np.eye(4), has_geometry=False), noise((1, 9, 9))) for a in kinds]
    assert len({look.fingerprint for look in looks}) == len(kinds)


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),
    st.floats(0.2, 5),
    st.floats(-100, 100),
)
def test_raw_quantiles_keep_gain_and_offset(
    shape: tuple[int, int, int], gain: float, offset: float
) -> None:
    array = noise(shape).astype(np.float64)
    prepared = noise((1, 9, 9))
    plain, changed = (
        look_at(Volume(values, np.eye(4), has_geometry=False), prepared)
        for values in (array, array * gain + offset)
    )
    assert np.allclose(changed.raw, plain.raw * gain + offset)
    assert (np.diff(plain.raw) >= 0).all()


def test_of_many_voxels_some_stand_for_all() -> None:
    array = noise((1, 60, 50, 40))
    assert array.size > MAX_VOXELS
    look = look_at(Volume(array, np.eye(4)), array)
    within = [np.mean(array <= value) for value in look.raw]
    assert np.allclose(within, LEVELS, atol=0.02)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.lists(st.integers(1, 29), min_size=2, max_size=3))
def test_the_small_scan_keeps_the_mean(channels: int, edges: list[int]) -> None:
    array = noise((channels, *edges))
    volume = Volume(array, np.eye(4))
    small = look_at(volume, array).small
    cells = 12 if len(edges) == 2 else 6
    assert len(small) == channels * np.prod([min(edge, cells) for edge in edges])
    assert small.dtype == np.float32
    constant = look_at(volume, np.full_like(array, 7)).small
    assert np.allclose(constant, 7)
    if all(edge % min(edge, cells) == 0 for edge in edges):
        assert np.isclose(small.mean(), array.mean(), atol=1e-5)


@pytest.mark.parametrize("code", ["RAS", "LPS", "SAR", "PIL"])
def test_lengths_are_along_the_patients_axes(code: str) -> None:
    volume = Volume(noise((1, 4, 6, 8)), np.diag([1.0, 2.0, 3.0, 1.0]))
    turned = reorient(volume, code)
    look = look_at(turned, turned.array.astype(np.float32))
    assert look.orientation == code
    assert np.allclose(np.exp(look.lengths), [1, 2, 3, 4, 6, 8])


def test_without_geometry_lengths_are_as_stored() -> None:
    volume = Volume(noise((1, 4, 6)), np.eye(4), has_geometry=False)
    look = look_at(replace(volume, flags=("lossy", "inverted")), noise((1, 4, 6)))
    assert np.allclose(np.exp(look.lengths), [1, 1, 4, 6])
    assert look.kinds["flags"] == "inverted lossy"
    assert look.kinds["channels"] == "1"
    assert isinstance(look, ScanLook)


@settings(deadline=None)
@given(
    arrays(
        st.sampled_from([np.int16, np.float32, np.float64]),
        st.integers(1, 60),
        elements=st.integers(-999, 999),
    )
)
def test_quantiles_are_numpys_to_the_bit(values: np.ndarray) -> None:
    found = intensity_quantiles(values.reshape(1, -1))
    np.testing.assert_array_equal(found, np.quantile(values.astype(np.float64), LEVELS))


def test_a_voxel_that_is_no_number_leaves_no_quantile() -> None:
    assert np.isnan(intensity_quantiles(np.array([[0.0, np.nan, 1.0]]))).all()
