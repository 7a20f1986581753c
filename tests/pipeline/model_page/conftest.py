"""A model that is sometimes wrong, and its evaluation, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from sides_cohort import Place, save_model, write_cohort

from pipeline.trust_stages import evaluate_stage


@pytest.fixture(scope="session")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The cohort of sides and a model that learned some labels wrong; not to be changed."""
    place = write_cohort(tmp_path_factory.mktemp("doubtful") / "place")
    save_model(place.model, doubtful=True)
    return place


@pytest.fixture(scope="session")
def evaluated(doubtful: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its evaluation."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    return evaluate_stage(str(doubtful.model), doubtful.data, out, 1, doubtful.runs, None)
