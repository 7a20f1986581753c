"""A field that does not fit is answered with file, line, field and the nearest valid name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from data_prep.config import Config, read_config
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
