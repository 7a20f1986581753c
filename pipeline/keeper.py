"""The choice of an epoch by validation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.errors import MedcurveError
from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.metrics import score
from pipeline.prediction import predict_network


class TrainingError(MedcurveError):
    """Training did not lead to a usable network."""


class Keeper:
    """Looks at the network after each epoch and keeps the weights that validation prefers."""

    def __init__(self, choose_by: str) -> None:
        self.choose_by = choose_by
        self.history: dict[str, list[float]] = {"train_loss": [], "val_log_loss": [], "val_auc": []}
        self.weights: dict[str, Tensor] = {}
        self.epoch = 0
        self._best = -math.inf

    def look_at(self, net: nn.Module, task: Task, val: Scans, train_loss: float) -> None:
        """Judge the network as it is after one more epoch.

        Raises:
            TrainingError: ``training.diverged``.
        """
        done = len(self.history["train_loss"]) + 1
        probability = predict_network(net, val.x, task)
        if not (math.isfinite(train_loss) and np.isfinite(probability).all()):
            raise _diverged(train_loss, done)
        scores = score(task, val.target, probability)
        for name, value in (
            ("train_loss", train_loss),
            ("val_log_loss", scores["log_loss"]),
            ("val_auc", scores["auc"]),
        ):
            self.history[name].append(value)
        worth = {"log_loss": -scores["log_loss"], "auc": scores["auc"], "last": float(done)}
        if math.isnan(worth["auc"]):  # of every epoch alike: it is the validation scans' doing
            worth["auc"] = worth["log_loss"]
        if not self.weights or worth[self.choose_by] > self._best:
            self._best = worth[self.choose_by]
            self._keep(net, done)

    def take(self, net: nn.Module, train_loss: float) -> None:
        """Keep the network as it is after one more epoch, which nothing is there to judge.

        Raises:
            TrainingError: ``training.diverged``.
        """
        done = len(self.history["train_loss"]) + 1
        weights = net.state_dict().values()
        if not (math.isfinite(train_loss) and all(value.isfinite().all() for value in weights)):
            raise _diverged(train_loss, done)
        self.history["train_loss"].append(train_loss)
        self._keep(net, done)

    def _keep(self, net: nn.Module, epoch: int) -> None:
        self.epoch = epoch
        self.weights = {name: value.clone() for name, value in net.state_dict().items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the epoch was chosen."""
        if self.choose_by == "auc" and any(map(math.isnan, self.history["val_auc"])):
            return (
                "the epoch was chosen by log_loss: the validation scans lack a class, so that "
                "they have no AUC",
            )
        return ()

    def state(self) -> dict[str, Tensor]:
        """All that it knows, as tensors."""
        numbers = {"best": [self._best], "epoch": [self.epoch], **self.history}
        return {
            **{f"weights.{name}": value for name, value in self.weights.items()},
            **{name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()},
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Know what ``state()`` said."""
        (self._best,), (epoch,) = state["best"].tolist(), state["epoch"].tolist()
        self.epoch = int(epoch)
        self.history = {name: state[name].tolist() for name in self.history}
        self.weights = {
            name.removeprefix("weights."): value
            for name, value in state.items()
            if name.startswith("weights.")
        }


def _diverged(train_loss: float, epoch: int) -> TrainingError:
    return TrainingError(
        "training.diverged",
        f"the loss was {train_loss} in epoch {epoch}, or a probability is not finite",
        fix="lower params.train.learning_rate, or set precision: fp32",
    )
