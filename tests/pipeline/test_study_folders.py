"""Who asks for a study that does not stand is told what does, and what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.errors import StageError
from pipeline.study_folders import refuse_absent_study
from pipeline.workspace import open_workspace


def refused(runs: Path, name: str = "demo", prep: str | None = None) -> StageError:
    """What is said of a study of the cohort phantom3d, whose own prep config is phantom3d."""
    with pytest.raises(StageError) as caught:
        refuse_absent_study(open_workspace(runs, "phantom3d", prep), "release", name, "phantom3d")
    assert caught.value.code == "stage.missing"
    return caught.value


def make(runs: Path, *names: str) -> None:
    for name in names:
        (runs / "phantom3d" / name).mkdir(parents=True)


def test_a_study_that_stands_is_let_through(tmp_path: Path) -> None:
    make(tmp_path, "study-demo", "study-demo-mri")
    for prep in (None, "mri"):
        workspace = open_workspace(tmp_path, "phantom3d", prep)
        refuse_absent_study(workspace, "release", "demo", "phantom3d")


def test_without_any_study_it_is_to_be_run(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert f"no study stands in {tmp_path / 'phantom3d'}" in error.message
    assert f"`medcurve study demo --data phantom3d --runs {tmp_path}`" in error.fix
    assert refused(tmp_path, prep="mri").fix.endswith(f"--runs {tmp_path} --prep mri`")


def test_another_study_is_named(tmp_path: Path) -> None:
    make(tmp_path, "study-quick", "study-demo2")
    error = refused(tmp_path)
    assert "did you mean 'study-demo2'? there is study-demo2 and study-quick" in error.message
    assert "medcurve study demo" in error.fix


@pytest.mark.parametrize("planned", [True, False])
def test_a_study_on_another_prep_config_comes_with_the_command(
    planned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    make(runs, "study-demo-plan", "store-plan", "study-demo-mri", "store-mri", "study-demo-more")
    if planned:
        (runs / "phantom3d" / "plan.yaml").touch()
    plan = "runs/phantom3d/plan.yaml" if planned else "plan.yaml"
    command = "medcurve release demo --data phantom3d"
    assert refused(runs).fix == (
        f"it was run on another prep config: `{command} --prep mri` or `{command} --prep {plan}`"
    )
    assert refused(runs, prep="xray").fix == refused(runs).fix


def test_a_study_on_the_cohorts_own_prep_config_needs_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("runs"), "study-demo")
    assert refused(Path("runs"), prep="mri").fix.endswith(
        "`medcurve release demo --data phantom3d`"
    )
