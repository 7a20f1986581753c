"""What decode children are told to do in tests: it must be importable in the child."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from data_prep.errors import ScanError
from data_prep.volume import Volume


@dataclass(frozen=True, eq=False)
class Summary:
    """A result that holds everything that may be handed over."""

    mean: float
    shape: tuple[int, ...]
    names: list[str]
    counts: dict[str, int]
    array: np.ndarray
    nothing: None = None


class PanicError(BaseException):
    """What a decoder written in Rust raises."""


def summary(volume: Volume) -> Summary:
    return Summary(
        mean=np.float32(volume.array.mean()),
        shape=volume.array.shape,
        names=["a", "ü"],
        counts={"voxels": volume.array.size},
        array=volume.array[:, ::2],
    )


def pid(volume: Volume) -> int:
    return os.getpid()


def first_voxel(volume: Volume) -> int:
    return int(volume.array.ravel()[0])


def refuse(volume: Volume) -> Volume:
    raise ScanError("volume.wrong_ndim", "not this one", fix="take another")


def large(volume: Volume) -> np.ndarray:
    return np.full((64, 1 << 16), first_voxel(volume), np.float32)


def bad_object(volume: Volume) -> object:
    return object()


def defect(volume: Volume) -> int:
    raise KeyError("a defect")


@dataclass(frozen=True)
class Misbehave:
    """Do something bad with the scan whose first voxel is ``victim``; hand on the others."""

    victim: int
    how: str

    def __call__(self, volume: Volume) -> int:
        if first_voxel(volume) == self.victim:
            self._misbehave()
        return first_voxel(volume)

    def _misbehave(self) -> None:
        if self.how == "abort":
            os.abort()
        if self.how == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.how == "exit":
            os._exit(3)
        if self.how == "hang":
            time.sleep(1000)
        if self.how == "panic":
            raise PanicError
        if self.how == "memory":
            np.ones(1 << 34, np.uint8)
