"""Processes beside a study's own, which Ctrl-C does not reach."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess


def spawned(target: Callable[..., None], args: tuple[object, ...]) -> BaseProcess:
    """Start a process that this one decides about, from its first instruction on.

    A terminal sends Ctrl-C to every process of the group. Imports take a new one seconds before it
    could say that it ignores that: a signal that is blocked here is blocked there as well
    (execve(2) keeps the mask).
    """
    # "spawn": a fork of a process that has used torch's threads can hang.
    process = multiprocessing.get_context("spawn").Process(target=target, args=args, daemon=True)
    resource_tracker.ensure_running()  # whose own start would unblock SIGINT again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process
