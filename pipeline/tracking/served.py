"""What makes a model package in MLflow one that ``mlflow models serve`` runs: nothing pickled.

The files lie beside the package's own: ``MLmodel`` names the code and says that the package is the
folder itself. MLflow's own ``save_model`` would copy the weights, and note paths of this machine.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from data_prep.stage import medcurve_version

_MODEL: Final = "MLmodel"
_CODE: Final = "model_code.py"
_REQUIREMENTS: Final = "requirements.txt"
# Which version was loaded; MLflow puts it there when it loads a registered model.
_LOADED: Final = "registered_model_meta"
SERVED: Final = (_MODEL, _CODE, _REQUIREMENTS, _LOADED)


def write_served(folder: Path) -> list[Path]:
    """Write the files into an empty folder; their names."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema, TensorSpec

    anything = AnyType()  # type: ignore[no-untyped-call]
    fields: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "path", required=False),
        ColSpec(anything, "array", required=False),
        ColSpec(anything, "affine", required=False),
    ]
    answers: list[ColSpec | TensorSpec] = [
        *(ColSpec(DataType.string, name) for name in ("status", "predicted", "within")),
        *(ColSpec(anything, name) for name in ("probability", "shift_score")),
        ColSpec(DataType.boolean, "flagged"),
        *(ColSpec(DataType.string, name) for name in ("flags", "code", "reason")),
    ]
    model = Model(signature=ModelSignature(inputs=Schema(fields), outputs=Schema(answers)))
    pyfunc.add_to_model(
        model,
        loader_module="mlflow.pyfunc.loaders.code_model",
        model_code_path=_CODE,
        artifacts={"package": {"path": ".", "uri": "."}},
    )
    model.save(str(folder / _MODEL))
    shutil.copyfile(Path(__file__).with_name(_CODE), folder / _CODE)
    (folder / _REQUIREMENTS).write_text(f"medcurve=={medcurve_version()}\n")
    return sorted(folder.iterdir())
