"""How much each voxel of a scan weighs in a network: at the border less, or more, by its padding.

Each voxel's weight is the gradient of a sum over a map's places, so it counts the ways from the
voxel to the map (Luo et al. 2016, "Understanding the effective receptive field in deep
convolutional neural networks", section 2, count them for one place). Voxels at the border are on
fewer windows unless the padding is ``full`` or ``circular`` (Dumoulin and Visin 2016, "A guide to
convolution arithmetic for deep learning", sections 2.2 and 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional

from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.probes.base import Odd, Probe, ProbeError, Tap, Where, drawn, grey_images, tap
from pipeline.probes.pictures import canvas, colour_bar, plane, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Padding = Literal["valid", "zero", "circular", "reflect", "full"]
PADDINGS: Final[tuple[Padding, ...]] = ("valid", "zero", "circular", "reflect", "full")
_DRAWS: Final = 8  # of the channels' signs: each costs a pass backward


class Influence(Probe):
    """Weight of each voxel, of the family's network and of plain averaging ones of each padding.

    The network's is the root mean square, over images and draws of a sign for each channel, of the
    gradient of the map's sum over channels and places: on grey images, where nothing but the place
    differs, and on scans. ``border_share`` is the mean over the outermost voxels divided by that
    over the middle third along each axis, ``border_share on scans`` likewise; it may be above 1,
    since windows that are cut weigh more where a filter's weights cancel. ``valid border_share``
    and so on are those of ``depth`` convolutions of equal weights, which only count ways, on an
    image of the scan's size; ``valid size``, ``same size`` and ``full size`` are voxels that one
    such convolution adds along each axis.

    Attributes:
        where: Which convolution of the network.
        kernel: Edge of the averaging convolutions in voxels, odd.
        depth: How many there are.
        images: Grey images, and scans at most.
    """

    units: ClassVar[Mapping[str, str]] = {"border_share": "of the weight of the middle"}

    probe: Literal["influence"] = "influence"
    where: Where = "last"
    kernel: Odd = 3
    depth: PositiveInt = 3
    images: PositiveInt = 4

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes."""
        shares = [f"{padding} border_share" for padding in PADDINGS]
        sizes = [f"{name} size" for name in _SIZES]
        return ("border_share", "border_share on scans", *shares, *sizes)

    def check(self, family: Family[Any]) -> None:
        """As all probes."""
        tap(family, self.where)

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; also ``probe.scan_too_small`` for averaging convolutions."""
        some = drawn(family, scans, self.images, seed)
        tapped = tap(family, self.where)
        edges = scans.scan_shape[1:]
        grey = grey_images(scans, self.images, seed)
        values = {
            "border_share": border_share(gradient_map(tapped, grey, seed)),
            "border_share on scans": border_share(gradient_map(tapped, some.x, seed)),
        }
        for padding in PADDINGS:
            values[f"{padding} border_share"] = border_share(self._ways(edges, padding))
        blank = torch.zeros((1, 1, *edges), dtype=torch.float64)
        for name, padding in _SIZES.items():
            after = averaged(blank, self.kernel, padding).shape[2]
            values[f"{name} size"] = float(after - edges[0])
        return values

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """The network's on grey images and on scans, and that of each padding."""
        some = drawn(family, scans, self.images, seed)
        tapped = tap(family, self.where)
        edges = scans.scan_shape[1:]
        grey = grey_images(scans, self.images, seed)
        shown = {
            f"{tapped.layer.name}\non grey images": gradient_map(tapped, grey, seed),
            f"{tapped.layer.name}\non scans": gradient_map(tapped, some.x, seed),
        }
        for padding in PADDINGS:
            shown[f"{self.depth} averages of {self.kernel},\n{padding}"] = self._ways(
                edges, padding
            )
        title = f"{family.name}: weight of each voxel, 1 in the middle third on average"
        with canvas(title, 11, 5.6) as figure:
            *panels, unused = figure.subplots(2, 4).flat
            unused.set_axis_off()
            for panel, (name, found) in zip(panels, shown.items(), strict=False):
                relative = found / _centre(found).mean()
                caption = f"{name}: border {border_share(found):.2f}"
                image = show(panel, plane(relative), caption, cmap="viridis", vmin=0)
                colour_bar(figure, image, panel)
        return figure

    def _ways(self, edges: tuple[int, ...], padding: Padding) -> Tensor:
        """(I, J[, K]) ways from each voxel to the last of the averaging convolutions."""
        x = torch.zeros((1, 1, *edges), dtype=torch.float64, requires_grad=True)
        out: Tensor = x
        for number in range(self.depth):
            if min(out.shape[2:]) < self.kernel:
                raise ProbeError(
                    "probe.scan_too_small",
                    f"influence: averaging convolution {number + 1} of kernel {self.kernel} gets "
                    f"{min(out.shape[2:])} voxels of a scan of {edges}",
                    fix="set a smaller depth or kernel, or probe larger scans",
                )
            out = averaged(out, self.kernel, padding)
        (ways,) = torch.autograd.grad(out.sum(), x)
        return ways[0, 0]


_SIZES: Final[dict[str, Padding]] = {"valid": "valid", "same": "zero", "full": "full"}
_MODES: Final = {"valid": "constant", "zero": "constant", "full": "constant"}


def averaged(x: Tensor, kernel: int, padding: Padding) -> Tensor:
    """(N, 1, I, J[, K]) convolved with equal weights that sum to 1."""
    ndim = x.ndim - 2
    around = {"valid": 0, "full": kernel - 1}.get(padding, kernel // 2)
    padded = functional.pad(x, (around,) * 2 * ndim, mode=_MODES.get(padding, padding))
    weight = x.new_full((1, 1) + (kernel,) * ndim, kernel**-ndim)
    return (functional.conv2d if ndim == 2 else functional.conv3d)(padded, weight)


def gradient_map(tapped: Tap, x: Tensor, seed: int) -> Tensor:
    """(I, J[, K]) weight of each voxel of scans (N, C, I, J[, K]) in the convolution's maps."""
    seen = x.double().requires_grad_()
    sums = tapped.maps(seen).flatten(2).sum(dim=(0, 2))
    generator = torch.Generator().manual_seed(seed)
    squares = torch.zeros(x.shape[2:], dtype=torch.float64)
    for _ in range(_DRAWS):
        signs = torch.randint(0, 2, sums.shape, generator=generator).double() * 2 - 1
        (gradient,) = torch.autograd.grad((sums * signs).sum(), seen, retain_graph=True)
        squares += gradient.square().sum(dim=(0, 1))
    return squares.sqrt()


def border_share(influence: Tensor) -> float:
    """Mean of the outermost voxels of (I, J[, K]) divided by that of the middle third."""
    inner = influence[tuple(slice(1, -1) for _ in influence.shape)]
    rim = (influence.sum() - inner.sum()) / (influence.numel() - inner.numel())
    return float(rim / _centre(influence).mean())


def _centre(influence: Tensor) -> Tensor:
    """The middle third along each axis, a voxel at least."""
    return influence[tuple(slice(edge // 3, edge - edge // 3) for edge in influence.shape)]
