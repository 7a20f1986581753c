"""The families, by name. To add one: a file here, a line in ``FAMILIES``, a YAML in configs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, SerializeAsAny, ValidationInfo, field_validator

from data_prep.config import Config, config_name, find_config, is_path, parse_config
from data_prep.errors import MedcurveError, nearest
from data_prep.task import Task
from data_prep.yaml_file import read_yaml
from pipeline.families.base import Family, FamilyParams
from pipeline.families.cnn_scratch import CnnScratch
from pipeline.families.filterbank import Filterbank
from pipeline.families.knn import Knn
from pipeline.families.linear import Linear
from pipeline.families.mlp import Mlp
from pipeline.families.monai_network import MonaiNetwork
from pipeline.families.permuted import Permuted
from pipeline.families.pretrained import Pretrained
from pipeline.families.prior import Prior
from pipeline.families.random_features import RandomFeatures

FAMILIES: Final[dict[str, type[Family[Any]]]] = {
    family.name: family
    for family in (
        Prior,
        Linear,
        Knn,
        Filterbank,
        Mlp,
        RandomFeatures,
        CnnScratch,
        MonaiNetwork,
        Pretrained,
    )
}


def _known(family: str) -> str:
    if family not in FAMILIES:
        names = list(FAMILIES)
        raise ValueError(f"no such family{nearest(family, names)}; allowed: {', '.join(names)}")
    return family


FamilyName = Annotated[str, AfterValidator(_known)]


class FamilyConfig(Config):
    """Which family, with which parameters: the content of ``configs/family/*.yaml``.

    Attributes:
        family: A name in ``FAMILIES``.
        params: That family's own parameters, checked and with every default filled in.
        permute: A control: null, or the seed of an order into which the voxels of all scans are
            put before the family sees them (``pipeline.families.permuted``).
    """

    family: FamilyName
    params: SerializeAsAny[FamilyParams]
    permute: Annotated[int, Field(ge=0)] | None = None

    @field_validator("params", mode="before")
    @classmethod
    def _typed(cls, params: Any, info: ValidationInfo) -> Any:
        family = info.data.get("family")  # absent if it was refused: then that error is enough
        return FAMILIES[family].Params.model_validate(params) if family else FamilyParams()


class _FamilyFile(Config):
    """A family's YAML file before its parameters are looked at."""

    family: FamilyName
    params: dict[str, Any] = Field(default_factory=dict)
    permute: Annotated[int, Field(ge=0)] | None = None


class FamilyVariant(Config):
    """Another family config with some parameters changed, for one study.

    Attributes:
        name: What the study calls it.
        like: A name in ``configs/family``, or the path of a YAML file relative to the study's.
        params: Parameters in place of those of ``like``; of a nested one (``train``) only the
            fields that are given are replaced.
        permute: As in ``FamilyConfig``.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
    like: Annotated[str, config_name("family")]
    params: dict[str, Any] = Field(default_factory=dict)
    permute: Annotated[int, Field(ge=0)] | None = None

    def load(self) -> FamilyConfig:
        """The family config that it stands for.

        Raises:
            ConfigError: As ``load_family_config``.
        """
        like = load_family_config(self.like)
        params = _merged(like.params.model_dump(mode="json"), self.params)
        schema, source = FAMILIES[like.family].Params, f"variant '{self.name}' of {self.like}"
        return FamilyConfig(
            family=like.family,
            params=parse_config(params, schema, source=source, at="params"),
            permute=like.permute if self.permute is None else self.permute,
        )


def choice_name(chosen: str | FamilyVariant) -> str:
    """What a study calls a family; a path is named by its file, so that none is recorded."""
    if isinstance(chosen, FamilyVariant):
        return chosen.name
    return Path(chosen).stem if is_path(chosen) else chosen


def varied(chosen: str | FamilyVariant, params: Mapping[str, Any]) -> FamilyVariant:
    """A family of a study, under the same name, with these parameters in place of its own."""
    if isinstance(chosen, FamilyVariant):
        return chosen.model_copy(update={"params": _merged(chosen.params, params)})
    return FamilyVariant(name=choice_name(chosen), like=chosen, params=dict(params))


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        name: _merged(base[name], value)
        for name, value in changes.items()
        if isinstance(value, dict) and isinstance(base.get(name), dict)
    }
    return {**base, **changes, **nested}


def load_family_config(name: str) -> FamilyConfig:
    """Read the family config of that name in ``configs/family``, or at that path.

    Raises:
        ConfigError: As ``read_config`` and ``find_config``; a wrong parameter is answered with
            file, line, field and the nearest valid name.
    """
    path = find_config("family", name)
    content, lines = read_yaml(path)
    raw = parse_config(content, _FamilyFile, source=str(path), lines=lines)
    schema = FAMILIES[raw.family].Params
    params = parse_config(
        raw.params, schema, source=str(path), lines=lines, at="params", folder=path.parent
    )
    return FamilyConfig(family=raw.family, params=params, permute=raw.permute)


def check_files(name: str, config: FamilyConfig) -> None:
    """Refuse a family whose files are not there or not those meant, before any work.

    Args:
        name: How an error calls the family.
        config: Of the family.

    Raises:
        MedcurveError: As its ``params.check_files``.
    """
    try:
        config.params.check_files()
    except MedcurveError as error:
        message = f"family '{name}', {error.message}"
        raise type(error)(error.code, message, fix=error.fix) from error


def build_family(
    config: FamilyConfig, task: Task, scan_shape: tuple[int, ...], seed: int
) -> Family[Any]:
    """An unfitted family for scans of shape (C, I, J[, K]); ``seed`` decides all its randomness."""
    family = FAMILIES[config.family](config.params, task, scan_shape, seed)
    return family if config.permute is None else Permuted(family, config.permute)
