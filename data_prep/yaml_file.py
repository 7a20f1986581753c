"""Safe YAML: a mapping and the line of each of its fields, or an error that names the line.

No code, no aliases that expand without end, no key that silently overwrites another.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import ConfigError, nearest

MAX_CONFIG_BYTES = 1 << 20
FieldPath = tuple[str | int, ...]
Lines = dict[FieldPath, int]


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """Read a YAML mapping and the line of each field.

    Raises:
        ConfigError: Missing, too large, not UTF-8, not YAML, or not a mapping at the top.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "config.not_found",
            f"{path}: cannot be read ({error.strerror})" + nearest_file(path),
            fix="check the name",
        ) from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(
            "config.too_large", f"{path}: {len(data)} bytes; at most {MAX_CONFIG_BYTES}"
        )
    try:
        text = data.decode("utf-8-sig")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            content = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("config.not_utf8", f"{path}:{line}: not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise ConfigError("config.bad_yaml", f"{path}{where}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError("config.bad_yaml", f"{path}: {error}") from error
    except RecursionError as error:
        raise ConfigError("config.bad_yaml", f"{path}: nested too deeply") from error
    if not isinstance(content, dict):
        raise ConfigError(
            "config.not_a_mapping",
            f"{path}: the top level is {type_name(content)}; expected 'field: value' lines",
        )
    return content, _lines(node)


def nearest_file(path: Path) -> str:
    """The end of a message about a file that is not there: the nearest name in its folder."""
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist"
    return nearest(path.name, [p.name for p in path.parent.glob("*.y*ml")])


def type_name(value: object) -> str:
    """What a value is, in the words of YAML: pydantic's and Python's are not the user's."""
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "a truth value",
        int: "a whole number",
        float: "a number",
        type(None): "empty",
    }
    return names.get(type(value), type(value).__name__)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses aliases and duplicate keys (a YAML bomb, a silent overwrite)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not allowed in a config",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem="a field name must be a word", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key '{key}' (first on line {seen[key]})",
                    problem_mark=key_node.start_mark,
                )
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def _lines(node: yaml.Node | None, path: FieldPath = ()) -> Lines:
    """Line (from 1) of each field, by its path from the root."""
    if node is None:
        return {}
    lines: Lines = {path: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            lines |= _lines(value, inner) | {inner: key.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines |= _lines(item, (*path, position))
    return lines
