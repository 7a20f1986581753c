"""What several test modules of studies share; what it is made of stands in ``toy_study``."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_study import write_toy_study
from toy_study import in_process, write_store

from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.run import run_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, to be read only."""
    return write_toy_study(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute cells in this process, which is quicker to start."""
    monkeypatch.setattr(compute, "run_local", in_process)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two classes, to be read only."""
    return write_store(tmp_path_factory.mktemp("phantom") / "store")


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A second family: linear with one strong penalty."""
    path = tmp_path_factory.mktemp("family") / "strict.yaml"
    path.write_text("family: linear\nparams: {penalties: [1.0]}\n")
    return str(path)


@pytest.fixture
def config(strict: str) -> StudyConfig:
    """Ten cells."""
    return StudyConfig(
        families=("linear", strict), sizes=(6, 12, "all"), subsets=2, seeds=1, resamples=100
    )


@pytest.fixture
def unbroken(here: None, config: StudyConfig, store: Path, tmp_path: Path) -> Path:
    """The study of ``config``, run without a break."""
    run_study(config, store, tmp_path / "unbroken")
    return tmp_path / "unbroken"
