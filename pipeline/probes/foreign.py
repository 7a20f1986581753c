"""Would it be noticed that scans are not like those that a network was trained on?

Two questions, asked of scans that are shifted on purpose: is this scan foreign
(``ShiftReference``), and are these scans, taken together, drawn otherwise (``batch_test``)?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from data_prep.scan_look import ScanLook, look_at
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.page import PALETTE
from pipeline.probes.base import Probe, ProbeError, drawn
from pipeline.probes.pictures import canvas
from pipeline.shifting import shift_batch
from pipeline.shifts import Shift
from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.shift_reference import ShiftReference, ShiftScore
from pipeline.trust.two_sample import batch_test
from pipeline.weighted_metrics import Auc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_SCANS: Final = 32
_TICKS: Final = (0, 5, 10, 100, 1000, 10_000, 100_000)


class Foreign(Probe):
    """One half of the scans says what scans look like, a quarter where foreign ones begin, and the
    last quarter is compared with them: as it is, and shifted.

    Quantities: ``p unshifted`` and ``p SHIFT`` (p-value of the batch: small where it is noticed),
    and ``auroc SHIFT`` (of the score of single scans, shifted against unshifted: 0.5 where nothing
    is noticed, 1 where every scan is). Any family that predicts.

    Attributes:
        shifts: What is done to the scans.
        scans: How many, in all.
    """

    units: ClassVar[Mapping[str, str]] = {
        "p": "p-value of the batch",
        "auroc": "AUROC of the score",
    }
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    probe: Literal["foreign"] = "foreign"
    shifts: Annotated[tuple[Shift, ...], Field(min_length=1)] = (
        Shift(kind="gain", amount=1.5),
        Shift(kind="bias", amount=0.5),
        Shift(kind="noise", amount=0.1),
        Shift(kind="orientation", amount=2),
    )
    scans: Annotated[int, Field(ge=_LEAST_SCANS)] = 240

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes."""
        told = [f"{what} {shift}" for shift in self.shifts for what in self.units]
        return ("p unshifted", *told)

    def check(self, family: Family[Any]) -> None:
        """Any family predicts."""

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; no network is needed.

        Raises:
            ProbeError: ``probe.few_scans``.
        """
        compared = self._compare(family, scans, seed)
        found = {"p unshifted": compared["unshifted"].p_value}
        for shift in map(str, self.shifts):
            found[f"p {shift}"] = compared[shift].p_value
            found[f"auroc {shift}"] = _auroc(compared["unshifted"].scores, compared[shift].scores)
        return found

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """The scores of single scans, a row for each shift."""
        from matplotlib.ticker import NullLocator

        compared = self._compare(family, scans, seed)
        height = 1.2 + 0.45 * len(compared)
        with canvas(f"{family.name}: are shifted scans noticed?", 7.4, height) as figure:
            axes = figure.subplots()
            rng = np.random.default_rng(0)
            for row, one in enumerate(compared.values()):
                places = row + rng.uniform(-0.25, 0.25, len(one.scores))
                colour = PALETTE[0] if row == 0 else PALETTE[1]
                axes.scatter(one.scores, places, s=6, color=colour, alpha=0.6, linewidths=0)
            names = [f"{name}\n(batch p {one.p_value:.3f})" for name, one in compared.items()]
            axes.set_yticks(range(len(names)), names)
            axes.invert_yaxis()
            axes.set_xscale("symlog", linthresh=5)
            largest = max(float(one.scores.max()) for one in compared.values())
            axes.set_xticks([tick for tick in _TICKS if tick <= max(largest, 5)])
            axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("shift score: 0 as the held-out scans, larger more foreign")
        return figure

    def _compare(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, _Compared]:
        some = drawn(family, scans, self.scans, seed)
        if len(some) < _LEAST_SCANS:
            raise ProbeError(
                "probe.few_scans",
                f"there are {len(some)} scans; to say what scans look like takes {_LEAST_SCANS}",
                fix="probe on a split with more scans",
            )
        order = np.random.default_rng(seed).permutation(len(some))
        half, quarter = len(some) // 2, len(some) // 4
        known, held, new = np.split(order, [half, half + quarter])
        reference = fit_shift_reference(
            *_looked(family, some.take(known)), *_looked(family, some.take(held))
        )
        rest = some.take(new)
        found = {"unshifted": _compared(reference, family, rest)}
        for shift in self.shifts:
            moved = torch.from_numpy(shift_batch(rest.x.numpy(), shift))
            found[str(shift)] = _compared(reference, family, rest.with_x(moved))
        return found


@dataclass(frozen=True, eq=False)
class _Compared:
    """A batch: the score of each scan, and the p-value of all."""

    scores: NDArray[np.float64]
    p_value: float


def _compared(reference: ShiftReference, family: Family[Any], scans: Scans) -> _Compared:
    looks, features = _looked(family, scans)
    scores: list[ShiftScore] = reference.score(looks, features)
    batch = batch_test(reference, looks, features, scans.patient_ids.tolist())
    return _Compared(np.array([one.score for one in scores]), batch.p_value)


def _looked(family: Family[Any], scans: Scans) -> tuple[list[ScanLook], NDArray[np.float32]]:
    arrays = scans.x.numpy()
    looks = [look_at(Volume(array, np.eye(4), has_geometry=False), array) for array in arrays]
    return looks, family.features(family.prepare(scans.x))


def _auroc(usual: NDArray[np.float64], shifted: NDArray[np.float64]) -> float:
    """Share of pairs in which the shifted scan scores higher; ties count one half."""
    scores = np.concatenate([usual, shifted])
    count = len(scores)
    area = Auc.of(np.arange(count) >= len(usual), scores, np.arange(count))
    return float(area(np.ones((count, 1)))[0])
