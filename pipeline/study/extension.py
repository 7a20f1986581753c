"""More in a study's grid than its file says: ``--extend``, remembered in the study's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from data_prep.config import Config, is_path, parse_config
from data_prep.errors import ConfigError, MedcurveError
from data_prep.files import read_json, write_json
from pipeline.study.config import EXTENDABLE, Size, StudyConfig

EXTENSION: Final = "extension.json"  # the operator's own: it may hold paths, and is never synced
FORGET: Final = "none"


class Extension(Config):
    """What a study has in its grid beyond its file.

    Attributes:
        families: Names, or absolute paths of YAML files.
        sizes: Numbers of training patients.
        subsets, seeds: How many in all; 0 where the file says it.
    """

    families: tuple[str, ...] = ()
    sizes: tuple[Size, ...] = ()
    subsets: int = 0
    seeds: int = 0

    def __str__(self) -> str:
        """As it is given to ``--extend``."""
        lists = [("sizes", self.sizes), ("families", self.families)]
        numbers = [("subsets", self.subsets), ("seeds", self.seeds)]
        given = [f"{name}={number}" for name, number in numbers if number]
        return " ".join(
            [*given, *(f"{name}={','.join(map(str, values))}" for name, values in lists if values)]
        )

    def of(self, config: StudyConfig) -> StudyConfig:
        """The study with this in its grid; what its file has by now is not there twice."""
        values = config.model_dump(mode="json")
        _add(values, "families", self.families)
        _add(values, "sizes", self.sizes)
        values["subsets"] = max(config.subsets, self.subsets)
        values["seeds"] = max(config.seeds, self.seeds)
        return parse_config(values, StudyConfig, source=EXTENSION)


def extended(config: StudyConfig, changes: Sequence[str]) -> StudyConfig:
    """The study with more in its grid; cells that it has already keep their results.

    Args:
        config: As it is.
        changes: ``subsets=N`` or ``seeds=N`` (more than before), ``sizes=N,N,...`` or
            ``families=NAME,...`` (in addition to what is there); ``none`` is passed over.

    Raises:
        ConfigError: ``study.bad_extension``, or as ``read_config`` if a value is not allowed.
    """
    values = config.model_dump(mode="json")
    for change in changes:
        if change == FORGET:
            continue
        name, _, text = change.partition("=")
        words = [word.strip() for word in text.split(",") if word.strip()]
        if name not in EXTENDABLE or not words:
            raise ConfigError(
                "study.bad_extension",
                f"--extend {change}: expected NAME=VALUE with one of {', '.join(EXTENDABLE)}, or "
                f"'{FORGET}'",
                fix="write for example --extend subsets=20 --extend sizes=300,400",
            )
        numbers = [int(word) if word.isdecimal() else word for word in words]
        if name in ("sizes", "families"):
            _add(values, name, numbers)
        elif len(numbers) == 1 and isinstance(numbers[0], int) and numbers[0] >= values[name]:
            values[name] = numbers[0]
        else:
            raise ConfigError(
                "study.bad_extension",
                f"--extend {change}: the study has {values[name]} {name}",
                fix=f"give one whole number above {values[name]}; what is there stays (go back to "
                f"the grid of the study's file with --extend {FORGET})",
            )
    return parse_config(values, StudyConfig, source="--extend")


def read_extension(out: Path) -> Extension:
    """What earlier runs of the study in a folder were given.

    Raises:
        ConfigError: ``study.damaged_extension``.
    """
    path = out / EXTENSION
    if not path.is_file():
        return Extension()
    try:
        return parse_config(read_json(path), Extension, source=str(path))
    except MedcurveError as error:
        raise ConfigError(
            "study.damaged_extension",
            f"what the study was extended by cannot be read: {error.message}",
            fix=f"run it with --extend {FORGET}, and with --extend for what is to be in its grid; "
            "computed cells stay",
        ) from error


def write_extension(out: Path, file: StudyConfig, config: StudyConfig) -> None:
    """Remember what a study has beyond its file, for runs that do not say it again."""
    more = Extension(
        families=tuple(
            _absolute(name)
            for name in _beyond(config.families, file.families)
            if isinstance(name, str)
        ),
        sizes=tuple(_beyond(config.sizes, file.sizes)),
        subsets=config.subsets if config.subsets > file.subsets else 0,
        seeds=config.seeds if config.seeds > file.seeds else 0,
    )
    if more == Extension():
        (out / EXTENSION).unlink(missing_ok=True)
    else:
        write_json(out / EXTENSION, more.model_dump(mode="json"))


def _add(values: dict[str, Any], name: str, more: Sequence[Any]) -> None:
    """Add to a list of a config what is not in it."""
    values[name] += _beyond(more, values[name])


def _beyond(more: Sequence[Any], there: Sequence[Any]) -> list[Any]:
    known = [_absolute(value) for value in there]
    return [value for value in more if _absolute(value) not in known]


def _absolute(value: Any) -> Any:
    """A path as one that holds wherever the next command is run; anything else as it is."""
    if isinstance(value, str) and is_path(value):
        return str(Path(value).expanduser().resolve())
    return value
