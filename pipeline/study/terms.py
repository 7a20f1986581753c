"""The cells of one family and size as an array, and what each of them does to a mean over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.study.errors import StudyError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Term:
    """One term of a decomposition.

    Attributes:
        value: (N,) of each scan; NaN where the cells cannot tell it.
        subsets: (D, N) first-order influence of each subset on ``value``: how much more it would
            be if the subset counted more (infinitesimal jackknife: Efron 1982, chapter 6).
        seeds: (S, N) the same of each seed.
    """

    value: Floats
    subsets: Floats
    seeds: Floats

    def __add__(self, other: Term) -> Term:
        return Term(
            self.value + other.value, self.subsets + other.subsets, self.seeds + other.seeds
        )

    def __sub__(self, other: Term) -> Term:
        return Term(
            self.value - other.value, self.subsets - other.subsets, self.seeds - other.seeds
        )


Terms = Mapping[str, Term]


@dataclass(frozen=True, eq=False)
class Cells:
    """Probabilities of the cells of one family and size.

    Attributes:
        p: (D, S, N, K) probabilities, 0 where a cell is missing.
        present: (D, S) which cells there are.
    """

    p: Floats
    present: NDArray[np.bool_]

    @classmethod
    def of(cls, p: Floats) -> Cells:
        """Check (D, S, N, K) probabilities; a cell that failed is NaN throughout.

        Subsets and seeds without any finished cell are left out. Where no subset has two finished
        seeds, seeds cannot be told from subsets: the cells then count as of one seed.

        Raises:
            StudyError: ``study.no_cells`` if no cell is finished, ``study.broken_cell`` if one
                has probabilities of some scans only.
        """
        known = ~np.isnan(p)
        present = np.asarray(known.any(axis=(2, 3)))
        if not present.any():
            raise StudyError(
                "study.no_cells",
                f"none of {present.size} cells has probabilities: there is nothing to take apart",
                fix="see in the journal why they failed, mend it and run the study again",
            )
        broken = np.argwhere(present & ~known.all(axis=(2, 3)))
        if len(broken):
            raise StudyError(
                "study.broken_cell",
                f"subset {broken[0][0]}, seed {broken[0][1]} has NaN for some scans or classes",
                fix="give every scan of a finished cell its probabilities, or none of them",
            )
        rows, columns = present.any(axis=1), present.any(axis=0)
        p, present = np.where(known, p, 0)[rows][:, columns], present[rows][:, columns]
        if len(present) > 1 and (present.sum(axis=1) == 1).all():
            p, present = p.sum(axis=1, keepdims=True), np.ones((len(present), 1), dtype=bool)
        return cls(p, present)

    def means(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Mean of (D, S, ...) over all cells, over each subset's (D, ...), each seed's (S, ...)."""
        here = self.present.reshape(*self.present.shape, *[1] * (x.ndim - 2))
        x = x * here
        return (
            x.sum(axis=(0, 1)) / self.present.sum(),
            x.sum(axis=1) / here.sum(axis=1),
            x.sum(axis=0) / here.sum(axis=0),
        )

    def term(self, x: Floats) -> Term:
        """The mean of (D, S, N) over cells."""
        mean, subsets, seeds = self.means(x)
        return Term(mean, subsets - mean, seeds - mean)

    def constant(self, value: Floats) -> Term:
        """(N,) that no cell has a part in."""
        subsets, seeds = self.present.shape
        return Term(value, np.zeros((subsets, len(value))), np.zeros((seeds, len(value))))

    def products(self) -> tuple[Floats, Floats, Floats]:
        """(N,) mean inner product of two cells: of one subset, of one seed, of neither."""
        n_cells = int(self.present.sum())
        n_subset = int((self.present.sum(axis=1) ** 2).sum()) - n_cells
        n_seed = int((self.present.sum(axis=0) ** 2).sum()) - n_cells
        n_neither = n_cells**2 - n_cells - n_subset - n_seed
        itself = (self.p**2).sum(axis=(0, 1, 3))
        subset = (self.p.sum(axis=1) ** 2).sum(axis=(0, 2)) - itself
        seed = (self.p.sum(axis=0) ** 2).sum(axis=(0, 2)) - itself
        neither = (self.p.sum(axis=(0, 1)) ** 2).sum(axis=1) - itself - subset - seed
        return subset / max(n_subset, 1), seed / max(n_seed, 1), neither / max(n_neither, 1)
