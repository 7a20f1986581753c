"""The model package: a trained family on disk, with all that is needed to use and judge it.

A package is a folder with ``model.json``, ``weights.safetensors`` and, where there were scans
enough to learn what they look like, ``reference.safetensors``. Nothing pickled is ever written or
read. Every file is sealed by a SHA-256: safetensors itself has no checksum, and a
flipped bit would load as another model. The seal finds damage; it does not prove who wrote the
package.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from data_prep.config_faults import first_fault
from data_prep.errors import MedcurveError
from data_prep.files import digest, sha256_bytes, write_bytes
from data_prep.preprocess import PrepRecipe
from data_prep.readers.policy import ReadPolicy
from data_prep.stage import medcurve_version, new_stage
from data_prep.task import Task
from pipeline.evaluation.results import Evaluation
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family, State
from pipeline.serving.card import ModelCard, TrainingRecord
from pipeline.serving.package_files import (
    MODEL,
    REFERENCE,
    WEIGHTS,
    PackageError,
    check_files,
    encode_json,
    read_model_json,
    sealed,
)
from pipeline.serving.self_test import self_test
from pipeline.trust.shift_reference import ShiftReference
from pipeline.trust.trusted import Trusted


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
        write_bytes(partial / MODEL, encode_json(content | {"sha256": digest(content)}))
    return load_package(folder)


def load_package(folder: Path) -> ModelPackage:
    """Read a package, after checking that every bit of it is as written.

    Raises:
        PackageError: ``package.not_found``, ``package.missing_file``, ``package.pickled``,
            ``package.foreign``, ``package.newer_format``, ``package.older_format``,
            ``package.damaged`` or ``package.invalid``, naming the file.
    """
    check_files(folder)
    content, seal = read_model_json(folder / MODEL)
    card = _parse_card(folder / MODEL, content)
    weights = sealed(folder / WEIGHTS, card.weights_sha256)
    reference = None
    try:
        family = build_family(card.family, card.task, card.scan_shape, card.seed)
        family.load_state(_decode_state(weights))
        if card.trust.shift:
            state = _decode_state(sealed(folder / REFERENCE, card.reference_sha256))
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
