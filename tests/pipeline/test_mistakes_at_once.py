"""Mistakes in what was typed are answered before torch and MLflow are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_RUN = """
import json, sys
from pipeline.cli import app, run

def ask(arguments):
    def call():
        app(arguments)
    try:
        return run(call)
    except SystemExit as end:
        return end.code

asked = json.loads(sys.argv[1])
print(json.dumps([ask(arguments) for arguments in asked]))
print(json.dumps(sorted({"torch", "monai", "mlflow", "matplotlib"} & sys.modules.keys())))
"""


def test_mistakes_are_found_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    model, scans = tmp_path / "model", tmp_path / "scans"
    for folder in (model, scans):
        folder.mkdir()
    for name in ("model.json", "weights.safetensors"):
        (model / name).write_text("{}")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("not medcurve's")
    runs, absent = ("--runs", tmp_path / "runs"), tmp_path / "absent.yaml"
    mistakes = {
        "No such option": ("predict", model, scans, "--out", "o", "--nonsense"),
        "Invalid value for '--port'": ("ui", "--port", "x"),
        "nowhere does not exist": ("predict", "nowhere", scans, "--out", "o"),
        "gone does not exist": ("predict", model, "gone", "--out", "o"),
        "lie in each other": ("predict", model, scans, "--out", scans / "o"),
        "taken exists and was not written by": ("predict", model, scans, "--out", taken),
        "explained-by does not exist": ("explain", "explained-by", scans, "--out", "o"),
        "no method 'gradcam'; did you mean 'grad_cam'": (
            *("explain", model, scans, "--out", "o", "--method", "gradcam"),
        ),
        "at does not exist": ("explain", model, "at", "--out", "o"),
        "judged does not exist": ("evaluate", "judged"),
        "audited does not exist": ("audit", "audited"),
        "verified does not exist": ("verify", "verified"),
        "is a file; a model package is a folder → give its folder: ": (
            "verify",
            model / "model.json",
        ),
        "'models:name' is not the address of a model": ("verify", "models:name"),
        "'runs:/0123' is not the address of a model": ("export", "runs:/0123"),
        "--explain-only unsure says which scans are explained": (
            *("predict", model, scans, "--out", "o", "--explain-only", "unsure"),
        ),
        "exported does not exist": ("export", "exported"),
        "listening does not exist": ("listen", "listening", "--out", "o"),
        "no study config 'studdy'": ("study", "studdy", "--data", "phantom3d"),
        "no data config 'chort'": ("study", "demo", "--data", "chort"),
        "absent.yaml: cannot be read": ("train", absent, "--data", "phantom3d"),
        "no family config 'inspeced'": ("inspect", "inspeced"),
        "not the shape of a scan": ("inspect", "linear", "--shape", "12"),
        "no family config 'screend'": ("screen", "screend", "--data", "phantom3d"),
        "study-demo does not exist": ("release", "demo", "--data", "phantom3d"),
        "study-quick does not exist": ("report", "quick", "--data", "phantom3d"),
        "study-own does not exist": ("sync", "own", "--data", "phantom3d"),
        "no study config 'lecture/nowt'": ("lecture", "nowt"),
        "no study config 'board'": ("leaderboard", "--study", "board"),
        "no study config 'dmeo'": ("demo", "phantom3d", "--study", "dmeo"),
    }
    with_runs = {"lecture", "leaderboard", "demo", "release", "report", "sync", "study"}
    asked = [
        list(map(str, (*given, *(runs if given[0] in with_runs else ()))))
        for given in mistakes.values()
    ]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(asked)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.stdout, done.stderr
    statuses, imported = map(json.loads, done.stdout.splitlines())
    assert statuses == [2] * len(mistakes), done.stderr
    said = " ".join(done.stderr.split())
    assert [words for words in mistakes if words not in said] == []
    assert imported == []
    assert not (tmp_path / "runs").exists()
