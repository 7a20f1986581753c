"""A preprocessing recipe proposed from a cohort's fingerprint, with a reason for each choice.

nnU-Net's idea (Isensee et al., Nature Methods 18:203, 2021), for classification. What a recipe
fits, ``medcurve prep`` fits on training scans only.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from data_prep import plan_rules as rules
from data_prep.errors import CohortError, ConfigError
from data_prep.files import write_bytes
from data_prep.fingerprint import CohortFingerprint
from data_prep.plan_rules import Decision
from data_prep.preprocess import PrepConfig

_WIDTH: Final = 100  # of a comment in the YAML file
# A body that is longer than the grid by more than this factor loses more than a rim.
_CUT: Final = 1.25


@dataclass(frozen=True)
class PrepPlan:
    """A proposed recipe.

    Attributes:
        config: What to do.
        decisions: One for each field of ``config``, in its order.
        cautions: What the cohort has that no single recipe can put right.
    """

    config: PrepConfig
    decisions: tuple[Decision, ...]
    cautions: tuple[str, ...]


def plan_prep(seen: CohortFingerprint, voxels: int | None = None) -> PrepPlan:
    """Propose a recipe.

    Args:
        seen: The cohort's fingerprint.
        voxels: Most voxels that a prepared scan may have; default: what training can bear.

    Raises:
        CohortError: ``plan.mixed_dimensions`` where the cohort has images and volumes.
        ConfigError: ``plan.budget_too_small``.
    """
    if len(seen.dimensions) > 1:
        raise CohortError(
            "plan.mixed_dimensions",
            f"cohort '{seen.cohort}' has {seen.dimensions['2']} images (2D) and "
            f"{seen.dimensions['3']} volumes (3D); one recipe takes one kind",
            fix="make two cohorts of them, or take one kind out of the label table",
        )
    least = rules.LEAST_EDGE**seen.spatial_ndim
    if voxels is not None and voxels < least:
        raise ConfigError(
            "plan.budget_too_small",
            f"--voxels {voxels}: at least {least} ({rules.LEAST_EDGE} along each axis)",
        )
    decisions = (
        rules.orientation(seen),
        *rules.grid(seen, voxels or rules.default_budget(seen)),
        rules.intensity(seen),
        rules.channels(seen),
    )
    config = PrepConfig.model_validate({each.field: each.value for each in decisions})
    return PrepPlan(config, decisions, tuple(_cautions(seen, config)))


def plan_yaml(plan: PrepPlan, seen: CohortFingerprint, command: str) -> str:
    """The recipe as a commented YAML file that ``read_config(path, PrepConfig)`` takes as it is.

    Args:
        plan: What to write.
        seen: What it was planned from.
        command: How the file is used, for the header.
    """
    head = [
        f"For: cohort {seen.cohort}. Proposed by `medcurve plan` from {seen.scans} scans of "
        f"{seen.patients} patients, {seen.intensities.sampled} of them read again for their "
        "intensities; no rule looks at a label.",
        f"Run: {command}",
        "Each line has its reason above it: change what you know better.",
        *(f"Caution: {caution}" for caution in plan.cautions),
    ]
    lines = [line for text in head for line in _comment(text)]
    for decision in plan.decisions:
        lines += ["", *_comment(decision.because), f"{decision.field}: {flow(decision.value)}"]
    return "\n".join(lines) + "\n"


def check_plan_name(path: Path) -> None:
    """Refuse a name that ``medcurve prep --prep`` would not take for a file.

    Raises:
        ConfigError: ``plan.bad_name``.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            "plan.bad_name",
            f"--out {path}: a prep config is a .yaml file",
            fix=f"use --out {path.with_suffix('.yaml')}",
        )


def write_plan(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a plan; a file with other content, which somebody may have edited, is kept.

    Raises:
        ConfigError: ``plan.exists`` unless ``overwrite``.
    """
    if path.exists() and not overwrite and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            "plan.exists",
            f"{path} holds another plan, or one that was edited",
            fix="choose another --out, or replace it with --overwrite",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())


def flow(value: Any) -> str:
    """A value on one line, as YAML has it."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.strip().removesuffix("\n...")


def _comment(text: str) -> list[str]:
    # A path may hold a line break, or what YAML does not take even in a comment.
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.wrap(
        plain,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cautions(seen: CohortFingerprint, config: PrepConfig) -> Iterator[str]:
    stated = {name: count for name, count in seen.modalities.items() if name}
    if len(stated) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in stated.items())
        yield f"several modalities in one cohort ({shown}): no intensity scale suits them all"
    if set(stated) == {"CT"} and not seen.looks_like_hu:
        yield "CT whose numbers are not Hounsfield units (no rescale, or no air): no window is used"
    if 0 < seen.with_spacing < seen.scans:
        count = seen.scans - seen.with_spacing
        known = f"{count} of {seen.scans} scans state no {seen.unit} size in mm"
        doubt = "" if config.spacing_mm is not None else ": if that is right, set spacing_mm"
        yield f"{known}, and 1 mm is assumed for them{doubt}"
    if config.fit == "crop_or_pad":
        yield from _cut(seen, config)
    marked = max(seen.flags.get(name, 0) for name in ("burned_in_annotation", "secondary_capture"))
    if marked:
        yield (
            f"text may be burned into {marked} of {seen.scans} scans or more, and a classifier can "
            "learn from it"
        )
    if seen.intensities.unreadable:
        tried = seen.intensities.unreadable + seen.intensities.sampled
        yield f"{seen.intensities.unreadable} of {tried} sampled scans could not be read again"


def _cut(seen: CohortFingerprint, config: PrepConfig) -> Iterator[str]:
    """Axes along which the largest body loses more than a rim."""
    ndim = seen.spatial_ndim
    shape = config.shape if isinstance(config.shape, tuple) else (config.shape,) * ndim
    spacing = (
        config.spacing_mm if isinstance(config.spacing_mm, tuple) else (config.spacing_mm,) * ndim
    )
    for axis, voxels, mm in zip(seen.axes, shape, spacing, strict=True):
        if mm and axis.body_mm and axis.body_mm.maximum > _CUT * voxels * mm:
            yield (
                f"the largest of the sampled scans shows {axis.body_mm.maximum:.0f} mm of body "
                f"({axis.name}), of which the middle {voxels * mm:.0f} mm are kept"
            )
