"""What every probe keeps to, and the way from a fitted family to the maps of its network."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import AfterValidator, PositiveInt
from torch import Tensor, nn

from data_prep.config import Config
from data_prep.errors import MedcurveError
from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.families.pretrained import Pretrained
from pipeline.inspection import Layer, inspect_network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Which convolution's maps are looked at. ``first_resolution``: the one with the widest receptive
# field among those at the resolution of the first convolution, before any pooling or later step
# coarsens it; of equals the last. ``last``: the widest of all.
Where = Literal["first_resolution", "last"]


def _refuse_even(edge: int) -> int:
    if edge % 2 == 0:
        raise ValueError(f"must be odd, not {edge}")
    return edge


Odd = Annotated[PositiveInt, AfterValidator(_refuse_even)]  # edge of a kernel with a middle


class ProbeError(MedcurveError):
    """A probe cannot look at this family, or not with these scans."""


class Probe(Config, ABC):
    """One measurement of what a network does; its fields are what a YAML may set.

    ``measure`` and ``draw`` take a fitted family and raw (not prepared) scans, leave the family as
    it was, work on the processor with norms in evaluation mode, and draw all that is random from
    ``seed``: the same arguments give the same bits.

    Attributes:
        units: What an axis of each quantity says beside its name.
        amount: What N is in quantities that are called ``... at N``.
        untouched: Those of its quantities that are what ``... at 0`` would be.
        bounds: Least and largest value that any of its quantities can take.
    """

    units: ClassVar[Mapping[str, str]] = {}
    amount: ClassVar[str] = ""
    untouched: ClassVar[tuple[str, ...]] = ()
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @property
    @abstractmethod
    def quantities(self) -> tuple[str, ...]:
        """Name of every number that ``measure`` gives; it hangs on the probe's own fields alone."""

    def check(self, family: Family[Any]) -> None:
        """Refuse a family, fitted or not, that it could not look at; cheap.

        Raises:
            ProbeError: As ``measure``, for what is wrong with the family.
        """
        network_of(family)

    @abstractmethod
    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """Quantity -> finite value, under the names of ``quantities``.

        Raises:
            ProbeError: ``probe.no_network``, ``probe.no_convolution``, ``probe.reads_images``,
                ``probe.no_scans``, ``probe.wrong_shape``, and as the probe says.
        """

    @abstractmethod
    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """The same as a picture; of volumes, the slice in the middle of the last axis.

        Raises:
            ProbeError: As ``measure``.
        """


@dataclass(frozen=True, eq=False)
class Tap:
    """A convolution whose maps can be read.

    Attributes:
        net: A copy of the family's network, float64, in evaluation mode, on the processor.
        layer: The convolution.
    """

    net: nn.Module
    layer: Layer

    def maps(self, x: Tensor) -> Tensor:
        """Scans (N, C, I, J[, K]) of any size -> what the convolution gives, (N, width, ...).

        Differentiable; what comes after the convolution does not run.
        """

        def stop(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            raise _ReachedError(output)

        handle = self.net.get_submodule(self.layer.name).register_forward_hook(stop)
        try:
            self.net(x.double())
        except _ReachedError as reached:
            return reached.maps
        finally:
            handle.remove()
        raise AssertionError(f"{self.layer.name} ran when the network was inspected")


class _ReachedError(Exception):
    """The way forward ends here."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps


def tap(family: Family[Any], where: Where) -> Tap:
    """The convolution of the family's network that ``where`` says.

    Raises:
        ProbeError: ``probe.no_network``, ``probe.reads_images`` or ``probe.no_convolution``.
    """
    net = network_of(family)
    found = convolutions(family, net)
    if where == "first_resolution":
        found = [layer for layer in found if layer.jump == found[0].jump]
    widest = max(max(layer.receptive_field) for layer in found)
    chosen = [layer for layer in found if max(layer.receptive_field) == widest][-1]
    return Tap(net.double(), chosen)


def convolutions(family: Family[Any], net: nn.Module) -> list[Layer]:
    """Those that see a part of the scan, not through a gate that has seen all of it.

    Raises:
        ProbeError: ``probe.no_convolution``.
    """
    found = [
        layer
        for layer in inspect_network(net, family.scan_shape, measure=False)
        if layer.kind == "convolution" and all(map(math.isfinite, layer.receptive_field))
    ]
    if not found:
        raise ProbeError(
            "probe.no_convolution",
            f"family '{family.name}': its network has no convolution, so it has no feature maps",
            fix="probe a convolutional network: cnn_scratch, monai_network, or random_features "
            "with params.network",
        )
    return found


def network_of(family: Family[Any]) -> nn.Module:
    """A float32 copy of the family's network on the processor, in evaluation mode; scans in.

    Raises:
        ProbeError: ``probe.no_network`` or ``probe.reads_images``.
    """
    net = family.network()
    if net is None:
        raise ProbeError(
            "probe.no_network",
            f"family '{family.name}' has no network to probe",
            fix="probe cnn_scratch, mlp, monai_network, or random_features with params.network",
        )
    if isinstance(family, Pretrained):
        raise ProbeError(
            "probe.reads_images",
            f"family '{family.name}' shows a scan to its network as resized images, so that a "
            "place in its maps is no place in the scan",
            fix="probe cnn_scratch, monai_network, or random_features with params.network",
        )
    return copy.deepcopy(net).cpu().eval()


def drawn(family: Family[Any], scans: Scans, count: int, seed: int) -> Scans:
    """At most ``count`` of the scans, drawn by the seed, in their order.

    Raises:
        ProbeError: ``probe.no_scans`` or ``probe.wrong_shape``.
    """
    if not len(scans):
        raise ProbeError(
            "probe.no_scans",
            f"family '{family.name}': there are no scans to probe it with",
            fix="give a cohort whose test split holds scans",
        )
    if scans.scan_shape != family.scan_shape:
        raise ProbeError(
            "probe.wrong_shape",
            f"family '{family.name}' was made for scans of shape {family.scan_shape}; these are "
            f"{scans.scan_shape}",
            fix="probe it with scans that were prepared as its training scans were",
        )
    count = min(count, len(scans))
    picked = np.random.default_rng(seed).choice(len(scans), count, replace=False)
    return scans.take(np.sort(picked))


def grey_images(scans: Scans, count: int, seed: int) -> Tensor:
    """(count, C, I, J[, K]) float64, each of one grey level within the scans' intensities."""
    low, high = float(scans.x.min()), float(scans.x.max())
    levels = np.random.default_rng(seed).uniform(low, high, count)
    shape = (count, *scans.scan_shape)
    column = torch.from_numpy(levels).view((-1,) + (1,) * (len(shape) - 1))
    return column.expand(shape).clone()
