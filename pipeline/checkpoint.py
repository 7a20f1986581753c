"""The way back into a training that was killed: written now and then, read only if it is its own.

A checkpoint is a folder with the tensors of one epoch (safetensors, never pickled) and
``checkpoint.json``, which names them with their SHA-256, says whose they are, and is replaced last:
a kill leaves the old checkpoint or the new one. Training that goes on from it ends with the same
bits as one that was never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import safetensors.torch
import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from data_prep.errors import MedcurveError
from data_prep.files import digest, read_json, sha256_bytes, write_bytes, write_json

RECORD: Final = "checkpoint.json"
_SEAL: Final = "seal"


class CheckpointError(MedcurveError):
    """A checkpoint that cannot be trusted; it never stops a training."""


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps its checkpoint.

    Attributes:
        folder: The training's own; whoever named it removes it when the result is safe.
        key: Digest of everything that decides the training's result (the key of a study's cell).
        every_seconds: Least time between two checkpoints: shorter trainings write none.
    """

    folder: Path
    key: str
    every_seconds: float = 60.0


class Remembers(Protocol):
    """Something whose state is tensors."""

    def state(self) -> dict[str, Tensor]:
        """All that it knows."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Know what ``state()`` said."""


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything that changes from epoch to epoch, but for the order of scans, which is a function
    of the seed and the number of steps.

    Attributes:
        net: The network, on its device.
        average: Its averaged copy.
        optimiser: Of the network's parameters.
        schedule: Of the optimiser's rates.
        changes: Generator of augmentation.
        keeper: Holds the history and the best weights.
    """

    net: nn.Module
    average: nn.Module
    optimiser: Optimizer
    schedule: LRScheduler
    changes: Generator
    keeper: Remembers

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, under names of their own, among them torch's own random generators."""
        held = self.optimiser.state_dict()["state"]
        found = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "keeper": self.keeper.state(),
            "optimiser": {f"{n}.{key}": t for n, of in held.items() for key, t in of.items()},
            "random": {"changes": self.changes.get_state(), "torch": torch.get_rng_state()},
        }
        if self.changes.device.type == "cuda":
            found["random"]["cuda"] = torch.cuda.get_rng_state(self.changes.device)
        return {f"{part}/{name}": t for part, named in found.items() for name, t in named.items()}

    def numbers(self) -> dict[str, Any]:
        """All that is no tensor, as JSON."""
        return {
            "groups": self.optimiser.state_dict()["param_groups"],
            "schedule": self.schedule.state_dict(),
        }

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Become the state that ``tensors()`` and ``numbers()`` described."""
        parts: dict[str, dict[str, Tensor]] = {}
        for place, tensor in tensors.items():
            part, name = place.split("/", 1)
            parts.setdefault(part, {})[name] = tensor
        self.net.load_state_dict(parts["net"])
        self.average.load_state_dict(parts["average"])
        self.keeper.load_state(parts["keeper"])
        parameters = list(chain.from_iterable(g["params"] for g in self.optimiser.param_groups))
        held: dict[int, dict[str, Tensor]] = {}
        for place, tensor in parts["optimiser"].items():
            position, key = place.split(".")
            like = parameters[int(position)]
            # The fused optimiser walks through memory: moments must lie as their parameter does.
            laid = torch.empty_like(like).copy_(tensor) if tensor.ndim else tensor
            held.setdefault(int(position), {})[key] = laid.detach()
        self.optimiser.load_state_dict({"state": held, "param_groups": numbers["groups"]})
        self.schedule.load_state_dict(dict(numbers["schedule"]))
        random = parts["random"]
        self.changes.set_state(random["changes"])
        torch.set_rng_state(random["torch"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.changes.device)


class Checkpointing:
    """Writes the checkpoints of one training, and finds the one to go on from.

    Args:
        place: Where; None: nowhere, and nothing is ever found.
        state: Of the training.
        identity: Digest of all that decides its result: another training's checkpoint is not used.

    Attributes:
        seconds_before: Time that the training had taken when the checkpoint that it goes on from
            was written, since its own beginning however often it was stopped.
        notes: What became of checkpoints, in words.
    """

    def __init__(self, place: Checkpoints | None, state: TrainingState, identity: str) -> None:
        self._place = place
        self._state = state
        self._identity = identity
        self._began = self._written = time.monotonic()
        self.seconds_before = 0.0
        self.notes: list[str] = []

    def resume(self) -> int:
        """Restore the state from a checkpoint, if there is one; returns the epochs it has behind.

        One that is damaged or of another training is left alone, and ``notes`` says so.
        """
        if self._place is None or not (self._place.folder / RECORD).is_file():
            return 0
        try:
            record = _read_record(self._place.folder / RECORD)
            if record["identity"] != self._identity:
                raise _unusable("it is of another training")
            tensors = _read_tensors(self._place.folder / record["tensors"], record["sha256"])
        except MedcurveError as error:
            self.notes.append(f"checkpoint ignored, training began anew: {error.message}")
            return 0
        self._state.restore(tensors, record["numbers"])
        self.seconds_before = record["seconds"]
        self.notes.append(f"went on from its checkpoint after epoch {record['epoch']}")
        return int(record["epoch"])

    def after(self, epoch: int) -> None:
        """Write a checkpoint after so many epochs, if the last one is old enough."""
        if self._place is None or time.monotonic() - self._written < self._place.every_seconds:
            return
        try:
            self._write(self._place.folder, epoch)
        except OSError as error:  # a full disk costs the way back, not the training
            self.notes.append(f"no checkpoint after epoch {epoch}: {error.strerror}")
        self._written = time.monotonic()

    def _write(self, folder: Path, epoch: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Copies: safetensors refuses tensors that share memory or lie in an order of their own.
        data = safetensors.torch.save(
            {
                name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, tensor in self._state.tensors().items()
            }
        )
        path = folder / f"epoch-{epoch}.safetensors"
        write_bytes(path, data)
        record = {
            "identity": self._identity,
            "epoch": epoch,
            "seconds": self.seconds_before + time.monotonic() - self._began,
            "tensors": path.name,
            "sha256": sha256_bytes(data),
            "numbers": self._state.numbers(),
        }
        write_json(folder / RECORD, {**record, _SEAL: digest(record)})
        for other in folder.glob("*.safetensors"):
            if other != path:
                other.unlink()


def weights_digest(net: nn.Module) -> str:
    """SHA-256 of a network's names, shapes and values."""
    return digest(
        [
            [name, list(value.shape), sha256_bytes(value.cpu().contiguous().numpy().tobytes())]
            for name, value in net.state_dict().items()
        ]
    )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
        seal = record.pop(_SEAL, None) if isinstance(record, dict) else None
        whole = seal is not None and seal == digest(record)
    except RecursionError:  # JSON that is nested deeper than any that was written
        whole = False
    if not whole:
        raise _unusable(f"{path.name} does not have the content that it was written with")
    return dict(record)


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unusable(f"{path.name} cannot be read ({error.strerror})") from error
    if sha256_bytes(data) != sha256:
        raise _unusable(f"{path.name} does not have the content that it was written with")
    return safetensors.torch.load(data)


def _unusable(why: str) -> CheckpointError:
    return CheckpointError("training.bad_checkpoint", why)
