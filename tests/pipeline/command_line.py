"""The command as a user runs it, in this process."""

from __future__ import annotations

from pipeline.cli import app, run


def medcurve(*arguments: object) -> int:
    """Run ``medcurve``; returns its exit status."""

    def call() -> None:
        try:
            app([str(argument) for argument in arguments])
        except SystemExit as end:
            if end.code:
                raise

    try:
        return run(call)
    except SystemExit as end:
        return int(end.code or 0)
