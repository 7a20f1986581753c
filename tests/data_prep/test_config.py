"""A config is a frozen typed object; names and paths in it lead to files that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import AfterValidator

from data_prep.config import Config, config_name, find_config, read_config, relative_to_config
from data_prep.errors import ConfigError


class Drawing(Config):
    title: str
    sides_mm: tuple[float, ...] = ()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "drawing.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_config_is_a_frozen_object(tmp_path: Path) -> None:
    drawing = read_config(write(tmp_path, "title: a\nsides_mm: [2]\n"), Drawing)
    assert drawing == Drawing(title="a", sides_mm=(2.0,))
    with pytest.raises(ValueError, match="frozen"):
        drawing.title = "b"  # type: ignore[misc]


def test_a_name_is_found_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "breast.yaml").touch()
    (tmp_path / "data" / "sub" / "lung.yaml").touch()
    assert find_config("data", "breast", tmp_path) == tmp_path / "data" / "breast.yaml"
    assert find_config("data", "sub/lung", tmp_path) == tmp_path / "data" / "sub" / "lung.yaml"
    assert find_config("data", "elsewhere/x.yaml", tmp_path) == Path("elsewhere/x.yaml")
    with pytest.raises(ConfigError) as caught:
        find_config("data", "brest", tmp_path)
    assert "did you mean 'breast'" in str(caught.value)
    assert "sub/lung" in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean 'sub/lung'"):
        find_config("data", "sub/lungs", tmp_path)


def test_an_unknown_name_is_answered_with_the_nearest_three_and_where_all_are(
    tmp_path: Path,
) -> None:
    def fix() -> str:
        with pytest.raises(ConfigError) as caught:
            find_config("data", "lung", tmp_path)
        return caught.value.fix

    assert fix() == "use the path of a YAML file"
    (tmp_path / "data" / "sub").mkdir(parents=True)
    for name in ("sub/lungs", "long", "skin"):
        (tmp_path / "data" / f"{name}.yaml").touch()
    assert fix() == "use one of sub/lungs, long, skin, or the path of a YAML file"
    (tmp_path / "data" / "brain.yaml").touch()
    assert fix() == (
        f"use one of sub/lungs, long, skin (all 4 are in {tmp_path / 'data'}), "
        "or the path of a YAML file"
    )


class Named(Config):
    prep: Annotated[str, config_name("prep")]
    root: Annotated[str, AfterValidator(relative_to_config)] = "."


def test_paths_in_a_config_start_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").touch()
    named = read_config(write(tmp_path, "prep: ./own.yaml\nroot: scans\n"), Named)
    assert (Path(named.prep), Path(named.root)) == (tmp_path / "own.yaml", tmp_path / "scans")
    assert read_config(write(tmp_path, "prep: mri\nroot: /scans\n"), Named).root == "/scans"
    home = read_config(write(tmp_path, "prep: mri\nroot: ~/scans\n"), Named).root
    assert Path(home) == Path.home() / "scans"
    assert Named(prep="no such", root="scans").root == "scans"  # not from a file: taken as it is


@pytest.mark.parametrize(
    ("prep", "expected"),
    [
        ("mir", ["did you mean 'mri'?", "are in "]),
        ("./drawn.yaml", ["did you mean 'drawing.yaml'"]),
    ],
)
def test_a_name_that_leads_nowhere_is_told_with_its_line(
    tmp_path: Path, prep: str, expected: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(write(tmp_path, f"root: x\nprep: {prep}\n"), Named)
    assert f"drawing.yaml:2: field 'prep' = '{prep}'" in caught.value.message
    for part in expected:
        assert part in caught.value.message
