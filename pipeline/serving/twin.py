"""A model's ONNX twin: a second way forward that lies in its package, for onnxruntime to run.

``medcurve export MODEL --to onnx`` writes it into the folder ``onnx`` of the package. There both
ways were compared and timed on one block of scans, and the choice was written down: a clock that
decides at every batch would let the same scans get other bytes. ``export.json`` seals it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from data_prep.config import Config
from data_prep.errors import MedcurveError, StageError
from data_prep.files import digest, read_json, sha256_bytes
from pipeline.serving.package import ModelPackage

if TYPE_CHECKING:
    import onnxruntime

TWIN: Final = "onnx"
ONNX_FILE: Final = "model.onnx"
RECORD: Final = "export.json"
OUTPUTS: Final = ("probability", "raw", "features")

Runtime = Literal["torch", "onnx"]
RuntimeChoice = Literal["auto", "torch", "onnx"]


class TwinError(MedcurveError):
    """A package whose twin is missing, damaged, another model's, or cannot be run here."""


class Compared(Config):
    """How far an exported file's answers are from the model's.

    Attributes:
        scans: How many were compared.
        made_up: Whether they are the made-up scans of the self-test, or given ones.
        probability: Largest difference of a calibrated probability.
        raw: The same before calibration.
        features: Largest difference of a feature, as a share of the largest feature.
        tolerance: How large they may be.
    """

    scans: int
    made_up: bool
    probability: float
    raw: float
    features: float
    tolerance: float


class Timed(Config):
    """Seconds for one block of scans, the least of several runs, on as many threads.

    Attributes:
        scans: In the block.
        threads: Of each runtime.
        torch: Of torch.
        onnx: Of onnxruntime.
    """

    scans: int
    threads: int
    torch: float
    onnx: float


class ExportRecord(Config):
    """Content of ``export.json``, but for its own seal.

    Attributes:
        to: Which format.
        model: Digest of the model.
        files: Name -> SHA-256 of each file.
        compared: Of the file's answers with the model's.
        timed: Of ONNX: both ways forward.
        runtime: Which of them ``--runtime auto`` takes.
        versions: Package -> version that wrote it.
    """

    format: Literal["medcurve-export"] = "medcurve-export"
    to: Literal["onnx", "torch-export", "monai-bundle"]
    model: str
    files: dict[str, str]
    compared: Compared
    timed: Timed | None = None
    runtime: Runtime = "torch"
    versions: dict[str, str]

    def sealed(self) -> dict[str, Any]:
        """As JSON, with the digest of all of it."""
        content = self.model_dump(mode="json")
        return content | {"sha256": digest(content)}


@dataclass(frozen=True, eq=False)
class OnnxSession:
    """``model.onnx`` in onnxruntime."""

    session: onnxruntime.InferenceSession

    @classmethod
    def of(cls, data: bytes) -> OnnxSession:
        """A session of as many threads as torch has.

        Raises:
            TwinError: ``runtime.no_onnxruntime``.
        """
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise TwinError(
                "runtime.no_onnxruntime",
                "onnxruntime is not installed",
                fix="pip install 'medcurve[onnx]', or use --runtime torch",
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        return cls(onnxruntime.InferenceSession(data, options, providers=providers))

    def run(
        self, scans: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """Calibrated and raw probabilities and features of (N, C, I, J[, K]) prepared scans."""
        probability, raw, features = self.session.run(list(OUTPUTS), {"scans": scans})
        return probability, raw, features

    def look(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """As ``ModelPackage.look``."""
        return self.run(x.numpy())[1:]


def with_runtime(package: ModelPackage, folder: Path, choice: RuntimeChoice) -> ModelPackage:
    """The model that lies in ``folder``, made to run as chosen.

    ``auto`` is what the export chose; torch, where the package has no twin or this machine no
    onnxruntime.

    Raises:
        TwinError: ``runtime.no_twin``, ``runtime.no_onnxruntime``, ``runtime.damaged_twin`` or
            ``runtime.foreign_twin``.
    """
    if choice == "torch" or (choice == "auto" and not (folder / TWIN).is_dir()):
        return package
    record, data = read_twin(folder / TWIN, package.digest)
    if choice == "auto" and record.runtime == "torch":
        return package
    try:
        session = OnnxSession.of(data)
    except TwinError:
        if choice == "auto":
            return package
        raise
    return replace(package, forward=session.look, runtime="onnx")


def read_twin(folder: Path, model: str) -> tuple[ExportRecord, bytes]:
    """What ``export.json`` says and the bytes of ``model.onnx``, which fit it.

    Raises:
        TwinError: As ``with_runtime``.
    """
    if not (folder / RECORD).is_file() or not (folder / ONNX_FILE).is_file():
        raise TwinError(
            "runtime.no_twin",
            f"{folder.parent} has no ONNX twin ({TWIN}/{ONNX_FILE} with {RECORD})",
            fix=f"write one: medcurve export {folder.parent} --to onnx; or use --runtime torch",
        )
    record = read_record(folder, model)
    data = (folder / ONNX_FILE).read_bytes()
    if sha256_bytes(data) != record.files.get(ONNX_FILE):
        raise damaged(folder, ONNX_FILE, f"{RECORD} states another sha256")
    return record, data


def read_record(folder: Path, model: str) -> ExportRecord:
    """What the ``export.json`` of an export in a package says, if it is of that model.

    Raises:
        TwinError: ``runtime.damaged_twin`` or ``runtime.foreign_twin``.
    """
    try:
        content = read_json(folder / RECORD)
        seal = content.pop("sha256", "") if isinstance(content, dict) else ""
        record = ExportRecord.model_validate(content)
    except (StageError, ValidationError, ValueError) as error:
        raise damaged(folder, RECORD, str(error).splitlines()[0]) from error
    if seal != digest(record.model_dump(mode="json")):
        raise damaged(folder, RECORD, "its content does not have the sha256 that it states")
    if record.model != model:
        raise TwinError(
            "runtime.foreign_twin",
            f"{folder}: made from model {record.model[:12]}, this package is {model[:12]}",
            fix=f"write it again: medcurve export {folder.parent} --to {record.to}",
        )
    return record


def damaged(folder: Path, name: str, what: str) -> TwinError:
    """The error of a file in the folder of an export that is not as it was written."""
    return TwinError(
        "runtime.damaged_twin",
        f"{folder / name}: {what}",
        fix=f"write it again: medcurve export {folder.parent} --to {folder.name}; or "
        "use --runtime torch",
    )
