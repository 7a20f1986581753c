"""A model as ``model.pt2``, what ``torch.export.load`` reads, without a pickle in it.

Such a file is a zip of JSON (the program) and bare arrays (its weights). Only the example inputs
are pickled by torch; without them there is nothing to unpickle, in writing and in reading.
``torch.export.load`` would unpickle what somebody else put there: medcurve never reads such a file.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Final

import torch
from torch.export import ExportedProgram

from pipeline.export.errors import ExportError

TORCH_FILE: Final = "model.pt2"
_EMPTY_PICKLE: Final = "/data/sample_inputs/"


def torch_bytes(program: ExportedProgram) -> bytes:
    """The content of ``model.pt2``.

    Raises:
        ExportError: ``export.pickled`` where this version of torch pickles something else.
    """
    kept = program.example_inputs
    program.example_inputs = None
    buffer = io.BytesIO()
    try:
        torch.export.save(program, buffer)
    finally:
        program.example_inputs = kept
    data = buffer.getvalue()
    if pickled := pickles(data):
        raise ExportError(
            "export.pickled",
            f"torch {torch.__version__} writes pickles into .pt2: {', '.join(pickled)}",
            fix="nothing was written; export it --to onnx",
        )
    return data


def pickles(data: bytes) -> list[str]:
    """Members of a ``.pt2`` that would be unpickled when it is read."""
    found = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if _EMPTY_PICKLE in name and content:
                found.append(name)
            if name.endswith("_config.json"):
                payloads = json.loads(content)["config"].values()
                found += [payload["path_name"] for payload in payloads if payload["use_pickle"]]
    return found
