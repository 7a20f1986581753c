"""A decode child as its parent sees it: started, given jobs, waited for, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any, Final, Protocol

from data_prep.errors import MedcurveError, ScanError
from data_prep.readers.channel import Receiver
from data_prep.readers.decode_child import GATHER_S, Job, send_job
from data_prep.readers.source import ScanSource

_START_S: Final = 120.0
_MOST_SAID: Final = 200  # characters of what is wrong with an answer
_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from data_prep.readers.decode_child import main; main(int(sys.argv[1]))"
)
# The pool is what runs in parallel: one thread in each child.
_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class DecodeError(MedcurveError):
    """Decoding in children does not work at all, or the transform has a defect."""

    exit_code = 1


class DecodeChild(Protocol):
    """What a pool needs of a process that decodes, wherever it runs.

    Attributes:
        ended: It is gone, or no longer to be trusted.
    """

    ended: bool

    def wait_until_ready(self) -> None:
        """Wait for it to have started.

        Raises:
            DecodeError: It cannot be started.
        """

    def send(self, job: Job) -> bool:
        """Send a job; False if the process is gone."""

    def answers(self, most: int, timeout_s: float) -> list[tuple[Any, int]]:
        """What became of the next sources, at most so many, and their bytes; none if it ended."""

    def answer(self, source: ScanSource, timeout_s: float) -> tuple[Any, int]:
        """What became of a source (a value, a ScanError or a DecodeError), and its bytes."""

    def end(self) -> None:
        """End it."""


class ChildProcess:
    """One decode process on this machine, and the socket to it.

    Attributes:
        ended: It was killed, or found dead.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-c", _START, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
            )
        self._receiver = Receiver(self._socket)
        self._ready = False
        self.ended = False

    def wait_until_ready(self) -> None:
        """Wait for a new process to have started.

        Raises:
            DecodeError: ``decode.no_child``.
        """
        if self._ready:
            return
        try:
            self._receiver.receive(time.monotonic() + _START_S)
        except (OSError, EOFError, ValueError) as error:
            reason = self._exit()
            self.end()
            raise DecodeError(
                "decode.no_child",
                f"a decode process could not be started ({reason})",
                fix='run `python -c "import data_prep.readers.decode_child"` to see why',
            ) from error
        self._ready = True

    def send(self, job: Job) -> bool:
        """Send a job; False if the process is gone."""
        try:
            self._socket.settimeout(None)
            send_job(self._socket, replace(job, released=self._receiver.take_released()))
        except OSError:
            return False
        return True

    def answers(self, most: int, timeout_s: float) -> list[tuple[Any, int]]:
        """What became of the next sources of a job that may be answered together, at most so many.

        As ``answer`` gives it; none if the process is dead, or no longer to be trusted: then the
        sources are to be read again one by one, for it is not known which of them it was.
        """
        try:
            messages, size = self._receiver.receive(time.monotonic() + GATHER_S + timeout_s)
            if not 1 <= len(messages) <= most:
                raise ValueError(f"{len(messages)} answers, where {most} are due")
            return [(outcome(message), size // len(messages)) for message in messages]
        except Exception:
            self.end()
            return []

    def answer(self, source: ScanSource, timeout_s: float) -> tuple[Any, int]:
        """What became of a source (a value, a ScanError or a DecodeError), and its bytes."""
        name = source.paths[0]
        try:
            (message,), size = self._receiver.receive(time.monotonic() + timeout_s)
            return outcome(message), size
        except ScanError as error:  # the parent checks a Volume again while it builds it
            return error, 0
        except TimeoutError:
            self.end()
            reason = f"{name}: not decoded within {timeout_s:g} s"
            return ScanError("file.timeout", reason), 0
        except (OSError, EOFError):
            reason = f"{name}: the decoder died ({self._exit()})"
        except Exception as error:  # the process is no longer to be trusted
            reason = f"{name}: the decoder's answer cannot be taken ({str(error)[:_MOST_SAID]})"
        self.end()
        return ScanError("file.crashed", reason), 0

    def end(self) -> None:
        """Kill the process."""
        self.ended = True
        self._process.kill()
        self._process.wait()
        self._socket.close()
        self._receiver.close()

    def _exit(self) -> str:
        """How the process ended; one that lives on after closing its socket is killed."""
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def outcome(message: Any) -> Any:
    """What a child's message says: a value, a ScanError or a DecodeError."""
    kind, *rest = message
    if kind == "scan":
        return rest[0]
    if kind == "refused":
        code, text, fix = rest
        return ScanError(code, text, fix=fix)
    return DecodeError("decode.failed", f"the transform failed in a decode process:\n{rest[0]}")
