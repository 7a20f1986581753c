"""A network that was trained on ImageNet: as it is under a ridge classifier, or trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.augment import AugmentConfig
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.device import best_device, seeded
from pipeline.families import logistic, ridge
from pipeline.families.axes import effort, standard
from pipeline.families.backbones import ARCHITECTURES, Architecture, Backbone
from pipeline.families.base import Family, FamilyError, FamilyParams, Fit, State
from pipeline.families.fine_tuned import FineTuned
from pipeline.families.logistic import Weights
from pipeline.families.network import (
    fit_network,
    look_once,
    network_forward,
    state_of,
    tensors_of,
    trained_features,
)
from pipeline.families.network_params import (
    refuse_foreign_axes,
    refuse_unfit_training,
    refuse_unseen_mirrors,
)
from pipeline.families.pretrained_params import PretrainedParams
from pipeline.families.scan_features import ScanFeatures
from pipeline.inspection import Inspection, inspect_network, read_scan
from pipeline.prediction import predict_network
from pipeline.views import ViewsConfig

# A mean absolute intensity above which scans are neither 0 to 1 nor of unit deviation.
_MOST_INTENSITY: Final = 10.0
_AT_A_TIME: Final = 1024  # scans on the device


class Pretrained(Family[PretrainedParams]):
    """What learning from photographs brings to scans.

    In ``probe`` mode ``prepare`` is all of the network, so a study pays for it once, and there is
    nothing random in it. Weights are read when they are first needed; a saved state holds them, so
    a loaded model needs neither package nor file.
    """

    name: ClassVar[str] = "pretrained"
    Params: ClassVar[type[FamilyParams]] = PretrainedParams
    seeded_prepare: ClassVar[bool] = False

    def __init__(
        self, params: PretrainedParams, task: Task, scan_shape: tuple[int, ...], seed: int
    ) -> None:
        super().__init__(params, task, scan_shape, seed)
        refuse_unfit_training(self, params)
        mirrored = AugmentConfig(flip_axes=params.reading.flip_axes)
        refuse_foreign_axes(self.name, mirrored, scan_shape)
        self._probes = params.mode == "probe"
        if not self._probes:
            mirrors = params.reading.flip_axes
            refuse_unseen_mirrors(self.name, "reading", mirrors, params.augment)
        self._has_weights = False
        self._net = self._new_net(trained=False)
        self._weights = Weights.zeros(self._features.n_features, logistic.n_columns(task))

    @classmethod
    def prepares(cls, params: FamilyParams) -> bool:
        return isinstance(params, PretrainedParams) and params.mode == "probe"

    def prepare(self, x: Tensor) -> Tensor:
        """Raw scans -> features (N, D) float32 in ``probe`` mode; unchanged in the others."""
        if not self._probes:
            return x
        if not self._has_weights:
            self._refuse_foreign_intensities(x)
        self._read_weights()
        return torch.from_numpy(_computed(self._features, x))

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        if self._probes:
            return self._fit_probe(train, progress)
        return self._fine_tune(train, val, progress, checkpoints)

    def fit_chosen(
        self, train: Scans, chosen: Mapping[str, float], progress: Progress = silent
    ) -> Fit:
        if self._probes:
            return self._fit_probe(train, progress)
        return self._fine_tune(train, int(chosen["epoch"]), progress, None)

    def _fine_tune(
        self,
        train: Scans,
        val: Scans | int,
        progress: Progress,
        checkpoints: Checkpoints | None,
    ) -> Fit:
        self.check_classes(train)
        self._refuse_foreign_intensities(train.x)
        net = cast("FineTuned", self._new_net(trained=True))
        self._net = net
        self._begin(net, train)
        return fit_network(
            self,
            net,
            train,
            val,
            progress,
            checkpoints,
            rates=net.rates(self.params.layer_decay),
            begun=True,
        )

    def work(self, n_scans: int) -> float:
        if self._probes:
            return effort(n_scans, len(self._weights.weight))
        return super().work(n_scans)

    def read(self, x: Tensor) -> Tensor:
        if not self._probes:
            return x
        self._read_weights()
        found: Tensor = self._features(x)
        return found

    def probability(self, x: Tensor) -> Tensor:
        if self._probes:
            return self._weights.probability(self.task, x)
        return network_forward(self._net, x, self.task, self.params.test_time)[0]

    def seen(self, x: Tensor) -> Tensor:
        if self._probes:
            return x
        return network_forward(self._net, x, self.task, ViewsConfig())[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._probes:
            return super().forward(x)
        return network_forward(self._net, x, self.task, self.params.test_time)

    def predict_proba(self, x: Tensor) -> NDArray[np.float64]:
        if self._probes:
            return super().predict_proba(x)
        return predict_network(self._net, x, self.task, self.params.test_time)

    def features(self, x: Tensor) -> NDArray[np.float32]:
        return super().features(x) if self._probes else trained_features(self._net, x)

    def look(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        if self._probes:
            return super().look(x)
        return look_once(self._net, x, self.task, self.params.test_time)

    def network(self) -> nn.Module:
        """The network that was trained on ImageNet, images (not scans) in."""
        return self._features.net

    def scorer(self) -> nn.Module:
        """As of every family, without the mirrored looks of ``reading.flip_axes``."""
        if not self._probes:
            return self._net
        self._read_weights()
        return nn.Sequential(self._features, self._weights.layer())

    def inspect(self) -> Inspection:
        layers = inspect_network(self.network().cpu(), self._features.image_shape)
        reading = read_scan(
            self._net.cpu(), self.scan_shape, self._features.image_shape, self._features.chunk
        )
        arrays = {name: value.shape for name, value in self._arrays().items()}
        return Inspection(layers, arrays, reading)

    def state(self) -> State:
        if self._probes:  # it may have been fitted on features that another object prepared
            self._read_weights()
        return self._arrays()

    def _arrays(self) -> State:
        state = {f"network.{name}": value for name, value in state_of(self._net).items()}
        if self._probes:
            state |= self._weights.arrays()
        return state

    def load_state(self, state: State) -> None:
        self.check_state(state, self._arrays())
        self._net.load_state_dict(tensors_of(state, "network."))
        self._has_weights = True
        if self._probes:
            self._weights = Weights.of_arrays(state)

    @property
    def _features(self) -> ScanFeatures:
        if self._probes:
            return cast("ScanFeatures", self._net)
        return cast("FineTuned", self._net).features

    def _read_weights(self) -> None:
        if not self._has_weights:
            self._net = self._new_net(trained=True)

    def _fit_probe(self, train: Scans, progress: Progress) -> Fit:
        self.check_classes(train)
        fitted = ridge.fit_scans(self.task, self.params, train.x.numpy(), train, progress)
        self._weights = fitted.weights
        return Fit(chosen=fitted.chosen())

    def _begin(self, net: FineTuned, train: Scans) -> None:
        features = _computed(net.features, train.x)
        fitted = ridge.fit_scans(self.task, self.params, features, train)
        mean, scale = standard(features, floor=1e-3)
        net.begin_with(mean, scale, fitted.weights)

    def _new_net(self, *, trained: bool) -> nn.Module:
        architecture, n_stages = ARCHITECTURES[self.params.network], self.params.last_stage
        with seeded(self.seed, torch.device("cpu")):
            net = _backbone(architecture, n_stages, self.params, trained=trained)
            features = ScanFeatures(architecture, net, self.params.reading, self.scan_shape)
            self._has_weights = trained
            if self._probes:
                return features.eval()
            blocks = self._trained_blocks(cast("Backbone", net))
            return FineTuned(features, self.task.n_classes, self.params.dropout, blocks)

    def _trained_blocks(self, net: Backbone) -> int | None:
        if self.params.mode == "full":
            return None
        used = sum(len(part) for part in net.parts())
        if self.params.blocks > used:
            raise FamilyError(
                "family.no_such_block",
                f"{self.name}: params.blocks is {self.params.blocks}; {self.params.network} has "
                f"{used} blocks up to stage {self.params.last_stage}, the last that is used",
                fix=f"set params.blocks to at most {used}, or params.mode: full",
            )
        return self.params.blocks

    def _refuse_foreign_intensities(self, x: Tensor) -> None:
        found = float(x.abs().mean()) if len(x) else 0.0
        if self.params.reading.intensity == "auto" and found > _MOST_INTENSITY:
            raise FamilyError(
                "family.foreign_intensities",
                f"{self.name}: the mean absolute intensity of the scans is {found:.4g}; "
                "params.reading.intensity: auto is for intensities of 0 to 1, or of mean 0 and "
                "deviation 1",
                fix="choose such an intensity in the prep config, or give the intensities that "
                "are black and white: params.reading.intensity: [black, white]",
            )


def _computed(features: ScanFeatures, x: Tensor) -> NDArray[np.float32]:
    """Features (N, D) of scans (N, C, ...), on the best device there is."""
    device = best_device()
    features.to(device)
    was_training = features.training
    features.eval()
    with torch.no_grad():
        found = [features(part.to(device)).cpu() for part in torch.split(x, _AT_A_TIME)]
    features.train(was_training)
    rows: NDArray[np.float32] = torch.cat(found).numpy()
    return rows


def _backbone(
    architecture: Architecture, n_stages: int, params: PretrainedParams, *, trained: bool
) -> nn.Module:
    if not trained:
        return architecture.empty(n_stages)
    if params.random_weights is not None:
        return architecture.random(n_stages, params.random_weights)
    return architecture.trained(n_stages, params.checkpoint)
