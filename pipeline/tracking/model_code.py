"""The code of a served model (MLflow's "models from code"): copied beside its files, never pickled.

``mlflow models serve`` runs this file with the medcurve that is installed there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.serving.package import load_package
from pipeline.serving.rows import FIELDS, ROOT_VARIABLE, Row, RowScorer


class Served(PythonModel):
    """A model package behind MLflow's scoring server."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check and read the package that lies beside this file."""
        root = os.environ.get(ROOT_VARIABLE)
        package = load_package(Path(context.artifacts["package"]))
        self._scorer = RowScorer(package, Path(root) if root else None)

    # Of this type hint MLflow makes no schema (that is in MLmodel); without one it warns.
    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[Row]:
        """A row for each row of the request's table."""
        # Of a table without a field that it knows MLflow leaves nothing, not its rows' number.
        records = model_input.to_dict("records") or [{}]
        given = [{f: r[f] for f in FIELDS if f in r and _is_given(r[f])} for r in records]
        return self._scorer.score(given)


def _is_given(value: Any) -> bool:
    """A table has NaN or None where a record has no such field."""
    return value is not None and not (isinstance(value, float) and value != value)


set_model(Served())
