"""Does a scan look like the training scans? A score with a stated rate of false alarms.

What the training scans are like is fitted on them; how far from them a scan of the same cohort may
lie is measured on scans that were held out (validation). A scan is flagged where it lies further
out than all but a share ``false_alarms`` of those, counting the scan itself: a conformal p-value
(Vovk et al. 2005; Bates et al. 2023, "Testing for outliers with conformal p-values"), whose rate of
false alarms holds for any distribution, as long as new scans come as the held-out ones did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from data_prep.config import Config
from data_prep.errors import MedcurveError
from data_prep.scan_look import LEVELS, ScanLook
from pipeline.trust.shift_cloud import MAX_POINTS, MAX_WIDTH, Cloud, Rows
from pipeline.trust.shift_spaces import PARTS, Part, Spaces
from pipeline.trust.shift_steps import by_part, in_steps, joined_p_values, scale

# Held-out scans whose coordinates are kept, for tests of whole batches: as many as these compare.
# With 80, what sets PneumoniaMNIST's official test scans apart is found by luck (docs/shift.md).
MAX_HELD_POINTS: Final = 400
# Held-out scans whose distances are kept: the threshold is within a hundredth of their rate.
MAX_HELD_OUT: Final = 500
_ROUNDING: Final = 1e-9


class ShiftError(MedcurveError):
    """A reference of the training scans that cannot be fitted, or whose state is damaged."""


class ShiftFacts(Config):
    """What of a ``ShiftReference`` is no array.

    Attributes:
        false_alarms: As asked for.
        training: Training scans that it was fitted on.
        held_out: Held-out scans that the threshold is from.
        spatial_ndim: Of the scans.
        small: Cells of a prepared scan in small.
        features: Numbers that the model sees of a scan; 0: it looks at nothing.
        kinds: Field -> word -> training scans.
        batches_by_features: Whether batches are compared by what the model sees of them as well.
    """

    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    training: PositiveInt
    held_out: PositiveInt
    spatial_ndim: Annotated[int, Field(ge=2, le=3)]
    small: PositiveInt
    features: NonNegativeInt
    kinds: dict[str, dict[str, PositiveInt]]
    batches_by_features: bool = True

    @property
    def batch_parts(self) -> tuple[Part, ...]:
        """The sides that batches are compared from."""
        known = self.features and self.batches_by_features
        return tuple(part for part in PARTS if known or part != "features")


@dataclass(frozen=True)
class ShiftScore:
    """How foreign one scan is.

    Attributes:
        score: The greatest of ``parts``.
        parts: How far outside the held-out scans it lies from each side, in steps of what those
            differ by: 0 is their median.
        p_value: Share of scans like the training cohort's that are as foreign.
        flagged: Whether ``p_value`` is at most the reference's ``rate``.
    """

    score: float
    parts: Mapping[Part, float]
    p_value: float
    flagged: bool

    @property
    def raised_by(self) -> Part:
        """The side from which it is most foreign."""
        return max(self.parts, key=lambda part: self.parts[part])


@dataclass(frozen=True, eq=False)
class ShiftReference:
    """The training scans, as others are compared with them; at most 350 kB.

    Attributes:
        facts: Its numbers.
        spaces: Where the training scans lie.
        held: (M, parts x 2) float32 distances of the held-out scans, M at most 500.
        points: Part -> (at most 400, K) float32 coordinates of held-out scans.
    """

    facts: ShiftFacts
    spaces: Spaces
    held: NDArray[np.float32]
    points: Mapping[Part, NDArray[np.float32]]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The sides that it looks from."""
        return tuple(self.spaces.clouds)

    @property
    def rate(self) -> float:
        """The rate of false alarms that its threshold has.

        The highest that M held-out scans allow and that is not above what was asked for; else the
        lowest that they allow, 1 / (M + 1).
        """
        return self._rank / (len(self.held) + 1)

    @property
    def rate_interval(self) -> tuple[float, float]:
        """Where, for these held-out scans, 95 % of the rates lie that it may have in the long run.

        A threshold at the k-th largest of M scores has a rate distributed as Beta(k, M + 1 - k).
        """
        m = len(self.held)
        from scipy import stats  # a second to import, and a batch of scans is to begin soon

        low, high = stats.beta.ppf((0.025, 0.975), self._rank, m + 1 - self._rank)
        return float(low), float(high)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of its threshold, in words."""
        low, high = self.rate_interval
        long_run = (
            f"The threshold is from {len(self.held)} held-out scans: in the long run between "
            f"{low:.1%} and {high:.1%} of scans like them are flagged."
        )
        if self.rate <= self.facts.false_alarms + _ROUNDING:
            return (long_run,)
        wanted = int(np.ceil(1 / self.facts.false_alarms - _ROUNDING)) - 1
        return (
            f"A false-alarm rate of {self.facts.false_alarms:.1%} needs {wanted} held-out scans; "
            f"there are {len(self.held)}, so that the rate is {self.rate:.1%}.",
            long_run,
        )

    def score(self, looks: Sequence[ScanLook], features: Rows) -> list[ShiftScore]:
        """How foreign each scan is; a row does not depend on the others.

        Args:
            looks: N scans.
            features: (N, D) as ``Family.features`` gives them.

        Raises:
            ShiftError: ``shift.other_scans`` if they have other dimensions or features than the
                training scans.
        """
        if not len(looks):
            return []
        self._check(looks, features)
        return self._scored(self.spaces.distances(looks, features))

    def coordinates(
        self, looks: Sequence[ScanLook], features: Rows
    ) -> dict[Part, NDArray[np.float32]]:
        """Part -> (N, K): where scans lie, as ``points`` are given.

        Raises:
            ShiftError: As ``score``.
        """
        self._check(looks, features)
        return self.spaces.coordinates(looks, features)

    @property
    def _rank(self) -> int:
        return max(1, int(self.facts.false_alarms * (len(self.held) + 1) + _ROUNDING))

    @cached_property
    def _scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return scale(self.held)

    def _scored(self, distances: NDArray[np.float32]) -> list[ShiftScore]:
        steps = by_part(in_steps(distances, *self._scale))
        p_values = joined_p_values(self.held, distances)
        return [
            ShiftScore(
                score=float(row.max()),
                parts=dict(zip(self.parts, row.tolist(), strict=True)),
                p_value=p_value,
                flagged=p_value <= self.rate + _ROUNDING,
            )
            for row, p_value in zip(steps, p_values.tolist(), strict=True)
        ]

    def _check(self, looks: Sequence[ScanLook], features: Rows) -> None:
        found = (
            features.shape,
            {look.spatial_ndim for look in looks},
            {len(look.small) for look in looks},
        )
        wanted = (
            (len(looks), self.facts.features),
            {self.facts.spatial_ndim},
            {self.facts.small},
        )
        if found != wanted:
            raise ShiftError(
                "shift.other_scans",
                f"scans with features {found[0]}, axes {sorted(found[1])} and {sorted(found[2])} "
                f"cells; the reference takes {wanted[0]}, {sorted(wanted[1])} and "
                f"{sorted(wanted[2])}",
                fix="compare scans that the same model's recipe has prepared",
            )

    def state(self) -> dict[str, NDArray[Any]]:
        """Its arrays, as safetensors stores them; with ``facts`` all that it is."""
        found: dict[str, NDArray[Any]] = {"held": self.held}
        for part, cloud in self.spaces.clouds.items():
            found |= {f"{part}.{name}": value for name, value in cloud.arrays().items()}
        return found | {f"{part}.held_points": value for part, value in self.points.items()}

    @classmethod
    def from_state(cls, facts: ShiftFacts, state: Mapping[str, NDArray[Any]]) -> ShiftReference:
        """What ``facts`` and ``state()`` described, bit for bit.

        Raises:
            ShiftError: ``shift.bad_state`` with what does not fit.
        """
        try:
            reference = cls._of(facts, state)
            _check_widths(reference)
        except ValueError as error:
            raise ShiftError(
                "shift.bad_state",
                f"not a reference of training scans of this medcurve version: {error}",
                fix="release the model again",
            ) from None
        return reference

    @classmethod
    def _of(cls, facts: ShiftFacts, state: Mapping[str, NDArray[Any]]) -> ShiftReference:
        parts = [part for part in PARTS if facts.features or part != "features"]
        wanted = {"held", *(f"{part}.{name}" for part in parts for name in Cloud.ARRAYS)}
        wanted |= {f"{part}.held_points" for part in facts.batch_parts}
        if odd := set(state) ^ wanted:
            raise ValueError(f"arrays {', '.join(sorted(odd))} are missing or too many")
        spaces = Spaces(
            {
                p: Cloud.of_arrays({name: state[f"{p}.{name}"] for name in Cloud.ARRAYS})
                for p in parts
            },
            facts.kinds,
        )
        points = {part: state[f"{part}.held_points"] for part in facts.batch_parts}
        return cls(facts, spaces, state["held"], points)


def _check_widths(reference: ShiftReference) -> None:
    """Refuse arrays that do not fit each other or the facts.

    Raises:
        ValueError: With what does not fit.
    """
    facts, widths = reference.facts, reference.spaces.widths
    numbers: dict[Part, int] = {
        "metadata": 2 * facts.spatial_ndim,
        "histogram": 3 * len(LEVELS),
        "pixels": min(facts.small, MAX_WIDTH),
        "features": min(facts.features, MAX_WIDTH),
    }
    n_points = min(facts.training, MAX_POINTS)
    # packages of an earlier medcurve keep 80
    n_held = min(len(reference.points["pixels"]), facts.held_out, MAX_HELD_POINTS)
    wanted: dict[str, tuple[int, ...]] = {"held": (facts.held_out, 2 * len(widths))}
    found = {"held": reference.held}
    for part, cloud in reference.spaces.clouds.items():
        wanted |= {
            f"{part}.mean": (numbers[part],),
            f"{part}.points": (n_points, len(cloud.variances)),
        }
        found |= {f"{part}.mean": cloud.mean, f"{part}.points": cloud.points}
    for part, points in reference.points.items():
        wanted[f"{part}.held_points"] = (n_held, widths[part])
        found[f"{part}.held_points"] = points
    for name, array in found.items():
        if array.shape != wanted[name] or array.dtype != np.float32:
            raise ValueError(f"'{name}' is {array.shape} {array.dtype}, not {wanted[name]} float32")
        if not np.isfinite(array).all():
            raise ValueError(f"'{name}' holds NaN or infinite numbers")
