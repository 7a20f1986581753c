"""Augmentation changes each scan on its own, within its limits, and repeats by its generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage
from torch import Generator, Tensor

from data_prep.config import CONFIG_ROOT, read_config
from data_prep.errors import ConfigError
from pipeline.augment import AugmentConfig, augment
from pipeline.families import FamilyConfig, load_family_config

EVERYTHING = AugmentConfig(
    flip_axes=(0, 1),
    shift_px=2,
    rotation_degrees=20,
    scale=0.2,
    gain=0.2,
    bias=0.3,
    noise=0.1,
)


def smooth(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Scans without sharp edges, so that interpolation loses little."""
    noise = np.random.default_rng(seed).normal(size=shape)
    sigma = (0, 0) + (3,) * (len(shape) - 2)
    return torch.from_numpy(ndimage.gaussian_filter(noise, sigma)).float() * 20


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(5, 2, 12, 9), (4, 1, 8, 7, 6)])
def test_the_default_changes_nothing(shape: tuple[int, ...]) -> None:
    x = smooth(shape)
    assert torch.equal(augment(x, AugmentConfig(), generator()), x)


@pytest.mark.parametrize("shape", [(5, 2, 12, 9), (4, 1, 8, 7, 6)])
def test_the_generator_decides_all_and_the_input_is_left_alone(shape: tuple[int, ...]) -> None:
    x = smooth(shape)
    before = x.clone()
    first, again, other = (augment(x, EVERYTHING, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(x, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == x.shape
    assert torch.isfinite(first).all()
    same = augment(x[:1].expand(3, *x.shape[1:]), EVERYTHING, generator())
    assert not torch.equal(same[0], same[1])  # each scan draws its own values


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_is_exact_and_comes_half_of_the_time(axis: int) -> None:
    x = smooth((1, 1, 6, 5, 4)).expand(200, -1, -1, -1, -1)
    out = augment(x, AugmentConfig(flip_axes=(axis,)), generator())
    flipped = torch.tensor(
        [torch.allclose(o, i.flip(axis + 1), atol=1e-4) for o, i in zip(out, x, strict=True)]
    )
    kept = torch.tensor([torch.allclose(o, i, atol=1e-4) for o, i in zip(out, x, strict=True)])
    assert (flipped ^ kept).all()
    assert 60 < int(flipped.sum()) < 140


def test_a_shift_moves_by_voxels_and_continues_the_border() -> None:
    ramp = torch.arange(16.0).view(1, 1, 16, 1).expand(300, 1, 16, 9)  # value = row
    out = augment(ramp, AugmentConfig(shift_px=3), generator())
    moved = out[:, 0, 8, 4] - 8
    assert moved.abs().max() <= 3 + 1e-4
    assert moved.min() < -2.5
    assert moved.max() > 2.5
    assert torch.allclose(out[:, 0, 8, :], out[:, 0, 8, :1].expand(-1, 9), atol=1e-4)
    assert out.min() >= -1e-4
    assert out.max() <= 15 + 1e-4


@pytest.mark.parametrize("shape", [(24, 18), (18, 24)])
def test_a_rotation_is_one_of_voxels_even_in_an_oblong_scan(shape: tuple[int, int]) -> None:
    """A blob about the centre stays as it is: an ellipse would show wrong axes or scaling."""
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in shape)
    blob = np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * 2.5**2))
    x = torch.from_numpy(blob).float()[None, None].expand(20, -1, -1, -1)
    out = augment(x, AugmentConfig(rotation_degrees=180), generator())
    assert (out - x)[:, :, 3:-3, 3:-3].abs().max() < 0.06  # interpolation


def test_a_rotation_turns_by_up_to_its_limit() -> None:
    bar = torch.zeros(100, 1, 21, 21)
    bar[:, :, 10, 10:] = 1  # from the centre along the columns
    out = augment(bar, AugmentConfig(rotation_degrees=30), generator())[:, 0]
    grid = torch.arange(21.0) - 10
    mass = out.sum(dim=(1, 2))
    row = (out * grid.view(1, -1, 1)).sum(dim=(1, 2)) / mass
    column = (out * grid.view(1, 1, -1)).sum(dim=(1, 2)) / mass
    angle = torch.rad2deg(torch.atan2(row, column))
    assert angle.abs().max() < 32
    assert angle.min() < -25
    assert angle.max() > 25


def test_a_turn_of_a_volume_keeps_its_ball() -> None:
    squared = ((np.indices((15, 15, 15)) - 7.0) ** 2).sum(axis=0)
    ball = torch.from_numpy(np.exp(-squared / (2 * 3**2))).float()
    x = ball[None, None].expand(6, -1, -1, -1, -1)
    turn = AugmentConfig(rotation_degrees=90)
    assert (augment(x, turn, generator()) - x)[..., 3:-3, 3:-3, 3:-3].abs().max() < 0.06
    beside = x.roll(4, dims=2)  # off the centre, a turn carries it away
    changed = (augment(beside, turn, generator()) - beside).abs().amax(dim=(1, 2, 3, 4))
    assert changed.median() > 0.3


def test_scaling_changes_the_size_by_up_to_its_limit() -> None:
    radius = np.hypot(*(np.indices((31, 31)) - 15.0))
    disc = torch.from_numpy(np.clip(8 - radius, 0, 1)).float()[None, None].expand(200, -1, -1, -1)
    area = augment(disc, AugmentConfig(scale=0.25), generator()).sum(dim=(1, 2, 3))
    ratio = torch.sqrt(area / disc[0].sum())
    assert 1 / 1.27 < float(ratio.min()) < 0.85
    assert 1.18 < float(ratio.max()) < 1.27


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.01, 1), bias=st.floats(0.01, 2), seed=st.integers(0, 1000))
def test_gain_and_bias_are_one_straight_line_per_scan(gain: float, bias: float, seed: int) -> None:
    x = smooth((8, 1, 9, 9), seed).double()
    out = augment(x, AugmentConfig(gain=gain, bias=bias), generator(seed))
    for before, after in zip(x.flatten(1).numpy(), out.flatten(1).numpy(), strict=True):
        slope, offset = np.polyfit(before - before.mean(), after, 1)
        assert np.allclose(after, slope * (before - before.mean()) + offset, atol=1e-6)
        assert 1 / (1 + gain) - 1e-6 <= slope <= 1 + gain + 1e-6
        assert abs(offset - before.mean()) <= bias + 1e-6


def test_noise_has_up_to_the_stated_standard_deviation() -> None:
    x = torch.zeros(200, 1, 30, 30)
    level = augment(x, AugmentConfig(noise=0.5), generator()).std(dim=(1, 2, 3))
    assert float(level.max()) < 0.55
    assert float(level.max()) > 0.4
    assert float(level.min()) < 0.1


def test_an_axis_that_the_scans_lack_is_refused() -> None:
    with pytest.raises(ValueError, match="flip_axes"):
        augment(smooth((2, 1, 8, 8)), AugmentConfig(flip_axes=(2,)), generator())


SETS = sorted(path.stem for path in (CONFIG_ROOT / "augment").glob("*.yaml"))
MIRRORED = {"ultrasound": (1,), "microscopy_or_photo": (0, 1)}


def family_file(folder: Path, augment: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(f"family: mlp\nparams:\n  widths: [4]\n  augment: {augment}\n")
    return str(path)


@pytest.mark.parametrize("name", SETS)
def test_a_set_mirrors_only_what_it_says_why(name: str) -> None:
    config = read_config(CONFIG_ROOT / "augment" / f"{name}.yaml", AugmentConfig)
    assert config.flip_axes == MIRRORED.get(name, ())
    assert config.shift_px
    head = (CONFIG_ROOT / "augment" / f"{name}.yaml").read_text(encoding="utf-8").lower()
    assert all(word in head for word in ("# for:", "# run:", "# expect:", "# why:"))


@pytest.mark.parametrize("name", SETS)
def test_a_named_set_stands_in_the_config_with_its_numbers(name: str, tmp_path: Path) -> None:
    found = load_family_config(family_file(tmp_path, name))
    numbers = read_config(CONFIG_ROOT / "augment" / f"{name}.yaml", AugmentConfig)
    assert found.model_dump(mode="json")["params"]["augment"] == numbers.model_dump(mode="json")


def test_a_set_of_your_own_is_found_from_the_family_s_file_and_its_numbers_count(
    tmp_path: Path,
) -> None:
    own = tmp_path / "own.yaml"
    dumped = []
    for shift in (1, 3):
        own.write_text(f"shift_px: {shift}\n")
        config = load_family_config(family_file(tmp_path, "./own.yaml"))
        dumped.append(config.model_dump(mode="json")["params"]["augment"]["shift_px"])
    assert dumped == [1, 3]


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ("ultrasuond", r"mine.yaml:4: field 'params.augment' = 'ultrasuond'.*mean 'ultrasound'"),
        ("./onw.yaml", r"mine.yaml:4: .*there is no file .*onw.yaml"),
        ("./own.yaml", r"mine.yaml:4: .*own.yaml:1: unknown field 'shift'.*'shift_px'"),
        ("3", r"mine.yaml:4: field 'params.augment' = 3"),
    ],
)
def test_a_set_that_cannot_be_used_is_answered(augment: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("shift: 2\n")
    with pytest.raises(ConfigError, match=said):
        load_family_config(family_file(tmp_path, augment))


def test_a_name_outside_a_file_is_not_followed() -> None:
    """A model package, say, must not make anybody read a file."""
    content = {"family": "mlp", "params": {"augment": "ultrasound"}}
    with pytest.raises(ValidationError, match="give its fields"):
        FamilyConfig.model_validate(content)
