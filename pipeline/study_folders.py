"""Which studies of a cohort stand, for whoever asks for one that does not."""

from __future__ import annotations

import shlex
from pathlib import Path

from data_prep.config import CONFIG_ROOT
from data_prep.errors import StageError, nearest
from pipeline.wording import listed
from pipeline.workspace import Workspace


def refuse_absent_study(workspace: Workspace, command: str, name: str, data: str) -> None:
    """Stop where a study has no folder; say which have, and what to type in place.

    Args:
        workspace: Of the cohort and prep config that were asked for.
        command: Which is to do something with the study.
        name: The study, as it was asked for.
        data: The cohort, as it was asked for.

    Raises:
        StageError: ``stage.missing``.
    """
    out = workspace.study(name)
    if out.is_dir():
        return
    stem = f"study-{Path(name).stem}"
    here = sorted(folder.name for folder in workspace.folder.glob("study-*") if folder.is_dir())
    places = ["--data", data]
    if workspace.runs != Path("runs"):
        places += ["--runs", str(workspace.runs)]

    def typed(verb: str, *prep: str) -> str:
        return f"`{shlex.join(['medcurve', verb, name, *places, *prep])}`"

    if others := [one for one in here if one == stem or _is_on(workspace, stem, one)]:
        preps = [_prep(workspace, one.removeprefix(stem).removeprefix("-")) for one in others]
        fix = f"it was run on another prep config: {' or '.join(typed(command, *p) for p in preps)}"
    else:
        own = workspace.prep == workspace.cohort.prep
        fix = f"run it first: {typed('study', *([] if own else ['--prep', workspace.prep]))}"
    stands = f"there is {listed(here)}" if here else f"no study stands in {workspace.folder}"
    found = f"{out} does not exist{nearest(out.name, here)}"
    found += f"{'' if found[-1] == '?' else ';'} {stands}"
    raise StageError("stage.missing", found, fix=fix)


def _is_on(workspace: Workspace, stem: str, other: str) -> bool:
    """Whether a folder is that study's on the prep config that ends its name."""
    prep = other.removeprefix(f"{stem}-")
    return prep != other and (workspace.folder / f"store-{prep}").is_dir()


def _prep(workspace: Workspace, stem: str) -> list[str]:
    """The option that names a prep config, by the end of a study's folder name."""
    if not stem:
        return []
    if (CONFIG_ROOT / "prep" / f"{stem}.yaml").is_file():
        return ["--prep", stem]
    planned = workspace.folder / f"{stem}.yaml"
    return ["--prep", str(planned) if planned.is_file() else f"{stem}.yaml"]
