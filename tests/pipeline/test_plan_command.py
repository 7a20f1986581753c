"""``medcurve plan`` and ``medcurve summary``: from a manifest to a recipe that prep takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command_line import medcurve
from rich.console import Console

from data_prep.config import read_config
from data_prep.preprocess import PrepConfig
from pipeline import console

COHORT = {
    "name": "tiny",
    "source": {"kind": "phantom", "phantom": {"ndim": 2, "n_patients": 20, "seed": 4}},
    "labels": {"kind": "table", "classes": ["benign", "malignant"]},
    "prep": "phantom2d",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ingested and split phantom cohort."""
    place = tmp_path_factory.mktemp("place")
    (place / "tiny.yaml").write_text(yaml.safe_dump(COHORT))
    for stage in ("data", "ingest", "split"):
        assert medcurve(stage, str(place / "tiny.yaml"), "--runs", str(place / "runs")) == 0
    return place


@pytest.fixture
def tiny(place: Path) -> Callable[..., int]:
    """Run a command on the cohort, with one worker where it takes workers."""

    def command(name: str, *more: str) -> int:
        common = (str(place / "tiny.yaml"), "--runs", str(place / "runs"), "--workers", "1")
        return medcurve(name, *common, *more)

    return command


def test_prep_takes_the_plan_as_it_is(
    place: Path, tiny: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "my plan.yaml"
    assert tiny("plan", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    for field in PrepConfig.model_fields:
        assert f"\n{field} " in printed
    assert "caution: " in printed  # half of the phantom's images are PNG, without a size in mm
    assert f"--prep '{out}' --runs" in printed
    assert tiny("prep", "--prep", str(out)) == 0
    assert (place / "runs" / "tiny" / "store-my plan" / "recipe.json").is_file()


def test_a_plan_is_not_replaced_unless_asked(
    place: Path, tiny: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = place / "runs" / "tiny" / "plan.yaml"
    assert tiny("plan") == 0
    assert tiny("plan") == 0
    path.write_text(path.read_text().replace("channels: 1", "channels: 3"))
    assert tiny("plan") == 2
    assert "plan.exists" in capsys.readouterr().err
    assert read_config(path, PrepConfig).channels == 3
    assert tiny("plan", "--overwrite") == 0
    assert read_config(path, PrepConfig).channels == 1


def test_a_smaller_budget_gives_smaller_scans(place: Path, tiny: Callable[..., int]) -> None:
    shapes = []
    for voxels in (256, 4096):
        out = place / f"v{voxels}.yaml"
        assert tiny("plan", "--out", str(out), "--voxels", str(voxels)) == 0
        shape = read_config(out, PrepConfig).shape
        edges = shape if isinstance(shape, tuple) else (shape, shape)
        assert edges[0] * edges[1] <= voxels
        shapes.append(edges)
    assert shapes[0] < shapes[1]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--out", "plan"), "plan.bad_name"),
        (("--out", "plan.yalm"), "plan.bad_name"),
        (("--voxels", "20"), "plan.budget_too_small"),
    ],
)
def test_mistakes_are_answered(
    tiny: Callable[..., int], capsys: pytest.CaptureFixture[str], more: tuple[str, ...], code: str
) -> None:
    assert tiny("plan", *more) == 2
    assert f"[{code}]" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "summary"])
def test_without_a_manifest_the_missing_stage_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(COHORT))
    status = medcurve(command, str(tmp_path / "tiny.yaml"), "--runs", str(tmp_path / "runs"))
    assert status == 2
    assert "[stage.missing]" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_summary_prints_a_table_and_writes_a_page(
    place: Path, tiny: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tiny("summary") == 0
    printed = capsys.readouterr().out
    assert "of 20 patients" in printed
    assert "benign: " in printed
    assert (place / "runs" / "tiny" / "cohort.html").read_text().startswith("<!doctype html>")
    assert tiny("summary") == 0
    assert "survey:" not in capsys.readouterr().out  # nothing is read a second time


def test_a_terminal_gets_a_drawn_table_that_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(force_terminal=True, width=40, record=True, soft_wrap=True)
    monkeypatch.setattr(console, "OUT", terminal)
    console.table(("field", "because"), [("shape", "[not markup] " + "word " * 20)])
    lines = terminal.export_text().splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert "[not markup]" in "".join(lines)
    assert any("─" in line for line in lines)
