"""A config that is wrong is answered with file, line, field and the nearest valid name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field

from data_prep.config import (
    MAX_CONFIG_BYTES,
    Config,
    config_name,
    find_config,
    read_config,
    read_yaml,
    relative_to_config,
)
from data_prep.errors import ConfigError


class Square(Config):
    kind: Literal["square"]
    side_mm: float = Field(gt=0)


class Circle(Config):
    kind: Literal["circle"]
    radius_mm: float


class Drawing(Config):
    title: str
    shapes: tuple[Annotated[Square | Circle, Field(discriminator="kind")], ...] = ()
    colour: Literal["red", "green"] = "red"
    frame: Annotated[Square | Circle, Field(discriminator="kind")] | None = None
    layers: tuple[Annotated[int, Field(ge=4)] | Literal["all"], ...] = ()
    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = ("a",)
    pages: dict[str, int] = Field(default_factory=dict)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "drawing.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_config(path, Drawing)
    return caught.value


def test_a_good_config_is_a_frozen_object(tmp_path: Path) -> None:
    drawing = read_config(
        write(tmp_path, "title: a\nshapes:\n  - {kind: square, side_mm: 2}\n"), Drawing
    )
    assert drawing.shapes == (Square(kind="square", side_mm=2.0),)
    with pytest.raises(ValueError, match="frozen"):
        drawing.title = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title: a\ncolor: red\n", ["drawing.yaml:2", "unknown field 'color'", "'colour'"]),
        (
            "title: a\n\ncolour: gren\n",
            ["drawing.yaml:3", "'colour' = 'gren'", "did you mean 'green'"],
        ),
        ("colour: red\n", ["field 'title' is required"]),
        ("title: [1]\n", ["drawing.yaml:1", "field 'title' = a list"]),
        (
            "title: a\nshapes:\n  - kind: square\n    side_mm: -1\n",
            ["drawing.yaml:4", "shapes.0.side_mm", "greater than 0"],
        ),
        (
            "title: a\nshapes:\n  - kind: square\n    side_mm: 1\n    sid: 2\n",
            ["drawing.yaml:5", "unknown field 'shapes.0.sid'", "did you mean 'side_mm'"],
        ),
        ("title: a\nshapes:\n  - kind: circel\n", ["drawing.yaml:3", "shapes.0", "circle"]),
        (
            "title: a\nshapes:\n  - kind: circle\n",
            ["drawing.yaml:3", "shapes.0.radius_mm", "required"],
        ),
        ("title: a\nshapes:\n  - {kind: circle, radius_mm: .nan}\n", ["shapes.0.radius_mm"]),
        (
            "title: a\nframe:\n  side_mm: 1\n  kind: squares\n",
            ["drawing.yaml:4", "'frame.kind' = 'squares'", "allowed: 'square', 'circle'; did you"],
        ),
        ("title: a\nframe:\n  side_mm: 1\n", ["drawing.yaml:2", "'frame.kind' is required"]),
        (
            "title: a\nlayers:\n  - 8\n  - al\n",
            ["drawing.yaml:4", "'layers.1' = 'al'", "or input should be 'all'; did you mean 'all'"],
        ),
        ("title: a\nlayers: 8\n", ["'layers' = 8: should be a list, [a, b]"]),
        ("title: a\npages: 8\n", ["'pages' = 8: should be 'field: value' lines"]),
        ("title: a\nnames: []\n", ["'names' = a list: should have at least 1 item, not 0"]),
        ("title: a\nnames: [a, b, c]\n", ["should have at most 2 items, not 3"]),
        ("title: a\nlayers: [3]\n", ["greater than or equal to 4, or input should be 'all'"]),
    ],
)
def test_an_invalid_field_is_named(tmp_path: Path, text: str, expected: list[str]) -> None:
    error = error_of(write(tmp_path, text))
    assert error.code == "config.invalid"
    assert len(error.message.splitlines()) == 1
    for part in expected:
        assert part in str(error)


def test_all_wrong_fields_are_told_at_once(tmp_path: Path) -> None:
    message = str(error_of(write(tmp_path, "titel: a\ncolour: blue\n")))
    assert "titel" in message
    assert "colour" in message
    assert "field 'title' is required" in message


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("title: a\ntitle: b\n", "config.bad_yaml", "drawing.yaml:2: duplicate key 'title'"),
        ("title: &a [1]\nshapes: *a\n", "config.bad_yaml", "aliases"),
        ("title: !!python/object:os.system {}\n", "config.bad_yaml", "drawing.yaml:1"),
        ("title: [\n", "config.bad_yaml", "drawing.yaml:2"),
        ("- 1\n", "config.not_a_mapping", "a list"),
        ("", "config.not_a_mapping", "empty"),
        ("? [a]\n: 1\n", "config.bad_yaml", "a field name must be a word"),
        ("a: " + "[" * 5000, "config.bad_yaml", "nested too deeply"),
        ("#" * (MAX_CONFIG_BYTES + 1), "config.too_large", "at most"),
    ],
)
def test_what_is_not_a_plain_mapping_is_refused(
    tmp_path: Path, text: str, code: str, expected: str
) -> None:
    error = error_of(write(tmp_path, text))
    assert error.code == code
    assert expected in str(error)


def test_text_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "drawing.yaml"
    path.write_bytes(b"title: a\ncolour: \xff\n")
    error = error_of(path)
    assert error.code == "config.not_utf8"
    assert "drawing.yaml:2" in str(error)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "title: a\n")
    assert "did you mean 'drawing.yaml'" in str(error_of(tmp_path / "drawings.yaml"))
    assert "does not exist" in str(error_of(tmp_path / "nowhere" / "drawing.yaml"))


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
        ("mir", ["did you mean 'mri'?", "ct_chest"]),
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


def test_lines_are_known_for_every_field(tmp_path: Path) -> None:
    _, lines = read_yaml(write(tmp_path, "a:\n  b: 1\n  c:\n    - 2\n    - 3\n"))
    assert lines[("a", "b")] == 2
    assert lines[("a", "c")] == 3
    assert lines[("a", "c", 1)] == 5
