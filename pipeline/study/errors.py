"""What can go wrong with a study as a whole, or with one of its cells."""

from __future__ import annotations

import signal

from data_prep.errors import MedcurveError


class StudyError(MedcurveError):
    """A study folder that cannot be used, or a study that cannot go on."""


class StudyStoppedError(MedcurveError):
    """A signal stopped the study; everything finished so far stands in the journal.

    Args:
        code: ``study.stopped``.
        message: How far the study came.
        fix: How to go on.
        signum: The signal, which decides ``exit_code`` (128 + signal, as a shell has it).
    """

    def __init__(
        self, code: str, message: str, *, fix: str = "", signum: int = signal.SIGINT
    ) -> None:
        super().__init__(code, message, fix=fix)
        self.exit_code = 128 + signum
