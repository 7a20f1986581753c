"""A file that is not a plain YAML mapping is refused, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.errors import ConfigError
from data_prep.yaml_file import MAX_CONFIG_BYTES, read_yaml


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "drawing.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    return caught.value


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


def test_lines_are_known_for_every_field(tmp_path: Path) -> None:
    _, lines = read_yaml(write(tmp_path, "a:\n  b: 1\n  c:\n    - 2\n    - 3\n"))
    assert lines[("a", "b")] == 2
    assert lines[("a", "c")] == 3
    assert lines[("a", "c", 1)] == 5
