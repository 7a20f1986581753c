"""Threads that wait for each other leave the cores to the decode processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.wait_policy import let_threads_sleep


def test_threads_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.parametrize("command", ["predict", "listen"])
def test_a_command_says_so_before_torch_is_imported(command: str) -> None:
    """OpenMP reads it when it is loaded, and never again."""
    code = (
        "import sys, pipeline.wait_policy as policy, pipeline.commands.models as models, "
        "pipeline.commands.hospital as hospital\n"
        "def said(): sys.exit(3 if 'torch' in sys.modules else 4)\n"
        "models.let_threads_sleep = hospital.let_threads_sleep = said\n"
        "from pipeline.cli import app\n"
        f"sys.argv[1:] = ['{command}', 'model', '--out', 'out']\n"
        "app()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 4, done.stderr.decode()
