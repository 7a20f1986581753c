"""Where things lie: nothing that differs may share a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.errors import ConfigError, StageError
from pipeline.workspace import open_workspace


def test_studies_on_another_prep_config_lie_apart(tmp_path: Path) -> None:
    own = open_workspace(tmp_path, "phantom3d")
    same, other = (open_workspace(tmp_path, "phantom3d", prep) for prep in ("phantom3d", "mri"))
    for places in (lambda w: w.store, lambda w: w.study("demo"), lambda w: w.model("demo")):
        assert places(own) == places(same) != places(other)
    assert other.study("demo").name == "study-demo-mri"
    assert other.manifest == own.manifest


def test_a_prep_config_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'mri'"):
        open_workspace(tmp_path, "phantom3d", "mrii")
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        open_workspace(tmp_path, "phantom3d", str(tmp_path / "mine.yaml"))


def test_results_do_not_go_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(StageError, match=r"stage\.not_a_folder"):
        open_workspace(tmp_path / "runs", "phantom3d")
