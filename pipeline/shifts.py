"""What scanners, people and wrong headers do to a scan: its kinds, its amounts and their words.

Nothing here is learned or fitted, and the labels stay true: a shifted scan shows the same patient.
``augment`` changes training scans at random so that a model gets used to such changes; a shift is
one change by one stated amount, to see what it does (``shifting`` does it).
"""

from __future__ import annotations

import math
from typing import Final, Literal

from pydantic import NonNegativeInt, model_validator

from data_prep.config import Config
from data_prep.errors import ConfigError

Kind = Literal[
    "gain",
    "bias",
    "field",
    "gamma",
    "noise",
    "blur",
    "rotation",
    "flip",
    "shift",
    "scale",
    "orientation",
]
Beyond = Literal["edge", "wrap"]

# The amount that changes nothing.
NEUTRAL: Final[dict[Kind, float]] = {
    "gain": 1.0,
    "bias": 0.0,
    "field": 1.0,
    "gamma": 1.0,
    "noise": 0.0,
    "blur": 0.0,
    "rotation": 0.0,
    "flip": 0.0,
    "shift": 0.0,
    "scale": 1.0,
    "orientation": 0.0,
}
KINDS: Final[tuple[Kind, ...]] = tuple(NEUTRAL)

# What an amount is, for axes of figures.
AMOUNTS: Final[dict[Kind, str]] = {
    "gain": "factor",
    "bias": "share of the intensity range",
    "field": "factor at the far corner",
    "gamma": "exponent",
    "noise": "share of the intensity range",
    "blur": "voxels",
    "rotation": "degrees",
    "flip": "0 or 1",
    "shift": "voxels",
    "scale": "factor",
    "orientation": "number of the mistake",
}

# What a wrong header, or a reader with another convention, does to the axes; ``amount`` counts
# from 1. DICOM's axes grow to the Left and Posterior, NIfTI's to the Right and Anterior; arrays
# are stored rows first or columns first; slices from either end; photographs on their side.
ORIENTATION_MISTAKES: Final = (
    "first two axes exchanged",
    "first two axes reversed",
    "last axis reversed",
    "quarter turn",
)

_POSITIVE: Final = frozenset({"gain", "field", "gamma", "scale"})
_NOT_NEGATIVE: Final = frozenset({"noise", "blur"})
_UNITS: Final = {
    "gain": "{:g}x",
    "bias": "{:g} of the range",
    "field": "{:g}x",
    "gamma": "{:g}",
    "noise": "{:g} of the range",
    "blur": "{:g} px",
    "rotation": "{:g} deg",
    "shift": "{:g} px",
    "scale": "{:g}x",
}


class Shift(Config):
    """One change of a scan.

    Attributes:
        kind: What is changed; ``amount`` says how far, and of one amount (``NEUTRAL``) nothing is:

            * ``gain``: factor on all intensities.
            * ``bias``: added to all, as a share of the scan's range.
            * ``field``: a smooth factor, from 1/amount in the first voxel's corner to amount in
              the opposite one, as an MR receive coil at one side of the body gives.
            * ``gamma``: exponent on the intensities, of which the range is taken as 0 to 1.
            * ``noise``: standard deviation of Gaussian noise, as a share of the range.
            * ``blur``: standard deviation in voxels of a Gaussian along every axis.
            * ``rotation``: degrees about the scan's centre, from the first of ``axes`` towards the
              second.
            * ``flip``: 1 mirrors ``axes``, 0 does not.
            * ``shift``: voxels that everything moves by, along each of ``axes``.
            * ``scale``: how many times larger everything appears, about the scan's centre.
            * ``orientation``: 1, 2, ... is the mistake of that number in ``ORIENTATION_MISTAKES``.
        amount: How far.
        axes: Spatial axes (0 is I) that are mirrored, moved along or turned in. Left out: the
            columns (axis 1) for ``flip``, all for ``shift``, the first two for ``rotation``.
        beyond: What comes in from beyond the border (rotation, shift, scale): ``edge`` repeats
            the outermost voxels, as preprocessing and augmentation do, so that no edge appears;
            ``wrap`` brings in the opposite side, so that a shift loses nothing.
    """

    kind: Kind
    amount: float
    axes: tuple[NonNegativeInt, ...] = ()
    beyond: Beyond = "edge"

    @model_validator(mode="after")
    def _check(self) -> Shift:
        kind, amount = self.kind, self.amount
        if not math.isfinite(amount):
            raise ValueError(f"amount {amount} of {kind} is not a number")
        if kind in _POSITIVE and amount <= 0:
            raise ValueError(f"amount {amount:g} of {kind} is a factor: it must be above 0")
        if kind in _NOT_NEGATIVE and amount < 0:
            raise ValueError(f"amount {amount:g} of {kind} must not be below 0")
        most = {"flip": 1, "orientation": len(ORIENTATION_MISTAKES)}.get(kind)
        if most and amount not in range(most + 1):
            raise ValueError(f"amount {amount:g} of {kind} is not one of 0 to {most}")
        if self.axes and kind not in ("flip", "shift", "rotation"):
            raise ValueError(f"{kind} has no axes to choose")
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes {self.axes} name one axis twice")
        if self.axes and kind == "rotation" and len(self.axes) != 2:
            raise ValueError(f"a rotation turns in a plane of two axes, not {len(self.axes)}")
        return self

    @property
    def is_neutral(self) -> bool:
        """Whether it leaves every scan as it is, bit for bit."""
        return self.amount == NEUTRAL[self.kind]

    def axes_of(self, ndim: int) -> tuple[int, ...]:
        """The axes that it acts on, of a scan with so many.

        Raises:
            ConfigError: ``shift.no_axis``.
        """
        default = {"flip": (1,), "rotation": (0, 1)}.get(self.kind, tuple(range(ndim)))
        chosen = self.axes or default
        if missing := [axis for axis in chosen if axis >= ndim]:
            raise ConfigError(
                "shift.no_axis",
                f"{self}: the scans have {ndim} axes, and none is number {missing[0]} "
                "(the first is 0)",
                fix=f"name axes from 0 to {ndim - 1}",
            )
        return chosen

    def check_fits(self, shape: tuple[int, ...]) -> None:
        """Refuse a shift that leaves nothing of scans of this shape (I, J[, K]) to see.

        Raises:
            ConfigError: ``shift.no_axis``, ``shift.out_of_scan``.
        """
        axes = self.axes_of(len(shape))
        if self.kind != "shift" or self.beyond == "wrap":
            return
        shortest = min(shape[axis] for axis in axes)
        if abs(self.amount) >= shortest:
            raise ConfigError(
                "shift.out_of_scan",
                f"{self}: scans of {' x '.join(map(str, shape))} px are then moved out of the "
                "picture, and no classifier sees anything of them",
                fix=f"choose an amount below {shortest}, or beyond: wrap, which loses nothing",
            )

    def __str__(self) -> str:
        return shift_name(self)


def shift_name(shift: Shift) -> str:
    """The words for tables: ``shift 4 px``, ``gain 2x``, ``rotation 90 deg``, ``flip axis 1``."""
    if shift.kind == "orientation" and not shift.is_neutral:
        return f"orientation: {ORIENTATION_MISTAKES[int(shift.amount) - 1]}"
    axes = shift.axes or ((1,) if shift.kind == "flip" else ())
    where = f" axis {', '.join(map(str, axes))}" if axes else ""
    wrapped = ", wrapped" if shift.beyond == "wrap" else ""
    if shift.kind in ("flip", "orientation"):
        return f"{shift.kind} none" if shift.is_neutral else shift.kind + where
    return f"{shift.kind} {_UNITS[shift.kind].format(shift.amount)}{where}{wrapped}"
