"""The cohort of sides, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sides_cohort import Place, write_cohort


@pytest.fixture(scope="session")
def sides_once(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The cohort and its model; not to be changed."""
    return write_cohort(tmp_path_factory.mktemp("sides") / "place")


@pytest.fixture
def sides(sides_once: Place, tmp_path: Path) -> Place:
    """A copy that a test may change."""
    shutil.copytree(sides_once.folder, tmp_path / "place")
    place = Place(tmp_path / "place")
    text = Path(place.data).read_text()
    Path(place.data).write_text(text.replace(str(sides_once.folder), str(place.folder)))
    return place
