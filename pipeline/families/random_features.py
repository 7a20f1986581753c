"""Random convolutions, rectified and pooled, under a closed-form ridge classifier.

Saxe et al. 2011, "On random weights and unsupervised feature learning": most of what a small
convolutional network does, its architecture does before any training. Coates and Ng 2012,
"Learning feature representations with k-means": many filters and pooling over quadrants.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar, Final, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.balance import ClassWeights
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.device import seeded
from pipeline.families import logistic, ridge
from pipeline.families.axes import effort
from pipeline.families.base import Family, FamilyError, FamilyParams, Fit, State
from pipeline.families.conv_net import ConvNet, ConvNetParams
from pipeline.families.frozen import classified, classifier_of, features_of
from pipeline.families.logistic import PENALTIES, Penalties, Weights
from pipeline.families.monai_nets import SMALL_EDGE, Architecture, build_monai_net
from pipeline.families.network import state_of, tensors_of

# Activations of one chunk of scans: small enough for a processor's cache, and for any memory.
_CHUNK_BYTES = 16 << 20
# Positions of a filter along an axis that "auto" stride keeps at most: (2D, 3D).
_POSITIONS = (32, 16)


_Bank = dict[int, tuple[Tensor, Tensor]]


class RandomFeaturesParams(FamilyParams):
    """Parameters of ``random_features``.

    Attributes:
        network: ``none``: one layer of random filters, as the parameters below say. Else the name
            of a network whose first weights are frozen (``cnn_scratch``, ``resnet18``, ...); its
            features are what its classifier would see, and only ``penalties``,
            ``class_weights`` and, of ``cnn_scratch``, ``shape`` count besides.
        shape: What the network of ``cnn_scratch`` looks like.
        filters: Number of filters in all, shared evenly between the sizes.
        sizes: Edge lengths of the filters in voxels.
        draw: ``gaussian``; ``zero_mean``: the same without its mean, blind to brightness;
            ``orthogonal``: zero-mean filters of one size at right angles to each other, as many as
            there are directions, then anew.
        stride: Step of the filters in voxels, or ``auto``: the least with at most 32 positions
            along an axis in 2D, 16 in 3D.
        padding: ``valid`` (filters stay inside the scan) or ``zero`` (as many positions as voxels).
        rectify: ``relu``, ``absolute`` or ``square`` of the filter's response.
        threshold_sd: Standard deviation of the random threshold that is added to a filter's
            response; the response to noise of unit variance has a standard deviation of 1.
        pyramid: Cells along each axis into which responses are pooled; several are joined.
        pooling: What is taken of the responses in each cell.
        penalties: Ridge penalties to choose from, relative to the mean squared length of a
            standardised feature row.
        class_weights: ``none``, or ``balanced``: each class (with and without each label) weighs
            the same in the ridge; probabilities are of the training frequencies all the same.
    """

    network: Literal["none", "cnn_scratch"] | Architecture = "none"
    shape: ConvNetParams = ConvNetParams()
    filters: PositiveInt = 1024
    sizes: tuple[PositiveInt, ...] = Field(default=(5, 7, 9), min_length=1)
    draw: Literal["gaussian", "zero_mean", "orthogonal"] = "zero_mean"
    stride: PositiveInt | Literal["auto"] = "auto"
    padding: Literal["valid", "zero"] = "valid"
    rectify: Literal["relu", "absolute", "square"] = "relu"
    threshold_sd: NonNegativeFloat = 0.5
    pyramid: tuple[PositiveInt, ...] = Field(default=(2,), min_length=1)
    pooling: tuple[Literal["average", "max"], ...] = Field(default=("average", "max"), min_length=1)
    penalties: Penalties = PENALTIES
    class_weights: ClassWeights = "none"

    @model_validator(mode="after")
    def _check(self) -> RandomFeaturesParams:
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError("sizes must differ from each other")
        if self.filters < len(self.sizes):
            raise ValueError(f"{self.filters} filters cannot have {len(self.sizes)} sizes")
        return self


class RandomFeatures(Family[RandomFeaturesParams]):
    """Frozen random features; only a ridge classifier on them is fitted.

    The filters have unit length; ``seed`` draws them. ``prepare`` is the whole of the convolution,
    so a study pays for it once per seed. The penalty is the one of least squared error over
    left-out patients, and Platt scaling on the same left-out scores turns scores into
    probabilities: neither needs the validation scans, which stay untouched.
    """

    name: ClassVar[str] = "random_features"
    Params: ClassVar[type[FamilyParams]] = RandomFeaturesParams

    def __init__(
        self, params: RandomFeaturesParams, task: Task, scan_shape: tuple[int, ...], seed: int
    ) -> None:
        super().__init__(params, task, scan_shape, seed)
        self._net: nn.Module | None = None
        self._bank: _Bank = {}
        if params.network == "none":
            self._refuse_small_scans()
            self._bank = _draw_bank(params, channels=scan_shape[0], ndim=self._ndim, seed=seed)
            cells = sum(count**self._ndim for count in params.pyramid)
            features = params.filters * len(params.pooling) * cells
        else:
            self._net = _draw_network(params.network, params.shape, scan_shape, seed)
            features = classifier_of(self._net).in_features
        self._weights = Weights.zeros(features, logistic.n_columns(task))

    def prepare(self, x: Tensor) -> Tensor:
        """(N, C, I, J[, K]) -> features (N, D) float32.

        D is filters x pooled cells x kinds of pooling, or the inputs of the network's classifier.
        """
        if self._net is not None:
            return features_of(self._net, x)
        chunk = max(1, _CHUNK_BYTES // self._activation_bytes())
        with torch.no_grad():
            starts = range(0, len(x), chunk)
            return torch.cat([self.read(x[start : start + chunk]) for start in starts])

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        self.check_classes(train)
        fitted = ridge.fit_scans(self.task, self.params, train.x.numpy(), train, progress)
        self._weights = fitted.weights
        return Fit(chosen=fitted.chosen())

    def work(self, n_scans: int) -> float:
        return effort(n_scans, len(self._weights.weight))

    def probability(self, x: Tensor) -> Tensor:
        return self._weights.probability(self.task, x)

    def state(self) -> State:
        # The filters could be drawn again, but then a saved model would hang on the random number
        # generator of one version of torch.
        drawn: State = {
            f"{kind}_{size}": tensor.numpy()
            for size, pair in self._bank.items()
            for kind, tensor in zip(("filters", "thresholds"), pair, strict=True)
        }
        if self._net is not None:
            drawn = {f"network.{name}": value for name, value in state_of(self._net).items()}
        return drawn | self._weights.arrays()

    def load_state(self, state: State) -> None:
        self.check_state(state, self.state())
        self._bank = {
            size: (
                torch.from_numpy(state[f"filters_{size}"].copy()),
                torch.from_numpy(state[f"thresholds_{size}"].copy()),
            )
            for size in self._bank
        }
        if self._net is not None:
            self._net.load_state_dict(tensors_of(state, "network."))
        self._weights = Weights.of_arrays(state)

    def network(self) -> nn.Module | None:
        return self._net

    def scorer(self) -> nn.Module | None:
        """Its drawn network under the fitted classifier; a bank of filters is no network."""
        if self._net is None:
            return None
        net = copy.deepcopy(self._net)
        layer, last = self._weights.layer(), classifier_of(net)
        last.weight, last.bias, last.out_features = layer.weight, layer.bias, layer.out_features
        return net

    @property
    def _ndim(self) -> int:
        return len(self.scan_shape) - 1

    def _padding(self, size: int) -> int:
        return size // 2 if self.params.padding == "zero" else 0

    def _positions(self, size: int) -> tuple[int, ...]:
        """Places of a filter along each axis at stride 1."""
        added = 2 * self._padding(size)
        return tuple(edge + added - size + 1 for edge in self.scan_shape[1:])

    def _stride(self, size: int) -> int:
        if self.params.stride != "auto":
            return self.params.stride
        most = _POSITIONS[self._ndim - 2]
        return -(-max(self._positions(size)) // most)

    def _strided(self, size: int) -> tuple[int, ...]:
        return tuple(-(-places // self._stride(size)) for places in self._positions(size))

    def _refuse_small_scans(self) -> None:
        for size in self.params.sizes:
            places = min(self._strided(size)) if min(self._positions(size)) > 0 else 0
            if places < max(self.params.pyramid):
                raise FamilyError(
                    "family.scan_too_small",
                    f"{self.name}: filters of size {size} have {places} places along the shortest "
                    f"axis of a scan of shape {self.scan_shape}, and are pooled into "
                    f"{max(self.params.pyramid)} cells",
                    fix="choose smaller params.sizes, a smaller params.pyramid or stride, "
                    "params.padding: zero, or larger scans in the prep config",
                )

    def _activation_bytes(self) -> int:
        """Of one scan, for the filter size that needs most."""
        places = max(int(np.prod(self._strided(size))) for size in self.params.sizes)
        return 4 * places * -(-self.params.filters // len(self.params.sizes))

    def read(self, x: Tensor) -> Tensor:
        if self._net is not None:
            return classified(self._net, x)[1]
        convolve = functional.conv2d if self._ndim == 2 else functional.conv3d
        pooled: list[Tensor] = []
        for size, (filters, thresholds) in self._bank.items():
            response = convolve(
                x, filters, thresholds, stride=self._stride(size), padding=self._padding(size)
            )
            response = _RECTIFY[self.params.rectify](response)
            pooled += [
                _POOL[self._ndim, kind](response, cells).flatten(1)
                for cells in self.params.pyramid
                for kind in self.params.pooling
            ]
        return torch.cat(pooled, dim=1)


_RECTIFY: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": torch.relu_,
    "absolute": torch.abs_,
    "square": torch.square_,
}
_POOL: Final[dict[tuple[int, str], Callable[[Tensor, int], Tensor]]] = {
    (2, "average"): functional.adaptive_avg_pool2d,
    (2, "max"): functional.adaptive_max_pool2d,
    (3, "average"): functional.adaptive_avg_pool3d,
    (3, "max"): functional.adaptive_max_pool3d,
}


def _draw_bank(params: RandomFeaturesParams, *, channels: int, ndim: int, seed: int) -> _Bank:
    """Size -> (filters (n, C, size, size[, size]), thresholds (n,)); float32."""
    generator = torch.Generator().manual_seed(seed)
    bank: _Bank = {}
    for position, size in enumerate(params.sizes):
        count = (params.filters + position) // len(params.sizes)
        flat = _draw_filters(params.draw, count, channels * size**ndim, generator)
        thresholds = params.threshold_sd * torch.randn(count, generator=generator)
        bank[size] = (flat.reshape((count, channels) + (size,) * ndim), thresholds)
    return bank


def _draw_filters(kind: str, count: int, taps: int, generator: torch.Generator) -> Tensor:
    """(count, taps) rows of unit length."""
    flat = torch.randn((count, taps), generator=generator)
    if kind == "gaussian":
        return functional.normalize(flat)
    flat = flat - flat.mean(dim=1, keepdim=True)
    if kind == "orthogonal":
        # Rows without mean span taps - 1 directions; a block of that many is turned square.
        flat = torch.cat([_orthonormal(block) for block in torch.split(flat, max(1, taps - 1))])
    return functional.normalize(flat)


def _orthonormal(rows: Tensor) -> Tensor:
    """Rows at right angles with the same span, uniform over rotations (Mezzadri 2007)."""
    q, r = torch.linalg.qr(rows.double().T)
    turned: Tensor = q * r.diagonal().sign()
    return turned.T.float()


def _draw_network(
    name: Literal["cnn_scratch"] | Architecture,
    shape: ConvNetParams,
    scan_shape: tuple[int, ...],
    seed: int,
) -> nn.Module:
    """A network with first weights, as a family would begin to train it; its classifier is not
    used."""
    net: nn.Module
    with seeded(seed, torch.device("cpu")):
        if name == "cnn_scratch":
            net = ConvNet(shape, scan_shape, n_classes=1)
        else:
            small = max(scan_shape[1:]) <= SMALL_EDGE
            net = build_monai_net(name, scan_shape, n_classes=1, small_stem=small)
    return net.eval()
