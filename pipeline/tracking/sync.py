"""Bring MLflow up to date with a study: every run once, every metric point once."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from data_prep.files import digest, sha256_file
from data_prep.progress import Progress, silent
from pipeline.tracking.client import advising, answering, connect, experiment
from pipeline.tracking.records import CONTENT, KEY, NOTE, PARENT, STUDY, MetricPoint, RunRecord
from pipeline.tracking.study_runs import ARTIFACTS, DRAWN, FIGURES, experiment_of, read_study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

REPORTED: Final = "medcurve.artifacts"  # digest of the artifacts that were logged
_METRICS_PER_CALL: Final = 1000  # MLflow's limits
_PARAMS_PER_CALL: Final = 100
_PAGE: Final = 1000
_TRADEOFF: Final = ("bias2", "variance", "noise", "total")  # lines of one chart


@dataclass(frozen=True)
class SyncReport:
    """What a sync did.

    Attributes:
        experiment_id: Experiment of the cohort.
        run_id: The study's run.
        created: Runs that were made.
        unchanged: Runs that stood already; the study's own may have got new points.
        removed: Runs whose cells or families are no longer in the study.
        curves_page: The page of MLflow's UI that draws the families' learning curves of the
            headline metric: what follows the server's address.
        tradeoff_pages: Likewise bias, variance and their sum, one page for each family.
    """

    experiment_id: str
    run_id: str
    created: int
    unchanged: int
    removed: int
    curves_page: str
    tradeoff_pages: tuple[str, ...]


@advising(
    "nothing is lost: the journal holds every result; run `medcurve sync` once the store is back"
)
def sync_study(folder: Path, uri: str, *, progress: Progress = silent) -> SyncReport:
    """Show a finished study in MLflow: experiment (cohort) > study > families > cells.

    A run is known by its tag ``medcurve.key``, so that syncing again adds nothing, completes what
    a broken sync left, replaces what has changed, and removes what is no longer in the study. The
    study's own run stays the same one when the study is extended: what is new is added to it.

    Args:
        folder: What ``run_study`` wrote.
        uri: Any tracking URI.
        progress: Told (runs done, runs in all).

    Raises:
        TrackingError: The study has not finished, or MLflow does not answer: the journal is safe
            and the sync can be repeated.
    """
    results, study = read_study(folder)
    client = connect(uri)
    with _locked(folder), answering(uri):
        experiment_id = experiment(client, uri, experiment_of(results))
        known = _known_runs(client, experiment_id, study.key)
        sync = _Sync(client, experiment_id, known, progress, total=sum(1 for _ in study))
        run_id = sync.put(study, parent="")
        gone = [run for key, run in known.items() if key not in sync.ids]
        for run in gone:
            client.delete_run(run.info.run_id)
        pages = _describe(client, sync, study, results)
        _log_dataset(client, run_id, results)
        _log_artifacts(client, run_id, folder)
    return SyncReport(experiment_id, run_id, sync.created, sync.unchanged, len(gone), *pages)


@dataclass
class _Sync:
    """One pass over a study's runs."""

    client: MlflowClient
    experiment_id: str
    known: Mapping[str, Run]
    progress: Progress
    total: int
    created: int = 0
    unchanged: int = 0
    ids: dict[str, str] = field(default_factory=dict)

    def put(self, record: RunRecord, parent: str) -> str:
        """Make the run and those below it stand as recorded; returns its id.

        A run is finished only after its children are, so that an interrupted study shows.
        """
        run = self.known.get(record.key)
        out_of_date = run is not None and run.data.tags.get(CONTENT) != record.content
        if run is not None and out_of_date and not self._can_grow(run, record):
            self.client.delete_run(run.info.run_id)
            run = None
        if run is None:
            run_id = self._create(record, parent)
            self.created += 1
        else:
            run_id = run.info.run_id
            self.unchanged += 1
            if out_of_date:
                self._reopen(run_id, record)
            if parent and run.data.tags.get(PARENT) != parent:
                self.client.set_tag(run_id, PARENT, parent)
        self.ids[record.key] = run_id
        for child in record.children:
            self.put(child, run_id)
        if run is None or out_of_date or run.info.status == "RUNNING":
            self._fill(run_id, record)
        self.progress(self.created + self.unchanged, self.total)
        return run_id

    def _create(self, record: RunRecord, parent: str) -> str:
        tags = {**record.tags, KEY: record.key, CONTENT: record.content}
        run = self.client.create_run(
            self.experiment_id,
            start_time=record.start_ms,
            tags=tags | ({PARENT: parent} if parent else {}),
            run_name=record.name,
        )
        return str(run.info.run_id)

    def _reopen(self, run_id: str, record: RunRecord) -> None:
        """Let a run be filled once more: it counts as running until it has all that is new."""
        self.client.update_run(run_id, status="RUNNING")
        for name, value in {**record.tags, CONTENT: record.content}.items():
            if name != NOTE:  # which gets its links at the end
                self.client.set_tag(run_id, name, value)

    def _fill(self, run_id: str, record: RunRecord) -> None:
        """Log what the record holds; the same points again are no new points for MLflow."""
        from mlflow.entities import Metric, Param

        metrics = [
            Metric(point.name, point.value, point.time_ms or record.end_ms, point.step)
            for point in (self._new(run_id, record) if record.grows else record.metrics)
        ]
        params = [Param(name, value) for name, value in record.params.items()]
        calls = max(-(-len(metrics) // _METRICS_PER_CALL), -(-len(params) // _PARAMS_PER_CALL))
        for call in range(calls):
            self.client.log_batch(
                run_id,
                metrics=metrics[call * _METRICS_PER_CALL : (call + 1) * _METRICS_PER_CALL],
                params=params[call * _PARAMS_PER_CALL : (call + 1) * _PARAMS_PER_CALL],
            )
        status = "FAILED" if record.failed else "FINISHED"
        self.client.set_terminated(run_id, status, end_time=record.end_ms)

    def _can_grow(self, run: Run, record: RunRecord) -> bool:
        """False where a run would have to unsay something.

        MLflow changes no parameter and forgets no point, and of a metric it shows the last step.
        """
        params, last = run.data.params, {m.name: m.step for m in record.metrics}
        return (
            record.grows
            and all(record.params.get(name) == value for name, value in params.items())
            and all(
                name in last and max(point.step for point in points) <= last[name]
                for name, points in self._history(run.info.run_id).items()
            )
        )

    def _new(self, run_id: str, record: RunRecord) -> list[MetricPoint]:
        """The record's points that a run has not, or has as another value, each with a time.

        They are later than what there is of the same metric, so that they are what MLflow shows.
        """
        history = self._history(run_id)
        new = []
        for point in record.metrics:
            there = sorted(history.get(point.name, []), key=lambda metric: metric.timestamp)
            at_step = [metric.value for metric in there if metric.step == point.step]
            if at_step[-1:] != [point.value]:
                newest = there[-1].timestamp + 1 if there else 0
                time_ms = point.time_ms or max(record.end_ms, newest)
                new.append(replace(point, time_ms=time_ms))
        return new

    def _history(self, run_id: str) -> dict[str, list[Metric]]:
        names = self.client.get_run(run_id).data.metrics
        return {name: self.client.get_metric_history(run_id, name) for name in names}


def _known_runs(client: MlflowClient, experiment_id: str, study: str) -> dict[str, Run]:
    """The study's runs by key; should one stand twice, the later one is removed."""
    known: dict[str, Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{STUDY}` = '{study}'",
            max_results=_PAGE,
            order_by=["attributes.created ASC"],
            page_token=token,
        )
        for run in page:
            if known.setdefault(run.data.tags[KEY], run) is not run:
                client.delete_run(run.info.run_id)
        token = page.token
        if not token:
            return known


def _log_dataset(client: MlflowClient, run_id: str, results: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput

    data = Dataset(
        name=results["cohort"],
        digest=results["store"][:16],
        source_type="medcurve",
        source="store",
    )
    client.log_inputs(run_id, datasets=[DatasetInput(data)])


def _log_artifacts(client: MlflowClient, run_id: str, folder: Path) -> None:
    """Log report, results, tables and figures, unless these very files stand there already."""
    files = [folder / name for name in ARTIFACTS if (folder / name).is_file()]
    files += sorted(path for path in (folder / FIGURES).glob("*") if path.suffix in DRAWN)
    stand = digest({path.name: sha256_file(path) for path in files})
    if client.get_run(run_id).data.tags.get(REPORTED) == stand:
        return
    for path in files:
        client.log_artifact(run_id, str(path), FIGURES if path.parent.name == FIGURES else None)
    client.set_tag(run_id, REPORTED, stand)


def _describe(
    client: MlflowClient, sync: _Sync, study: RunRecord, results: Mapping[str, Any]
) -> tuple[str, tuple[str, ...]]:
    """Lead from the runs' descriptions to the charts; returns the addresses of these."""
    runs = [sync.ids[family.key] for family in study.children]
    headline = f"test_{results['config']['metric']}"
    curves = _chart_page(sync.experiment_id, runs, [headline])
    tradeoffs = []
    texts = {study.key: f"[Learning curves]({curves[1:]})\n\n{study.tags[NOTE]}"}
    for family in study.children:
        there = {point.name for point in family.metrics}
        terms = [term for term in _TRADEOFF if term in there]
        page = _chart_page(sync.experiment_id, [sync.ids[family.key]], terms or [headline])
        tradeoffs.append(page)
        texts[family.key] = f"[Bias and variance by number of training patients]({page[1:]})"
    for key, text in texts.items():
        stands = sync.known[key].data.tags.get(NOTE) if key in sync.known else None
        if stands != text:
            client.set_tag(sync.ids[key], NOTE, text)
    return curves, tuple(tradeoffs)


def _chart_page(experiment_id: str, runs: Sequence[str], metrics: Sequence[str]) -> str:
    """Address of MLflow's metric page, which draws one line a run and metric against the step."""
    content = {
        "runs": json.dumps(list(runs)),
        "metric": json.dumps(metrics[0]),
        "experiments": json.dumps([experiment_id]),
        "plot_metric_keys": json.dumps(list(metrics)),
        "plot_layout": "{}",
        "x_axis": "step",
        "y_axis_scale": "linear",
        "line_smoothness": "1",  # of 1 to 100: none
        "show_point": "true",
        "deselected_curves": "[]",
        "last_linear_y_axis_range": "[]",
    }
    return f"/#/metric?{urlencode(content, quote_via=quote)}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One sync of a study at a time: two would both find a run missing and both make it."""
    with (folder / "results.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
