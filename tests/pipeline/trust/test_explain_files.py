"""Files of explanations: NIfTI that lies on the scan, names that stay in the folder, pictures."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.geometry import reorient
from data_prep.readers import discover
from data_prep.readers.sandbox import DecodePool
from data_prep.volume import Volume
from pipeline.trust.explain_files import file_stem, nifti_bytes
from pipeline.trust.explain_methods import Method
from pipeline.trust.explain_picture import _panels_2d, _panels_3d, overlay_png
from pipeline.trust.explain_scan import Explanation

AFFINE = np.array([[0, 2.0, 0.1, 5], [-3.0, 0, 0, 6], [0.2, 0, 4.0, 7], [0, 0, 0, 1]])


def explained(shape: tuple[int, ...], method: Method = "grad_cam", seed: int = 0) -> Explanation:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if method == "grad_cam":
        values = np.maximum(values, 0)
    return Explanation(values, values, 1, "mass $of$ 5", 0.87, method)


def scan(shape: tuple[int, ...], affine: np.ndarray = AFFINE) -> Volume:
    return Volume(np.random.default_rng(1).standard_normal((1, *shape)), affine)


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text())
def test_names_are_plain_and_no_two_alike(one: str, other: str) -> None:
    names = [file_stem(name) for name in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert name.replace("-", "").replace("_", "").isalnum() and name.isascii()
        assert len(name) <= 100


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", "..", ".", "", "a/b\\c:d", "\udcff"])
def test_a_hostile_name_stays_in_the_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{file_stem(name)}.png"
    assert path.resolve().parent == tmp_path.resolve()


def test_a_map_lies_on_its_scan_and_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    found, volume = explained((5, 6, 7)), scan((5, 6, 7))
    data = nifti_bytes(found.map, volume)
    assert data == nifti_bytes(found.map.copy(), volume)
    path = tmp_path / "map.nii.gz"
    path.write_bytes(data)
    image = nib.load(path)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.get_fdata(), found.map)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    with DecodePool(tmp_path) as pool:  # our own reader has it in the same place
        ((_, read),) = pool.read(discover(tmp_path, None).sources)
    assert isinstance(read, Volume)
    np.testing.assert_allclose(read.affine, AFFINE, atol=1e-5)
    assert (read.array[0] == found.map).all()


def test_geometry_that_a_qform_cannot_say_is_left_to_the_sform() -> None:
    sheared, square = AFFINE.copy(), np.diag([1.0, 2, 3, 1])
    sheared[1, 2] = 1.5
    for affine, known, codes in [
        (sheared, True, (1, 0)),
        (square, True, (1, 1)),
        (square, False, (0, 0)),
    ]:
        volume = replace(scan((4, 4, 4), affine), has_geometry=known)
        image = nib.Nifti1Image.from_bytes(_unpacked(nifti_bytes(explained((4, 4, 4)).map, volume)))
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == codes


def _unpacked(data: bytes) -> bytes:
    return gzip.decompress(data)


def test_an_image_has_one_slice() -> None:
    volume = scan((5, 6))
    image = nib.Nifti1Image.from_bytes(_unpacked(nifti_bytes(explained((5, 6)).map, volume)))
    assert image.shape == (5, 6, 1)


@pytest.mark.parametrize(
    ("method", "shape", "known"),
    [("grad_cam", (12, 15), True), ("occlusion", (12, 15, 9), False)],
)
def test_pictures_are_drawn_and_repeat(method: Method, shape: tuple[int, ...], known: bool) -> None:
    volume = replace(scan(shape), has_geometry=known)
    found = explained(shape, method)
    data = overlay_png(found, volume, "a/b$c" * 30)
    assert data == overlay_png(found, volume, "a/b$c" * 30)
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert picture.shape[0] > 150 and picture.shape[1] > 600
    assert (np.ptp(picture, axis=2) > 60).sum() > 500  # the map's colours are there


def test_an_empty_map_is_drawn_and_says_so() -> None:
    empty = replace(explained((6, 7, 8)), map=np.zeros((6, 7, 8), dtype=np.float32))
    assert len(overlay_png(empty, scan((6, 7, 8)), "x")) > 1000
    panels = _panels_3d(empty, scan((6, 7, 8)))
    assert all(panel.peak is None for panel in panels)


def test_colour_scans_are_shown_grey() -> None:
    colour = Volume(np.random.default_rng(0).random((3, 9, 8)), np.eye(4), has_geometry=False)
    (panel,) = _panels_2d(explained((9, 8)), colour)
    assert panel.grey.shape == (9, 8) and panel.letters == ("", "", "", "")


@pytest.mark.parametrize("code", ["RAS", "LPI", "SLA", "AIR"])
def test_planes_are_shown_as_radiologists_look_at_them(code: str) -> None:
    """Whatever the scan's axes: right on the left, anterior on top or left, superior on top."""
    array = np.zeros((1, 6, 7, 8))
    values = np.zeros((6, 7, 8), dtype=np.float32)
    values[5, 6, 7] = 1  # right, anterior, superior
    ras = Volume(array, np.diag([2.0, 3, 4, 1]))
    marked = replace(ras, array=values[None])
    turned = reorient(marked, code).array[0]
    found = replace(explained((1, 1)), map=turned)
    panels = _panels_3d(found, reorient(ras, code))
    assert [panel.name for panel in panels] == ["axial", "coronal", "sagittal"]
    letters = [panel.letters for panel in panels]
    assert letters == [("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")]
    for panel, spacing in zip(panels, [(3.0, 2.0), (4.0, 2.0), (4.0, 3.0)], strict=True):
        assert panel.peak == (0, 0) and panel.values[0, 0] == 1
        assert panel.spacing == pytest.approx(spacing)


def test_an_image_is_shown_as_it_is_stored_with_its_letters() -> None:
    affine = np.array([[0, -1.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    (panel,) = _panels_2d(explained((4, 5)), Volume(np.zeros((1, 4, 5)), affine))
    assert panel.letters == ("R", "L", "A", "P")  # rows to Posterior, columns to Left
