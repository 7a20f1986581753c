"""Small changes of scans that change a network's answer, and random ones as large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

# Scans (N, C, ...) -> log of each probability (N, n_classes); of a multi-label task (N, L, 2), the
# label's absence and presence. Differentiable.
LogProbability = Callable[[Tensor], Tensor]
# Scans, and the size (N,) of each one's change as a share of the intensity range -> changed scans.
Attack = Callable[[Tensor, Tensor], Tensor]

_ABOVE: Final = (0.2, 0.5, 1.0)  # where a sweep ends, flips are looked for on
_ROUNDS: Final = 6  # of bisection: a bracket is narrowed 64 times
_STEP: Final = 2.5  # of all PGD steps together, in sizes (Madry et al. 2018, MNIST and CIFAR code)


@dataclass(frozen=True, eq=False)
class Target:
    """What is attacked.

    Attributes:
        answer: Of the network.
        truth: (N,) class indices, or (N, L) of 0/1.
        low, high: (C, 1, 1[, 1]) intensities that no scan leaves.
    """

    answer: LogProbability
    truth: Tensor
    low: Tensor
    high: Tensor

    def right(self, x: Tensor) -> Tensor:
        """(N,) or (N, L) bool: whether a class, or a label, is what is most probable."""
        with torch.no_grad():
            return self.answer(x).argmax(dim=-1) == self.truth

    def loss(self, x: Tensor) -> Tensor:
        """(N,) log odds against the truth, of all labels together.

        It grows with the cross-entropy, -log p, and has a gradient of the same direction (divided
        by 1 - p), which does not vanish where the network is sure.
        """
        found, true = self.answer(x), self.truth.unsqueeze(-1)
        against = found.scatter(-1, true, -torch.inf).logsumexp(dim=-1)
        odds = against - found.gather(-1, true).squeeze(-1)
        return odds.reshape(len(x), -1).sum(dim=1)

    def ascent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sign of the loss's gradient at each voxel, and the loss (N,)."""
        seen = x.detach().requires_grad_()
        loss = self.loss(seen)
        (gradient,) = torch.autograd.grad(loss.sum(), seen)
        return gradient.sign(), loss.detach()

    def moved(self, x: Tensor, direction: Tensor, size: Tensor) -> Tensor:
        """``x`` a share ``size`` (N,) of the intensity range along ``direction``, within it."""
        step = _column(size, x) * (self.high - self.low)
        return (x + step * direction).clamp(self.low, self.high)


def fgsm(target: Target) -> Attack:
    """One step along the sign of the gradient (Goodfellow et al. 2015, section 4)."""

    def attack(x: Tensor, size: Tensor) -> Tensor:
        return target.moved(x, target.ascent(x)[0], size)

    return attack


def pgd(target: Target, steps: int, seed: int) -> Attack:
    """Steps along the sign of the gradient, from a random start (Madry et al. 2018).

    Of all that it comes to, each scan's change of the largest loss is kept.
    """

    def attack(x: Tensor, size: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        start = 2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1
        reach = _column(size, x) * (target.high - target.low)
        now = target.moved(x, start, size)
        best, most = x, torch.full((len(x),), -torch.inf, dtype=x.dtype)
        for step in range(steps + 1):
            direction, loss = target.ascent(now)
            worse = loss > most
            best = torch.where(_column(worse, x), now, best)
            most = torch.where(worse, loss, most)
            if step < steps:
                further = target.moved(now, direction, _STEP * size / steps)
                now = torch.minimum(torch.maximum(further, x - reach), x + reach)
        return best

    return attack


def noise(target: Target, seed: int) -> Attack:
    """A random sign at each voxel: as large as the others' changes, in no direction."""

    def attack(x: Tensor, size: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, x.shape, generator=generator).to(x.dtype) * 2 - 1
        return target.moved(x, signs, size)

    return attack


@dataclass(frozen=True, eq=False)
class Strength:
    """What an attack comes to.

    Attributes:
        accuracies: At each size asked for.
        smallest: (N,) size of the smallest change found that makes a right answer wrong; 0 where
            nothing is right to begin with, 1 where no change does: one of the whole intensity range
            is no change of this scan any more.
    """

    accuracies: tuple[float, ...]
    smallest: Tensor


def sweep(target: Target, attack: Attack, x: Tensor, sizes: Sequence[float]) -> Strength:
    """Attack scans at growing sizes; find the smallest that flips each by bisection.

    The first of the sizes, or of some above, that flips a scan brackets it.
    """
    right = target.right(x)

    def rights(size: Tensor) -> tuple[float, Tensor]:
        now = target.right(attack(x, size))
        return float(now.double().mean()), _any_of_scan(right & ~now)

    low, high = x.new_zeros(len(x)), x.new_ones(len(x))
    found = ~_any_of_scan(right)
    accuracies = []
    for size in (*sizes, *(above for above in _ABOVE if above > sizes[-1])):
        if size > sizes[-1] and found.all():
            break
        accuracy, flipped = rights(torch.full_like(low, size))
        accuracies.append(accuracy)
        high = torch.where(flipped & ~found, size, high)
        low = torch.where(flipped | found, low, size)
        found |= flipped
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        _, flipped = rights(middle)
        high = torch.where(flipped & found, middle, high)
        low = torch.where(flipped, low, middle)
    smallest = torch.where(found, high, 1.0)
    return Strength(
        tuple(accuracies[: len(sizes)]), torch.where(_any_of_scan(right), smallest, 0.0)
    )


def _any_of_scan(values: Tensor) -> Tensor:
    """(N,) or (N, L) bool -> (N,)."""
    return values.reshape(len(values), -1).any(dim=1)


def _column(values: Tensor, x: Tensor) -> Tensor:
    """(N,) -> (N, 1, ...) beside scans."""
    return values.view((-1,) + (1,) * (x.ndim - 1))
