"""Whether a claim held, on the runs of its studies: known only when all of them are judged."""

from __future__ import annotations

from pathlib import Path

from pipeline.study.results import read_results, study_identity
from pipeline.tracking.client import advising, answering, connect
from pipeline.tracking.records import CLAIM_HELD, KIND, STUDY
from pipeline.tracking.study_runs import experiment_of


@advising("the claim's page says what came out; run `medcurve lecture` once the store is back")
def mark_held(folder: Path, uri: str, *, held: bool) -> None:
    """Tag a study's run with whether its claim held; a run that says so already is left alone.

    Args:
        folder: Of a finished study that was synced (``sync_study``).
        uri: Any tracking URI.
        held: Whether all that the claim expects came out.

    Raises:
        StudyError: As ``read_results``.
        TrackingError: MLflow does not answer.
    """
    results = read_results(folder)
    client, said = connect(uri), "yes" if held else "no"
    with answering(uri):
        experiment = client.get_experiment_by_name(experiment_of(results))
        within = f"tags.`{KIND}` = 'study' and tags.`{STUDY}` = '{study_identity(folder, results)}'"
        found = client.search_runs([experiment.experiment_id], within) if experiment else []
        for run in found:
            if run.data.tags.get(CLAIM_HELD) != said:
                client.set_tag(run.info.run_id, CLAIM_HELD, said)
