"""From the id of a run in MLflow to the cell of a study that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.tracking.client import TrackingError, answering, connect, public, sqlite_path
from pipeline.tracking.records import CELL, KIND, PARENT, STUDY

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_EXAMPLES: Final = 3


@dataclass(frozen=True)
class CellRun:
    """A run of one cell.

    Attributes:
        name: What the UI shows.
        cell: Key of the cell.
        study: Identity of its study (``pipeline.study.results.study_identity``).
        metrics: Every metric by name.
    """

    name: str
    cell: str
    study: str
    metrics: Mapping[str, float]


def find_cell_run(run_id: str, uri: str) -> CellRun:
    """Read a cell's run.

    Raises:
        TrackingError: ``tracking.no_run``, ``tracking.not_a_cell``, or MLflow does not answer.
    """
    path = sqlite_path(uri)
    if path is not None and not path.is_file():  # connecting would make one
        raise _no_run(run_id, uri, "there is no such file")
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            with answering(uri):
                raise
        raise _no_run(run_id, uri, "it has no such run") from error
    tags = run.data.tags
    if CELL not in tags:
        with answering(uri):
            raise _not_a_cell(client, run)
    return CellRun(run.info.run_name or run_id, tags[CELL], tags[STUDY], dict(run.data.metrics))


def _no_run(run_id: str, uri: str, why: str) -> TrackingError:
    return TrackingError(
        "tracking.no_run",
        f"run '{run_id}' is not in {public(uri)}: {why}",
        fix="copy the Run ID from the run's page in `medcurve ui`; give --runs or --tracking-uri "
        "if it is another store's",
    )


def _not_a_cell(client: MlflowClient, run: Run) -> TrackingError:
    """Name runs that would do: of this family, or of any of this study."""
    kind, study = run.data.tags.get(KIND, "nothing that medcurve knows"), run.data.tags.get(STUDY)
    named = []
    if study:
        within = f"tags.`{KIND}` = 'cell' and tags.`{STUDY}` = '{study}'"
        if kind == "family":
            within += f" and tags.`{PARENT}` = '{run.info.run_id}'"
        found = client.search_runs([run.info.experiment_id], within, max_results=_EXAMPLES)
        named = [f"{one.info.run_id} ({one.info.run_name})" for one in found]
    return TrackingError(
        "tracking.not_a_cell",
        f"run '{run.info.run_id}' shows a {kind}; one fit, which can be repeated, is a cell's run",
        fix=f"give one of its cells' runs, such as {', '.join(named)}; the UI lists them below "
        "their family"
        if named
        else "give the run of a cell: the UI lists them below study and family",
    )
