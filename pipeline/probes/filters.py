"""A gallery of filters: made by hand, drawn at random, learned from scans and from photographs.

Convolution mirrors its kernel along all axes before it sums products, cross-correlation does not
(Goodfellow, Bengio and Courville 2016, "Deep learning", section 9.1); networks correlate and call
it convolution, which is no loss, since a kernel that is learned can be learned mirrored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from pipeline.dataset import Scans
from pipeline.families.backbones import ARCHITECTURES, NetworkName
from pipeline.families.base import Family
from pipeline.families.gaussian_derivatives import kernel
from pipeline.probes.base import Odd, Probe, ProbeError, convolutions, drawn, network_of
from pipeline.probes.pictures import canvas, scan_plane, show, show_signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN: Final = 4  # filters of a kind

# Kind -> (name, (rows, columns) float64 kernel) of each filter.
Gallery = dict[str, list[tuple[str, Tensor]]]


class Filters(Probe):
    """Filters and what they make of a scan, and both operators checked against scipy.

    Four kinds: ``fixed`` (a Gaussian blur; its derivatives down the rows and along them, which
    answer to horizontal and vertical edges; its Laplacian, which answers to blobs of its size),
    ``random`` (Gaussian without mean), ``learned`` (the first convolution of the family's network)
    and ``pretrained`` (the first of a network trained on ImageNet); of several input channels the
    mean.

    Quantities, each relative to the largest response, the outermost voxel going on at the border:
    ``correlation_error`` and ``convolution_error`` (largest difference of torch's from scipy's,
    over all filters), ``asymmetric_difference`` (largest between the two operators for the
    horizontal edge: 2, for mirroring changes its sign) and ``symmetric_difference`` (for the blur:
    0).

    Attributes:
        sigma: Of the fixed filters, in voxels.
        size: Edge of the random filters in voxels, odd.
        mirrored: Whether what is called convolution mirrors its kernel. As a control: without it,
            as networks have it, it is cross-correlation by another name, and the numbers show it.
        pretrained: The network trained on ImageNet.
    """

    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    probe: Literal["filters"] = "filters"
    sigma: PositiveFloat = 1.5
    size: Odd = 5
    mirrored: bool = True
    pretrained: NetworkName = "efficientnet-lite0"

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes."""
        errors = ("correlation_error", "convolution_error")
        return (*errors, "asymmetric_difference", "symmetric_difference")

    def check(self, family: Family[Any]) -> None:
        """As all probes; also ``probe.not_2d``."""
        _refuse_volumes(family)
        convolutions(family, network_of(family))

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; also ``probe.not_2d``."""
        scan = _one_scan(family, scans, seed)
        gallery = self.gallery(family, seed)
        named = dict(gallery["fixed"])
        edge, blur = named["horizontal edge"], named["blur"]
        convolve = convolved if self.mirrored else correlated
        every = [weights for kind in gallery.values() for _, weights in kind]
        return {
            "correlation_error": max(
                _difference(correlated(scan, w), _by_scipy(ndimage.correlate, scan, w))
                for w in every
            ),
            "convolution_error": max(
                _difference(convolve(scan, w), _by_scipy(ndimage.convolve, scan, w)) for w in every
            ),
            "asymmetric_difference": _difference(convolve(scan, edge), correlated(scan, edge)),
            "symmetric_difference": _difference(convolve(scan, blur), correlated(scan, blur)),
        }

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """A row for each kind: filters, and what cross-correlation makes of the scan."""
        scan = _one_scan(family, scans, seed)
        gallery = self.gallery(family, seed)
        with canvas(f"{family.name}: filters and their responses", 11.5, 6.4) as figure:
            panels = figure.subplots(len(gallery), 2 * _SHOWN + 1)
            for line in panels.flat:
                line.set_axis_off()
            show(panels[0, 0], scan.numpy(), "scan")
            for line, (kind, members) in zip(panels, gallery.items(), strict=True):
                line[0].text(
                    -0.05,
                    0.5,
                    kind,
                    transform=line[0].transAxes,
                    rotation=90,
                    va="center",
                    ha="right",
                )
                for number, (name, weights) in enumerate(members[:_SHOWN]):
                    show_signed(line[2 * number + 1], weights.numpy(), name)
                    response = correlated(scan, weights)
                    show_signed(line[2 * number + 2], response.numpy(), "response")
        return figure

    def gallery(self, family: Family[Any], seed: int) -> Gallery:
        """The filters of each kind.

        Raises:
            ProbeError: ``probe.no_network``, ``probe.reads_images`` or ``probe.no_convolution``.
        """
        net = network_of(family)
        first = net.get_submodule(convolutions(family, net)[0].name)
        photographs = ARCHITECTURES[self.pretrained].trained(1, None)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((_SHOWN, self.size, self.size), generator=generator).double()
        noise = noise - noise.mean(dim=(1, 2), keepdim=True)
        return {
            "fixed": self._fixed(),
            "random": [(f"random {n + 1}", weights) for n, weights in enumerate(noise)],
            "learned": _strongest(first),
            "pretrained": _strongest(
                next(m for m in photographs.modules() if isinstance(m, nn.Conv2d))
            ),
        }

    def _fixed(self) -> list[tuple[str, Tensor]]:
        level, slope, curve = (torch.from_numpy(kernel(self.sigma, order)) for order in range(3))
        return [
            ("blur", torch.outer(level, level)),
            ("horizontal edge", torch.outer(slope, level)),
            ("vertical edge", torch.outer(level, slope)),
            ("Laplacian", torch.outer(curve, level) + torch.outer(level, curve)),
        ]


def correlated(image: Tensor, weights: Tensor) -> Tensor:
    """Cross-correlation of (I, J) as networks do it, the outermost voxel going on; odd kernels."""
    rows, columns = weights.shape
    around = (columns // 2,) * 2 + (rows // 2,) * 2
    padded = functional.pad(image[None, None], around, mode="replicate")
    return functional.conv2d(padded, weights[None, None])[0, 0]


def convolved(image: Tensor, weights: Tensor) -> Tensor:
    """Convolution of (I, J): cross-correlation with the kernel mirrored along both axes."""
    return correlated(image, weights.flip(0, 1))


def _by_scipy(operator: Any, image: Tensor, weights: Tensor) -> Tensor:
    found: NDArray[np.float64] = operator(image.numpy(), weights.numpy(), mode="nearest")
    return torch.from_numpy(found)


def _difference(a: Tensor, b: Tensor) -> float:
    scale = torch.finfo(torch.float64).tiny + b.abs().max()
    return float((a - b).abs().max() / scale)


def _strongest(first: nn.Module) -> list[tuple[str, Tensor]]:
    """Filters of a first convolution, largest weights first, the input channels averaged."""
    assert isinstance(first, nn.Conv2d)
    weights = first.weight.detach().double().mean(dim=1)
    order = weights.flatten(1).norm(dim=1).argsort(descending=True, stable=True)[:_SHOWN]
    return [(f"channel {int(number)}", weights[number]) for number in order]


def _one_scan(family: Family[Any], scans: Scans, seed: int) -> Tensor:
    """(I, J) float64, its channels averaged.

    Raises:
        ProbeError: ``probe.not_2d``.
    """
    _refuse_volumes(family)
    return torch.from_numpy(scan_plane(drawn(family, scans, 1, seed).x[0]))


def _refuse_volumes(family: Family[Any]) -> None:
    if len(family.scan_shape) != 3:
        raise ProbeError(
            "probe.not_2d",
            f"filters: family '{family.name}' was made for volumes {family.scan_shape}; the "
            "gallery shows images",
            fix="probe a family for 2D scans",
        )
