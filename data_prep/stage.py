"""A stage's folder: written whole or not at all, with the provenance of what made it.

``provenance.json`` records the digests of inputs, config and outputs, versions and git commit.
The digest of a stage's folder is the digest of its outputs, so a chain of stages is checkable.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data_prep.errors import StageError
from data_prep.files import digest, read_json, sha256_file, write_json

PROVENANCE = "provenance.json"
_VERSIONED = ("torch", "monai", "numpy", "scipy", "scikit-learn", "nibabel", "pydicom", "mlflow")


def stage_digest(folder: Path) -> str:
    """Digest of everything that a stage wrote into ``folder``.

    Raises:
        StageError: If the folder was not written by a stage, or its stage did not finish.
    """
    return digest(_provenance(folder)["outputs"])


def stage_config(folder: Path) -> tuple[str, Any]:
    """(name of the stage, its config) of what wrote ``folder``.

    Raises:
        StageError: As ``stage_digest``.
    """
    record = _provenance(folder)
    return str(record["stage"]), record["config"]


def is_current(folder: Path, stage: str, inputs: Mapping[str, str], config: Any) -> bool:
    """True where ``folder`` was already made by this stage from these inputs and this config.

    A folder whose files have been damaged since is not current, so that running its stage again
    mends it.
    """
    if not (folder / PROVENANCE).is_file():
        return False
    record = _provenance(folder)
    return (
        record["stage"] == stage
        and record["inputs"] == dict(inputs)
        and record["config_digest"] == digest(config)
        and record["medcurve"] == medcurve_version()
        and all(
            (folder / name).is_file() and sha256_file(folder / name) == sha256
            for name, sha256 in record["outputs"].items()
        )
    )


def check_inputs(folder: Path, inputs: Mapping[str, str], fix: str, config: Any = None) -> None:
    """Refuse a folder that was made from other inputs than those that stand now.

    Args:
        folder: What a stage wrote.
        inputs: Name -> digest that it ought to have been made from.
        fix: Which command makes it anew.
        config: JSON content that it ought to have been made by; None: any.

    Raises:
        StageError: ``stage.stale``, or as ``stage_digest``.
    """
    record = _provenance(folder)
    other = [name for name, found in inputs.items() if record["inputs"].get(name) != found]
    if config is not None and record["config_digest"] != digest(config):
        other.append("config")
    if other:
        raise StageError(
            "stage.stale",
            f"{folder} was made from another {' and '.join(other)} than what stands now",
            fix=fix,
        )


@contextmanager
def new_stage(folder: Path, stage: str, inputs: Mapping[str, str], config: Any) -> Iterator[Path]:
    """Yield an empty folder to write into; on success it takes the place of ``folder``.

    An exception or a kill leaves the previous folder as it was. A folder that this stage did not
    write is never replaced.

    Args:
        folder: Where the stage's output is to stand.
        stage: Name of the stage, for the record.
        inputs: Name -> digest of what the stage reads.
        config: JSON content that decides the result.

    Raises:
        StageError: ``stage.not_ours`` if ``folder`` holds something that this stage did not write.
    """
    refuse_foreign(folder, stage)
    _clear_up(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        write_provenance(partial, stage, inputs, config)
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _clear_up(folder: Path) -> None:
    """Remove what killed runs of this stage left beside ``folder``, and put back what they moved.

    A kill between the two renames of ``replace_folder`` leaves the previous folder as ``.old``.
    """
    name = re.compile(rf"\.{re.escape(folder.name)}\.(\d+)\.(part|old)")
    for left in list(folder.parent.glob(".*")):
        match = name.fullmatch(left.name)
        if match is None or _is_running(int(match[1])):
            continue
        if match[2] == "old" and not folder.exists():
            left.rename(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_provenance(folder: Path, stage: str, inputs: Mapping[str, str], config: Any) -> None:
    """Record what made ``folder``; written last, so that its presence means "complete"."""
    outputs = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != PROVENANCE
    }
    write_json(
        folder / PROVENANCE,
        {
            "stage": stage,
            "medcurve": medcurve_version(),
            "python": platform.python_version(),
            "packages": {name: _package_version(name) for name in _VERSIONED},
            "git_commit": _git_commit(),
            "inputs": dict(inputs),
            "config": config,
            "config_digest": digest(config),
            "outputs": outputs,
        },
    )


def refuse_foreign(folder: Path, stage: str = "") -> None:
    """Refuse to write over a folder that holds something that no stage wrote, or another stage.

    Args:
        folder: Where a stage's output is to stand.
        stage: Name of that stage; "" accepts the output of any stage.

    Raises:
        StageError: ``stage.not_ours``.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PROVENANCE).is_file():
        raise StageError(
            "stage.not_ours",
            f"{folder} exists and was not written by medcurve",
            fix="choose another --out or --runs, or remove the folder yourself",
        )
    if folder.exists() and not folder.is_dir():
        raise StageError(
            "stage.not_ours", f"{folder} is a file", fix="choose another --out or --runs"
        )
    if stage and (folder / PROVENANCE).is_file():
        written_by = _provenance(folder).get("stage")
        if written_by != stage:
            raise StageError(
                "stage.not_ours",
                f"{folder} holds the output of stage '{written_by}', not of '{stage}'",
                fix="choose another --out or --runs, or remove the folder yourself",
            )


def replace_folder(partial: Path, folder: Path) -> None:
    """Put the whole folder ``partial`` in the place of ``folder``; on failure the old one stays."""
    _clear_up(folder)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def medcurve_version() -> str:
    """Version of the installed distribution."""
    return _package_version("medcurve")


def _provenance(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise StageError(
            "stage.missing",
            f"{folder} does not exist",
            fix=f"run `medcurve {_command(folder)}` for this cohort first",
        )
    if not (folder / PROVENANCE).is_file():
        raise StageError(
            "stage.incomplete",
            f"{folder} has no {PROVENANCE}: its stage did not finish, or it is something else",
            fix=f"run `medcurve {_command(folder)}` for this cohort again",
        )
    record: dict[str, Any] = read_json(folder / PROVENANCE)
    return record


def _command(folder: Path) -> str:
    """The command that writes a folder of this name."""
    kind = folder.name.split("-")[0]
    return {"splits": "split", "store": "prep", "study": "study"}.get(kind, "ingest")


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str:
    """Commit of the code that runs, with "+changes" where the tree is not clean; "" outside git."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(here, "status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(where: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - fixed program and arguments
        ["git", "-C", str(where), *arguments],  # noqa: S607
        capture_output=True,
        check=True,
        text=True,
        timeout=10,
    )
    return done.stdout.strip()
