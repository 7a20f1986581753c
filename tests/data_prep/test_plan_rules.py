"""Each rule fires on the cohort that it is meant for, and says what it saw."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cohort_rows import cohort, image, look, of_rows, row
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import plan_rules as rules
from data_prep.fingerprint import CohortFingerprint
from data_prep.glimpse import Glimpse

AMPLE = 10**9


def gains(low: float, high: float, count: int = 10) -> list[Glimpse]:
    """Scans of one histogram whose scales go from ``low`` to ``high``."""
    return [look(0, scale) for scale in np.geomspace(low, high, count)]


def test_volumes_are_brought_to_ras() -> None:
    decision = rules.orientation(cohort(orientation="LPS"))
    assert decision.value == "RAS"
    assert "left and right" in decision.because


def test_images_of_one_plane_are_brought_upright_with_a_word_on_those_that_do_not_say() -> None:
    shape = {"shape": (1, 30, 20), "spacing_mm": (1.5, 1.5)}
    rows = [row(n, orientation="RA" if n else "", **shape) for n in range(4)]
    decision = rules.orientation(of_rows(rows))
    assert decision.value == "PL"
    assert "1 of 4 scans do not say how they lie" in decision.because


@pytest.mark.parametrize(
    ("codes", "why"), [(("", ""), "no file says"), (("PL", "IL"), "several planes")]
)
def test_otherwise_axes_stay(codes: tuple[str, ...], why: str) -> None:
    shape = {"shape": (1, 30, 20), "spacing_mm": (1.5, 1.5)}
    seen = of_rows([row(n, orientation=code, **shape) for n, code in enumerate(codes)])
    decision = rules.orientation(seen)
    assert decision.value == "as stored"
    assert why in decision.because


def test_spacing_is_the_median_and_the_shape_covers_what_is_there() -> None:
    spacing, shape, fit = rules.grid(cohort(), AMPLE)
    assert spacing.value == 2.0
    assert spacing.because == "the median voxel is 2 × 2 × 2 mm"
    # 80 × 80 × 60 mm, and the margin ends at the scan's own edge
    assert shape.value == [40, 40, 32]
    assert fit.value == "crop_or_pad"


def test_air_around_the_body_is_not_covered() -> None:
    seen = cohort(looks=[look(reach_mm=(40.0, 48.0, 24.0))] * 10)
    _, shape, _ = rules.grid(seen, AMPLE)
    assert shape.value == [20, 24, 12]  # 42, 50.4 and 25.2 mm with the margin
    assert shape.because.startswith("40 × 48 × 24 mm at this spacing, in multiples of 4 voxels")
    assert "for the 42 × 50.4 × 25.2 mm around the centre" in shape.because


def test_nine_bodies_in_ten_are_covered() -> None:
    looks = [look(reach_mm=(40.0, 40.0, 40.0))] * 17 + [look(reach_mm=(76.0, 40.0, 40.0))] * 3
    _, shape, _ = rules.grid(of_rows([row(n) for n in range(20)], looks), AMPLE)
    assert shape.value == [40, 20, 20]


def test_voxels_of_nearly_one_edge_become_cubes() -> None:
    spacing, _, _ = rules.grid(cohort(spacing_mm=(0.9, 0.95, 1.0)), AMPLE)
    assert spacing.value == pytest.approx((0.9 * 0.95 * 1.0) ** (1 / 3), rel=1e-3)
    spacing, _, _ = rules.grid(cohort(spacing_mm=(0.5, 0.5, 1.0)), AMPLE)
    assert spacing.value == [0.5, 0.5, 1.0]


def thick(count: int, voxels: tuple[int, int, int] = (128, 128, 12)) -> CohortFingerprint:
    """Slices of 5 mm in one scan of four, else of 8 mm, with pixels of 1 mm."""
    return of_rows(
        [
            row(n, shape=(1, *voxels), spacing_mm=(1.0, 1.0, 8.0 if n % 4 else 5.0))
            for n in range(count)
        ]
    )


def test_thick_slices_take_their_tenth_percentile() -> None:
    """nnU-Net's rule: more than 3 times the other edges, and fewer than a third of the voxels."""
    spacing, _, _ = rules.grid(thick(20), AMPLE)
    assert spacing.value == [1.0, 1.0, 5.0]
    assert "slices are thick (inferior to superior)" in spacing.because
    many_slices, _, _ = rules.grid(thick(20, (128, 128, 100)), AMPLE)
    assert many_slices.value == [1.0, 1.0, 8.0]


def test_the_finest_axes_are_coarsened_first() -> None:
    spacing, shape, _ = rules.grid(thick(20), 64 * 64 * 20)
    assert spacing.value[0] == spacing.value[1] > 1
    assert spacing.value[2] == 5.0
    assert 0.8 * 64 * 64 * 20 < math.prod(shape.value) <= 64 * 64 * 20
    assert "made coarser to the budget (81,920 voxels a scan)" in spacing.because
    cubes, _, _ = rules.grid(thick(20), 8**3)
    assert isinstance(cubes.value, float)
    assert cubes.value > 5


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 600)] * 3),
    spacing=st.tuples(*[st.floats(0.05, 20)] * 3),
    budget=st.integers(8**3, 96**3),
)
def test_a_measured_grid_keeps_to_any_budget_and_is_coarsened_only_for_it(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], budget: int
) -> None:
    size, grid, _ = rules.grid(cohort(3, shape=(1, *shape), spacing_mm=spacing), budget)
    edges = grid.value if isinstance(grid.value, list) else [grid.value] * 3
    sizes = size.value if isinstance(size.value, list) else [size.value] * 3
    assert math.prod(edges) <= budget
    assert all(edge >= 8 and edge % 4 == 0 for edge in edges)
    if "made coarser" not in size.because:
        assert min(sizes) <= 1.15 * min(spacing)


@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 3000)] * 2), budget=st.integers(8**2, 512**2))
def test_a_stretched_grid_keeps_to_any_budget(shape: tuple[int, int], budget: int) -> None:
    rows = [row(n, **image(shape=(1, shape[0] + n, shape[1]))) for n in range(3)]
    size, grid, fit = rules.grid(of_rows(rows), budget)
    edges = grid.value if isinstance(grid.value, list) else [grid.value] * 2
    assert size.value is None
    assert math.prod(edges) <= budget
    assert all(edge >= 8 for edge in edges)
    assert fit.value == "resize"


def test_a_shape_that_all_have_is_kept() -> None:
    spacing, shape, fit = rules.grid(cohort(**image(shape=(1, 28, 28))), AMPLE)
    assert (spacing.value, shape.value, fit.value) == (None, 28, "resize")
    assert spacing.because == "none of 10 scans state a pixel size in mm"
    assert "nothing is stretched" in fit.because
    _, smaller, _ = rules.grid(cohort(**image(shape=(1, 28, 28))), 20 * 20)
    assert smaller.value == 20


def test_few_scans_without_a_spacing_are_borne_and_many_are_not() -> None:
    def with_silent(count: int) -> CohortFingerprint:
        silent = image(shape=(1, 60, 60))
        stated = silent | {"orientation": "PL", "spacing_mm": (2.0, 2.0), "dtype": "int16"}
        return of_rows([row(n, **(silent if n < count else stated)) for n in range(20)])

    assert rules.grid(with_silent(2), AMPLE)[0].value == 2.0
    assert rules.grid(with_silent(3), AMPLE)[0].value is None


@pytest.mark.parametrize("modality", ["CR", "DX", "MG"])
def test_a_projection_is_stretched_and_scaled_by_percentiles(modality: str) -> None:
    seen = cohort(**image(modality=modality, spacing_mm=(0.2, 0.2), dtype="uint16"))
    spacing, _, fit = rules.grid(seen, AMPLE)
    assert (spacing.value, fit.value) == (None, "resize")
    assert "projection" in spacing.because
    assert rules.intensity(seen).value == {"kind": "percentile", "lower": 1.0, "upper": 99.0}
    assert modality in rules.intensity(seen).because


def test_hounsfield_units_take_a_window_over_all_tissue() -> None:
    looks = [look(-1024, 2000, tissue=(-873.0, 911.0)), look(-1024, 2000, tissue=(-881.0, 907.0))]
    decision = rules.intensity(cohort(looks=looks, modality="CT", minimum=-1024.0))
    assert decision.value == {"kind": "window", "center_hu": 15.0, "width_hu": 1790.0}
    assert "-880 to 910 HU" in decision.because
    flat = [look(-1024, -1000, tissue=(40.0, 40.0))]
    decision = rules.intensity(cohort(looks=flat, modality="CT", minimum=-1024.0))
    assert decision.value["width_hu"] == 10


def test_bytes_and_fixed_ranges_keep_brightness() -> None:
    for seen in (cohort(**image()), cohort(maximum=1.0, dtype="float32")):
        assert rules.intensity(seen).value == {"kind": "training_z_score"}
    assert "uint8, 0 to 255" in rules.intensity(cohort(**image())).because
    assert "percentile" not in rules.intensity(cohort(**image())).because
    differing = cohort(**image(), looks=gains(50, 250))
    assert "contrast differs" in rules.intensity(differing).because


def test_images_of_more_bits_take_percentiles() -> None:
    seen = of_rows([row(n, **image(dtype="uint16", maximum=4000.0 + 99 * n)) for n in range(5)])
    assert rules.intensity(seen).value["kind"] == "percentile"
    slices = image(modality="MR", dtype="uint16", orientation="PL")
    seen = of_rows([row(n, **slices | {"maximum": 4000.0 + 99 * n}) for n in range(5)])
    assert rules.intensity(seen).value["kind"] == "z_score"


def test_mr_of_one_scale_takes_its_own_z_score() -> None:
    decision = rules.intensity(cohort(looks=gains(900, 1000)))
    assert decision.value == {"kind": "z_score", "region": "foreground"}
    assert "MR has no absolute unit" in decision.because


def test_mr_of_many_scales_and_one_shape_takes_landmarks() -> None:
    decision = rules.intensity(cohort(looks=gains(200, 2000)))
    assert decision.value == {"kind": "nyul"}
    assert "differ 6.3-fold" in decision.because


def test_mr_of_many_scales_and_shapes_takes_its_own_z_score() -> None:
    looks = gains(200, 2000)
    bent = [look(0, 900, landmarks=np.linspace(0, 1, 11) ** 3)] * 5
    decision = rules.intensity(cohort(looks=[*looks[:5], *bent], modality=""))
    assert decision.value["kind"] == "z_score"
    assert "these scans have no absolute unit" in decision.because
    assert "differ in shape" in decision.because


@pytest.mark.parametrize(
    ("channels", "coloured", "value", "why"),
    [
        ((1, 1), False, 1, "all scans are grey"),
        ((3, 3), False, 1, "saved as colour"),
        ((3, 3), True, 3, "2 of 2 sampled scans are in colour"),
        ((1, 3), True, 3, "grey ones get three equal channels"),
        ((1, 3), False, 1, "saved as colour"),
        ((4, 4), False, "as stored", "4 (2 scans)"),
    ],
)
def test_channels(channels: tuple[int, int], coloured: bool, value: object, why: str) -> None:
    rows = [row(n, **image(shape=(count, 60, 80))) for n, count in enumerate(channels)]
    seen = of_rows(rows, [look(is_colour=coloured)] * 2)
    decision = rules.channels(seen)
    assert decision.value == value
    assert why in decision.because


def test_the_budget_is_that_of_one_scan_or_of_all_in_memory() -> None:
    assert rules.default_budget(cohort()) == 64**3
    assert rules.default_budget(cohort(**image())) == 224**2
    many = cohort().model_copy(update={"scans": 100_000})
    assert rules.default_budget(many) == (1 << 30) // 100_000
    coloured = many.model_copy(update={"channels": {"3": 100_000}})
    assert rules.default_budget(coloured) == (1 << 30) // 300_000
    too_many = cohort().model_copy(update={"scans": 10**8})
    assert rules.default_budget(too_many) == 8**3
