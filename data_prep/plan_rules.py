"""The rules by which a recipe follows from a cohort's fingerprint: one function a decision.

Each rule looks at the scans and never at the labels. Where a threshold has no source beside it, it
is this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from data_prep.fingerprint import Axis, CohortFingerprint
from data_prep.preprocess import AS_STORED

# Voxels of one prepared scan. On one core a step of cnn_scratch takes 6 ms for a volume of 64^3
# and 1.4 ms for an image of 224^2: 40 epochs over 250 patients are a minute. 224 is also the edge
# that most ImageNet weights were trained at.
_BUDGET: Final = {2: 224**2, 3: 64**3}
# Voxels of all prepared scans together: training holds them in memory, 4 bytes each.
_COHORT_BUDGET: Final = 1 << 30
# Scans that must state a voxel size, as a share, for sizes in mm to be compared at all.
MOST: Final = 0.9
LEAST_EDGE: Final = 8
_EDGE_STEP: Final = 4  # edges are multiples of it: networks halve them again and again
# nnU-Net's ANISO_THRESHOLD (nnunetv2/configuration.py), for voxel edges and numbers of voxels.
_ANISOTROPY: Final = 3.0
# nnU-Net's step in the search for a spacing that fits its budget (default_experiment_planner.py).
_COARSEN: Final = 1.03
_ISOTROPIC: Final = 1.15  # edges that differ by less become one number
_MARGIN: Final = 1.05  # of the grid around the body
# Scales of single scans that differ by more come from scanners rather than from patients ...
_GAIN: Final = 1.5
# ... and histograms that differ by less are of one kind: one sequence, one part of the body.
_UNLIKE: Final = 0.1
# DICOM PS3.3 C.7.3.1.1.1: modalities that are projections through the body.
_PROJECTIONS: Final = frozenset({"CR", "DX", "MG", "RG", "PX", "IO", "XA", "RF"})
_HU_STEP: Final = 10


@dataclass(frozen=True)
class Decision:
    """One field of the recipe: its value, as YAML has it, and why."""

    field: str
    value: Any
    because: str


def default_budget(seen: CohortFingerprint) -> int:
    """Most voxels of a prepared scan: one can be trained on, and all of them fit in memory."""
    of_cohort = _COHORT_BUDGET // (seen.scans * max(int(n) for n in seen.channels))
    least: int = LEAST_EDGE**seen.spatial_ndim
    return max(least, min(_BUDGET[seen.spatial_ndim], of_cohort))


def orientation(seen: CohortFingerprint) -> Decision:
    """One orientation where scans state theirs, as stored where they do not."""
    silent = seen.scans - seen.with_orientation
    if seen.with_orientation == 0:
        why = "no file says how its scan lies in the patient, so axes stay as they are"
    elif seen.frame == AS_STORED:
        why = "the images lie in several planes, and no turning brings one plane into another"
    else:
        why = "left and right, front and back must mean the same in every scan; axes are swapped "
        why += "and turned, no voxel is changed"
        if silent:
            why += f"; {silent} of {seen.scans} scans do not say how they lie: they are taken "
            why += "to be upright"
    return Decision("orientation", seen.frame, why)


def grid(seen: CohortFingerprint, budget: int) -> tuple[Decision, Decision, Decision]:
    """``spacing_mm``, ``shape`` and ``fit``.

    Args:
        seen: The fingerprint.
        budget: Most voxels of a prepared scan; at least ``LEAST_EDGE`` along each axis.
    """
    if seen.modality in _PROJECTIONS:
        why = f"{seen.modality} is a projection: pixels are measured at the detector, not inside"
        return _stretched(seen, budget, why)
    if seen.with_spacing < MOST * seen.scans:
        why = f"{seen.with_spacing or 'none'} of {seen.scans} scans state a {seen.unit} size in mm"
        return _stretched(seen, budget, why)
    return _measured(seen, budget)


def intensity(seen: CohortFingerprint) -> Decision:
    """The intensity scale, by what the numbers mean and by how much scanners differ."""
    if seen.looks_like_hu:
        return _window(seen)
    if seen.modality in _PROJECTIONS:
        value: dict[str, Any] = {"kind": "percentile", "lower": 1.0, "upper": 99.0}
        why = (
            f"{seen.modality} has no absolute unit; the 1st and 99th percentile of each scan "
            "become 0 and 1, so that markers and collimator edges do not set the scale"
        )
    elif seen.is_eight_bit or seen.intensities.has_one_scale:
        value = {"kind": "training_z_score"}
        why = (
            f"all scans are on one scale already ({_range(seen)}), and brightness can be evidence: "
            "one mean and standard deviation for all, fitted on the training scans"
        )
        if seen.intensities.gain > _GAIN:
            why += (
                f"; contrast differs {seen.intensities.gain:.1f}-fold between scans: if that comes "
                "from the device and not from the patient, {kind: percentile} takes it away"
            )
    elif seen.spatial_ndim == 2 and seen.modality != "MR":
        value = {"kind": "percentile", "lower": 1.0, "upper": 99.0}
        why = (
            f"images without a known unit ({_range(seen)}): each scan's own 1st and 99th "
            "percentile become 0 and 1"
        )
    else:
        value, why = _without_unit(seen)
    return Decision("intensity", value, why)


def channels(seen: CohortFingerprint) -> Decision:
    """Grey, colour or as stored."""
    sampled = seen.intensities.sampled
    kinds = set(seen.channels)
    if kinds == {"1"}:
        return Decision("channels", 1, "all scans are grey")
    if kinds <= {"1", "3"}:
        if not seen.intensities.colour:
            why = f"the three channels are alike in all of {sampled} sampled scans: grey, saved as "
            return Decision("channels", 1, f"{why}colour")
        why = f"{seen.intensities.colour} of {sampled} sampled scans are in colour"
        why += "; grey ones get three equal channels" if "1" in kinds else ""
        return Decision("channels", 3, why)
    shown = ", ".join(f"{name} ({count} scans)" for name, count in seen.channels.items())
    return Decision("channels", AS_STORED, f"channels that are no colours are kept: {shown}")


def _stretched(
    seen: CohortFingerprint, budget: int, why: str
) -> tuple[Decision, Decision, Decision]:
    """Without millimetres: one number of voxels for all, by resizing."""
    median = [axis.voxels.median for axis in seen.axes]
    shape = [round(n) for n in median]
    if all(axis.voxels.is_constant for axis in seen.axes) and math.prod(shape) <= budget:
        because = (
            f"every scan has this shape, and it is within the budget ({_budget(seen, budget)})"
        )
        fit = "every scan has this shape already: nothing is stretched"
    else:
        factor = min(1.0, (budget / math.prod(median)) ** (1 / len(median)))
        shape = [_edge(n * factor) for n in median]
        while math.prod(shape) > budget:
            shape[shape.index(max(shape))] -= _EDGE_STEP
        because = f"the median scan has {_times(median)} {seen.unit}s"
        because += f", made smaller to the budget ({_budget(seen, budget)})" if factor < 1 else ""
        fit = f"without a {seen.unit} size in mm, scans can only be stretched to one shape"
    return (
        Decision("spacing_mm", None, why),
        Decision("shape", _one_or_all(shape), because),
        Decision("fit", "resize", fit),
    )


def _measured(seen: CohortFingerprint, budget: int) -> tuple[Decision, Decision, Decision]:
    """With millimetres: the median voxel, coarsened to the budget, over the scans' extent."""
    wanted, why = _wanted_spacing(seen)
    cover = [_cover(axis) for axis in seen.axes]
    finest = min(wanted)
    spacing = _rounded(wanted)
    shape = _edges(cover, spacing)
    while math.prod(shape) > budget:
        # The finest axes first: voxels become isotropic before all of them grow.
        finest *= _COARSEN
        spacing = _rounded([max(mm, finest) for mm in wanted])
        shape = _edges(cover, spacing)
    if finest > min(wanted):
        why += f"; made coarser to the budget ({_budget(seen, budget)})"
    reach = [edge * mm for edge, mm in zip(shape, spacing, strict=True)]
    because = (
        f"{_times(reach)} mm at this spacing, in multiples of {_EDGE_STEP} {seen.unit}s, for the "
        f"{_times(cover)} mm around the centre that nine scans in ten take, without the air "
        "around the body"
    )
    return (
        Decision("spacing_mm", _one_or_all(spacing), why),
        Decision("shape", _one_or_all(shape), because),
        Decision(
            "fit",
            "crop_or_pad",
            f"a {seen.unit} keeps its size, so that sizes in mm stay evidence; smaller scans are "
            "padded, larger ones are cut around their centre",
        ),
    )


def _wanted_spacing(seen: CohortFingerprint) -> tuple[list[float], str]:
    """nnU-Net's target spacing: the median, but the 10th percentile of an axis of thick slices."""
    spreads = [axis.spacing_mm for axis in seen.axes if axis.spacing_mm]
    wanted = [spread.median for spread in spreads]
    why = f"the median {seen.unit} is {_times(wanted)} mm"
    worst = wanted.index(max(wanted))
    others = [axis for axis in range(len(wanted)) if axis != worst]
    widest = max(wanted[axis] for axis in others)
    fewest = min(seen.axes[axis].voxels.median for axis in others)
    thick = wanted[worst] > _ANISOTROPY * widest
    if thick and len(wanted) == 3 and seen.axes[worst].voxels.median * _ANISOTROPY < fewest:
        wanted[worst] = max(spreads[worst].lower, widest)
        why += (
            f"; slices are thick ({seen.axes[worst].name}), so their 10th percentile is taken: the "
            "median would blur the scans that have thinner ones"
        )
    return wanted, why


def _cover(axis: Axis) -> float:
    """Millimetres to be covered along one axis: nine bodies in ten, or nine scans in ten."""
    assert axis.extent_mm is not None
    body = _MARGIN * axis.body_mm.upper if axis.body_mm else math.inf
    return min(axis.extent_mm.upper, body)


def _window(seen: CohortFingerprint) -> Decision:
    lower, upper = seen.intensities.tissue
    low = _HU_STEP * math.floor(lower / _HU_STEP)
    high = max(low + _HU_STEP, _HU_STEP * math.ceil(upper / _HU_STEP))
    return Decision(
        "intensity",
        {"kind": "window", "center_hu": (low + high) // 2, "width_hu": high - low},
        f"Hounsfield units are absolute, so one window serves every scanner: {low} to {high} "
        "HU, the 0.5th to 99.5th percentile of all that is not air, as nnU-Net clips CT; one "
        "tissue shows better in a window of its own (centre/width: brain 40/80, soft tissue "
        "40/400, lung -600/1500, bone 500/2000)",
    )


def _without_unit(seen: CohortFingerprint) -> tuple[dict[str, Any], str]:
    """MR and other volumes whose numbers mean nothing by themselves."""
    found = seen.intensities
    what = f"{seen.modality or 'these scans'} {'has' if seen.modality else 'have'} no absolute unit"
    if found.sampled > 1 and found.gain > _GAIN and found.unlikeness < _UNLIKE:
        return (
            {"kind": "nyul"},
            f"{what}, scales differ {found.gain:.1f}-fold between scans, and histograms are of one "
            f"shape (landmarks differ by {found.unlikeness:.2f}): tissue is matched to tissue by "
            "landmarks that are fitted on the training scans",
        )
    differ = f"scales differ {found.gain:.1f}-fold between scans"
    if found.gain > _GAIN:
        differ += f" and histograms differ in shape ({found.unlikeness:.2f})"
    return (
        {"kind": "z_score", "region": "foreground"},
        f"{what}; {differ}, so each scan has its own mean and standard deviation, measured where "
        "the body is: the air around it must not matter",
    )


def _range(seen: CohortFingerprint) -> str:
    kinds = "/".join(sorted(seen.dtypes))
    low, high = seen.intensities.minimum.minimum, seen.intensities.maximum.maximum
    return f"{kinds}, {low:g} to {high:g}"


def _edge(voxels: float) -> int:
    return max(LEAST_EDGE, _EDGE_STEP * round(voxels / _EDGE_STEP))


def _edges(extent_mm: Sequence[float], spacing_mm: Sequence[float]) -> list[int]:
    return [_edge(mm / size) for mm, size in zip(extent_mm, spacing_mm, strict=True)]


def _rounded(spacing_mm: Sequence[float]) -> list[float]:
    """Three significant digits; one number where edges are nearly the same."""
    if max(spacing_mm) < _ISOTROPIC * min(spacing_mm):
        mean = math.prod(spacing_mm) ** (1 / len(spacing_mm))
        return [float(f"{mean:.3g}")] * len(spacing_mm)
    return [float(f"{mm:.3g}") for mm in spacing_mm]


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else list(values)


def _times(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in values)


def _budget(seen: CohortFingerprint, budget: int) -> str:
    return f"{budget:,} {seen.unit}s a scan"
