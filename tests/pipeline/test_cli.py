"""The command: every stage from a fresh folder to predictions, and errors that teach."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from command_line import medcurve
from PIL import Image

from data_prep.config import CONFIG_ROOT
from data_prep.files import read_json
from pipeline import stages
from pipeline.cli import app, run
from pipeline.workspace import open_workspace

PHANTOM = {
    "name": "tiny",
    "source": {"kind": "phantom", "phantom": {"ndim": 2, "n_patients": 40, "seed": 2}},
    "labels": {"kind": "table", "classes": ["benign", "malignant"]},
    "prep": "tiny-prep.yaml",
}
STUDY = {"families": ["linear"], "sizes": [8, "all"], "subsets": 2, "resamples": 100}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configs of a small cohort, and the runs of all its stages."""
    place = tmp_path_factory.mktemp("place")
    prep = {"shape": 16, "spacing_mm": 6.0, "orientation": "PL", "intensity": {"kind": "z_score"}}
    for name, content in {
        "tiny": PHANTOM | {"prep": str(place / "tiny-prep.yaml")},
        "tiny-prep": prep,
        "tiny-study": STUDY,
    }.items():
        (place / f"{name}.yaml").write_text(yaml.safe_dump(content))
    tiny, study, runs = (str(place / n) for n in ("tiny.yaml", "tiny-study.yaml", "runs"))
    steps: Sequence[Sequence[str]] = (
        ("data", tiny),
        ("ingest", tiny, "--workers", "1"),
        ("split", tiny),
        ("prep", tiny, "--workers", "1"),
        ("study", study, "--data", tiny, "--workers", "1"),
        ("release", study, "--data", tiny, "--no-twin"),
    )
    for step in steps:
        assert medcurve(*step, "--runs", runs) == 0, step
    return place


def test_every_stage_left_its_folder(place: Path) -> None:
    folder = place / "runs" / "tiny"
    assert {p.name for p in folder.iterdir()} == {
        "raw",
        "manifest",
        "splits",
        "leaks.html",
        "leaks.csv",
        "store-tiny-prep",
        "study-tiny-study",
        "model-tiny-study",
        "evaluation-tiny-study",
    }
    for stage in ("manifest", "splits", "store-tiny-prep", "model-tiny-study"):
        assert (folder / stage / "provenance.json").is_file() or stage.startswith("model")
    assert (folder / "study-tiny-study" / "report.html").read_text().startswith("<!doctype html>")
    assert (place / "runs" / "mlflow.db").is_file()


def test_a_release_ends_with_the_page_of_its_model(place: Path) -> None:
    from mlflow import MlflowClient

    folder = place / "runs" / "tiny"
    card = read_json(folder / "model-tiny-study" / "model.json")["test"]
    page = read_json(folder / "evaluation-tiny-study" / "evaluation.json")["evaluation"]
    assert card["scans"] == page["scans"]
    assert set(card["metrics"]) == set(page["metrics"])
    for name, score in card["metrics"].items():  # the same scans, read again from their files
        for end in ("value", "low", "high"):
            assert page["metrics"][name][end] == pytest.approx(score[end], abs=1e-4), name
    client = MlflowClient(f"sqlite:///{place / 'runs' / 'mlflow.db'}")
    version = client.get_model_version_by_alias("tiny", "champion")
    logged = {Path(one.path).name for one in client.list_artifacts(version.run_id, "evaluation")}
    assert logged == {"evaluation_without_scans.html", "evaluation.json", "MODEL_CARD.md"}


def test_a_release_whose_scans_are_gone_still_stands(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(place / "runs", runs)
    for name in ("raw", "evaluation-tiny-study"):
        shutil.rmtree(runs / "tiny" / name)
    (runs / "tiny" / "raw").mkdir()
    common = ("--data", str(place / "tiny.yaml"), "--runs", str(runs))
    assert medcurve("release", str(place / "tiny-study.yaml"), *common, "--no-twin") == 0
    assert "warning [cohort.nothing_answered]" in capsys.readouterr().err
    assert not (runs / "tiny" / "evaluation-tiny-study").exists()


def test_stages_that_stand_are_not_repeated(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("data_prep.ingest.DecodePool", None)
    monkeypatch.setattr("data_prep.manifest.DecodePool", None)
    common = (str(place / "tiny.yaml"), "--runs", str(place / "runs"))
    for stage in ("data", "ingest", "split", "prep"):
        assert medcurve(stage, *common) == 0
    study = ("study", str(place / "tiny-study.yaml"), "--data", *common)
    assert medcurve(*study) == 0
    assert "3 cells, 0 computed now" in capsys.readouterr().out


def test_predict_scores_a_folder_and_names_what_it_cannot(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    images = sorted((place / "runs" / "tiny" / "raw").rglob("*.dcm"))[:4]
    for number, image in enumerate(images[:3]):
        (scans / f"{number}.dcm").write_bytes(image.read_bytes())
    (scans / "cut.dcm").write_bytes(images[3].read_bytes()[:-200])
    (scans / "notes.txt").write_text("not a scan")
    model = place / "runs" / "tiny" / "model-tiny-study"
    status = medcurve(
        "predict",
        str(model),
        str(scans),
        "--out",
        str(tmp_path / "out"),
        "--runs",
        str(place / "runs"),
        "--workers",
        "1",
    )
    assert status == 0
    printed = capsys.readouterr().out
    assert "5 inputs = 3 scored + 1 quarantined + 1 skipped" in printed
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows] == ["0.dcm", "1.dcm", "2.dcm", "cut.dcm"]
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "quarantined"]
    alone = ("predict", str(model), str(scans / "cut.dcm"), "--out", str(tmp_path / "none"))
    assert medcurve(*alone, "--runs", str(place / "runs"), "--workers", "1") == 1
    assert "[predict.nothing_scored] not one of 1 scan was scored" in capsys.readouterr().err
    assert "quarantined" in (tmp_path / "none" / "predictions.csv").read_text()
    by_address = medcurve(
        "predict",
        "models:/tiny@champion",
        str(scans),
        "--out",
        str(tmp_path / "again"),
        "--runs",
        str(place / "runs"),
        "--workers",
        "1",
    )
    assert by_address == 0
    first, again = (tmp_path / name / "predictions.csv" for name in ("out", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_probe_measures_and_draws_a_family_and_its_package(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--data", str(place / "tiny.yaml"), "--runs", str(place / "runs"))
    net = {"widths": [4], "convolutions": 1, "train": {"epochs": 1, "min_steps": 1}}
    (tmp_path / "net.yaml").write_text(yaml.safe_dump({"family": "cnn_scratch", "params": net}))
    probe = {"probe": "equivariance", "up_to": 2, "scans": 2}
    (tmp_path / "shift.yaml").write_text(yaml.safe_dump(probe))
    shift, family = str(tmp_path / "shift.yaml"), str(tmp_path / "net.yaml")
    assert medcurve("probe", shift, family, *common) == 0
    assert "first weights" in capsys.readouterr().out
    found = place / "runs" / "tiny" / "probe-shift-net"
    assert (found / "shift-net.png").read_bytes().startswith(b"\x89PNG")
    rows = dict(list(csv.reader((found / "shift-net.csv").open()))[1:])
    assert float(rows["inside_error"]) < 1e-5 < float(rows["border_error"])
    assert list(rows)[-1] == "border_mean at 2"
    assert medcurve("train", family, *common, "--no-twin") == 0
    model = str(place / "runs" / "tiny" / "model-train-net")
    out = tmp_path / "out"
    assert medcurve("probe", "position", model, *common, "--out", str(out), "--split", "val") == 0
    assert {path.name for path in out.iterdir()} == {
        "position-model-train-net.csv",
        "position-model-train-net.png",
    }


def test_probe_refuses_what_it_does_not_know(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, tiny = ("--runs", str(place / "runs")), place / "tiny.yaml"
    common = ("--data", str(tiny), *runs)
    assert medcurve("probe", "equivarance", "cnn_scratch", *common) == 2
    assert "did you mean 'equivariance'?" in capsys.readouterr().err
    (tmp_path / "wrong.yaml").write_text("kernel: 3\n")
    assert medcurve("probe", str(tmp_path / "wrong.yaml"), "cnn_scratch", *common) == 2
    assert "probe is 'None'" in capsys.readouterr().err
    assert medcurve("probe", "position", str(tmp_path / "absent"), *common) == 2
    assert "package.not_found" in capsys.readouterr().err
    linear = place / "runs" / "tiny" / "model-tiny-study"
    assert medcurve("probe", "adversarial", str(linear), *common) == 2
    assert "probe.no_gradient" in capsys.readouterr().err
    other = yaml.safe_load((place / "tiny-prep.yaml").read_text()) | {"shape": 12}
    (place / "other-prep.yaml").write_text(yaml.safe_dump(other))
    prep = ("--prep", str(place / "other-prep.yaml"))
    assert medcurve("prep", str(tiny), *prep, "--workers", "1", *runs) == 0
    assert medcurve("probe", "position", str(linear), *common, *prep) == 2
    assert "probe.foreign_model" in capsys.readouterr().err


def test_train_packages_one_family(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--data", str(place / "tiny.yaml"), "--runs", str(place / "runs"))
    assert medcurve("train", "linear", *common, "--no-twin") == 0
    model = place / "runs" / "tiny" / "model-train-linear"
    assert not (model / "onnx").exists()
    assert read_json(model / "model.json")["family"]["family"] == "linear"
    for named in (str(model), "models:/tiny@champion"):
        assert medcurve("verify", named, "--runs", str(place / "runs")) == 0
        assert "bit by bit" in capsys.readouterr().out
    weights = model / "weights.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(bytes(damaged))
    assert medcurve("verify", str(model)) == 2


def test_report_and_sync_can_be_run_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--data", str(place / "tiny.yaml"), "--runs", str(place / "runs"))
    study = str(place / "tiny-study.yaml")
    report = place / "runs" / "tiny" / "study-tiny-study" / "report.html"
    before = report.read_bytes()
    report.unlink()
    assert medcurve("report", study, *common) == 0
    assert report.read_bytes() == before
    assert medcurve("sync", study, *common) == 0
    assert "0 runs added" in capsys.readouterr().out


def test_mlflow_out_of_reach_stops_nothing_but_sync(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "http://127.0.0.1:9"
    common = ("--data", str(place / "tiny.yaml"), "--runs", str(place / "runs"))
    common = (*common, "--tracking-uri", nowhere)
    study = str(place / "tiny-study.yaml")
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    assert medcurve("study", study, *common) == 0
    assert "warning [tracking." in capsys.readouterr().err
    assert medcurve("release", study, *common, "--no-twin") == 0
    assert medcurve("sync", study, *common) == 2


def test_a_study_on_ray_leaves_the_same_files(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    runs, study = tmp_path / "runs", Path("tiny") / "study-tiny-study"
    shutil.copytree(place / "runs", runs)
    shutil.rmtree(runs / study)
    names = ("study", str(place / "tiny-study.yaml"), "--data", str(place / "tiny.yaml"))
    on_ray = (*names, "--runs", str(runs), "--engine", "ray", "--workers", "1")
    before = signal.getsignal(signal.SIGTERM)

    assert medcurve(*on_ray, "--dry-run") == 0
    assert "on 1 process (nothing was written)" in capsys.readouterr().out
    assert medcurve(*on_ray) == 0
    assert "3 cells, 3 computed now" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == before  # Ray puts one of its own in its place
    here = place / "runs" / study
    for path in [*here.glob("cells/*.safetensors"), here / "results.json"]:
        assert (runs / study / path.relative_to(here)).read_bytes() == path.read_bytes()


def test_ingest_prep_and_predict_on_ray_leave_the_same_files(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from pipeline.study import ray_cluster

    here, runs = place / "runs", tmp_path / "runs"
    shutil.copytree(here / "tiny" / "raw", runs / "tiny" / "raw")
    tiny, on_ray = str(place / "tiny.yaml"), ("--engine", "ray", "--workers", "1")
    model, scans = (str(here / "tiny" / name) for name in ("model-tiny-study", "raw"))
    predict = ("predict", model, scans, "--runs", str(here), "--out")
    with ray_cluster.connect("local", 1):  # one Ray for all commands: it takes seconds to start
        monkeypatch.setattr(ray_cluster, "connect", lambda address, cpus: nullcontext())
        assert medcurve("ingest", tiny, "--runs", str(runs), *on_ray) == 0
        assert medcurve("split", tiny, "--runs", str(runs)) == 0
        assert medcurve("prep", tiny, "--runs", str(runs), *on_ray) == 0
        assert medcurve(*predict, str(tmp_path / "there"), *on_ray) == 0
    assert medcurve(*predict, str(tmp_path / "here"), "--workers", "1") == 0
    for folder in ("manifest", "store-tiny-prep"):
        assert contents(runs / "tiny" / folder) == contents(here / "tiny" / folder)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, but for those that hold times."""
    timed = ("provenance.json", "summary.json")
    found = [path for path in folder.rglob("*") if path.is_file() and path.name not in timed]
    assert found
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_without_ray_the_engine_says_how_to_install_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "pipeline.study.ray_cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    names = ("study", str(place / "tiny-study.yaml"), "--data", str(place / "tiny.yaml"))
    assert medcurve(*names, "--runs", str(place / "runs"), "--engine", "ray") == 2
    printed = capsys.readouterr().err
    assert "study.no_ray" in printed
    assert "pip install" in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("ingest", "phantm3d"), "did you mean 'phantom3d'"),
        (("ingest", "no/such.yaml"), "config.not_found"),
        (("study", "dmo", "--data", "phantom3d"), "did you mean 'demo'"),
        (("demo", "phantom3d", "--study", "dmo"), "did you mean 'demo'"),
        (("demo", "phantom3d", "--prep", "phantm3d"), "did you mean 'phantom3d'"),
        (("split", "phantom3d"), "stage.missing"),
        (
            ("study", "demo", "--data", "phantom3d", "--address", "auto"),
            "config.address_without_ray",
        ),
        (
            ("study", "demo", "--data", "phantom3d", "--prep", "phantm3d"),
            "did you mean 'phantom3d'",
        ),
        (("data", "phantom3d", "--runs", __file__), "stage.not_a_folder"),
        (("predict", "nowhere", "also-nowhere", "--out", "x"), "package."),
        (("train", "cnn_scrach", "--data", "phantom3d"), "did you mean 'cnn_scratch'"),
        (("predict", "m", "x", "--out", "y", "--on-shift", "no"), "'--on-shift': 'no' is not one"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert medcurve(*arguments) == 2
    printed = capsys.readouterr().err
    assert expected in printed
    assert "Traceback" not in printed
    assert not any(tmp_path.iterdir())


def test_the_readmes_commands_are_taken_and_name_the_model_that_they_release() -> None:
    readme = (CONFIG_ROOT.parent / "README.md").read_text()
    found = re.findall(r"\.venv/bin/medcurve ([^`#\n]+)", readme)
    group = typer.main.get_command(app)
    given = {}
    for name, *arguments in map(shlex.split, found):
        command = group.commands[name]  # type: ignore[attr-defined]
        given[name] = command.make_context(name, list(arguments)).params
    assert list(given)[:4] == ["ingest", "plan", "split", "prep"]
    preps = {given[name]["prep"] for name in ("prep", "study", "release", "demo")}
    assert preps == {"runs/my_scans/plan.yaml"}
    own = open_workspace(Path("runs"), "my_scans")
    planned = replace(own, prep=preps.pop())
    assert str(planned.folder / "plan.yaml") == planned.prep
    assert given["predict"]["model"] == str(planned.model(given["release"]["name"]))


def test_a_disk_error_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "runs/x")

    assert run(full) == 74
    printed = capsys.readouterr().err
    assert "runs/x: No space left on device" in printed
    assert "what stood before is unchanged" in printed

    def nameless() -> None:
        raise OSError(28, "No space left on device")

    assert run(nameless) == 74
    assert "[system.os_error] [Errno 28] No space left" in capsys.readouterr().err


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        command.name or command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if command.callback
    ]
    assert len(names) >= 14
    for name in names:
        assert medcurve(name, "--help") == 0
        assert "Example: medcurve" in capsys.readouterr().out
    assert medcurve("--version") == 0
    assert capsys.readouterr().out.startswith("medcurve 0.")


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("medcurve ")


def test_all_configs_load_and_refer_to_what_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medcurve("check") == 0
    assert "configs load" in capsys.readouterr().out
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.yaml").write_text("a: 1\n")
    monkeypatch.setattr(stages, "CONFIG_ROOT", tmp_path)
    assert medcurve("check") == 2
    assert "no stage reads configs/other" in capsys.readouterr().err
    (tmp_path / "family").mkdir()
    (tmp_path / "family" / "own.yaml").write_text(
        f"family: pretrained\nparams: {{checkpoint: {{path: own.pth, sha256: '{'0' * 64}'}}}}\n"
    )
    assert medcurve("check") == 2
    said = capsys.readouterr().err
    assert "checkpoint.not_found" in said
    assert "family 'own', params.checkpoint.path" in said


def test_a_folder_of_ones_own_needs_no_fetching(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"name": "mine", "source": {"kind": "folder", "root": str(tmp_path)}, "prep": "mri"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    assert medcurve("data", str(tmp_path / "mine.yaml")) == 0
    assert f"scans: {tmp_path}" in capsys.readouterr().out


def test_ingest_names_the_few_files_that_it_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 255, (9, 7)).astype(np.uint8)
        Image.fromarray(pixels).save(raw / f"{number}.png")
    rows = "".join(f"{n}.png,P{n},{'ab'[n % 2]}\n" for n in range(4))
    (raw / "labels.csv").write_text(f"scan,patient_id,label\n{rows}")
    (raw / "notes.txt").write_text("seen twice")
    config = {"name": "mine", "source": {"kind": "folder", "root": str(raw)}, "prep": "mri"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    steps = ("ingest", tmp_path / "mine.yaml", "--runs", tmp_path / "runs", "--workers", 1)
    assert medcurve(*steps) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "4 scans of 4 patients, 0 scans quarantined (0 files), 1 file skipped" in printed
    assert "skipped: notes.txt (not a scan: .txt)" in printed


def test_scenes_are_drawn_from_a_config_in_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medcurve("data", "lecture/position", "--runs", str(tmp_path)) == 0
    raw = tmp_path / "lecture-position" / "raw"
    assert f"scene scans: {raw}" in capsys.readouterr().out
    assert len(list(raw.glob("*.png"))) == 1000
    assert medcurve("data", "lecture/positions") == 2
    assert "did you mean 'lecture/position'" in capsys.readouterr().err


def test_a_public_set_is_fetched_where_it_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MEDCURVE_DATA", raising=False)
    monkeypatch.setattr(
        stages, "download_npz", lambda dataset, size, folder, report: folder / f"{dataset}.npz"
    )
    assert medcurve("data", "breastmnist") == 0
    assert f"breastmnist: {tmp_path / '.medmnist' / 'breastmnist.npz'}" in capsys.readouterr().out
    (tmp_path / "medmnist").mkdir()
    np.savez(tmp_path / "medmnist" / "breastmnist.npz", a=np.zeros(1))
    monkeypatch.setenv("MEDCURVE_DATA", str(tmp_path))
    assert medcurve("data", "breastmnist") == 0
    assert str(tmp_path / "medmnist" / "breastmnist.npz") in capsys.readouterr().out


def test_the_ui_is_served_for_the_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def serve(uri: str, port: int, say: object) -> int:
        asked.append((uri, port))
        return 3

    monkeypatch.setattr("pipeline.tracking.serve_ui", serve)
    assert medcurve("ui", "--runs", str(tmp_path), "--port", "5055") == 3
    assert asked == [(f"sqlite:///{tmp_path / 'mlflow.db'}", 5055)]


def test_a_study_on_a_stale_store_stops(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = PHANTOM | {"prep": str(place / "tiny-prep.yaml"), "read": {"cine": "first"}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(changed))
    common = ("--data", str(tmp_path / "tiny.yaml"), "--runs", str(place / "runs"))
    for command in ("study", "release"):
        assert medcurve(command, str(place / "tiny-study.yaml"), *common) == 2
        message = capsys.readouterr().err
        assert "stage.stale" in message
        assert "run `medcurve prep`" in message
