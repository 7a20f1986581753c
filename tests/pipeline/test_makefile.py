"""Every target of the Makefile calls a command with options that it takes; help names them all."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import typer

from data_prep.config import CONFIG_ROOT
from pipeline.cli import app

ROOT = CONFIG_ROOT.parent
TEXT = (ROOT / "Makefile").read_text()
SET = {
    "DATA": "breastmnist",
    "PREP": "mri",
    "STUDY": "quick",
    "WORKERS": "3",
    "RUNS": "elsewhere",
    "FAMILY": "linear",
    "REFIT": "1",
    "RULE": "one_standard_error",
    "OUT": "there",
    "SCANS": "new",
    "METHOD": "occlusion",
    "TO": "torch-export",
    "B": "phantom2d",
    "CLAIM": "translation",
    "QUICK": "1",
    "PORT": "5001",
}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def made(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def calls(**variables: str) -> dict[str, dict[str, Any]]:
    """Target -> name and parameters of the command that it would run."""
    targets = re.findall(r"^([a-z]+):.*## .*\n(?:\t@.*\n)?\t\$\(MEDCURVE\)", TEXT, re.MULTILINE)
    group = typer.main.get_command(app)
    found = {}
    for target in targets:
        given = [f"{name}={value}" for name, value in variables.items()]
        lines = made("-n", "-o", ".venv/.ready", target, *given).splitlines()
        (line,) = (one for one in lines if one.startswith(".venv/bin/medcurve"))
        name, *arguments = shlex.split(line)[1:]
        command = group.commands[name]  # type: ignore[attr-defined]
        params = command.make_context(name, list(arguments)).params
        found[target] = {"command": name} | {k: v for k, v in params.items() if v is not None}
    return found


def test_every_target_hands_on_what_was_set() -> None:
    found = calls(**SET)
    assert len(found) >= 20
    for target, params in found.items():
        for option, variable in (("prep", "PREP"), ("runs", "RUNS"), ("workers", "WORKERS")):
            if option in {p.name for p in _options(params["command"])}:
                assert str(params.get(option)) == SET[variable], (target, option)
    release = found["release"]
    assert (release["name"], release["refit"], release["rule"]) == (
        "quick",
        True,
        "one_standard_error",
    )
    assert (found["demo"]["data"], found["demo"]["study"]) == ("breastmnist", "quick")
    model = "elsewhere/breastmnist/model-quick-mri"
    assert {found[t]["model"] for t in ("predict", "evaluate", "export", "audit")} == {model}
    assert {str(found[t]["out"]) for t in ("predict", "explain")} == {"there"}


def _options(command: str) -> list[Any]:
    params: list[Any] = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return params


def test_the_demo_makes_its_study_fit_unless_another_is_asked_for() -> None:
    demo = made("-n", "-o", ".venv/.ready", "demo").split()
    assert "--study" not in demo
    assert "--prep" not in demo


def test_results_of_a_yaml_file_lie_under_its_name() -> None:
    line = made("-n", "-o", ".venv/.ready", "predict", "DATA=configs/my.yaml")
    assert " runs/my/model-demo runs/my/inbox --out runs/my/predictions " in line


def test_help_names_every_target_and_every_variable_with_an_example() -> None:
    shown = made("help")
    for target in re.findall(r"^([a-z-]+):.*## ", TEXT, re.MULTILINE):
        assert f"  make {target} " in shown
    for name in re.findall(r"^([A-Z]+) *\?=", TEXT, re.MULTILINE):
        assert re.search(rf"^  {name}=\S+ +\w", shown, re.MULTILINE), name
    phony = re.search(r"^\.PHONY: (.*)$", TEXT, re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"^([a-z-]+):.*## ", TEXT, re.MULTILINE)) == set(phony[1].split())


def test_a_comparison_with_nothing_says_what_to_name() -> None:
    done = subprocess.run(
        ["make", "-o", ".venv/.ready", "compare"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "make compare A=phantom3d B=" in done.stdout
