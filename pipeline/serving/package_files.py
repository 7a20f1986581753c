"""The files of a model package, told from others and found whole before a model is made of them.

Nothing here needs torch: who names a folder that is no package hears so at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from data_prep.errors import MedcurveError, nearest
from data_prep.files import digest, sha256_bytes
from data_prep.stage import medcurve_version

WEIGHTS: Final = "weights.safetensors"
REFERENCE: Final = "reference.safetensors"
MODEL: Final = "model.json"

MAX_MODEL_JSON_BYTES = 16 << 20
_PICKLED_SUFFIXES = frozenset(
    (".pkl", ".pickle", ".pt", ".pth", ".pt2", ".ckpt", ".joblib", ".skops", ".npz", ".dill")
)
FORMAT: Final = "medcurve-model"
FORMAT_VERSION: Final = 2


class PackageError(MedcurveError):
    """A model package that is missing, foreign, damaged or cannot be used here."""


def _packages_beside(folder: Path) -> list[str]:
    return [path.parent.name for path in folder.parent.glob(f"*/{MODEL}")]


def check_files(folder: Path) -> None:
    """Stop where a folder is not one that a package can be read from.

    Raises:
        PackageError: ``package.not_found``, ``package.not_a_folder``, ``package.missing_file`` or
            ``package.pickled``.
    """
    if not folder.exists():
        raise PackageError(
            "package.not_found",
            f"{folder} does not exist{nearest(folder.name, _packages_beside(folder))}",
            fix="give a folder that `medcurve release` or `medcurve train` wrote: "
            "RUNS/COHORT/model-STUDY",
        )
    entries = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    for path in entries:
        if path.suffix.lower() in _PICKLED_SUFFIXES:
            raise PackageError(
                "package.pickled",
                f"{path}: files of this kind can run code when they are read; medcurve never "
                "opens one",
                fix=f"a model package holds {MODEL} and .safetensors only; train or release the "
                "model with medcurve",
            )
    if not folder.is_dir():
        whole = all((folder.parent / name).is_file() for name in (MODEL, WEIGHTS))
        raise PackageError(
            "package.not_a_folder",
            f"{folder} is a file; a model package is a folder",
            fix=f"give its folder: {folder.parent}"
            if whole
            else "give the folder that `medcurve release` wrote",
        )
    for name in (MODEL, WEIGHTS):
        if not (folder / name).is_file():
            raise _missing(folder / name)


def _missing(path: Path) -> PackageError:
    return PackageError(
        "package.missing_file",
        f"{path.parent} is not a whole model package: {path.name} is missing",
        fix="give the folder that `medcurve release` wrote, or copy it again",
    )


def read_model_json(path: Path) -> tuple[dict[str, Any], str]:
    """Content of ``model.json`` without its seal, and the seal, which fits.

    Raises:
        PackageError: ``package.foreign``, ``package.newer_format``, ``package.older_format`` or
            ``package.damaged``.
    """
    size = path.stat().st_size
    if size > MAX_MODEL_JSON_BYTES:
        raise _foreign(path, f"{size} bytes, a model's description has {MAX_MODEL_JSON_BYTES}")
    data = path.read_bytes()
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _foreign(path, f"'format' is not '{FORMAT}'")
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise PackageError(
            "package.newer_format",
            f"{path}: format_version is {version}; this medcurve reads up to {FORMAT_VERSION}",
            fix=f"upgrade medcurve (this is {medcurve_version()})",
        )
    if isinstance(version, int) and version < FORMAT_VERSION:
        raise PackageError(
            "package.older_format",
            f"{path}: format_version is {version}, without calibration, thresholds and what the "
            f"training scans look like; this medcurve reads {FORMAT_VERSION}",
            fix="release the model again: `medcurve release STUDY --data COHORT`",
        )
    seal = content.pop("sha256", "")
    # The bytes must be the ones that writing this content gives: then every bit is under the seal.
    if seal != _seal(content) or data != encode_json(content | {"sha256": seal}):
        raise _damaged(path, "its content does not have the sha256 that it states")
    return content, str(seal)


def sealed(path: Path, sha256: str) -> bytes:
    """A file's bytes, which have that SHA-256.

    Raises:
        PackageError: ``package.missing_file`` or ``package.damaged``.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise _missing(path) from error
    if (found := sha256_bytes(data)) != sha256:
        raise _damaged(path, f"sha256 is {found}, {MODEL} says {sha256}")
    return data


def _seal(content: Mapping[str, Any]) -> str | None:
    try:
        return digest(content)
    except ValueError:  # NaN or infinity, which we never write
        return None


def encode_json(content: Mapping[str, Any]) -> bytes:
    """The bytes of a ``model.json``: those that every reading compares with."""
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"


def _damaged(path: Path, what: str) -> PackageError:
    return PackageError(
        "package.damaged", f"{path}: {what}", fix="copy the package again, or release it again"
    )


def _foreign(path: Path, what: str) -> PackageError:
    return PackageError(
        "package.foreign",
        f"{path}: not a medcurve model ({what})",
        fix="give the folder that `medcurve release` wrote",
    )
