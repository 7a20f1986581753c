"""Tasks: what tells the classes apart does, and nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import correlate2d

from data_prep.scene_draw import OVERLAP, Floats, L, T, grating, leaf, scatter, turning
from data_prep.scene_tasks import (
    Configuration,
    Count,
    Leaves,
    Location,
    PatternSize,
    Pose,
    Position,
    Presence,
    SceneTask,
    TextureDirection,
    TextureWavelength,
)

TASKS: list[SceneTask] = [
    Presence(),
    Configuration(),
    Count(),
    TextureDirection(),
    TextureWavelength(),
    PatternSize(),
    Location(),
    Position(),
]
OF_DOTS = [task for task in TASKS if "texture" not in str(task.model_dump()["kind"])]


ALL_TASKS = [*TASKS, Leaves()]


def name(task: Any) -> str:
    return type(task).__name__


def pose(edge: int = 32, room: int = 0, shift: tuple[int, int] = (0, 0), **changes: Any) -> Pose:
    usual: dict[str, Any] = {"turn": np.eye(2), "swells": False}
    return Pose(edge, room, np.array(shift, dtype=float), **usual | changes)


def both(task: SceneTask, seed: int, at: Pose | None = None) -> tuple[Floats, Floats]:
    """The two classes, drawn from equal streams."""
    drawn = [
        task.draw(second, at or pose(), np.random.default_rng(seed)) for second in (False, True)
    ]
    return drawn[0], drawn[1]


# --- all tasks


@pytest.mark.parametrize("task", ALL_TASKS, ids=name)
def test_the_class_changes_no_random_number(task: SceneTask) -> None:
    states = []
    for second in (False, True):
        rng = np.random.default_rng(5)
        task.draw(second, pose(), rng)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1]
    first, second_image = both(task, 5)
    assert np.abs(first - second_image).max() > 0.5


@pytest.mark.parametrize("task", TASKS, ids=name)
@given(seed=st.integers(0, 10_000), degrees=st.floats(-180, 180), quarters=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_brightness_says_nothing(task: SceneTask, seed: int, degrees: float, quarters: int) -> None:
    """Each image of either class has the same sum; on whole pixels also the same energy."""
    limit = task.most_rotation_deg
    for angle in (0.0, float(np.clip(degrees, -limit, limit))):
        swells = angle != 0
        at = pose(turn=turning(quarters, True, angle), swells=swells)
        first, second = both(task, seed, at)
        assert first.shape == (32, 32)
        assert abs(first.sum() - second.sum()) <= 1e-9
        assert max(np.abs(first).max(), np.abs(second).max()) <= (OVERLAP if swells else 1 + 1e-12)
        if angle == 0 or task not in OF_DOTS:
            assert abs((first**2).sum() - (second**2).sum()) <= 1e-9


@pytest.mark.parametrize("task", [Count(), TextureDirection(), PatternSize()], ids=name)
def test_pixel_means_say_nothing(task: SceneTask) -> None:
    """Differences of means of 1,500 scenes a class are those of chance: |z| of 1024 pixels."""
    rng = np.random.default_rng(0)
    images = [
        np.stack([task.draw(second, pose(), rng) * rng.choice((-1, 1)) for _ in range(1500)])
        for second in (False, True)
    ]
    means, variances = zip(*((i.mean(axis=0), i.var(axis=0)) for i in images), strict=True)
    spread = np.sqrt((variances[0] + variances[1]) / 1500)
    z = np.where(spread > 0, (means[0] - means[1]) / np.maximum(spread, 1e-9), 0)
    assert np.abs(z).max() < 5
    assert np.sqrt((z[spread > 0] ** 2).mean()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("task", TASKS, ids=name)
@pytest.mark.parametrize("swells", [False, True])
def test_what_may_be_moved_stays_whole(task: SceneTask, swells: bool) -> None:
    if swells and task.most_rotation_deg == 0:
        return
    room = min(task.room_px(32, swells), 31)
    degrees = 30.0 if swells else 0.0
    whole = both(task, 0)[0].sum()
    for seed in range(40):
        for shift in ((room, room), (-room, room), (-room, -room)):
            at = pose(32, room, shift, turn=turning(0, False, degrees), swells=swells)
            if task not in OF_DOTS:
                continue
            for image in both(task, seed, at):  # scatter refuses what lies outside
                assert image.sum() == pytest.approx(whole)


# --- one task each


def test_a_t_and_an_l_differ_at_any_angle() -> None:
    """Half of the least largest difference is what noise must not reach."""
    angles = range(0, 360, 6)
    ts, ls = (
        np.stack([scatter(15, p @ turning(0, False, a).T + 7, np.ones(9)) for a in angles])
        for p in (T, L)
    )
    assert max(ts.max(), ls.max()) <= OVERLAP
    shifts = [(r, c) for r in range(-3, 4) for c in range(-3, 4)]
    least = min(
        float(np.abs(np.roll(ls, shift, (1, 2)) - t).max(axis=(1, 2)).min())
        for shift in shifts
        for t in ts
    )
    assert least > 2 * np.sqrt(3) / 8


@pytest.mark.parametrize("task", [Configuration(), Position()], ids=name)
@given(seed=st.integers(0, 99), rows=st.integers(-4, 4), columns=st.integers(-4, 4))
@settings(max_examples=20, deadline=None)
def test_classes_are_each_other_rolled_by_half_the_width(
    task: SceneTask, seed: int, rows: int, columns: int
) -> None:
    first, second = both(task, seed, pose(32, 4, (rows, columns)))
    assert np.array_equal(np.roll(first, 16, axis=1), second)
    assert not np.array_equal(first, second)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_patterns_are_as_many_as_the_class_says(seed: int) -> None:
    template = scatter(5, T + 2, np.ones(9))
    for image, count in zip(both(Count(), seed), (1, 2), strict=True):
        assert (correlate2d(image, template, mode="valid") > 8.5).sum() == count
        assert image.sum() == 4 * 9


@given(seed=st.integers(0, 10_000), s=st.integers(2, 11), pairs=st.sampled_from((2, 4)))
@settings(max_examples=40, deadline=None)
def test_no_window_below_the_pattern_tells(seed: int, s: int, pairs: int) -> None:
    """Fewer than s pixels hold one dot at most; bright and dark ones are equally many."""
    task = PatternSize(pattern_px=s, pairs=pairs)
    opposite, alike = both(task, seed)
    for image in (opposite, alike):
        assert (image == 1).sum() == (image == -1).sum() == pairs
        windows = sliding_window_view(np.abs(image), (s - 1, s - 1))
        assert windows.sum(axis=(2, 3)).max() == 1
    assert np.array_equal(np.abs(opposite), np.abs(alike))
    # A window of s pixels tells: dots s - 1 apart are of one sign, or of both.
    for image, sign in ((opposite, -1), (alike, 1)):
        products = image[:, : 1 - s] * image[:, s - 1 :]
        assert products.sum() == sign * pairs


def test_pairs_lie_along_columns_where_they_are_turned() -> None:
    flat, turned = (
        PatternSize().draw(True, pose(turn=turning(n, False, 0)), np.random.default_rng(1))
        for n in (0, 1)
    )
    assert np.array_equal(flat.T, turned)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_location_is_a_matter_of_one_pixel(seed: int) -> None:
    on, beside = both(Location(), seed)
    assert on.sum() == beside.sum() == 1
    assert np.array_equal(np.roll(on, 1, axis=1), beside)
    assert np.flatnonzero(on.any(axis=0)) % 5 == 2


@given(
    radius=st.floats(3, 9),
    middle=st.tuples(st.floats(14, 17), st.floats(14, 17)),
    radians=st.floats(0, 7),
    square=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_disc_and_a_square_have_about_one_area(
    radius: float, middle: tuple[float, float], radians: float, square: bool
) -> None:
    covered = leaf(32, np.array(middle), radius, radians, square=square)
    assert covered.min() == 0
    assert covered.max() == 1
    assert covered.sum() == pytest.approx(np.pi * radius**2, rel=0.08)
    centre = (np.indices((32, 32)) * covered).sum(axis=(1, 2)) / covered.sum()
    assert centre == pytest.approx(middle, abs=0.1)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_leaf_on_top_lies_whole_within_the_image(seed: int) -> None:
    """It alone is brighter than 0.8; of equal area, a square has more of it far off its middle."""
    moments = []
    for image in both(Leaves(), seed):
        top = image > 0.81
        assert image.max() == 1
        assert image.min() >= -0.8
        assert not (top[[0, -1]].any() or top[:, [0, -1]].any())
        places = np.argwhere(top)
        moments.append(((places - places.mean(axis=0)) ** 2).sum() / len(places) ** 2)
    assert moments[0] < moments[1]


def test_no_ground_makes_a_disc_of_a_square() -> None:
    """Below the noise that is allowed: a search for the pair that is told apart the least."""
    rng = np.random.default_rng(0)
    edge, below = 24, 0.8

    def apart(p: Floats) -> float:
        disc, square = (
            leaf(edge, 12 + p[2:4] + shift, radius, p[4], square=square)
            for shift, radius, square in ((p[5:7], p[0] * p[1], False), (0, p[0], True))
        )
        least = [one - below * (1 - one) for one in (disc, square)]
        most = [one + below * (1 - one) for one in (disc, square)]
        return float(max((least[0] - most[1]).max(), (least[1] - most[0]).max()))

    low = np.array([5, 0.9, -0.5, -0.5, 0, -0.5, -0.5])
    high = np.array([7, 1.2, 0.5, 0.5, np.pi / 2, 0.5, 0.5])
    found = []
    for _ in range(20):
        best = rng.uniform(low, high)
        for step in np.geomspace(0.3, 0.003, 150):
            other = np.clip(best + step * (high - low) * rng.normal(size=7), low, high)
            best = min(best, other, key=apart)
        found.append(apart(best))
    assert min(found) > 2 * np.sqrt(3) * Leaves.most_noise


@pytest.mark.parametrize("degrees", [0.0, 17.3])
def test_stripes_have_mean_0_and_variance_one_half(degrees: float) -> None:
    for length in (4, 8):
        across = turning(0, False, degrees) @ np.array([0.0, 1.0]) / length
        stripes = grating(32, across, 0.3)
        assert abs(stripes.mean()) <= 1e-12
        assert stripes.var() == pytest.approx(0.5)
        frequencies = np.abs(np.fft.fft2(stripes))
        row, column = np.unravel_index(frequencies[:, :17].argmax(), (32, 17))
        assert np.hypot(min(row, 32 - row), column) == pytest.approx(32 / length, abs=0.8)
    horizontal, vertical = both(TextureDirection(), 0)
    assert np.ptp(horizontal, axis=1).max() <= 1e-9 <= np.ptp(horizontal, axis=0).min()
    assert np.allclose(horizontal.T, vertical)


@given(
    points=st.lists(st.tuples(st.floats(0, 15), st.floats(0, 15)), min_size=1, max_size=6),
)
@settings(max_examples=40, deadline=None)
def test_a_dot_keeps_its_brightness_and_place(points: list[tuple[float, float]]) -> None:
    weights = np.arange(1.0, len(points) + 1)
    image = scatter(16, np.array(points), weights)
    assert image.sum() == pytest.approx(weights.sum())
    centre = (np.indices((16, 16)) * image).sum(axis=(1, 2)) / image.sum()
    assert centre == pytest.approx(weights @ np.array(points) / weights.sum(), abs=1e-9)


def test_there_are_eight_exact_turns() -> None:
    turns = {
        tuple(turning(quarters, mirrored, 0).ravel())
        for quarters in range(4)
        for mirrored in (False, True)
    }
    assert len(turns) == 8
    assert {abs(value) for turn in turns for value in turn} == {0.0, 1.0}
    assert turning(1, True, 30) == pytest.approx(turning(0, False, 30) @ turning(1, True, 0))
