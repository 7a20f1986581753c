"""Configuration files: safe YAML in, frozen typed objects out, errors that teach.

A config holds data only: no code, no import path, no anchors that expand without end. Every error
names the file, the line, the field, what was found and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
)

from data_prep.config_faults import described
from data_prep.errors import ConfigError, nearest
from data_prep.yaml_file import Lines, nearest_file, read_yaml

_NAMED: Final = 3  # names that an unknown one is answered with
CONFIG_ROOT = Path(__file__).resolve().parent.parent / "configs"


class Config(BaseModel):
    """Base of every configuration object: frozen, strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=BaseModel)


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
        found = described(error, content, schema, source=source, lines=lines or {}, at=at)
        raise ConfigError("config.invalid", "\n".join(found)) from None


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
            raise ValueError(f"there is no file {name}{nearest_file(Path(name))}")
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
        ConfigError: ``config.unknown_name`` with the nearest names, and where all are.
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
        fix=f"use {_closest(name, known, folder)}the path of a YAML file",
    )


def _closest(name: str, known: Sequence[str], folder: Path) -> str:
    """The names most like the one given, with their folder or without, and where all of them are.

    Empty where there are none; else to be followed by what else would do.
    """

    def likeness(other: str) -> float:
        return max(SequenceMatcher(None, name, o).ratio() for o in (other, Path(other).name))

    closest = sorted(known, key=likeness, reverse=True)[:_NAMED]
    rest = f" (all {len(known)} are in {folder})" if len(known) > _NAMED else ""
    return f"one of {', '.join(closest)}{rest}, or " if known else ""
