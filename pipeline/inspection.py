"""What a network is made of: parameters, multiply-adds, activations and receptive fields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.receptive_field import CarriedFields, Field, with_field

_KINDS: Final[dict[type[nn.Module], str]] = {
    nn.Conv2d: "convolution",
    nn.Conv3d: "convolution",
    nn.Linear: "linear",
    nn.MaxPool2d: "max pool",
    nn.MaxPool3d: "max pool",
    nn.AvgPool2d: "average pool",
    nn.AvgPool3d: "average pool",
    nn.AdaptiveAvgPool2d: "average pool",
    nn.AdaptiveAvgPool3d: "average pool",
    nn.BatchNorm1d: "norm",
    nn.BatchNorm2d: "norm",
    nn.BatchNorm3d: "norm",
    nn.GroupNorm: "norm",
}
_SEES_ALL: Final = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.Linear)
# Voxels whose influence is below this share of the largest do not count: one minus 95.45 %, two
# standard deviations of a Gaussian (Luo et al. 2016, "Understanding the effective receptive field
# in deep convolutional neural networks", section 3.2).
_LEAST_INFLUENCE: Final = 1 - 0.9545
_MEASURED_ON: Final = 2  # scans of noise
_MOST_MEASURED: Final = 24  # layers, spread evenly: each costs a pass backward


@dataclass(frozen=True)
class Layer:
    """One layer of a network, for one scan.

    Attributes:
        name: Its place in the network (``layer1.0.conv1``).
        kind: ``convolution``, ``linear``, ``max pool``, ``average pool`` or ``norm``.
        shape: Of its output: (C, I, J[, K]), or (D,) once places are gone.
        parameters: Weights that are trained.
        multiply_adds: Of a convolution or a linear layer; 0 for the others.
        receptive_field: Voxels along each axis that one output depends on, by the layers'
            geometry, also beyond the scan's border; infinite where it depends on the whole scan
            whatever its size (global pooling).
        jump: Voxels of the scan from one output to the next along each axis.
        measured_field: Edge of the region that matters: the d-th root of how many voxels have at
            least 4.55 % of the largest gradient of the central output (Luo et al. 2016), with
            first weights; None where it was not measured.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: tuple[float, ...]
    jump: tuple[int, ...]
    measured_field: float | None = None

    @property
    def activation_bytes(self) -> int:
        """Of its output in float32."""
        return 4 * math.prod(self.shape)


@dataclass(frozen=True)
class Reading:
    """What a network that takes images does with one scan.

    Attributes:
        image_shape: Of the largest image of a scan, which the layers are shown for.
        images: That it makes of a scan: slices, sizes, mirror images.
        parameters: Of the network and of what is trained above it.
        multiply_adds: Of all of them.
        activation_bytes: Of the outputs of all layers for all of them, in float32.
    """

    image_shape: tuple[int, ...]
    images: int
    parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclass(frozen=True)
class Inspection:
    """What a family holds.

    Attributes:
        layers: Of its network, in the order in which they run; empty where it has none.
        arrays: Name -> shape of each array that a model package stores. Where a length depends on
            the training scans, it is that of the family as it is now.
        reading: How its network reads a scan; None: the scan itself goes in, and the layers say
            all.
    """

    layers: tuple[Layer, ...]
    arrays: Mapping[str, tuple[int, ...]]
    reading: Reading | None = None

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        if self.reading:
            return self.reading.parameters
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of one scan's way forward."""
        return self.reading.multiply_adds if self.reading else _multiply_adds_of(self.layers)

    @property
    def activation_bytes(self) -> int:
        """Of the outputs of all layers for one scan, in float32."""
        if self.reading:
            return self.reading.activation_bytes
        return sum(layer.activation_bytes for layer in self.layers)


def inspect_network(
    net: nn.Module, scan_shape: tuple[int, ...], *, measure: bool = True
) -> tuple[Layer, ...]:
    """The layers of ``net`` in the order in which they run.

    Args:
        net: (N, C, I, J[, K]) -> logits; left as it was.
        scan_shape: (C, I, J[, K]).
        measure: Also measure receptive fields, by gradients.
    """
    was_training = net.training
    net.eval()
    try:
        with _watched(net, scan_shape[1:]) as seen, torch.no_grad(), CarriedFields():
            net(with_field(torch.zeros((1, *scan_shape)), Field.of_a_voxel(len(scan_shape) - 1)))
        layers = tuple(layer for layer, _ in seen)
        measured = _measure(net, scan_shape, layers) if measure else {}
    finally:
        net.train(was_training)
    return tuple(replace(layer, measured_field=measured.get(layer.name)) for layer in layers)


def multiply_adds(net: nn.Module, scan_shape: tuple[int, ...]) -> int:
    """Of one scan's way forward."""
    return _multiply_adds_of(inspect_network(net, scan_shape, measure=False))


def read_scan(
    reader: nn.Module, scan_shape: tuple[int, ...], image_shape: tuple[int, ...], scans: int
) -> Reading:
    """What happens in ``reader`` on a scan's real way through it.

    Args:
        reader: (N, C, I, J[, K]) scans in; its network, by whose first layer images are counted, is
            all of its layers.
        scan_shape: (C, I, J[, K]).
        image_shape: Of the largest image.
        scans: How many go in at a time; counts are divided by it.
    """
    calls: list[tuple[nn.Module, torch.Size]] = []
    handles = [
        module.register_forward_hook(lambda m, _, output: calls.append((m, output.shape)))
        for module in reader.modules()
        if _is_layer(module)
    ]
    was_training = reader.training
    reader.eval()
    try:
        with torch.no_grad():
            reader(torch.zeros((scans, *scan_shape)))
    finally:
        reader.train(was_training)
        for handle in handles:
            handle.remove()
    first = calls[0][0]
    return Reading(
        image_shape=image_shape,
        parameters=sum(p.numel() for p in reader.parameters()),
        images=sum(shape[0] for module, shape in calls if module is first) // scans,
        multiply_adds=sum(_each(module) * shape.numel() for module, shape in calls) // scans,
        activation_bytes=4 * sum(shape.numel() for _, shape in calls) // scans,
    )


def edge_that_matters(influence: Tensor) -> float:
    """The d-th root of how many voxels of (I, J[, K]) gradients are not small (Luo et al. 2016)."""
    inside = int((influence >= _LEAST_INFLUENCE * influence.max()).sum())
    return float(inside ** (1 / influence.ndim))


def _multiply_adds_of(layers: Sequence[Layer]) -> int:
    return sum(layer.multiply_adds for layer in layers)


@contextmanager
def _watched(
    net: nn.Module, edges: tuple[int, ...]
) -> Iterator[list[tuple[Layer, tuple[Tensor, ...]]]]:
    """Collect a ``Layer`` and the output of each leaf that is called, and set outputs' fields."""
    seen: list[tuple[Layer, tuple[Tensor, ...]]] = []

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        field = getattr(inputs[0], "_field", Field.of_a_voxel(len(edges))).after(module)
        if isinstance(module, _SEES_ALL):
            field = field.of_everything()
        with_field(output, field)
        layer = Layer(
            name=name,
            kind=_kind(module),
            shape=tuple(output.shape[1:]),
            parameters=sum(p.numel() for p in module.parameters()),
            multiply_adds=_each(module) * output[0].numel(),
            receptive_field=field.size,
            jump=field.jump,
        )
        seen.append((layer, (output,)))

    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: look(name, module, inputs, output)
        )
        for name, module in net.named_modules()
        if _is_layer(module)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, tuple(_KINDS))


def _kind(module: nn.Module) -> str:
    return next(kind for of, kind in _KINDS.items() if isinstance(module, of))


def _each(module: nn.Module) -> int:
    """Multiply-adds of one number of the output."""
    if isinstance(module, nn.Linear):
        return module.in_features
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        return module.in_channels // module.groups * math.prod(module.kernel_size)
    return 0


def _measure(
    net: nn.Module, scan_shape: tuple[int, ...], layers: Sequence[Layer]
) -> dict[str, float]:
    """Name -> edge of the region that the layer's central output depends on."""
    spatial = [
        layer.name
        for layer in layers
        if layer.kind != "norm"
        and len(layer.shape) == len(scan_shape)
        and math.prod(layer.shape[1:]) > 1
    ]
    count = min(len(spatial), _MOST_MEASURED)
    spread = {spatial[round(i * (len(spatial) - 1) / max(count - 1, 1))] for i in range(count)}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((_MEASURED_ON, *scan_shape), generator=generator, requires_grad=True)
    with _watched(net, scan_shape[1:]) as seen:
        net(x)
    fields: dict[str, float] = {}
    for layer, (output,) in seen:
        if layer.name not in spread:
            continue
        places = output.flatten(2)
        centre = np.ravel_multi_index([e // 2 for e in output.shape[2:]], output.shape[2:])
        values = places[:, :, int(centre)]
        signs = torch.randn(values.shape, generator=generator)  # so that channels do not cancel
        (gradient,) = torch.autograd.grad((values * signs).sum(), x, retain_graph=True)
        fields[layer.name] = edge_that_matters(gradient.square().sum(dim=(0, 1)).sqrt())
    return fields
