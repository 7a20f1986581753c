"""Which families reach a target at which sizes, and whether beyond noise.

Every family at every size is a look of its own: each is tested as a difference from the target
(``pipeline.study.mean_gain``; test patients by the bootstrap), and Holm's rule is over all looks at
the target. Where a class has very few test patients the bootstrap cannot be trusted, and nothing is
reached beyond noise (``pipeline.study.summary.few_patients``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.metrics import higher_is_better
from pipeline.study.learning_curve import Curves, Where
from pipeline.study.mean_gain import MeanGain, holm


@dataclass(frozen=True)
class Reach:
    """How a family's mean test score at one size stands to a target.

    Attributes:
        family, size, target: Which.
        gain: By how much the score is better than the target (for a loss: lower).
        p_holm: Of the score being the target, two-sided, adjusted for all families and sizes.
        level: Level of the verdict.
        few_patients: Whether the test patients are too few for a verdict beyond noise.
    """

    family: str
    size: int
    target: float
    gain: float
    p_holm: float
    level: float
    few_patients: bool

    @property
    def verdict(self) -> Literal["beyond noise", "on average", "not"]:
        """Whether the target is reached."""
        if not self.gain >= 0:
            return "not"
        sure = self.p_holm <= 1 - self.level and not self.few_patients
        return "beyond noise" if sure else "on average"


def reaches(
    curves: Curves,
    families: Sequence[str],
    sizes: Sequence[int],
    targets: Sequence[float],
    metric: str,
    level: float,
    *,
    few_patients: bool = False,
) -> list[Reach]:
    """How every family stands to every target at every size; undefined scores are left out.

    Args:
        curves: The points, with the cells behind them.
        families, sizes: Which.
        targets: Scores to be reached.
        metric: Of ``pipeline.metrics.METRICS``.
        level: Of intervals and verdicts.
        few_patients: Whether the test patients are too few for verdicts.
    """
    sign = 1 if higher_is_better(metric) else -1
    places = [Where(family, size, "test", metric) for size in sizes for family in families]
    found = []
    for target in targets:
        looks = {}
        for place in places:
            cells = curves.replicates[place]
            if not math.isnan(cells.mean):
                above = sign * (cells.mean - target)
                looks[place] = MeanGain.of(above, cells, cells.variance_by_patients)
        adjusted = holm([look.p for look in looks.values()])
        found += [
            Reach(place.family, place.size, target, look.value, p, level, few_patients)
            for (place, look), p in zip(looks.items(), adjusted, strict=True)
        ]
    return found
