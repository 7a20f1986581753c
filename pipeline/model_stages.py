"""The stages of a model: packaged from a study, run over scans, checked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from data_prep.errors import MedcurveError
from data_prep.labelling import find_pseudonym_key, patient_pseudonym, pseudonym
from data_prep.stage import refuse_foreign
from pipeline.console import noted_progress, progress, say, say_quarantined, warn
from pipeline.engines import decoding, started, workers
from pipeline.evaluation_stage import evaluate_package
from pipeline.extras import ExtraOptions, extras
from pipeline.model_address import check_address, is_address
from pipeline.stages import refuse_stale
from pipeline.wording import counted, stated
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.serving.package import ModelPackage
    from pipeline.serving.predictions import PredictionSummary
    from pipeline.serving.twin import RuntimeChoice
    from pipeline.study.config import RuleName
    from pipeline.trust.shift_policy import OnShift

# Torch, MONAI and MLflow take seconds to import: a stage imports what it alone needs.


_STDIN: Final = Path("-")
_CLEARLY: Final = 0.01  # a p-value of a batch that is told of


def release_stage(
    workspace: Workspace,
    name: str,
    uri: str | None,
    rule: RuleName | None = None,
    *,
    refit: bool = False,
) -> Path:
    """Package the model that a rule chooses, judge it, and register it as champion.

    The rule is the one that the study declared, unless ``rule`` names another. With ``refit`` the
    model is fitted on the validation patients as well.

    The package stands by itself: where the test scans can no longer be read, or MLflow does not
    answer, that is said and stops nothing.
    """
    from pipeline import tracking
    from pipeline.model_page.page import TO_SHARE
    from pipeline.serving.release import release
    from pipeline.study.record import refuse_unfinished

    refuse_unfinished(workspace.study(name))
    refuse_stale(workspace)
    out = workspace.model(name)
    with progress("release", "steps") as report:
        package = release(
            workspace.study(name),
            workspace.store,
            out,
            rule=rule,
            with_validation=refit,
            pseudonym=patient_pseudonym(workspace.cohort, workspace.runs),
            progress=report,
        )
    _say_released(package, out)
    page = workspace.evaluation(out.name)
    judged = _judge(package, workspace, page)
    uri = uri or tracking.default_uri(workspace.runs)
    try:
        version = tracking.register_package(
            out, workspace.cohort.name, "champion", uri, package.card.training.cell
        )
        if judged:
            tracking.log_evaluation([page / name for name in TO_SHARE], version.run_id, uri)
    except tracking.TrackingError as error:
        warn(error)
        return out
    say(f"mlflow: models:/{workspace.cohort.name}@champion is version {version.version}")
    return out


def _say_released(package: ModelPackage, out: Path) -> None:
    test = package.card.test
    scores = ", ".join(
        f"{metric} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
        for metric in ("auc", "accuracy")
        if (found := test.metrics.get(metric))
    )
    trust = package.card.trust
    say(f"release: {package.card.training.chosen}")
    if again := package.card.training.refit:
        say(
            f"release: fitted once more on all {again.patients} training and validation patients, "
            f"the rest learnt out of {again.folds} folds"
        )
    say(f"release: test {scores} → {out}")
    say(
        f"release: calibration {trust.calibration.method}, decision {trust.decision.rule}, "
        f"prediction sets of {stated(trust.conformal.coverage)}"
    )
    for note in trust.notes:
        say(f"  note: {note}")


def _judge(package: ModelPackage, workspace: Workspace, out: Path) -> bool:
    """Write the evaluation page of a model just released; whether that could be done."""
    try:
        evaluate_package(package, workspace, out, workers(None))
    except MedcurveError as error:
        warn(error)
        return False
    return True


def check_model(model: str) -> None:
    """Stop where a model is named by a folder that is not a package's, or by what is no address.

    MLflow is not asked.

    Raises:
        ConfigError: ``tracking.bad_model_uri``.
        PackageError: As ``check_files``.
    """
    if is_address(model):
        check_address(model)
        return
    from pipeline.serving.package_files import check_files

    check_files(Path(model))


def refuse_unusable(model: str, inputs: Sequence[Path], out: Path, stage: str) -> None:
    """Stop where a batch could not be run, before anything is begun that takes seconds.

    Args:
        model: The package; one that MLflow holds is looked at when it is fetched.
        inputs: Files, folders or a manifest; ``-`` among them is passed over.
        out: Where the stage is to write.
        stage: Its name.

    Raises:
        ConfigError, PackageError: As ``check_model``.
        InputError: ``predict.not_found`` or ``predict.out_in_input``.
        StageError: ``stage.not_ours``.
    """
    from pipeline.serving.inputs import check_inputs

    check_model(model)
    check_inputs([path for path in inputs if path != _STDIN], out)
    refuse_foreign(out, stage)


def open_package(
    model: str, runs: Path, uri: str | None, runtime: RuntimeChoice = "torch"
) -> ModelPackage:
    """Load a model package, by folder or MLflow address (``models:/NAME@ALIAS``, ``runs:/...``)."""
    folder = _folder_of(model, runs, uri)
    from pipeline.serving.package import load_package
    from pipeline.serving.twin import with_runtime

    return with_runtime(load_package(folder), folder, runtime)


def _folder_of(model: str, runs: Path, uri: str | None) -> Path:
    """Where a model package lies, after MLflow has handed it over if it is named by address.

    Raises:
        ConfigError, PackageError: As ``check_model``.
    """
    check_model(model)
    if not is_address(model):
        return Path(model)
    from pipeline import tracking

    return tracking.download_model(model, uri or tracking.default_uri(runs))


@dataclass(frozen=True)
class BatchOptions:
    """How a batch of scans is run.

    Attributes:
        batch_size: Prepared scans in memory at once.
        processes: That read scans; None: one for each core.
        ray: Address of a Ray cluster; None: scans are read by processes here.
        on_shift: What is done with scans unlike the training scans; None: as the model was
            released.
        runtime: What carries scans through the model.
        extras: What is written beside the tables.
    """

    batch_size: int = 64
    processes: int | None = None
    ray: str | None = None
    on_shift: OnShift | None = None
    runtime: RuntimeChoice = "auto"
    extras: ExtraOptions = field(default_factory=ExtraOptions)


class NothingScoredError(MedcurveError):
    """A batch that has its tables, and no answer in them."""

    exit_code = 1


def predict_stage(
    model: str,
    inputs: Sequence[Path],
    out: Path,
    options: BatchOptions,
    runs: Path,
    uri: str | None,
) -> None:
    """Run a model package, by folder or MLflow address, over scans.

    Args:
        model: The package.
        inputs: Files, folders or a manifest; ``-`` among them is a list on standard input.
        out: Folder for the tables.
        options: How.
        runs: Where the site's key lies.
        uri: Tracking URI; None: that of ``runs``.

    Raises:
        NothingScoredError: ``predict.nothing_scored``, after all is written.
    """
    with (
        decoding(options.ray, options.processes) as (new_child, count),
        started(new_child, count) as given,
        noted_progress("predict", "scans") as report,
        ExitStack() as opened,
    ):
        # Imported while the processes start.
        from pipeline.serving.inference import BatchProgress, predict
        from pipeline.serving.inputs import read_list

        address = _pinned(model, runs, uri)
        package = open_package(address, runs, uri, options.runtime)
        key = find_pseudonym_key(runs)
        written = opened.enter_context(extras(package, options.extras))

        def tell(now: BatchProgress) -> None:
            counts = f"{now.ok} ok · {now.quarantined} quarantined · {now.skipped} skipped"
            report(now.done, now.scans, counts)

        found = predict(
            package,
            [path for path in inputs if path != _STDIN],
            out,
            batch_size=options.batch_size,
            workers=count,
            new_child=given,
            pseudonym=partial(pseudonym, key=key) if key else None,
            on_shift=options.on_shift,
            beside=written.beside,
            listed=read_list(sys.stdin.buffer.read()) if _STDIN in inputs else [],
            progress=tell,
        )
    _say_predicted(found, out)
    written.tell(out)
    from pipeline import tracking

    numbers = found.to_json() | {
        "seconds": found.seconds,
        "scans_per_second": found.scans_per_second,
    }
    try:
        uri = uri or tracking.default_uri(runs)
        tracking.log_predictions(numbers, uri, model=package.digest, version=address)
    except tracking.TrackingError as error:
        warn(error)
    if not found.ok:
        raise NothingScoredError(
            "predict.nothing_scored",
            f"not one of {counted(found.quarantined, 'scan')} was scored",
            fix=f"{out / 'quarantine.csv'} says why for each",
        )


def _pinned(model: str, runs: Path, uri: str | None) -> str:
    """The version that an alias stands for now: it may stand for another when the batch ends."""
    if not model.startswith("models:/"):
        return model
    from pipeline import tracking

    return tracking.pin_model(model, uri or tracking.default_uri(runs))


def _say_predicted(found: PredictionSummary, out: Path) -> None:
    from pipeline.serving.beside import EXTRA_FLAGS
    from pipeline.serving.predictions import SHIFT_FLAGS
    from pipeline.serving.seen import PATIENT_FLAGS, SEEN_FLAGS

    say(
        f"predict: {counted(found.inputs, 'input')} = {found.ok:,} scored + "
        f"{found.quarantined:,} quarantined + {found.skipped:,} skipped → {out / 'predictions.csv'}"
    )
    say_quarantined(found.quarantined_by_code)
    for flag, meaning in (SHIFT_FLAGS | SEEN_FLAGS | PATIENT_FLAGS | EXTRA_FLAGS).items():
        if seen := found.flagged.get(flag):
            say(f"  flagged: {seen:,} × {flag} ({meaning})")
    if (shift := found.shift) and shift.p_value <= _CLEARLY:
        side = min(shift.p_values, key=shift.p_values.__getitem__)
        say(
            f"  note: as a batch, these scans do not look like the training cohort's (p "
            f"{shift.p_value:g}, most by their {side})"
        )


def verify_stage(model: str, runs: Path, uri: str | None) -> None:
    """Check a package's digests, by folder or MLflow address, and run its self-test."""
    folder = _folder_of(model, runs, uri)
    from pipeline import tracking
    from pipeline.serving.verify import verify

    found = verify(folder, tracking.SERVED)
    same = "bit by bit" if found.bit_identical else f"to {found.difference:.1e}"
    say(f"{model}: whole, and it gives the probabilities it was packaged with ({same})")
    if found.twin is not None:
        say(f"{model}: its ONNX twin gives them to {found.twin:.1e}")
