"""A claim's study with its mechanism undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from data_prep.config import dotted
from data_prep.errors import ConfigError
from pipeline.families import choice_name, varied
from pipeline.study.claim import Flip
from pipeline.study.config import StudyConfig
from pipeline.study.plan import read_families

_ABSENT: Final = object()


def flipped(config: StudyConfig, flip: Flip) -> StudyConfig:
    """The study with its mechanism undone."""
    families = []
    for chosen in config.families:
        name = choice_name(chosen)
        changed = varied(chosen, flip.params[name]) if name in flip.params else chosen
        if name in flip.permute:
            changed = varied(changed, {}).model_copy(update={"permute": flip.permute[name]})
        families.append(changed)
    probes = config.probes | flip.probes
    return config.model_copy(update={"families": tuple(families), "probes": probes})


def check_flip(name: str, config: StudyConfig) -> None:
    """Refuse a flip that leaves what it names as it was, before anything is computed.

    Args:
        name: Of the study.
        config: Of the study.

    Raises:
        ConfigError: ``claim.idle_flip``; or a parameter that the family does not have.
    """
    if config.claim is None:
        return
    for field, value in _idle(config, config.claim.flip):
        raise ConfigError(
            "claim.idle_flip",
            f"study '{name}': claim.flip.{field} is {value} without the flip already",
            fix="undo what the claim rests on: a value other than the study's own",
        )


def _idle(config: StudyConfig, flip: Flip) -> Iterator[tuple[str, Any]]:
    """Each field that has the value of the study itself."""
    before, after = (read_families(one.families) for one in (config, flipped(config, flip)))
    for family, changes in flip.params.items():
        old, new = (dotted(one[family].params.model_dump(mode="json")) for one in (before, after))
        for key in dotted(changes):
            if key in new and new[key] == old.get(key, _ABSENT):
                yield f"params.{family}.{key}", new[key]
    for family, seed in flip.permute.items():
        if after[family].permute == before[family].permute:
            yield f"permute.{family}", seed
    for cohort, instead in flip.cohorts.items():
        if cohort == instead:
            yield f"cohorts.{cohort}", instead
    for family, probes in flip.probes.items():
        if probes == config.probes[family]:
            yield f"probes.{family}", ", ".join(one.probe for one in probes)
