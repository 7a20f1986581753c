"""What is drawn: the scan the right way round, the answer, the caution; nothing of the patient."""

from __future__ import annotations

import numpy as np
import pytest
from answered import row_of

from data_prep.readers.source import ScanSource
from data_prep.task import Task
from pipeline.dicom_out import picture
from pipeline.dicom_out.picture import WIDTH, answer_picture

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


def draw(package, array, evidence=None, **changes):
    return answer_picture(package, array, row_of(package, SOURCE, **changes), evidence)


def brightest(pixels: np.ndarray) -> tuple[float, float]:
    """(row, column) of the middle of what is white, as shares of the picture."""
    rows, columns = np.nonzero(pixels.min(axis=2) > 250)
    return rows.mean() / len(pixels), columns.mean() / pixels.shape[1]


def test_a_volume_is_shown_as_radiologists_look_at_it(make_package):
    package = make_package(LARGE)
    array = np.zeros((1, *LARGE), dtype=np.float32)
    array[0, -1, -1, -1] = 1  # RAS: at the right, in front, above
    evidence = np.zeros(LARGE, dtype=np.float32)
    evidence[-1, -1, -1] = 1e-9  # all three slices pass through it
    shown = draw(package, array, np.zeros_like(evidence), flags=())
    assert shown.shape[1:] == (WIDTH, 3)
    panels = [p.colours for p in picture._panels(package.recipe, array, evidence)]
    assert [p.shape[:2] for p in panels] == [(5, 6), (4, 6), (4, 5)]
    # axial: in front is up, right is left; coronal: above is up; sagittal: in front is left
    assert [p[0, 0, 0] for p in panels] == [1, 1, 1]
    assert [p.sum() for p in panels] == [3, 3, 3]


@pytest.mark.parametrize("orientation", ["LPS", "SRA", "PIR"])
def test_any_orientation_of_the_model_is_shown_the_same_way(make_package, orientation):
    from data_prep.geometry import reorient
    from data_prep.volume import Volume

    array = np.arange(120, dtype=np.float32).reshape(1, *LARGE)
    package = make_package(LARGE)
    turned = reorient(Volume(array, np.eye(4)), orientation).array
    config = package.recipe.config.model_copy(update={"orientation": orientation})
    other = package.recipe.model_copy(update={"config": config})
    evidence = np.zeros(LARGE, dtype=np.float32)
    evidence[1, 2, 3] = 1
    turned_evidence = reorient(Volume(evidence[np.newaxis], np.eye(4)), orientation).array[0]
    one = picture._panels(package.recipe, array, evidence)
    same = picture._panels(other, np.asarray(turned), np.asarray(turned_evidence))
    for a, b in zip(one, same, strict=True):
        assert np.array_equal(a.colours, b.colours)
        assert np.array_equal(a.evidence, b.evidence)
        assert a.letters == b.letters
    assert [panel.letters for panel in one] == [("R", "A"), ("R", "S"), ("A", "S")]


def test_where_directions_are_not_known_none_are_drawn(make_package, written):
    package = make_package(LARGE)
    config = package.recipe.config.model_copy(update={"orientation": "as stored"})
    recipe = package.recipe.model_copy(update={"config": config})
    array = np.random.default_rng(0).random((1, *LARGE)).astype(np.float32)
    (panel,) = picture._panels(recipe, array, None)
    assert panel.colours.shape[:2] == LARGE[:2]
    assert panel.letters == ("", "")
    evidence = np.zeros(LARGE, dtype=np.float32)
    evidence[0, 0, 1] = 1
    (panel,) = picture._panels(recipe, array, evidence)
    assert panel.evidence[0, 0] == 1


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_image_of_any_colours_is_shown(make_package, channels):
    array = np.random.default_rng(0).random((channels, 6, 5)).astype(np.float32)
    shown = draw(make_package((6, 5)), array)
    grey = np.ptp(shown[:200].astype(int), axis=2).max() == 0
    assert grey == (channels != 3)


def test_evidence_is_laid_over_the_scan_where_it_is(make_package):
    package = make_package((6, 5))
    array = np.zeros((1, 6, 5), dtype=np.float32)
    evidence = np.full((6, 5), -1, dtype=np.float32)
    evidence[0, 0] = 2
    plain, shown = draw(package, array), draw(package, array, evidence)
    rows, columns = np.nonzero((plain != shown).any(axis=2))
    assert rows.max() < 120  # of 512
    assert columns.max() < 300  # the scan begins at 171 of 768


def test_all_that_must_be_said_is_written(make_package, written):
    package = make_package(LARGE)
    array = np.zeros((1, *LARGE), dtype=np.float32)
    draw(package, array)
    said = "\n".join(written)
    for part in (
        "FOR RESEARCH USE; NOT A DIAGNOSIS",
        "0.667",
        "prediction set of 90.0%: healthy, lesion",
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
