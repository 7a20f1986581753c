"""What probes draw of a claim's networks: on its page, in MLflow, and never patients in public."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.errors import ConfigError
from pipeline import tracking
from pipeline.lecture.pictures import draw_pictures
from pipeline.lecture.run import Mode, run_lecture
from pipeline.study_stages import read_study
from pipeline.workspace import open_workspace

CNN = {
    "name": "cnn",
    "like": "cnn_tiny",
    "params": {"widths": [4], "train": {"epochs": 1, "min_steps": 2}},
}
PICTURE = {"family": "cnn", "probe": "receptive_field"}


def cohort(folder: Path, name: str) -> str:
    path = folder / f"{name}.yaml"
    scene = {"task": {"kind": "presence"}, "n_patients": 40}
    content = {
        "name": name,
        "source": {"kind": "scene", "scene": scene},
        "labels": {"kind": "table", "classes": ["absent", "present"]},
        "split": {"val": 0.25, "test": 0.5, "accept_duplicates": True},
        "prep": "scene",
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def written(folder: Path, **picture: str) -> str:
    field = {"family": "cnn", "measured": "receptive_field/field"}
    claim: dict[str, Any] = {
        "number": 99,
        "title": "A window is a window",
        **dict.fromkeys(("says", "source", "practice", "limits"), "s"),
        "cohorts": [cohort(folder, "made_up")],
        "real": [cohort(folder, "patients")],
        "expect": [{"value": field, "is": "near", "of": 5}],
        "pictures": [PICTURE | picture],
        "flip": {"says": "wider", "params": {"cnn": {"kernel": 5}}},
        "quick": {"patients": 40},
    }
    study = {
        "families": [CNN],
        "sizes": ["all"],
        "subsets": 1,
        "resamples": 100,
        "probes": {"cnn": [{"probe": "receptive_field"}]},
        "claim": claim,
    }
    path = folder / "window.yaml"
    path.write_text(yaml.safe_dump(study))
    return str(path)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, run_quickly: object) -> Path:
    """Folder of a claim that was put to the test, cells computed in this process."""
    del run_quickly
    folder = tmp_path_factory.mktemp("pictures")
    mode = Mode(real=True)
    run_lecture([written(folder)], folder / "runs", 1, None, mode, folder / "docs")
    return folder


def test_the_runs_page_shows_what_the_probe_drew_on_every_cohort(shown: Path) -> None:
    folder = shown / "runs" / "lecture"
    page = (folder / "window.md").read_text()
    for name in ("made_up", "patients"):
        picture = f"window-{name}-receptive_field-cnn.png"
        assert f"]({picture})" in page
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_a_public_page_shows_no_patient(shown: Path) -> None:
    folder = shown / "docs"
    assert [path.name for path in folder.glob("*.png")] == [
        "window-made_up-receptive_field-cnn.png"
    ]
    assert "window-patients" not in (folder / "window.md").read_text()


def test_a_page_without_anything_to_compare_has_no_figure(shown: Path) -> None:
    assert not (shown / "docs" / "window.svg").exists()
    assert "window.svg" not in (shown / "docs" / "window.md").read_text()


def test_mlflow_has_the_picture_of_made_up_scans_alone(shown: Path) -> None:
    client = tracking.client.connect(tracking.default_uri(shown / "runs"))
    (experiment,) = (one for one in client.search_experiments() if one.name != "Default")
    runs = client.search_runs([experiment.experiment_id])
    studies = {
        run.data.tags["medcurve.arm"]: run.data.tags["mlflow.parentRunId"]
        for run in runs
        if run.data.tags.get("medcurve.kind") == "family"
    }
    assert studies.keys() == {"cnn on made_up", "cnn on patients"}
    figures = {
        arm: [one.path for one in client.list_artifacts(study, "figures") if "png" in one.path]
        for arm, study in studies.items()
    }
    assert figures == {
        "cnn on made_up": ["figures/receptive_field-cnn.png"],
        "cnn on patients": [],
    }


def test_the_same_network_is_drawn_in_the_same_bytes(shown: Path) -> None:
    config = read_study(str(shown / "window.yaml"))
    assert config.claim is not None
    workspace = open_workspace(shown / "runs", config.claim.cohorts[0])
    (again,) = draw_pictures(config, workspace, str(shown / "window.yaml"))
    kept = shown / "docs" / "window-made_up-receptive_field-cnn.png"
    assert again.png == kept.read_bytes()


def test_a_picture_that_no_probe_draws_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not measure 'cnn: filters'.*cnn: receptive_field"):
        read_study(written(tmp_path, probe="filters"))
