"""How small a change of a scan changes the answer: made on purpose, and at random.

Szegedy et al. 2014, "Intriguing properties of neural networks"; Goodfellow, Shlens and Szegedy
2015, "Explaining and harnessing adversarial examples" (FGSM); Madry et al. 2018, "Towards deep
learning models resistant to adversarial attacks" (PGD).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn import functional

from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.families.network import TrainedNetwork
from pipeline.page import MARKERS, PALETTE
from pipeline.probes.attack import Strength, Target, fgsm, noise, pgd, sweep
from pipeline.probes.base import Probe, ProbeError, drawn, network_of
from pipeline.probes.pictures import canvas, scan_plane, show, show_signed
from pipeline.views import ViewsConfig, views

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ATTACKS: Final = ("fgsm", "pgd", "noise")


class Adversarial(Probe):
    """Accuracy under changes of growing size, and the smallest change that flips an answer.

    A change adds to each voxel at most ``epsilon`` times the intensity range of the scans given
    (of each channel), and never leaves that range. ``fgsm`` and ``pgd`` change it so that the truth
    loses probability, ``noise`` by as much in random directions: the contrast is the point.
    Quantities: ``accuracy`` (of a multi-label task over all labels), ``pgd accuracy at 0.02`` and
    so on, and ``pgd flip``: the median, over scans that are answered right, of the smallest epsilon
    that makes the answer (any right label) wrong; 1 where no change does, 0 where nothing is right.

    Attributes:
        epsilons: Sizes of the sweep, growing.
        steps: Of PGD.
        scans: How many.
    """

    units: ClassVar[Mapping[str, str]] = {
        "accuracy": "share of scans that are answered right",
        "flip": "share of the intensity range",
    }
    amount: ClassVar[str] = "largest change of a pixel (epsilon), share of the intensity range"
    untouched: ClassVar[tuple[str, ...]] = ("accuracy",)
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    probe: Literal["adversarial"] = "adversarial"
    epsilons: tuple[float, ...] = Field(default=(0.005, 0.01, 0.02, 0.05, 0.1), min_length=1)
    steps: PositiveInt = 10
    scans: PositiveInt = 64

    @field_validator("epsilons")
    @classmethod
    def _growing(cls, epsilons: tuple[float, ...]) -> tuple[float, ...]:
        if list(epsilons) != sorted(set(epsilons)) or not 0 < min(epsilons) <= max(epsilons) <= 1:
            raise ValueError(f"must grow from above 0 to at most 1, not {list(epsilons)}")
        return epsilons

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes."""
        swept = [f"{name} accuracy at {e:g}" for name in _ATTACKS for e in self.epsilons]
        return ("accuracy", *swept, *(f"{name} flip" for name in _ATTACKS))

    def check(self, family: Family[Any]) -> None:
        """As all probes; also ``probe.no_gradient``."""
        _with_gradient(family)

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; also ``probe.no_gradient``."""
        x, target = self._target(family, scans, seed)
        swept = self._swept(target, x, seed)
        values = {"accuracy": float(target.right(x).double().mean())}
        for name, strength in swept.items():
            for epsilon, accuracy in zip(self.epsilons, strength.accuracies, strict=True):
                values[f"{name} accuracy at {epsilon:g}"] = accuracy
        for name, strength in swept.items():
            values[f"{name} flip"] = _median_flip(strength.smallest)
        return values

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """The scan of median strength, its change by PGD, what comes of it; the sweep."""
        x, target = self._target(family, scans, seed)
        swept = self._swept(target, x, seed)
        smallest = swept["pgd"].smallest
        size = torch.where(smallest > 0, smallest, self.epsilons[0])
        one = int((size - _median_flip(smallest)).abs().argmin())
        changed = pgd(target, self.steps, seed)(x, size)[one]
        before, after = scan_plane(x[one]), scan_plane(changed)
        span = float(before.max() - before.min()) or 1.0
        largest = float(np.abs(after - before).max()) or span
        factor = max(1, math.floor(span / 2 / largest))
        title = f"{family.name}: a small change of a scan, and what it does"
        names = family.task.class_names
        with canvas(title, 11.6, 3.7) as figure:
            panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
            grey = {"vmin": float(before.min()), "vmax": float(before.max())}
            show(panels[0], before, f"scan\n{_told(target, x[one], names)}", **grey)
            caption = f"change, {factor} times enlarged\nepsilon {float(size[one]):.3g}"
            show_signed(panels[1], factor * (after - before), caption, span / 2)
            show(panels[2], after, f"both together\n{_told(target, changed, names)}", **grey)
            clean = float(target.right(x).double().mean())
            for number, (name, strength) in enumerate(swept.items()):
                self._draw_sweep(panels[3], number, name, (clean, *strength.accuracies))
            panels[3].legend(frameon=False)
        return figure

    def _draw_sweep(self, panel: Axes, number: int, name: str, curve: tuple[float, ...]) -> None:
        look: dict[str, Any] = {"color": PALETTE[number], "marker": MARKERS[number]}
        panel.plot((0, *self.epsilons), curve, ms=4, lw=1.2, label=name, **look)
        panel.set_ylim(-0.03, 1.03)
        panel.set_xlabel("epsilon, share of the intensity range")
        panel.set_title("accuracy", fontsize=9)

    def _target(self, family: Family[Any], scans: Scans, seed: int) -> tuple[Tensor, Target]:
        test_time = _with_gradient(family).params.test_time
        some = drawn(family, scans, self.scans, seed)
        net = network_of(family).requires_grad_(False)
        every = scans.x.movedim(1, 0).flatten(1)
        shape = (-1,) + (1,) * (scans.x.ndim - 2)
        many = family.task.is_multi_label
        return some.x, Target(
            answer=lambda x: _log_probability(net, x, test_time, many_labels=many),
            truth=torch.from_numpy(some.target),
            low=every.amin(dim=1).view(shape),
            high=every.amax(dim=1).view(shape),
        )

    def _swept(self, target: Target, x: Tensor, seed: int) -> dict[str, Strength]:
        attacks = (fgsm(target), pgd(target, self.steps, seed), noise(target, seed))
        return {
            name: sweep(target, attack, x, self.epsilons)
            for name, attack in zip(_ATTACKS, attacks, strict=True)
        }


def _with_gradient(family: Family[Any]) -> TrainedNetwork[Any]:
    if not isinstance(family, TrainedNetwork):
        raise ProbeError(
            "probe.no_gradient",
            f"adversarial: the answer of family '{family.name}' has no gradient that can be "
            "followed to its scans",
            fix="probe cnn_scratch, mlp or monai_network",
        )
    return family


def _log_probability(
    net: nn.Module, x: Tensor, test_time: ViewsConfig, *, many_labels: bool
) -> Tensor:
    """Log of the mean over views of each probability, as ``predict_network`` averages them.

    In logarithms and float64: what is sure is not yet 1.
    """
    seen = []
    for view in views(x, test_time):
        logits = net(view).double()
        if many_labels:
            seen.append(functional.logsigmoid(torch.stack([-logits, logits], dim=-1)))
        else:
            seen.append(functional.log_softmax(logits, dim=1))
    return torch.stack(seen).logsumexp(dim=0) - math.log(len(seen))


def _median_flip(smallest: Tensor) -> float:
    """Of the scans that something is right of."""
    right = smallest[smallest > 0]
    return float(np.median(right)) if len(right) else 0.0


def _told(target: Target, scan: Tensor, names: tuple[str, ...]) -> str:
    """Most probable class, or each label, with its probability."""
    with torch.no_grad():
        found = target.answer(scan[None])[0].exp()
    if found.ndim == 2:
        return ", ".join(f"{n} {float(p):.0%}" for n, p in zip(names, found[:, 1], strict=True))
    most = int(found.argmax())
    return f"{names[most]} {float(found[most]):.1%}"
