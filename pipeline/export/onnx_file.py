"""A model as ONNX, by torch's exporter of traced programs (``dynamo=True``, with onnxscript).

The older exporter, which records one run, cannot express adaptive pooling into cells of unequal
size, by which most families look at scans.
"""

from __future__ import annotations

import json
import logging
import warnings
from typing import TYPE_CHECKING, Final

import torch
from torch.export import ExportedProgram

from data_prep.files import digest
from data_prep.stage import medcurve_version
from pipeline.export.errors import ExportError
from pipeline.export.operators import OPERATORS
from pipeline.export.program import INPUT
from pipeline.serving.package import ModelPackage
from pipeline.serving.twin import OUTPUTS

if TYPE_CHECKING:
    import onnx

OPSET: Final = 18  # the first with antialiased Resize, which pretrained networks need


def onnx_bytes(package: ModelPackage, program: ExportedProgram) -> bytes:
    """The content of ``model.onnx``, the same for the same model and versions.

    Raises:
        ExportError: ``export.no_onnx`` where the extra is not installed, or
            ``export.not_expressible``.
    """
    require_onnx()
    model = _converted(program)
    del model.metadata_props[:]
    for key, value in metadata(package).items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "medcurve", medcurve_version()
    _forget_sources(model)
    return bytes(model.SerializeToString(deterministic=True))


def metadata(package: ModelPackage) -> dict[str, str]:
    """What ``model.onnx`` says of itself, all in text."""
    task = package.task
    axes = "NCIJK"[: 1 + len(package.card.scan_shape)]
    return {
        "medcurve.model": package.digest,
        "medcurve.version": medcurve_version(),
        "medcurve.task": task.kind,
        "medcurve.classes": json.dumps(list(task.class_names), ensure_ascii=False),
        "medcurve.family": package.card.family.family,
        "medcurve.recipe_sha256": digest(package.recipe.to_json()),
        "medcurve.input": f"{INPUT}: float32 {' x '.join(axes)}, scans as PrepRecipe.apply "
        "prepares them (orientation, spacing, shape and intensity are not in this file)",
        "medcurve.scan_shape": json.dumps(list(package.card.scan_shape)),
        "medcurve.outputs": "probability: calibrated, float64; raw: before calibration; features: "
        "what the model sees of a scan",
    }


def require_onnx() -> None:
    """Stop where the extra is not installed.

    Raises:
        ExportError: ``export.no_onnx``.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError(
            "export.no_onnx",
            f"ONNX needs '{error.name}', which is not installed",
            fix="pip install 'medcurve[onnx]'",
        ) from error


def _converted(program: ExportedProgram) -> onnx.ModelProto:
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)  # a warning for each operator of torchvision, which is not there
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch and onnxscript about themselves
            made = torch.onnx.export(
                program.run_decompositions(OPERATORS),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
            )
    except torch.onnx.OnnxExporterError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ExportError(
            "export.not_expressible",
            f"torch {torch.__version__} cannot write this model as ONNX ({lines[-1][:200]})",
            fix="export it --to torch-export, or use the versions in constraints.txt",
        ) from error
    finally:
        noisy.setLevel(level)
    assert made is not None
    model: onnx.ModelProto = made.model_proto
    return model


def _forget_sources(model: onnx.ModelProto) -> None:
    """Drop the traces of where in the source each node comes from: they hold paths of a machine."""
    graph = model.graph
    graph.doc_string = ""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
