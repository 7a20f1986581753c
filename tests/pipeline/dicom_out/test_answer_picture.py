"""What is drawn: the scan the right way round, the answer, the caution; nothing of the patient."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from answered import explanation_of, row_of

from data_prep.geometry import reorient
from data_prep.readers.source import ScanSource
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dicom_out import picture
from pipeline.dicom_out.panels import coloured, panels
from pipeline.dicom_out.picture import WIDTH, answer_picture
from pipeline.trust.explain_methods import METHODS
from pipeline.trust.explain_picture import UNITS

SOURCE = ScanSource("dicom", ("Secret^Name/a.dcm",))
LARGE = (6, 5, 4)


@pytest.fixture
def written(monkeypatch):
    """Every text that is drawn."""
    texts = []
    original = picture._write

    def keep(draw, place, text, colour):
        texts.append(text)
        original(draw, place, text, colour)

    monkeypatch.setattr(picture, "_write", keep)
    return texts


def draw(package, array, explanation=None, **changes):
    return answer_picture(package, array, row_of(package, SOURCE, **changes), explanation)


def at(place: tuple[int, ...], shape: tuple[int, ...] = LARGE) -> np.ndarray:
    """1 at one voxel, else 0."""
    values = np.zeros(shape, dtype=np.float32)
    values[place] = 1
    return values


def test_a_volume_is_shown_as_radiologists_look_at_it(make_package):
    package = make_package(LARGE)
    corner = at((-1, -1, -1))  # RAS: at the right, in front, above
    # all three planes pass through it
    plain, mapped = panels(package.recipe, corner[np.newaxis], explanation_of(1e-9 * corner))
    assert [p.colours.shape[:2] for p in plain] == [(5, 6), (4, 6), (4, 5)]
    assert [p.size for p in plain] == [p.size for p in mapped]
    # axial: in front is up, right is left; coronal: above is up; sagittal: in front is left
    assert [p.colours[0, 0, 0] for p in plain] == [1, 1, 1]
    assert [p.colours.sum() for p in plain] == [3, 3, 3]
    assert [p.letters for p in plain] == [("R", "A"), ("R", "S"), ("A", "S")]
    assert draw(package, corner[np.newaxis]).shape[1:] == (WIDTH, 3)


@pytest.mark.parametrize("orientation", ["LPS", "SRA", "PIR"])
def test_any_orientation_of_the_model_is_shown_the_same_way(make_package, orientation):
    array = np.arange(120, dtype=np.float32).reshape(1, *LARGE)
    package = make_package(LARGE)
    turned = reorient(Volume(array, np.eye(4)), orientation).array
    config = package.recipe.config.model_copy(update={"orientation": orientation})
    other = package.recipe.model_copy(update={"config": config})
    evidence = at((1, 2, 3))
    turned_evidence = reorient(Volume(evidence[np.newaxis], np.eye(4)), orientation).array[0]
    one = panels(package.recipe, array, explanation_of(evidence))
    same = panels(other, np.asarray(turned), explanation_of(np.asarray(turned_evidence)))
    for a, b in zip(chain(*one), chain(*same), strict=True):
        assert np.array_equal(a.colours, b.colours)
        assert a.letters == b.letters


def test_where_directions_are_not_known_none_are_drawn(make_package):
    package = make_package(LARGE)
    config = package.recipe.config.model_copy(update={"orientation": "as stored"})
    recipe = package.recipe.model_copy(update={"config": config})
    array = np.random.default_rng(0).random((1, *LARGE)).astype(np.float32)
    (plain,) = panels(recipe, array, None)
    assert {panel.letters for panel in plain} == {("", "")}
    # an image may state no geometry whatever its recipe says
    ((image,),) = panels(make_package((6, 5)).recipe, array[..., 0], None)
    assert image.letters == ("", "")


def test_voxels_have_their_shape_and_planes_one_scale(make_package):
    package = make_package(LARGE)
    config = package.recipe.config.model_copy(
        update={"spacing_mm": (1.0, 1.0, 5.0), "fit": "crop_or_pad"}
    )
    recipe = package.recipe.model_copy(update={"config": config})
    (plain,) = panels(recipe, np.zeros((1, *LARGE), dtype=np.float32), None)
    assert [panel.size for panel in plain] == [(5, 6), (20, 6), (20, 5)]
    white = [replace(panel, colours=np.ones_like(panel.colours)) for panel in plain]
    sheet = np.asarray(picture._sheet([white])).min(axis=2) > 250
    assert len(sheet) == 512  # the tallest bound them
    across = [int(sheet[row].sum()) for row in (2, len(sheet) // 2)]
    assert across[0] < across[1]  # the axial one is not as tall


def test_channels_that_are_one_grey_image_are_shown_grey(make_package):
    grey = np.random.default_rng(0).random((1, 6, 5)).astype(np.float32)
    scaled = np.concatenate([grey, 0.5 * grey + 0.3, 2 * grey - 1])  # as recipe "imagenet" does
    ((panel,),) = panels(make_package((6, 5)).recipe, scaled, None)
    assert np.ptp(panel.colours, axis=2).max() == 0


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_image_of_any_colours_is_shown(make_package, channels):
    array = np.random.default_rng(0).random((channels, 6, 5)).astype(np.float32)
    shown = draw(make_package((6, 5)), array)
    grey = np.ptp(shown[:200].astype(int), axis=2).max() == 0
    assert grey == (channels != 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_lies_on_a_second_picture_where_the_evidence_is(make_package, method):
    package = make_package((6, 5))
    array = np.random.default_rng(0).random((1, 6, 5)).astype(np.float32)
    ((plain, mapped),) = panels(package.recipe, array, explanation_of(at((0, 0), (6, 5)), method))
    changed = (plain.colours != mapped.colours).any(axis=2)
    assert np.argwhere(changed).tolist() == [[0, 0]]
    ((alone,),) = panels(package.recipe, array, None)
    assert np.array_equal(alone.colours, plain.colours)


def test_what_speaks_against_the_class_is_shown_by_signed_methods_only(make_package):
    package = make_package((6, 5))
    array = np.zeros((1, 6, 5), dtype=np.float32)
    against = -at((2, 2), (6, 5))
    assert len(panels(package.recipe, array, explanation_of(against))[0]) == 1
    ((plain, mapped),) = panels(package.recipe, array, explanation_of(against, "occlusion"))
    assert (plain.colours != mapped.colours).any(axis=2).sum() == 1


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("grad_cam", {"in colour: Grad-CAM for lesion", "none", "most"}),
        ("occlusion", {"in colour: Occlusion for lesion", "-2", "+2"}),
        ("integrated_gradients", {"in colour: Integrated gradients for lesion", "-2", "+2"}),
    ],
)
def test_a_legend_says_what_the_colours_are(make_package, written, method, said):
    package = make_package(LARGE)
    array = np.zeros((1, *LARGE), dtype=np.float32)
    shown = draw(package, array, explanation_of(2 * at((1, 2, 3)), method))
    caution = "it shows what the answer rests on, not the outline of a finding"
    assert {*said, UNITS[method], caution} <= set(written)
    right_end = shown[:, sum(picture._BAR) - 1].astype(float)
    most = np.rint(255 * coloured(np.ones(1), method))
    assert (abs(right_end - most).max(axis=1) <= 1).any()
    written.clear()
    draw(package, array)
    assert not {*said, caution} & set(written)


def test_a_map_without_evidence_is_said_and_not_drawn(make_package, written):
    package = make_package(LARGE)
    array = np.zeros((1, *LARGE), dtype=np.float32)
    draw(package, array, explanation_of(np.zeros(LARGE, dtype=np.float32)))
    assert "Grad-CAM: nothing in this scan speaks for lesion" in written
    assert not any("in colour" in text for text in written)


def test_all_that_must_be_said_is_written(make_package, written):
    package = make_package(LARGE)
    array = np.zeros((1, *LARGE), dtype=np.float32)
    draw(package, array)
    said = "\n".join(written)
    for part in (
        "FOR RESEARCH USE; NOT A DIAGNOSIS",
        "0.667",
        "prediction set of 90.0%: healthy · lesion",
        "as the model saw it: 6 × 5 × 4 voxels",
        "UNLIKE THE TRAINING SCANS",
        package.digest[:16],
    ):
        assert part in said
    assert "Secret" not in said
    written.clear()
    draw(package, array, shift=None, flags=(), predicted=(), within=())
    assert {"no class is given", "prediction set of 90.0%: empty"} <= set(written)
    assert any("not known" in text for text in written)
    written.clear()
    draw(package, array, flags=())
    assert "looks like the training scans" in written


def test_many_classes_and_long_names_do_not_run_out_of_the_picture(make_package, written):
    names = tuple(f"class {n} {'of a very long name ' * 9}" for n in range(9))
    package = make_package(LARGE, Task(kind="multi-class", class_names=names))
    draw(package, np.zeros((1, *LARGE), dtype=np.float32))
    assert "and 3 more" in written
    assert max(picture._font().getlength(text) for text in written) <= WIDTH
    assert sum(text.endswith("…") for text in written) >= 8
