"""Ctrl-C in a terminal does not reach what a study has started."""

from __future__ import annotations

import os
import signal
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from pipeline.study.spawned import spawned


def say_mask(pipe: Connection) -> None:
    pipe.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    pipe.recv()


def test_ctrl_c_is_blocked_there_from_the_beginning_and_not_here() -> None:
    here, there = Pipe()
    process = spawned(say_mask, (there,))
    assert process.pid is not None
    there.close()  # so that a process that dies of it is noticed
    os.kill(process.pid, signal.SIGINT)  # while it starts
    assert here.recv() is True
    here.send(None)
    process.join()
    assert process.exitcode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
