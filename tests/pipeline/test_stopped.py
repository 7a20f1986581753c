"""Ctrl-C at any moment is one line and exit status 130."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from command_line import medcurve

_WHILE_IMPORTING = """
import signal, sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.cli":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupted())
from pipeline.__main__ import main
main()
"""


def test_while_the_command_line_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", _WHILE_IMPORTING], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


_WHILE_COLLECTING = """
import signal, sys, time, weakref
from pipeline.stopping import hear_signals

class Held:
    pass

def lost(number):
    held = Held()
    return weakref.ref(held, lambda _: signal.raise_signal(number))  # dies with this call

signal.signal(signal.SIGINT, signal.default_int_handler)
hear_signals()
try:
    reference = lost(signal.Signals[sys.argv[1]])
    time.sleep(30)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_in_a_callback_whose_errors_python_drops(name: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WHILE_COLLECTING, name], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (status, "")


_OTHERWISE = """
from pipeline.stopping import hear_signals

class Broken:
    def __del__(self):
        raise ValueError("of another kind")

hear_signals()
Broken()
"""


def test_what_else_is_dropped_is_told_as_before() -> None:
    done = subprocess.run([sys.executable, "-c", _OTHERWISE], capture_output=True, text=True)
    assert "ValueError: of another kind" in done.stderr


def test_while_a_command_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> int:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)
        return 0

    monkeypatch.setattr("pipeline.stages.check_configs", interrupted)
    assert medcurve("check") == 130
    assert capsys.readouterr().err == "stopped\n"
