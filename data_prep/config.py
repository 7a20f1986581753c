"""Configuration files: safe YAML in, frozen typed objects out, errors that teach.

A config holds data only: no code, no import path, no anchors that expand without end. Every error
names the file, the line, the field, what was found and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails

from data_prep.errors import ConfigError, nearest

MAX_CONFIG_BYTES = 1 << 20
CONFIG_ROOT = Path(__file__).resolve().parent.parent / "configs"


class Config(BaseModel):
    """Base of every configuration object: frozen, strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=BaseModel)
Lines = dict[tuple[str | int, ...], int]


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


def _lines(node: yaml.Node | None, path: tuple[str | int, ...] = ()) -> Lines:
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
            f"{path}: cannot be read ({error.strerror})" + _nearest_file(path),
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
            f"{path}: the top level is {_type_name(content)}; expected 'field: value' lines",
        )
    return content, _lines(node)


def read_config(path: Path, schema: type[C]) -> C:
    """Read a YAML file into a frozen typed object.

    Raises:
        ConfigError: As ``read_yaml``, or one line for each field that does not fit ``schema``.
    """
    content, lines = read_yaml(path)
    return parse_config(content, schema, source=str(path), lines=lines, folder=path.parent)


def parse_config(
    content: Any,
    schema: type[C],
    *,
    source: str,
    lines: Lines | None = None,
    at: str = "",
    folder: Path | None = None,
) -> C:
    """Check content against a schema.

    Args:
        content: What a YAML or JSON file says.
        schema: What it ought to say.
        source: The file, for messages.
        lines: Line of each field, for messages.
        at: Field path of ``content`` in its file.
        folder: Where relative paths in ``content`` start; None leaves paths and names as they are.

    Raises:
        ConfigError: ``config.invalid``, one line for each field that does not fit.
    """
    try:
        return schema.model_validate(content, context=folder)
    except ValidationError as error:
        prefix: tuple[str | int, ...] = tuple(at.split(".")) if at else ()
        by_field: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
        for detail in error.errors():
            by_field.setdefault(prefix + _field_of(detail, content), []).append(detail)
        found = [
            _describe(path, details, schema, source, lines or {})
            for path, details in by_field.items()
        ]
        raise ConfigError("config.invalid", "\n".join(found)) from None


def first_fault(error: ValidationError) -> str:
    """The first field that a model of pydantic refuses, and why: for a file that we wrote."""
    detail = error.errors()[0]
    field = ".".join(str(step) for step in detail["loc"]) or "(top)"
    return f"field '{field}': {_message(detail)}"


def dotted(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, under names like ``train.epochs``."""
    rows: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            rows |= dotted(value, f"{prefix}{name}.")
        else:
            rows[f"{prefix}{name}"] = value
    return rows


def is_path(name: str) -> bool:
    """True where a config is named by the path of its file.

    A name may have a folder (``lecture/presence``), but no file's ending.
    """
    return name.endswith((".yaml", ".yml"))


def relative_to_config(path: str, info: ValidationInfo) -> str:
    """Validator of a path that starts from the folder of the config that it stands in."""
    folder: Path | None = info.context
    return path if folder is None else str(folder / Path(path).expanduser())


def config_name(kind: str) -> AfterValidator:
    """Validator of a field that names another config, by name or by a path relative to its file."""

    def exists(name: str, info: ValidationInfo) -> str:
        return name if info.context is None else _existing(kind, name, info)

    return AfterValidator(exists)


def config_content(kind: str, schema: type[C]) -> BeforeValidator:
    """Validator of a field that holds another config, or names it as ``config_name`` has it.

    The name gives way to what the file says, so that no result depends on a file that may change.
    """

    def content(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        if info.context is None:
            raise ValueError(f"an {kind} config is named in YAML files only; give its fields")
        try:
            return read_config(find_config(kind, _existing(kind, value, info)), schema)
        except ConfigError as error:
            raise ValueError(error.message) from None

    return BeforeValidator(content)


def _existing(kind: str, name: str, info: ValidationInfo) -> str:
    if is_path(name):
        name = relative_to_config(name, info)
        if not Path(name).is_file():
            raise ValueError(f"there is no file {name}{_nearest_file(Path(name))}")
        return name
    try:
        find_config(kind, name)
    except ConfigError as error:
        between = "" if error.message.endswith("?") else ";"
        raise ValueError(f"{error.message}{between} {error.fix}") from None
    return name


def find_config(kind: str, name: str, root: Path | None = None) -> Path:
    """The file of a named config: a path to a YAML file, or a name in ``configs/<kind>/``.

    Raises:
        ConfigError: ``config.unknown_name`` with the nearest name and all that exist.
    """
    if is_path(name):
        return Path(name)
    folder = (root or CONFIG_ROOT) / kind
    path = folder / f"{name}.yaml"
    if path.is_file():
        return path
    known = sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
    raise ConfigError(
        "config.unknown_name",
        f"no {kind} config '{name}'{nearest(name, known)}",
        fix=f"use one of {', '.join(known) or '(none exist)'}, or the path of a YAML file",
    )


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist"
    return nearest(path.name, [p.name for p in path.parent.glob("*.y*ml")])


def _type_name(value: object) -> str:
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


def _describe(
    path: tuple[str | int, ...],
    details: Sequence[ErrorDetails],
    schema: type[BaseModel],
    source: str,
    lines: Lines,
) -> str:
    """One line about one field: each member of a union has something to say about it."""
    field = ".".join(str(step) for step in path) or "(top)"
    line = next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), None)
    where = f"{source}:{line}" if line else source
    first = details[0]
    if first["type"] == "extra_forbidden":
        known = _known_fields(schema, first["loc"][:-1])
        hint = nearest(str(path[-1]), known)
        allowed = f"; allowed here: {', '.join(known)}" if known else ""
        return f"{where}: unknown field '{field}'{hint}{allowed}"
    if first["type"] in ("missing", "union_tag_not_found"):
        return f"{where}: field '{field}' is required"
    if first["type"] == "union_tag_invalid":
        value, allowed = first["ctx"]["tag"], first["ctx"]["expected_tags"]
        hint = nearest(value, _words(allowed))
        return f"{where}: field '{field}' = '{value}'; allowed: {allowed}{hint}"
    value = first["input"]
    expected = ", ".join(detail.get("ctx", {}).get("expected", "") for detail in details)
    messages = [_message(detail) for detail in details]
    message = ", or ".join(dict.fromkeys(text[:1].lower() + text[1:] for text in messages))
    shown = repr(value) if isinstance(value, str | int | float | bool) else _type_name(value)
    return f"{where}: field '{field}' = {shown}: {message}{nearest(str(value), _words(expected))}"


def _message(detail: ErrorDetails) -> str:
    """What is wrong, in the words of YAML: pydantic's are those of Python's types."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("tuple_type", "list_type", "set_type", "frozen_set_type"):
        return "should be a list, [a, b]"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "should be 'field: value' lines"
    if kind in ("too_short", "too_long"):
        side, count = ("least", "min_length") if kind == "too_short" else ("most", "max_length")
        items = "item" if context[count] == 1 else "items"
        return f"should have at {side} {context[count]} {items}, not {context['actual_length']}"
    return detail["msg"].removeprefix("Value error, ")


def _words(allowed: str) -> list[str]:
    """The values in pydantic's ``'a', 'b' or 'c'``."""
    return [word for word in allowed.replace("'", "").replace(" or ", ", ").split(", ") if word]


def _field_of(detail: ErrorDetails, content: Any) -> tuple[str | int, ...]:
    """Path of the field that an error is about."""
    # A discriminated union puts its tag into loc: keep only the steps that exist in the content.
    path = _real_path(detail["loc"], content, missing=detail["type"] == "missing")
    if detail["type"].startswith("union_tag"):  # the field that chooses among the union's members
        return (*path, detail["ctx"]["discriminator"].strip("'"))
    return path


def _real_path(
    location: tuple[str | int, ...], content: Any, *, missing: bool
) -> tuple[str | int, ...]:
    path: list[str | int] = []
    for position, step in enumerate(location):
        last = position == len(location) - 1
        is_field = isinstance(content, dict) and step in content
        is_item = isinstance(content, list) and isinstance(step, int) and step < len(content)
        if is_field or is_item:
            content = content[step]
        elif not (missing and last):
            continue
        path.append(step)
    return tuple(path)


def _known_fields(schema: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Field names of the model that ``location`` leads to, through lists, dicts and unions."""
    models: list[type[BaseModel]] = [schema]
    for step in location:
        inner: list[type[BaseModel]] = []
        for model in models:
            if isinstance(step, str) and step in model.model_fields:
                inner += _models_in(model.model_fields[step].annotation)
        if inner:
            models = inner
        else:  # the step is a list position or a union's tag: narrow by the tag if it is one
            tagged = [
                m
                for m in models
                if any(_is_tag(f.annotation, step) for f in m.model_fields.values())
            ]
            models = tagged or models
    return sorted({name for model in models for name in model.model_fields})


def _is_tag(annotation: Any, step: str | int) -> bool:
    return step in get_args(annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
