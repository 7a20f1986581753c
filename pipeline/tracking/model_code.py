"""The code of a served model (MLflow's "models from code"): copied beside its files, never pickled.

``mlflow models serve`` runs this file with the medcurve that is installed there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.serving.package import load_package
from pipeline.serving.rows import FIELDS, ROOT_VARIABLE, RowScorer


class Served(PythonModel):
    """A model package behind MLflow's scoring server."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check and read the package that lies beside this file."""
        root = os.environ.get(ROOT_VARIABLE)
        package = load_package(Path(context.artifacts["package"]))
        self._scorer = RowScorer(package, Path(root) if root else None)

    # MLflow would make a schema of a type hint; the signature in MLmodel is the schema.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """A row for each row of the request's table."""
        records = model_input.to_dict("records")
        given = [{f: r[f] for f in FIELDS if f in r and _is_given(r[f])} for r in records]
        return self._scorer.score(given)


def _is_given(value: Any) -> bool:
    """A table has NaN or None where a record has no such field."""
    return value is not None and not (isinstance(value, float) and value != value)


set_model(Served())
