"""Ctrl-C and SIGTERM end a command wherever they come."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN_S: Final = 0.02


def hear_signals() -> None:
    """End at SIGTERM with status 143, and lose neither that nor Ctrl-C.

    Python answers a signal between two steps of the main thread. Where these are a weak reference's
    callback or a ``__del__``, of which a garbage collection may run thousands, what the answer
    raises is dropped, and only ``sys.unraisablehook`` hears of it: the signal is then sent again.
    """
    signal.signal(signal.SIGTERM, _terminate)
    otherwise = sys.unraisablehook

    def hook(lost: UnraisableHookArgs) -> None:
        number = _signal_of(lost)
        if number is None:
            otherwise(lost)
            return
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)

    sys.unraisablehook = hook


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _signal_of(lost: UnraisableHookArgs) -> signal.Signals | None:
    """The signal whose answer was dropped; None for any other error."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        return signal.SIGINT
    ended = lost.exc_value.code if isinstance(lost.exc_value, SystemExit) else None
    return signal.SIGTERM if ended == 128 + signal.SIGTERM else None
