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
