"""Does a model package still give the answers that it gave where it was made?"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from data_prep.files import sha256_file
from data_prep.stage import PROVENANCE
from pipeline.serving.package import ModelPackage, load_package
from pipeline.serving.package_files import MODEL, REFERENCE, WEIGHTS, PackageError
from pipeline.serving.self_test import made_up_scans, self_test
from pipeline.serving.twin import (
    ONNX_FILE,
    RECORD,
    TWIN,
    TwinError,
    damaged,
    read_record,
    with_runtime,
)

# Machines and library versions differ in the last bits of float32 sums; an error in weights,
# preprocessing or arithmetic is far larger.
TOLERANCE: Final = 1e-4
# What may lie in a package besides the files that its seal covers.
_KNOWN: Final = frozenset((PROVENANCE, "MODEL_CARD.md"))


@dataclass(frozen=True)
class Verification:
    """A package that passed.

    Attributes:
        package: It.
        difference: Largest difference of a self-test probability from the recorded one.
        twin: The same of its ONNX twin; None where it has none, or onnxruntime is not here.
    """

    package: ModelPackage
    difference: float
    twin: float | None = None

    @property
    def bit_identical(self) -> bool:
        """True where this machine computes exactly what the package's maker computed."""
        return self.difference == 0


def verify(folder: Path, served: Collection[str] = ()) -> Verification:
    """Check a package's digests and all that lies in its folder; compute its self-test again.

    Args:
        folder: The package.
        served: Names of files that a model server puts beside it.

    Raises:
        PackageError: As ``load_package``; ``package.unnamed_files`` for files that do not belong to
            it; ``package.self_test`` where this machine computes other probabilities.
        TwinError: ``runtime.damaged_twin`` or ``runtime.foreign_twin`` of an export in its folder;
            ``runtime.twin_differs`` where its ONNX twin gives other probabilities.
    """
    package = load_package(folder)
    _refuse_unnamed(folder, package, frozenset(served))
    recorded = np.array(package.card.self_test)
    now = np.array(self_test(package.recipe, package.family))
    difference = float(np.abs(now - recorded).max())
    if not difference <= TOLERANCE:  # so that NaN fails
        versions = ", ".join(f"{k} {v}" for k, v in sorted(package.card.versions.items()))
        raise PackageError(
            "package.self_test",
            f"{folder}: whole, but its self-test gives probabilities that differ by "
            f"{difference:.2g} from the recorded ones (allowed: {TOLERANCE:g})",
            fix=f"use the versions that it was made with: {versions}",
        )
    return Verification(package, difference, _twin_difference(folder, package))


def _twin_difference(folder: Path, package: ModelPackage) -> float | None:
    """How far the self-test of a package's ONNX twin is from the package's own."""
    if not (folder / TWIN).is_dir():
        return None
    try:
        twin = with_runtime(package, folder, "onnx")
    except TwinError as error:
        if error.code == "runtime.no_onnxruntime":
            return None
        raise
    volumes = made_up_scans(package.recipe, package.card.scan_shape)
    scans = np.stack([package.recipe.apply(volume) for volume in volumes])
    probability, _ = twin.look(torch.from_numpy(scans))
    difference = float(np.abs(probability - np.array(package.card.self_test)).max())
    if not difference <= TOLERANCE:  # so that NaN fails
        raise TwinError(
            "runtime.twin_differs",
            f"{folder / TWIN / ONNX_FILE}: whole, but its self-test gives probabilities that "
            f"differ by {difference:.2g} from the model's (allowed: {TOLERANCE:g})",
            fix=f"write it again: medcurve export {folder} --to onnx; or use --runtime torch",
        )
    return difference


def _refuse_unnamed(folder: Path, package: ModelPackage, served: frozenset[str]) -> None:
    """Refuse what a package does not name, which nobody has vouched for."""
    named = {MODEL, WEIGHTS, *_KNOWN, *served}
    if package.reference:
        named.add(REFERENCE)
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and (path / RECORD).is_file():
            found += [f"{path.name}/{name}" for name in _unnamed_of_export(path, package.digest)]
        elif path.name not in named or not path.is_file() or path.is_symlink():
            found.append(path.name)
    if found:
        raise PackageError(
            "package.unnamed_files",
            f"{folder}: {MODEL} does not name {', '.join(found)}: it is no part of the model",
            fix="; ".join(_what_to_do(folder, name) for name in found),
        )


def _unnamed_of_export(folder: Path, model: str) -> Iterator[str]:
    """Files of an export that its record does not name; those that it does are checked."""
    record = read_record(folder, model)
    for name, sha256 in record.files.items():
        if not (folder / name).is_file() or sha256_file(folder / name) != sha256:
            raise damaged(folder, name, f"missing, or {RECORD} states another sha256")
    named = {RECORD, PROVENANCE, *record.files}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (name not in named and not path.is_dir()):
            yield name


def _what_to_do(folder: Path, name: str) -> str:
    if name == REFERENCE:
        return f"delete {name}, which an earlier release left, or release the model again"
    path = folder / name
    if path.is_symlink():
        return f"delete {name}: a link leads out of the folder"
    kind = "the folder " if path.is_dir() else ""
    return f"move {kind}{name} out of {folder.name}"
