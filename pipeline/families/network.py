"""What families that train a network with gradients have in common."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor, nn

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.device import seeded
from pipeline.families import logistic
from pipeline.families.base import Family, FamilyError, Fit, State
from pipeline.families.frozen import classifier_of, features_of
from pipeline.families.network_params import NetworkParams, refuse_unfit_training
from pipeline.losses import shift_logits, start_balanced
from pipeline.prediction import look_at_batch, look_through, predict_network, put_channels_last
from pipeline.train_config import TrainConfig
from pipeline.training import train_network
from pipeline.views import ViewsConfig

_LEAST: Final = 1e-12  # probability whose logarithm is taken


N = TypeVar("N", bound=NetworkParams)


class TrainedNetwork(Family[N]):
    """A family that is one network, trained on the scans alone.

    Attributes:
        net: Raw scans in, logits out.
    """

    def __init__(self, params: N, task: Task, scan_shape: tuple[int, ...], seed: int) -> None:
        super().__init__(params, task, scan_shape, seed)
        refuse_unfit_training(self, params)
        self.net = self._drawn()

    @abstractmethod
    def new_net(self) -> nn.Module:
        """The network with first weights, from torch's random numbers."""

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        self.net = self._drawn()
        return fit_network(self, self.net, train, val, progress, checkpoints)

    def fit_chosen(
        self, train: Scans, chosen: Mapping[str, float], progress: Progress = silent
    ) -> Fit:
        self.net = self._drawn()
        return fit_network(self, self.net, train, int(chosen["epoch"]), progress, None)

    def probability(self, x: Tensor) -> Tensor:
        return network_forward(self.net, x, self.task, self.params.test_time)[0]

    def seen(self, x: Tensor) -> Tensor:
        return network_forward(self.net, x, self.task, ViewsConfig())[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return network_forward(self.net, x, self.task, self.params.test_time)

    def predict_proba(self, x: Tensor) -> NDArray[np.float64]:
        return predict_network(self.net, x, self.task, self.params.test_time)

    def features(self, x: Tensor) -> NDArray[np.float32]:
        return trained_features(self.net, x)

    def look(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        return look_once(self.net, x, self.task, self.params.test_time)

    def network(self) -> nn.Module:
        return self.net

    def scorer(self) -> nn.Module:
        return self.net

    def state(self) -> State:
        return state_of(self.net)

    def load_state(self, state: State) -> None:
        """As every family; the arrays are put into ``net``."""
        self.check_state(state, self.state())
        self.net.load_state_dict(tensors_of(state))

    def _drawn(self) -> nn.Module:
        with seeded(self.seed, torch.device("cpu")):
            return self.new_net()


def fit_network(
    family: Family[Any],
    net: nn.Module,
    train: Scans,
    val: Scans | int,
    progress: Progress,
    checkpoints: Checkpoints | None,
    *,
    rates: Mapping[str, float] | None = None,
    begun: bool = False,
) -> Fit:
    """Train ``net`` in place by the family's seed and ``NetworkParams``; see ``train_network``.

    ``val`` is what the epoch is chosen by, or that epoch. ``begun``: its classifier is fitted
    already, and knows how frequent each class is.

    Raises:
        FamilyError: ``family.one_class``, ``family.no_validation`` or ``family.lone_value``.
        TrainingError: As ``train_network``.
    """
    params: NetworkParams = family.params
    config = params.train
    family.check_classes(train)
    if not isinstance(val, int):
        family.check_validation(val)
    _refuse_lone_values(family, net, train, config)
    if config.balances and not begun:
        start_balanced(net, family.task, train.target)
    trained = train_network(
        net,
        family.task,
        train,
        val,
        config,
        seed=family.seed,
        augmentation=params.augment,
        rates=rates,
        progress=progress,
        checkpoints=checkpoints,
    )
    if config.balances:
        _refit_bias(net, family.task, train)
    return Fit(trained.history, trained.chosen, trained.seconds_before, trained.notes)


def _refuse_lone_values(
    family: Family[Any], net: nn.Module, train: Scans, config: TrainConfig
) -> None:
    """Refuse batches of one scan where a batch norm gets one value of a channel: it makes 0 of it.

    Whether it does is decided by the scan's way through a copy of the network.
    """
    if min(config.batch_size, len(train)) > 1:
        return

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if norm.training and inputs[0].numel() == inputs[0].shape[1]:
            found = (
                "there is one training scan" if len(train) == 1 else "params.train.batch_size: 1"
            )
            raise FamilyError(
                "family.lone_value",
                f"{family.name}: {found}; a batch norm then gets a single value of each channel, "
                "and makes 0 of whatever it is",
                fix="train on batches of 2 scans or more (params.train.batch_size), or choose a "
                "network without batch norm where the family has params.norm",
            )

    seen = copy.deepcopy(net).cpu().train()
    for module in seen.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(look)
    with seeded(family.seed, torch.device("cpu")):
        seen(train.x[:1])


def _refit_bias(net: nn.Module, task: Task, train: Scans) -> None:
    """After a balanced training: let the mean probability of each class be its share of ``train``.

    The loss has taken the balance out of the logits but for what label smoothing and few steps
    leave of it. In a simulation with 10 % of scans in the rare class and a smoothing of 0.1 they
    gave it 3 to 8 %.
    """
    seen = predict_network(net, train.x, task).clip(_LEAST, 1 - _LEAST)
    wanted = logistic.columns(task, train.target)
    logits = logit(seen[:, -wanted.shape[1] :]) if logistic.by_label(task) else np.log(seen)
    shift = logistic.refit_bias(task, logits, wanted)
    if task.kind == "binary":  # one question, but two logits
        shift = np.array([-shift[0] / 2, shift[0] / 2])
    shift_logits(net, shift)


def network_forward(
    net: nn.Module, x: Tensor, task: Task, test_time: ViewsConfig
) -> tuple[Tensor, Tensor]:
    """``Family.forward`` of a trained network, which is left in evaluation mode."""
    return look_at_batch(net.eval(), x, task, test_time, classifier_of(net))


def trained_features(net: nn.Module, x: Tensor) -> NDArray[np.float32]:
    """What the last layer of a trained network sees of scans (N, C, I, J[, K]): (N, D).

    The filters are laid out as ``predict_network`` does it, so that a network that was loaded gives
    the bits of the one that was saved.
    """
    put_channels_last(net, x.ndim)
    return np.asarray(features_of(net, x).numpy())


def look_once(
    net: nn.Module, x: Tensor, task: Task, test_time: ViewsConfig
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """As ``Family.look``: a trained network's probabilities of scans, and what its last layer sees.

    ``predict_network`` followed by ``trained_features`` would go through it twice.
    """
    return look_through(net, x, task, test_time, classifier_of(net))


def state_of(net: nn.Module) -> State:
    """Weights and buffers as arrays."""
    return {
        name: np.ascontiguousarray(value.cpu().numpy()) for name, value in net.state_dict().items()
    }


def tensors_of(state: State, prefix: str = "") -> dict[str, Tensor]:
    """The arrays whose names begin with ``prefix``, without it, as ``load_state_dict`` takes them.

    They are copies: a state may lie in memory that is shared or read-only.
    """
    return {
        name.removeprefix(prefix): torch.from_numpy(value.copy())
        for name, value in state.items()
        if name.startswith(prefix)
    }
