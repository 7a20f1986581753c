"""Maps of prepared scans lie, back in the scan, exactly where they lay on the recipe's grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from data_prep.geometry import lattice, orient_back, reorient, to_grid
from data_prep.phantom import PhantomConfig, draw_patient
from data_prep.phantom_write import ScanHeader, write_dicom
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers import discover
from data_prep.readers.sandbox import DecodePool
from data_prep.volume import Volume

CODES = [
    "".join(code)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for code in itertools.product(*axes)
]


def oblique_volume(shape: tuple[int, ...], seed: int = 0) -> Volume:
    """Noise of odd spacings, on axes that lie at an angle to the patient's."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    turned = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True).as_matrix()
    affine[:3, :3] = turned @ np.diag([0.9, 1.7, 3.1])
    affine[:3, 3] = rng.uniform(-90, 90, 3)
    return Volume(rng.standard_normal((1, *shape)), affine)


def recipe(
    shape: tuple[int, ...], fit: str, orientation: str, spacing: float | None = None
) -> PrepRecipe:
    config = PrepConfig.model_validate(
        {"orientation": orientation, "spacing_mm": spacing, "shape": shape, "fit": fit}
    )
    return PrepRecipe(config=config, spatial_ndim=3 if len(shape) == 3 else 2, channels=1)


def ramp(turned: Volume, grid: Volume, near: Sequence[int], axis: int) -> NDArray[np.float32]:
    """World coordinate ``axis`` of each prepared voxel, less that of one of the scan's voxels."""
    index = np.indices(grid.array.shape[1:]).reshape(grid.spatial_ndim, -1)
    world = grid.affine[axis, : grid.spatial_ndim] @ index + grid.affine[axis, 3]
    here = turned.affine[axis, : turned.spatial_ndim] @ np.array(near) + turned.affine[axis, 3]
    return (world - here).reshape(grid.array.shape[1:]).astype(np.float32)


@pytest.mark.parametrize("code", CODES)
def test_a_marked_voxel_is_the_same_voxel_from_all_48_orientations(code: str) -> None:
    scan = reorient(oblique_volume((7, 6, 9)), code)
    prep = recipe((5, 8, 6), "crop_or_pad", "RAS")  # cut along two axes, padded along one
    prepared = prep.apply(scan)[0]
    for voxel in [(0, 1, 0), (4, 5, 5), (2, 6, 3), (3, 3, 1)]:
        mark = np.zeros(prepared.shape, dtype=np.float32)
        mark[voxel] = 1
        back = prep.project_back(mark, scan)
        assert back.shape == scan.array.shape[1:]
        assert np.count_nonzero(back) == 1 and back.max() == 1
        # The scan's own value at the marked voxel is the prepared one: it is that voxel.
        assert scan.array[0][back == 1] == pytest.approx(prepared[voxel], rel=1e-6)


def test_what_the_recipe_cut_off_is_zero_and_all_it_kept_is_covered() -> None:
    scan = reorient(oblique_volume((9, 6, 7)), "SLA")
    back = recipe((5, 8, 6), "crop_or_pad", "RAS").project_back(
        np.ones((5, 8, 6), dtype=np.float32), scan
    )
    assert np.count_nonzero(back) == 5 * 6 * 6  # of padding there is nothing in the scan


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    code=st.sampled_from(CODES),
    spacing=st.sampled_from([None, 0.8, 1.5]),
    fit=st.sampled_from(["resize", "crop_or_pad"]),
)
def test_voxel_centres_are_right_to_a_millionth_of_a_millimetre(
    seed: int, code: str, spacing: float | None, fit: str
) -> None:
    scan = reorient(oblique_volume((8, 9, 10), seed), code)
    shape = (11, 14, 21)
    prep = recipe(shape, fit, "RAS", spacing)
    turned = reorient(scan, "RAS")
    grid = to_grid(turned, None if spacing is None else (spacing,) * 3, shape, prep.config.fit)
    voxel = np.array(turned.array.shape[1:]) // 2
    # Differences from this voxel's own place: near it float32 holds far less than 1e-6 mm.
    for axis in range(3):
        back = prep.project_back(ramp(turned, grid, voxel, axis), scan)
        found = reorient(Volume(back[None], scan.affine), "RAS").array[0][tuple(voxel)]
        assert abs(found) < 1e-6


@pytest.mark.parametrize("fit", ["resize", "crop_or_pad"])
@pytest.mark.parametrize("spacing", [None, (0.8, 2.0, 2.5), (5.0, 5.0, 5.0)])
def test_the_lattice_is_where_to_grid_puts_its_voxels(
    fit: str, spacing: tuple[float, ...] | None
) -> None:
    scan, shape = oblique_volume((8, 9, 10)), (11, 5, 20)
    mode = recipe(shape, fit, "RAS").config.fit
    grid = to_grid(scan, spacing, shape, mode)
    for voxel in itertools.product(*((0, n - 1) for n in shape)):
        placed = zip(lattice(scan, spacing, shape, mode), voxel, strict=True)
        in_scan = [sampling.start + o * sampling.step for sampling, o in placed]
        at = scan.affine @ np.array([*in_scan, 1.0])
        np.testing.assert_allclose(at, grid.affine @ np.array([*voxel, 1.0]), atol=1e-9)


def test_images_come_back_from_their_plane() -> None:
    affine = np.array([[0, -0.5, 0, 4], [0, 0, 1, 9], [-0.7, 0, 0, -3], [0, 0, 0, 1.0]])
    image = Volume(np.arange(48.0).reshape(1, 6, 8), affine)
    assert image.orientation == "IL"
    prep = recipe((5, 4), "crop_or_pad", "RS")
    prepared = prep.apply(image)[0]
    for voxel in itertools.product(range(5), range(4)):
        mark = np.zeros((5, 4), dtype=np.float32)
        mark[voxel] = 1
        back = prep.project_back(mark, image)
        assert np.count_nonzero(back) == 1
        assert image.array[0][back == 1] == prepared[voxel]


def test_scans_without_geometry_are_not_turned_back() -> None:
    image = Volume(np.arange(30.0).reshape(1, 5, 6), np.eye(4), has_geometry=False)
    prep = recipe((5, 6), "resize", "PL")
    assert (prep.project_back(prep.apply(image)[0], image) == image.array[0]).all()


def test_a_dicom_series_has_its_map_in_its_own_slices(tmp_path: Path) -> None:
    patient = draw_patient(PhantomConfig(n_patients=1, dicom=1.0), 0)
    written = patient.scans[0].volume
    write_dicom(tmp_path / "series", written, ScanHeader("P", 1, "test", "MR"))
    with DecodePool(tmp_path) as pool:
        ((_, volume),) = pool.read(discover(tmp_path, None).sources)
    assert isinstance(volume, Volume)
    prep = recipe(written.array.shape[1:], "resize", "as stored")
    # The lesion, marked on the prepared scan by the truth, is the lesion in what was read.
    mask = patient.lesion_mask(volume)
    back = prep.project_back(mask.astype(np.float32), volume)
    assert ((back == 1) == mask).all() and mask.sum() > 1


def test_orientations_as_stored_are_left_alone() -> None:
    image = Volume(np.zeros((1, 3, 4)), np.eye(4), has_geometry=False)
    array = np.arange(12).reshape(3, 4)
    assert orient_back(array, image, "PL") is array


def test_smoothing_leaves_no_prepared_voxel_out() -> None:
    """Where the scan's voxels are the larger ones, each marked voxel is still seen."""
    scan = Volume(np.zeros((1, 4, 4, 4)), np.diag([4.0, 4, 4, 1]))
    prep = recipe((16, 16, 16), "resize", "RAS", 1.0)
    for voxel in [(0, 0, 0), (5, 9, 14), (7, 8, 8)]:
        mark = np.zeros((16, 16, 16), dtype=np.float32)
        mark[voxel] = 1
        back = prep.project_back(mark, scan)
        assert np.unravel_index(back.argmax(), back.shape) == tuple(v // 4 for v in voxel)
