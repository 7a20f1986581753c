"""A fingerprint counts right, and measures in the patient's directions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cohort_rows import cohort, image, look, of_rows, row
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.fingerprinting import measure
from data_prep.task import Task

PAIRS = ("LR", "PA", "IS")
CODES = [
    "".join(letters)
    for order in itertools.permutations(PAIRS)
    for letters in itertools.product(*order)
]


def test_scans_and_patients_are_counted_by_class() -> None:
    rows = [
        row(0, patient_id="A", labels=("benign",)),
        row(1, patient_id="A", labels=("malignant",)),
        row(2, patient_id="B", labels=("malignant",)),
        row(3, patient_id="B", labels=("malignant",)),
    ]
    seen = of_rows(rows)
    assert (seen.scans, seen.patients) == (4, 2)
    assert seen.scans_per_patient.median == 2
    assert seen.scans_per_class == {"benign": 1, "malignant": 3}
    assert seen.patients_per_class == {"benign": 1, "malignant": 2}


def test_a_scan_with_several_labels_counts_in_each_and_one_without_any_apart() -> None:
    task = Task(kind="multi-label", class_names=("mass", "nodule", "hernia"))
    rows = [row(0, labels=("mass", "nodule")), row(1, labels=("nodule",)), row(2, labels=())]
    seen = measure("made", task, rows, [(rows[0], look())])
    assert seen.scans_per_class == {"mass": 1, "nodule": 2, "hernia": 0, "(none)": 1}
    assert seen.patients_per_class == seen.scans_per_class


def test_kinds_are_listed_by_number_and_rare_ones_together() -> None:
    rows = [row(n, shape=(1, 10 + min(n, 20), 9, 8)) for n in range(30)]
    seen = of_rows(rows)
    assert next(iter(seen.shapes.items())) == ("30×9×8", 10)
    assert len(seen.shapes) == 13
    assert list(seen.shapes)[-1] == "other"
    assert sum(seen.shapes.values()) == 30


def test_flags_are_never_put_together() -> None:
    flags = tuple(f"flag{n}" for n in range(30))
    assert set(cohort(3, flags=flags).flags) == set(flags)


@settings(max_examples=20, deadline=None)
@given(codes=st.lists(st.sampled_from(CODES), min_size=3, max_size=8))
def test_axes_are_measured_in_the_patients_directions(codes: list[str]) -> None:
    size, mm = {"LR": 40, "PA": 30, "IS": 20}, {"LR": 1.0, "PA": 2.0, "IS": 5.0}
    rows = []
    for number, code in enumerate(codes):
        pairs = [next(pair for pair in PAIRS if letter in pair) for letter in code]
        rows.append(
            row(
                number,
                orientation=code,
                shape=(1, *(size[pair] for pair in pairs)),
                spacing_mm=tuple(mm[pair] for pair in pairs),
            )
        )
    seen = of_rows(rows)
    assert seen.frame == "RAS"
    assert [axis.voxels.median for axis in seen.axes] == [40, 30, 20]
    assert all(axis.voxels.is_constant for axis in seen.axes)
    assert [axis.extent_mm and axis.extent_mm.median for axis in seen.axes] == [40, 60, 100]
    assert [axis.body_mm and axis.body_mm.median for axis in seen.axes] == [40, 60, 100]
    assert seen.anisotropy is not None
    assert seen.anisotropy.median == 5


@pytest.mark.parametrize(
    ("codes", "frame"),
    [
        (("RA", "PL", ""), "PL"),
        (("SR", "IL"), "IL"),
        (("AS", "IP"), "IP"),
        (("PL", "IL"), "as stored"),
        (("", ""), "as stored"),
    ],
)
def test_images_of_one_plane_share_a_frame(codes: tuple[str, ...], frame: str) -> None:
    shape = {"shape": (1, 30, 20), "spacing_mm": (1.5, 1.5)}
    seen = of_rows([row(n, orientation=code, **shape) for n, code in enumerate(codes)])
    assert seen.frame == frame
    assert seen.with_orientation == sum(bool(code) for code in codes)


def test_one_millimetre_without_orientation_is_not_stated() -> None:
    assert cohort(**image()).with_spacing == 0
    assert cohort(**image()).axes[0].spacing_mm is None
    assert cohort(**image()).anisotropy is None
    assert cohort(**image(spacing_mm=(0.2, 0.2))).with_spacing == 10
    assert cohort(spacing_mm=(1.0, 1.0, 1.0)).with_spacing == 10


def test_the_commoner_dimension_is_measured() -> None:
    rows = [row(0), row(1), row(2, shape=(1, 9, 9), spacing_mm=(1.0, 1.0), orientation="PL")]
    seen = of_rows(rows)
    assert seen.dimensions == {"2": 1, "3": 2}
    assert (seen.spatial_ndim, seen.unit) == (3, "voxel")
    assert seen.axes[0].voxels.maximum == 40
    assert of_rows(rows[1:]).spatial_ndim == 3
    assert (cohort(**image()).spatial_ndim, cohort(**image()).unit) == (2, "pixel")


def test_gain_is_how_much_scales_differ_whatever_the_offset() -> None:
    scales = np.geomspace(100, 400, 21)
    seen = of_rows(
        [row(n) for n in range(21)], [look(50 * n, 50 * n + s) for n, s in enumerate(scales)]
    )
    assert seen.intensities.gain == pytest.approx(4**0.8)  # 10th to 90th percentile
    assert seen.intensities.unlikeness == pytest.approx(0)
    assert cohort(looks=[look(5, 5)]).intensities.gain == 1


def test_histograms_of_other_shapes_are_unlike() -> None:
    bent = look(landmarks=np.linspace(0, 1, 11) ** 3)
    assert cohort(looks=[look(), bent]).intensities.unlikeness > 0.1
