"""What of a batch of predictions goes to MLflow: counts and rates, never a scan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pipeline.model_address import is_address
from pipeline.tracking.client import advising, answering, connect, experiment
from pipeline.tracking.records import KIND

MODEL: Final = "medcurve.model"
MODEL_VERSION: Final = "medcurve.model_version"

# Tables of counts that may be logged: their names come from code lists and the task, not from data.
_COUNTED: Final = frozenset({"shift", "quarantined_by_code", "flagged", "predicted"})
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .:/-]{0,200}")


@advising("the tables of predictions are whole; only this run's record in MLflow is missing")
def log_predictions(
    summary: Mapping[str, object],
    uri: str,
    *,
    cohort: str = "predictions",
    model: str = "",
    version: str = "",
) -> str:
    """Log the counts and rates of a batch as a run of its own.

    Args:
        summary: Name -> number, or name -> table of counts. Texts are not logged, nor tables other
            than quarantine codes, flags and predicted classes: they could hold file names.
        uri: Any tracking URI.
        cohort: Experiment to log in.
        model: Digest of the model package, for the run's tag.
        version: ``models:/NAME/VERSION`` or ``runs:/...``, if the model came from there; a folder,
            whose path could tell of patients, is not logged.

    Returns:
        Id of the run.

    Raises:
        TrackingError: MLflow does not answer; the predictions on disk are not touched by that.
    """
    from mlflow.entities import Metric

    client = connect(uri)
    with answering(uri):
        tags = {KIND: "predict"} | ({MODEL: model} if model else {})
        if is_address(version):
            tags[MODEL_VERSION] = version
        run = client.create_run(experiment(client, uri, cohort), tags=tags, run_name="predict")
        run_id = str(run.info.run_id)
        metrics = [
            Metric(name, value, run.info.start_time, 0) for name, value in _numbers(summary).items()
        ]
        client.log_batch(run_id, metrics=metrics)
        client.set_terminated(run_id)
    return run_id


def _numbers(summary: Mapping[str, object]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in summary.items():
        if isinstance(value, Mapping) and name in _COUNTED:
            numbers |= {f"{name}/{key}": count for key, count in _numbers(value).items()}
        elif isinstance(value, int | float) and _NAME.fullmatch(name):
            numbers[name] = float(value)
    return numbers
