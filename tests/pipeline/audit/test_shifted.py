"""What a recipe undoes, what it cannot, and what happens to scans where it is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.geometry import reorient
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.volume import Volume
from pipeline.audit.shifted import ShiftScan, shift_volume, stored_as, voxel_ratio
from pipeline.audit.sweep import RANGES, Step, sweep
from pipeline.shifting import misread
from pipeline.shifts import KINDS, ORIENTATION_MISTAKES

SHAPE = (8, 7, 6)
MISTAKES = range(1, 1 + len(ORIENTATION_MISTAKES))
EDGES = "RL", "AP", "SI"


def volume_of(
    shape: tuple[int, ...] = SHAPE, seed: int = 0, code: str = "RAS", *, geometry: bool = True
) -> Volume:
    array = np.random.default_rng(seed).normal(100, 20, (1, *shape)).astype(np.float32)
    volume = Volume(array, np.diag([1.0, 1.5, 2.0, 1.0]), has_geometry=geometry)
    return reorient(volume, code)


def recipe_of(intensity: dict[str, Any], **changes: Any) -> PrepRecipe:
    content = {"orientation": "RAS", "shape": SHAPE, "fit": "resize", "intensity": intensity}
    config = PrepConfig.model_validate(content | changes)
    return PrepRecipe.fit(config, [volume_of(seed=seed) for seed in range(3)])


def step_of(kind: str, amount: float = 1.0) -> Step:
    steps = sweep((1, *SHAPE), stored=True)
    return next(s for s in steps if s.kind == kind and s.amount == amount)


def prepared(recipe: PrepRecipe, kind: str, amount: float, volume: Volume) -> list[np.ndarray]:
    """Unshifted and shifted with the recipe, then without it, then unnormalised."""
    return list(ShiftScan(recipe, (step_of(kind, amount),))(volume))


@pytest.mark.parametrize("rule", [{"kind": "z_score"}, {"kind": "percentile"}])
@pytest.mark.parametrize(("kind", "amount"), [("gain", 2), ("gain", 0.5), ("bias", 0.2)])
def test_a_scale_measured_on_each_scan_undoes_gain_and_bias(
    rule: dict[str, Any], kind: str, amount: float
) -> None:
    scan, shifted, bare, bare_shifted, unnormalised = prepared(
        recipe_of(rule), kind, amount, volume_of(seed=9)
    )
    assert np.abs(shifted - scan).max() < 1e-5
    assert np.abs(bare_shifted - bare).max() > 5
    assert np.array_equal(bare, unnormalised)


@pytest.mark.parametrize(
    "rule", [{"kind": "training_z_score"}, {"kind": "min_max", "low": 0, "high": 255}]
)
def test_a_fixed_scale_does_not(rule: dict[str, Any]) -> None:
    scan, shifted, *_ = prepared(recipe_of(rule), "gain", 2, volume_of(seed=9))
    assert np.abs(shifted - scan).max() > 0.3


@given(
    mistake=st.sampled_from(MISTAKES),
    axes=st.permutations(range(3)),
    ends=st.lists(st.integers(0, 1), min_size=3, max_size=3),
)
@settings(deadline=None, max_examples=30)
def test_a_header_that_tells_the_truth_repairs_the_order_of_axes_and_a_wrong_one_does_not(
    mistake: int, axes: list[int], ends: list[int]
) -> None:
    code = "".join(EDGES[axis][end] for axis, end in zip(axes, ends, strict=True))
    recipe, volume = recipe_of({"kind": "z_score"}), volume_of(code=code)
    truth = recipe.apply(volume)
    right = shift_volume(volume, step_of("storage", mistake), 1.0, 0)
    wrong = shift_volume(volume, step_of("orientation", mistake), 1.0, 0)
    assert np.array_equal(right.array, misread(volume.array, mistake))
    assert np.array_equal(right.array, wrong.array), "the same voxels, another header"
    assert right.orientation == stored_as(code, mistake)
    assert wrong.orientation == code
    assert sorted(right.spacing_mm) == pytest.approx(sorted(volume.spacing_mm))
    assert right.spacing_mm == pytest.approx(wrong.spacing_mm)
    assert np.array_equal(recipe.apply(right), truth)
    assert not np.allclose(recipe.apply(wrong), truth)


def test_without_the_recipe_nothing_repairs_the_order_of_axes() -> None:
    scan, shifted, bare, bare_shifted, _ = prepared(
        recipe_of({"kind": "z_score"}), "storage", 2, volume_of()
    )
    assert np.array_equal(shifted, scan)
    assert not np.allclose(bare_shifted, bare)


def test_a_scan_without_geometry_cannot_be_stored_otherwise() -> None:
    volume = volume_of(geometry=False)
    assert shift_volume(volume, step_of("storage"), 1.0, 0) is volume


def test_an_image_has_its_mistakes_in_its_plane() -> None:
    array = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    image = reorient(Volume(array, np.eye(4)), "AR")
    for mistake in MISTAKES:
        step = next(s for s in sweep((1, 3, 4), stored=True) if s.kind == "storage")
        step = replace(step, shift=step.shift.model_copy(update={"amount": float(mistake)}))
        stored = shift_volume(image, step, 1.0, 0)
        assert np.array_equal(stored.array, misread(image.array, mistake))
        assert np.array_equal(reorient(stored, "AR").array, image.array)


def test_the_unshifted_scan_is_what_predict_prepares_whatever_its_type() -> None:
    recipe = recipe_of({"kind": "percentile"}, spacing_mm=1.4)
    array = np.random.default_rng(3).integers(0, 255, (1, 9, 8, 5)).astype(np.int16)
    volume = Volume(array, np.diag([-1.0, 1.5, 2.0, 1.0]))
    scan, _, bare, _, unnormalised = prepared(recipe, "noise", 0.1, volume)
    assert np.array_equal(scan, recipe.apply(volume))
    assert np.array_equal(bare, recipe.shape_only().apply(volume))
    assert np.array_equal(unnormalised, recipe.without_intensity().apply(volume))
    assert not np.allclose(bare, unnormalised)


def test_noise_belongs_to_the_scan() -> None:
    shift = ShiftScan(recipe_of({"kind": "z_score"}), (step_of("noise", 0.1),))
    first, again, other = (shift(volume_of(seed=seed))[1] for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    plain = shift(volume_of(seed=5))[0]
    assert not np.allclose(other - plain, first - shift(volume_of(seed=4))[0], atol=0.05)


@pytest.mark.parametrize(
    ("changes", "ratio"),
    [
        ({"fit": "resize"}, (12 * 14 * 9 / (8 * 7 * 6)) ** (1 / 3)),
        ({"fit": "crop_or_pad"}, 1.0),
        ({"fit": "crop_or_pad", "spacing_mm": 3.0}, (27 / 3.0) ** (1 / 3)),
        ({"fit": "crop_or_pad", "spacing_mm": (2, 3, 4)}, (24 / 3.0) ** (1 / 3)),
    ],
)
def test_voxels_of_the_model_are_told_in_voxels_of_the_scan(
    changes: dict[str, Any], ratio: float
) -> None:
    recipe = recipe_of({"kind": "z_score"}, **changes)
    assert voxel_ratio(recipe, volume_of((12, 14, 9))) == pytest.approx(ratio)


def test_a_shift_moves_the_prepared_scan_by_its_voxels() -> None:
    recipe = recipe_of({"kind": "z_score"}, shape=(8, 8, 8))
    volume = volume_of((16, 16, 16))
    coarse = np.kron(volume.array[0, ::2, ::2, ::2], np.ones((2, 2, 2)))[None]
    step = next(s for s in sweep((1, 8, 8, 8), stored=False) if str(s) == "shift 1 px")
    scan, shifted, *_ = ShiftScan(recipe, (step,))(replace(volume, array=coarse))
    inner = (slice(None), *(slice(2, -1),) * 3)
    moved = np.roll(scan, (1, 1, 1), (1, 2, 3))
    assert np.corrcoef(shifted[inner].ravel(), moved[inner].ravel())[0, 1] > 0.99


def test_a_sweep_has_every_kind_and_each_step_once() -> None:
    steps = sweep((1, 28, 28), stored=False)
    assert {step.kind for step in steps} == set(KINDS)
    assert len({str(step) for step in steps}) == len(steps)
    assert not any(step.shift.is_neutral for step in steps)
    assert [s.amount for s in steps if s.kind == "shift"] == [-8, -4, -2, -1, 1, 2, 4, 8]
    assert [s.amount for s in steps if s.kind == "flip"] == [0, 1]
    small = sweep((1, 6, 5, 4), stored=True)
    assert {step.kind for step in small} == {*KINDS, "storage"}
    assert len({str(step) for step in small}) == len(small)
    assert [s.amount for s in small if s.kind == "flip"] == [0, 1, 2]


@pytest.mark.parametrize("tried", RANGES, ids=lambda tried: tried.kind)
def test_every_kind_has_realistic_amounts_and_says_why(tried: Any) -> None:
    assert list(tried.amounts) == sorted(set(tried.amounts))
    assert any(tried.low <= amount <= tried.high for amount in tried.amounts)
    assert tried.what
    assert tried.why.endswith(".")
