"""The model package: a trained family on disk, with all that is needed to use and judge it.

A package is a folder with ``model.json``, ``weights.safetensors`` and, where there were scans
enough to learn what they look like, ``reference.safetensors``. Nothing pickled is ever written or
read. Every file is sealed by a SHA-256: safetensors itself has no checksum, and a
flipped bit would load as another model. The seal finds damage; it does not prove who wrote the
package.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from data_prep.config_faults import first_fault
from data_prep.errors import MedcurveError, nearest
from data_prep.files import digest, sha256_bytes, write_bytes
from data_prep.preprocess import PrepRecipe
from data_prep.readers.policy import ReadPolicy
from data_prep.stage import medcurve_version, new_stage
from data_prep.task import Task
from pipeline.evaluation.results import Evaluation
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family, State
from pipeline.serving.card import FORMAT, FORMAT_VERSION, ModelCard, TrainingRecord
from pipeline.serving.self_test import self_test
from pipeline.trust.shift_reference import ShiftReference
from pipeline.trust.trusted import Trusted

WEIGHTS: Final = "weights.safetensors"
REFERENCE: Final = "reference.safetensors"
MODEL: Final = "model.json"

MAX_MODEL_JSON_BYTES = 16 << 20
_PICKLED_SUFFIXES = frozenset(
    (".pkl", ".pickle", ".pt", ".pth", ".pt2", ".ckpt", ".joblib", ".skops", ".npz", ".dill")
)


class PackageError(MedcurveError):
    """A model package that is missing, foreign, damaged or cannot be used here."""


@dataclass(frozen=True, eq=False)
class ModelPackage:
    """A loaded model.

    Attributes:
        card: What ``model.json`` says.
        family: The fitted family.
        reference: What the training scans look like; None where there were too few of them.
        digest: SHA-256 of ``model.json``'s content, which seals the weights as well: the name of
            exactly this model.
        runtime: What carries scans forward.
        forward: As ``look``, in place of the family; None: the family itself, by torch.
    """

    card: ModelCard
    family: Family[Any]
    reference: ShiftReference | None
    digest: str
    runtime: str = "torch"
    forward: Callable[[Tensor], tuple[NDArray[np.float64], NDArray[np.float32]]] | None = None

    @property
    def recipe(self) -> PrepRecipe:
        """Turns a raw volume into what the model takes."""
        return self.card.recipe

    @property
    def task(self) -> Task:
        """What the model predicts."""
        return self.card.task

    def predict(self, x: Tensor) -> NDArray[np.float64]:
        """Scans as ``recipe.apply`` gives them -> calibrated probabilities.

        Args:
            x: (N, C, I, J[, K]) float32.

        Returns:
            (N, n_classes) float64; rows sum to 1, but for a multi-label task.
        """
        return self.calibrate(self.look(x)[0])

    def look(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """What the family says of scans, not calibrated, and what it sees of them.

        Args:
            x: (N, C, I, J[, K]) float32, as ``recipe.apply`` gives them.

        Returns:
            Probabilities (N, n_classes) and features (N, D) (``Family.features``).
        """
        if self.forward:
            return self.forward(x)
        return self.family.look(self.family.prepare(x))

    def calibrate(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, n_classes) as the family gives them -> as they are to be read; NaN stays NaN."""
        whole = np.isfinite(probability).all(axis=1)
        calibrated = np.full(probability.shape, np.nan)
        calibrated[whole] = self.card.trust.calibration.apply(self.task, probability[whole])
        return calibrated


def save_package(
    folder: Path,
    family: Family[Any],
    config: FamilyConfig,
    policy: ReadPolicy,
    recipe: PrepRecipe,
    training: TrainingRecord,
    trust: Trusted,
    reference: ShiftReference | None,
    test: Evaluation,
) -> ModelPackage:
    """Write a fitted family as a package, whole or not at all, and load it back.

    Args:
        folder: Where it is to stand; an earlier package there is replaced.
        family: The fitted family.
        config: What ``family`` was built from.
        policy: How its training scans were read.
        recipe: What its training scans were prepared with.
        training: What it was trained on.
        trust: How its probabilities become an answer.
        reference: What its training scans look like; ``trust.shift`` is filled in from it.
        test: How it did on the test split.

    Raises:
        StageError: ``stage.not_ours`` if ``folder`` holds something else.
    """
    files = {WEIGHTS: _encode_state(family.state())}
    if reference:
        files[REFERENCE] = _encode_state(reference.state())
        trust = trust.model_copy(update={"shift": reference.facts})
    card = ModelCard(
        family=config,
        task=family.task,
        read=policy,
        recipe=recipe,
        scan_shape=family.scan_shape,
        seed=family.seed,
        training=training,
        trust=trust,
        test=test,
        self_test=self_test(recipe, family),
        versions=_versions(),
        weights_sha256=sha256_bytes(files[WEIGHTS]),
        reference_sha256=sha256_bytes(files[REFERENCE]) if reference else "",
    )
    content = card.model_dump(mode="json")
    inputs = {"store": training.store, "study": training.study}
    with new_stage(folder, "release", inputs, {"model": digest(content)}) as partial:
        for name, data in files.items():
            write_bytes(partial / name, data)
        write_bytes(partial / MODEL, _encode_json(content | {"sha256": digest(content)}))
    return load_package(folder)


def load_package(folder: Path) -> ModelPackage:
    """Read a package, after checking that every bit of it is as written.

    Raises:
        PackageError: ``package.not_found``, ``package.missing_file``, ``package.pickled``,
            ``package.foreign``, ``package.newer_format``, ``package.older_format``,
            ``package.damaged`` or ``package.invalid``, naming the file.
    """
    _check_files(folder)
    content, seal = _read_model_json(folder / MODEL)
    card = _parse_card(folder / MODEL, content)
    weights = _sealed(folder / WEIGHTS, card.weights_sha256)
    reference = None
    try:
        family = build_family(card.family, card.task, card.scan_shape, card.seed)
        family.load_state(_decode_state(weights))
        if card.trust.shift:
            state = _decode_state(_sealed(folder / REFERENCE, card.reference_sha256))
            reference = ShiftReference.from_state(card.trust.shift, state)
    except PackageError:
        raise
    except (MedcurveError, SafetensorError) as error:
        raise PackageError(
            "package.invalid",
            f"{folder}: does not fit family '{card.family.family}' ({error})",
            fix="use the medcurve version that wrote it: "
            f"{card.versions.get('medcurve', 'not stated')}",
        ) from error
    return ModelPackage(card=card, family=family, reference=reference, digest=seal)


def _sealed(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise _missing(path) from error
    if (found := sha256_bytes(data)) != sha256:
        raise _damaged(path, f"sha256 is {found}, {MODEL} says {sha256}")
    return data


def _packages_beside(folder: Path) -> list[str]:
    return [path.parent.name for path in folder.parent.glob(f"*/{MODEL}")]


def _check_files(folder: Path) -> None:
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
    for name in (MODEL, WEIGHTS):
        if not (folder / name).is_file():
            raise _missing(folder / name)


def _missing(path: Path) -> PackageError:
    return PackageError(
        "package.missing_file",
        f"{path.parent} is not a whole model package: {path.name} is missing",
        fix="give the folder that `medcurve release` wrote, or copy it again",
    )


def _read_model_json(path: Path) -> tuple[dict[str, Any], str]:
    """Content of ``model.json`` without its seal, and the seal, which fits."""
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
    if seal != _seal(content) or data != _encode_json(content | {"sha256": seal}):
        raise _damaged(path, "its content does not have the sha256 that it states")
    return content, str(seal)


def _parse_card(path: Path, content: dict[str, Any]) -> ModelCard:
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        raise PackageError(
            "package.invalid",
            f"{path}: not a model that this medcurve ({medcurve_version()}) can use "
            f"({first_fault(error)})",
            fix="use the medcurve version that 'versions' in the file names",
        ) from error


def _seal(content: Mapping[str, Any]) -> str | None:
    try:
        return digest(content)
    except ValueError:  # NaN or infinity, which we never write
        return None


def _encode_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"


def _encode_state(state: State) -> bytes:
    # safetensors copies memory as it lies: an array that is not contiguous would be stored wrong.
    # (ascontiguousarray would turn a scalar into a vector.)
    return safetensors.numpy.save({k: np.array(v, order="C") for k, v in sorted(state.items())})


def _decode_state(data: bytes) -> State:
    # frombuffer's arrays are read-only, which torch warns about
    return {name: np.array(value) for name, value in safetensors.numpy.load(data).items()}


def _versions() -> dict[str, str]:
    return {
        "medcurve": medcurve_version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
    }


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
