"""The ``medcurve`` command: its sub-commands in the order of the stages, and how it ends."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from data_prep.errors import MedcurveError
from data_prep.stage import medcurve_version
from pipeline.commands import cohort, hospital, models, studies
from pipeline.commands.options import RUNS, Prep, Runs, Uri, Workers, refuse_unreadable
from pipeline.console import ERR, fail, say
from pipeline.stopping import hear_signals


class _Commands(TyperGroup):
    """The sub-commands, with what typer leaves to be said of Ctrl-C and of refused values.

    It lets pydantic's prefix of a value that is refused slip through.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would end without a word
            ERR.print("stopped")
            raise typer.Exit(128 + signal.SIGINT) from None
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    cls=_Commands,
    name="medcurve",
    help="Which model, how much data, and can I trust it on my scans?",
    epilog="The stages in order: data, ingest, split, prep, study, release, predict. "
    "`medcurve demo` runs them all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables: patient data
    rich_markup_mode="rich",
)

for _command in (
    cohort.data,
    cohort.ingest,
    cohort.summary,
    cohort.compare_cohorts,
    cohort.plan,
    cohort.split,
    cohort.prep,
    models.train,
    models.inspect,
    models.screen,
    models.probe,
    studies.study,
    studies.leaderboard,
    studies.lecture,
    studies.report,
    models.release,
    models.evaluate,
    models.predict,
    hospital.listen,
    models.explain,
    models.audit,
    studies.sync,
    studies.rerun,
    models.verify,
    models.export,
):
    app.command()(_command)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Open MLflow's UI on this machine only (loopback).

    Example: medcurve ui --port 5001
    """
    from pipeline import stages

    raise typer.Exit(stages.ui_stage(runs, tracking_uri, port))


@app.command()
def demo(
    data: Annotated[str, typer.Argument(help="phantom3d, or any other cohort.")] = "phantom3d",
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            help="A name in configs/study, or a YAML file; default: demo, with sizes that a small "
            "cohort can hold.",
        ),
    ] = None,
    prep: Prep = None,
    runs: Runs = RUNS,
    workers: Workers = None,
    tracking_uri: Uri = None,
) -> None:
    """Run the whole chain, from scans to predictions, and say what was found.

    Example: medcurve demo breastmnist
    """
    from pipeline.workspace import open_workspace

    open_workspace(runs, data, prep)
    if study:
        refuse_unreadable("study", study)
    from pipeline.demo import run_demo

    run_demo(data, runs, workers, tracking_uri, study=study, prep=prep)


@app.command()
def check() -> None:
    """Load every file in configs/ and follow every name in it.

    Example: medcurve check
    """
    from pipeline.stages import check_configs

    say(f"{check_configs()} configs load, and every name in them exists")


def _version(asked: bool) -> None:
    if asked:
        say(f"medcurve {medcurve_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


_ADVICE = {
    errno.EACCES: "choose a folder that you may read and write, with --runs or --out",
    errno.EROFS: "choose a folder that can be written, with --runs or --out",
    errno.ENOSPC: "free some space and run the command again; what stood before is unchanged",
    errno.EDQUOT: "free some of your quota and run it again; what stood before is unchanged",
    errno.EFBIG: "a file would be larger than this process may write: raise `ulimit -f`",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
}


def run(command: Callable[[], object]) -> int:
    """Run a command; errors for the user become a message and an exit status.

    Returns:
        0, or 2 for an error that is explained, or 74 where the disk failed (EX_IOERR of
        sysexits.h). Ctrl-C exits with 130 and SIGTERM with 143, as shells have it (128 + signal).
    """
    try:
        command()
    except MedcurveError as error:
        fail(error)
        return error.exit_code
    except OSError as error:
        found = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        fail(MedcurveError("system.os_error", found, fix=_ADVICE.get(error.errno or 0, "")))
        return 74
    return 0


def main() -> int:
    """Run ``medcurve`` with this process's arguments; the exit status, where it does not exit."""
    hear_signals()
    return run(app)
