"""A volume owns its geometry and refuses what cannot be a scan."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import ScanError
from data_prep.volume import Volume, axis_codes


def random_affine(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(rng.uniform(0.3, 5, size=3))
    affine[:3, 3] = rng.normal(size=3) * 100
    return affine


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_axis_codes_are_nibabels(seed: int) -> None:
    affine = random_affine(seed)
    assert axis_codes(affine) == "".join(nib.aff2axcodes(affine))


def test_spacing_and_orientation_follow_the_affine() -> None:
    volume = Volume(np.zeros((1, 4, 5, 6)), np.diag([-1.0, 2.0, 3.0, 1.0]))
    assert volume.spacing_mm == (1.0, 2.0, 3.0)
    assert volume.orientation == "LAS"
    assert volume.spatial_ndim == 3
    image = Volume(np.zeros((3, 4, 5)), np.diag([-1.0, 2.0, 3.0, 1.0]))
    assert image.spacing_mm == (1.0, 2.0)
    assert image.orientation == "LA"
    assert Volume(image.array, image.affine, has_geometry=False).orientation == ""


@pytest.mark.parametrize(
    ("array", "affine", "code"),
    [
        (np.zeros((4, 5)), np.eye(4), "volume.bad_shape"),
        (np.zeros((1, 0, 5)), np.eye(4), "volume.bad_shape"),
        (np.zeros((1, 4, 5), dtype=complex), np.eye(4), "volume.bad_shape"),
        (np.full((1, 4, 5), np.nan), np.eye(4), "volume.not_finite"),
        (np.full((1, 4, 5), np.inf), np.eye(4), "volume.not_finite"),
        (np.zeros((1, 4, 5)), np.eye(3), "volume.bad_affine"),
        (np.zeros((1, 4, 5)), np.full((4, 4), np.nan), "volume.bad_affine"),
        (np.zeros((1, 4, 5)), np.diag([1.0, 0.0, 1.0, 1.0]), "volume.bad_affine"),
        (np.zeros((1, 4, 5)), np.ones((4, 4)), "volume.bad_affine"),
    ],
)
def test_what_is_no_scan_is_refused(array: np.ndarray, affine: np.ndarray, code: str) -> None:
    with pytest.raises(ScanError) as caught:
        Volume(array, affine)
    assert caught.value.code == code


def test_tiny_voxels_are_not_taken_for_a_singular_affine() -> None:
    assert Volume(np.zeros((1, 2, 2, 2)), np.diag([1e-4, 1e-4, 1e-4, 1.0])).orientation == "RAS"


def test_flags_are_kept_once() -> None:
    volume = Volume(np.zeros((1, 2, 2)), np.eye(4), flags=("lossy",))
    assert volume.with_flags("lossy", "padding").flags == ("lossy", "padding")
    flagged = volume.with_flags("lossy").with_flags_first("mosaic", "lossy")
    assert flagged.flags == ("mosaic", "lossy")
    assert flagged.array is volume.array
    assert volume.flags == ("lossy",)
