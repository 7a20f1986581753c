"""From a model package to files of another format, compared with the model before they stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.files import sha256_bytes, write_bytes, write_json
from data_prep.stage import medcurve_version, new_stage
from pipeline.export.check import Outputs, check, scans_to_check
from pipeline.export.errors import ExportError
from pipeline.export.monai_bundle import bundle_files
from pipeline.export.onnx_file import onnx_bytes, require_onnx
from pipeline.export.program import traced
from pipeline.export.torch_file import TORCH_FILE, torch_bytes
from pipeline.serving.answers import block_scans
from pipeline.serving.package import ModelPackage
from pipeline.serving.twin import (
    ONNX_FILE,
    RECORD,
    TWIN,
    ExportRecord,
    OnnxSession,
    Runtime,
    Timed,
)

Format = Literal["onnx", "torch-export", "monai-bundle"]

# onnxruntime is taken only where it is clearly faster, and its answers are far closer than what an
# exported file is allowed.
_FASTER: Final = 0.95
_EQUAL: Final = 1e-5
_RUNS: Final = 5


@dataclass(frozen=True, eq=False)
class Program:
    """An exported model before it is written: its files, and what runs them."""

    files: dict[str, bytes]
    run: Callable[[NDArray[np.float32]], Outputs]


def export(
    package: ModelPackage, to: Format, out: Path, given: Sequence[Path] = ()
) -> ExportRecord:
    """Write a model as ``to`` into the folder ``out``, whole or not at all.

    Args:
        package: The model, run by torch.
        to: Which format.
        out: An earlier export there is replaced.
        given: Scans to compare on; empty: made-up ones.

    Returns:
        What ``export.json`` says.

    Raises:
        ExportError: ``export.no_onnx``, ``export.not_expressible``, ``export.pickled``,
            ``export.no_scan`` or ``export.differs``; nothing is written then.
        StageError: ``stage.not_ours`` if ``out`` holds something else.
    """
    scans = scans_to_check(package, given, out)
    made = _program(package, to)
    compared = check(package, scans, not given, made.run, to)
    timed = _timed(package, made.run, scans) if to == "onnx" else None
    faster = timed and timed.onnx < _FASTER * timed.torch
    equal = max(compared.probability, compared.raw) <= _EQUAL
    chosen: Runtime = "onnx" if faster and equal else "torch"
    record = ExportRecord(
        to=to,
        model=package.digest,
        files={name: sha256_bytes(data) for name, data in made.files.items()},
        compared=compared,
        timed=timed,
        runtime=chosen,
        versions={"medcurve": medcurve_version(), "torch": str(torch.__version__)},
    )
    with new_stage(out, "export", {"model": package.digest}, {"to": to}) as partial:
        for name, data in made.files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
        write_json(partial / RECORD, record.sealed())
    return record


def write_twin(package: ModelPackage, folder: Path) -> ExportRecord | None:
    """Give a model its ONNX twin, by which ``predict`` may run.

    Args:
        package: The model, run by torch.
        folder: Its own, where it was released.

    Returns:
        What ``export.json`` says; None where the extra is not installed, or this model cannot be
        written as ONNX.

    Raises:
        ExportError: ``export.differs``.
    """
    try:
        require_onnx()
        return export(package, "onnx", folder / TWIN)
    except ExportError as error:
        if error.code in ("export.no_onnx", "export.not_expressible"):
            return None
        raise


def _program(package: ModelPackage, to: Format) -> Program:
    program = traced(package)
    if to == "onnx":
        data = onnx_bytes(package, program)
        return Program({ONNX_FILE: data}, OnnxSession.of(data).run)
    module = program.module()

    def run(scans: NDArray[np.float32]) -> Outputs:
        with torch.no_grad():
            probability, raw, features = module(torch.from_numpy(scans))
        return probability.numpy(), raw.numpy(), features.numpy()

    data = torch_bytes(program)
    files = {TORCH_FILE: data} if to == "torch-export" else bundle_files(package, data)
    return Program(files, run)


def _timed(
    package: ModelPackage,
    run: Callable[[NDArray[np.float32]], Outputs],
    scans: NDArray[np.float32],
) -> Timed:
    """Both ways on a block such as ``predict`` gives them, in turn: both share what else runs."""
    count = block_scans(package)
    block = np.resize(scans, (count, *scans.shape[1:]))
    tensor = torch.from_numpy(block)
    seconds = [
        (_seconds(lambda: package.look(tensor)), _seconds(lambda: run(block))) for _ in range(_RUNS)
    ]
    by_torch, by_onnx = (min(column) for column in zip(*seconds, strict=True))
    return Timed(scans=count, threads=torch.get_num_threads(), torch=by_torch, onnx=by_onnx)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
