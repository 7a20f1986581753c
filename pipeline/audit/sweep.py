"""Which shifts an audit tries: amounts of every kind, and what of them is realistic.

The realistic range of a kind is what happens between hospitals without anybody calling it a fault;
a danger is named only within it. Beyond it the curve shows where the model breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.shifts import ORIENTATION_MISTAKES, Kind, Shift, shift_name

AuditKind = Kind | Literal["storage"]


@dataclass(frozen=True)
class Range:
    """What is tried of one kind.

    Attributes:
        kind: Of shift; ``storage`` is a scan that is stored along other axes, and says so.
        amounts: In the unit of ``Shift.amount``, rising, without the neutral one; for ``shift`` as
            shares of the shortest edge of what the model takes. Of ``flip`` and those that name
            mistakes, the axis or the mistake, all of them realistic.
        low, high: The realistic range.
        unit: Of ``amounts`` on a figure's axis; "" where each has a name.
        what: What the amounts are, in words.
        why: Why the range is realistic.
    """

    kind: AuditKind
    amounts: tuple[float, ...]
    low: float
    high: float
    unit: str
    what: str
    why: str


_MISTAKES: Final = tuple(float(n + 1) for n in range(len(ORIENTATION_MISTAKES)))

RANGES: Final = (
    Range(
        "gain",
        (0.25, 0.5, 0.8, 1.25, 2, 4),
        *(0.5, 2),
        "factor",
        "half to double intensity",
        "Receiver gain, exposure and ultrasound gain are set by hand or by the scanner; a factor "
        "of two (6 dB) is an everyday setting.",
    ),
    Range(
        "bias",
        (-0.5, -0.2, -0.1, 0.1, 0.2, 0.5),
        *(-0.2, 0.2),
        "share of the range",
        "up to a fifth of the scan's range, darker or brighter",
        "A brightness setting, or an offset that one vendor adds and another does not.",
    ),
    Range(
        "field",
        (1.1, 1.25, 1.5, 2, 3),
        *(1, 1.5),
        "factor at the corners",
        "up to 1.5 times brighter in one corner and darker in the opposite one",
        "MR coils light the near side: the BrainWeb simulator offers 20 and 40 %, surface coils "
        "and high fields give more; ultrasound fades with depth.",
    ),
    Range(
        "gamma",
        (0.4, 0.67, 0.8, 1.25, 1.5, 2.5),
        *(0.67, 1.5),
        "exponent",
        "exponents of 0.67 to 1.5",
        "Export through another grey-scale curve: the dynamic range of ultrasound, a display's "
        "curve, a photograph of a screen.",
    ),
    Range(
        "noise",
        (0.02, 0.05, 0.1, 0.2, 0.4),
        *(0, 0.1),
        "share of the range",
        "standard deviations up to a tenth of the scan's range",
        "Half the dose or a quarter of the scan time doubles the noise; a tenth of the range is "
        "that of a poor but readable scan.",
    ),
    Range(
        "blur",
        (0.5, 1, 1.5, 2, 3),
        *(0, 1),
        "voxels of the model's grid",
        "a Gaussian of up to one voxel of the model's grid",
        "Another reconstruction kernel, slice thickness or detector, slight motion, compression.",
    ),
    Range(
        "rotation",
        (-90, -30, -15, -5, 5, 15, 30, 90),
        *(-15, 15),
        "degrees",
        "up to 15 degrees in the plane either way",
        "People do not lie straight, and probes are not held straight.",
    ),
    Range(
        "shift",
        (-0.3, -0.15, -0.07, -0.04, 0.04, 0.07, 0.15, 0.3),
        *(-0.15, 0.15),
        "voxels of the model's grid",
        "up to 15 % of the shortest edge along every axis, either way",
        "Another operator places the field of view, or crops, by another landmark.",
    ),
    Range(
        "scale",
        (0.5, 0.67, 0.8, 0.9, 1.1, 1.25, 1.5, 2),
        *(0.8, 1.25),
        "factor",
        "a fifth smaller to a quarter larger",
        "Patients' sizes, zoom and field of view; and a spacing that the header states wrong.",
    ),
    Range(
        "flip",
        (0, 1, 2),
        *(0, 2),
        "",
        "mirrored along each axis",
        "The other breast, eye or knee; an export or a reader that counts rows or columns from the "
        "other end.",
    ),
    Range(
        "orientation",
        _MISTAKES,
        *(1, len(_MISTAKES)),
        "",
        "axes other than the header says",
        "One conversion program with another convention, or an orientation tag that is lost. What "
        "the header says wrong no preprocessing repairs.",
    ),
    Range(
        "storage",
        _MISTAKES,
        *(1, len(_MISTAKES)),
        "",
        "stored along other axes, as the header truly says",
        "Scanners and converters store axes in any order; the header says which, and the recipe "
        "goes by it.",
    ),
)


@dataclass(frozen=True)
class Step:
    """One shift that is tried on every scan.

    Attributes:
        kind: Of ``RANGES``.
        amount: In the unit of ``Range.amounts`` (for ``shift`` in voxels of the model's grid).
        shift: What is done to the voxels; ``shift`` and ``blur`` in voxels of the model's grid. Of
            ``storage`` an orientation that the header follows.
        realistic: Whether it lies in the kind's realistic range.
    """

    kind: AuditKind
    amount: float
    shift: Shift
    realistic: bool

    def __str__(self) -> str:
        if self.kind == "storage":
            return f"storage: {ORIENTATION_MISTAKES[int(self.amount) - 1]}, and the header says so"
        return shift_name(self.shift)


def sweep(scan_shape: tuple[int, ...], *, stored: bool) -> tuple[Step, ...]:
    """Every step for a model that takes scans (C, I, J[, K]).

    Args:
        scan_shape: Of what the model takes.
        stored: Whether the scans' headers state an orientation, so that ``storage`` has a meaning.
    """
    return tuple(
        step
        for tried in RANGES
        if stored or tried.kind != "storage"
        for step in _steps(tried, scan_shape[1:])
    )


def _steps(tried: Range, shape: tuple[int, ...]) -> Iterator[Step]:
    moved = set()  # of a small scan, several shares of the edge are the same number of voxels
    for amount in tried.amounts:
        realistic = tried.low <= amount <= tried.high
        match tried.kind:
            case "shift":
                if (voxels := _whole(amount * min(shape))) not in moved:
                    moved.add(voxels)
                    yield Step("shift", voxels, Shift(kind="shift", amount=voxels), realistic)
            case "flip":
                axis = int(amount)
                if axis < len(shape):
                    yield Step("flip", axis, Shift(kind="flip", amount=1, axes=(axis,)), realistic)
            case "storage":
                yield Step("storage", amount, Shift(kind="orientation", amount=amount), realistic)
            case kind:
                yield Step(kind, amount, Shift(kind=kind, amount=amount), realistic)


def _whole(voxels: float) -> int:
    """The nearest number of voxels that is not none."""
    return round(voxels) or (1 if voxels > 0 else -1)
