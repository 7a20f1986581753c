"""Two cohorts side by side: the answer first, each difference from its side, nobody named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import medcurve
from PIL import Image

from data_prep.errors import CohortError
from data_prep.files import read_json
from data_prep.fingerprint import CohortFingerprint
from pipeline.cohort_comparison.compare import CohortSide, compare_cohorts, load_side
from pipeline.cohort_comparison.page import sentences

CONFIG = """
name: {name}
source: {{kind: folder, root: {root}}}
labels: {{kind: table, task: binary, classes: [well, ill]}}
prep: mri
"""
Draw = Callable[[np.random.Generator], np.ndarray]


def plain(rng: np.random.Generator) -> np.ndarray:
    """A bright disc left of the middle, in noise."""
    rows, columns = np.indices((40, 36))
    disc = np.hypot(rows - 20, columns - 12) < 8 + rng.normal()
    return np.clip(60 + 90 * disc + rng.normal(0, 12, disc.shape), 0, 255).astype(np.uint8)


def mirrored(rng: np.random.Generator) -> np.ndarray:
    return plain(rng)[:, ::-1]


def other_scanner(rng: np.random.Generator) -> np.ndarray:
    """Twice as many pixels each way, and brighter."""
    large = Image.fromarray(plain(rng)).resize((72, 80))
    return np.clip(np.asarray(large).astype(int) + 60, 0, 255).astype(np.uint8)


def write(place: Path, name: str, draw: Draw, seed: int, n: int = 48, ill: int = 2) -> Path:
    """A cohort of PNG images, two of each patient, and its config."""
    root = place / f"{name}-raw"
    (root / "SECRETFOLDER").mkdir(parents=True)
    lines = ["scan,patient_id,label"]
    rng = np.random.default_rng(seed)
    for number in range(n):
        file = f"SECRETFOLDER/{number:03d}.png"
        Image.fromarray(draw(rng)).save(root / file)
        label = "ill" if number // 2 % ill == 0 else "well"
        lines.append(f"{file},SECRETPATIENT{number // 2},{label}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    config = place / f"{name}.yaml"
    config.write_text(CONFIG.format(name=name, root=root))
    return config


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the cohort ``one``, ingested."""
    found = tmp_path_factory.mktemp("compared")
    config = write(found, "one", plain, 1)
    assert medcurve("ingest", config, "--runs", found / "runs", "--workers", 1) == 0
    return found


def compared(place: Path, second: Path) -> tuple[dict, str]:
    """The numbers and the page of ``one`` and a second cohort."""
    runs, first = place / "runs", place / "one.yaml"
    assert medcurve("ingest", second, "--runs", runs, "--workers", 1) == 0
    assert medcurve("compare-cohorts", first, second, "--runs", runs, "--workers", 1) == 0
    page = runs / f"compare-one-{second.stem}.html"
    return json.loads(page.with_suffix(".json").read_text()), page.read_text()


def differing(numbers: dict) -> set[str]:
    return {aspect for aspect, found in numbers["aspects"].items() if found["differs"]}


def test_cohorts_drawn_alike_are_not_told_apart(place: Path) -> None:
    numbers, page = compared(place, write(place, "alike", plain, 2))
    assert differing(numbers) == set()
    assert numbers["p_value"] > 0.05
    assert numbers["identical"] == 0
    assert "<li>No difference between the scans of one and alike was found" in page
    assert all(found["patients"] == [24, 24] for found in numbers["aspects"].values())


@pytest.mark.parametrize(
    ("draw", "aspects", "facts"),
    [
        (mirrored, {"appearance"}, ()),
        (other_scanner, {"metadata", "intensities"}, ("pixels", "intensities")),
    ],
)
def test_each_difference_is_named(
    place: Path, draw: Draw, aspects: set[str], facts: tuple[str, ...]
) -> None:
    numbers, page = compared(place, write(place, draw.__name__, draw, 2))
    assert aspects <= differing(numbers)
    assert "labels" not in differing(numbers)
    for aspect in aspects:
        assert numbers["aspects"][aspect]["auroc"] > 0.9
    assert f"<li>The scans of {draw.__name__} do not look like those of one: they differ" in page
    for name in facts:
        assert f'<tr class="other"><th scope="row">{name}</th>' in page


def test_the_page_stands_by_itself_and_names_nobody(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = write(place, "relabelled", plain, 1, ill=4)
    numbers, page = compared(place, second)
    assert "SECRET" not in page + json.dumps(numbers) + capsys.readouterr().out
    assert str(place) not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert numbers["identical"] == 48
    assert "48 scans are in both cohorts, voxel by voxel" in page
    assert page.count("least like any scan of") == 2
    assert page.count(' in miniature"') == 24
    assert compared(place, second) == (numbers, page)


def test_a_cohort_is_not_compared_with_itself(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = place / "one.yaml"
    assert medcurve("compare-cohorts", config, config, "--runs", place / "runs") == 2
    assert "compare.same_cohort" in capsys.readouterr().err


def side(place: Path) -> CohortSide:
    """The cohort ``one`` as the page's tests have left it."""
    folder = place / "runs" / "one"
    seen = CohortFingerprint.from_json(read_json(folder / "fingerprint" / "fingerprint.json"))
    return load_side(seen, folder / "manifest", folder / "fingerprint")


def test_images_are_not_compared_with_volumes(place: Path) -> None:
    compared(place, write(place, "flat", plain, 3, n=8))
    one = side(place)
    deep = one.seen.model_copy(update={"axes": (*one.seen.axes, one.seen.axes[0])})
    with pytest.raises(CohortError, match="2D and those of 'one' 3D") as caught:
        compare_cohorts(one, replace(one, seen=deep))
    assert caught.value.code == "compare.dimensions"


def test_few_patients_are_said_not_to_tell_how_well_they_can_be_told_apart(place: Path) -> None:
    numbers, page = compared(place, write(place, "few", other_scanner, 3, n=8))
    assert numbers["aspects"]["metadata"]["auroc"] is None
    assert numbers["aspects"]["metadata"]["differs"]
    assert "too few patients to say how well" in page


def test_other_classes_are_said_not_to_be_compared(place: Path) -> None:
    one = side(place)
    task = one.seen.task.model_copy(update={"class_names": ("calm", "ill")})
    other = replace(one, seen=one.seen.model_copy(update={"task": task, "cohort": "two"}))
    found = compare_cohorts(one, other)
    assert set(found.differences) == {"metadata", "intensities", "appearance"}
    assert sentences((one, other), found)[-1].startswith("Their labels have other classes")
    assert found.p_value == 1
