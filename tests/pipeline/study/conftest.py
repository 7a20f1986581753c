"""What several test modules of studies share; what it is made of stands in ``toy_study``."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_study import write_toy_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, to be read only."""
    return write_toy_study(tmp_path_factory.mktemp("finished"))
