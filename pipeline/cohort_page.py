"""A cohort on one page: what was read, how scans differ, how they look, how to prepare them.

The page is the operator's own. It shows pictures of scans, but no patient ids and no paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from data_prep.errors import SCAN_CODES, CohortError
from data_prep.files import read_json, write_bytes
from data_prep.fingerprint import CohortFingerprint, Counts, Spread
from data_prep.manifest import load_manifest
from data_prep.plan import flow, plan_prep
from data_prep.readers.source import SCAN_FLAGS
from data_prep.survey import SampledScan, load_sample, thumbnail_path
from pipeline import cohort_figures
from pipeline.page import data_uri, render
from pipeline.wording import counted

# What a page can show and an eye take in.
_MOST_CLASSES: Final = 24
_MOST_LISTED: Final = 13  # a fingerprint counts 12 kinds and "other"
_SHEET_CLASSES: Final = 12
_SHEET_SCANS: Final = 36

Facts = list[tuple[str, str]]


def write_cohort_page(
    seen: CohortFingerprint, manifest_folder: Path, survey_folder: Path, out: Path
) -> Path:
    """Write the page of an ingested cohort, and return ``out``.

    Args:
        seen: The cohort's fingerprint.
        manifest_folder: What ingest wrote.
        survey_folder: What ``survey_cohort`` wrote.
        out: The HTML file.
    """
    records, _ = load_manifest(manifest_folder)
    sample = load_sample(survey_folder)
    classes = list(seen.scans_per_class)
    counts = read_json(manifest_folder / "ingest.json")
    orientations = len({record.orientation for record in records if record.orientation})
    values = {
        "seen": seen,
        "sentences": _sentences(seen, orientations, counts),
        "facts": facts(seen, counts),
        "class_rows": _class_rows(seen),
        "more_classes": max(0, len(classes) - _MOST_CLASSES),
        "geometry": cohort_figures.geometry(records, seen),
        "unit": seen.unit + "s",
        "size": _size(seen),
        "spacing": _of_size(seen),
        "histograms": cohort_figures.histograms(sample, classes, seen.unit),
        "ranges": cohort_figures.ranges(sample, classes),
        "sheet": _contact_sheet(sample, classes, survey_folder),
        "more_in_sheet": max(0, len(classes) - _SHEET_CLASSES),
        "quarantine": _explained(counts["quarantined_by_code"], SCAN_CODES),
        "flags": _explained(seen.flags, SCAN_FLAGS),
        "skipped": counted(counts["skipped_files"], "file"),
        **_plan(seen),
    }
    write_bytes(out, render("pipeline", "cohort.html.j2", values))
    return out


def facts(seen: CohortFingerprint, counts: Mapping[str, Any]) -> Facts:
    """The fingerprint in words: pairs of a name and a value.

    Args:
        seen: The fingerprint.
        counts: Content of the manifest's ``ingest.json``.
    """
    found = seen.intensities
    spread = seen.scans_per_patient
    return [
        ("task", seen.task.kind),
        ("scans", f"{seen.scans:,} of {counted(seen.patients, 'patient')}"),
        ("scans per patient", _span(spread)),
        ("classes", _list(seen.scans_per_class)),
        ("formats", _list(seen.formats)),
        ("modalities", _list(seen.modalities)),
        ("dimensions", _list({f"{n}D": count for n, count in seen.dimensions.items()})),
        ("channels", _list(seen.channels)),
        (f"{seen.unit}s", _size(seen)),
        (f"{seen.unit} size", _spacing(seen)),
        ("orientations", _list(seen.orientations)),
        ("data types", _list(seen.dtypes)),
        ("intensities", f"{found.minimum.minimum:.5g} to {found.maximum.maximum:.5g}"),
        ("scale between scans", f"{found.gain:.1f}-fold ({found.sampled} scans read again)"),
        ("flags", _list(seen.flags) or "none"),
        ("quarantined", _list(counts["quarantined_by_code"]) or "none"),
        ("skipped", counted(counts["skipped_files"], "file")),
    ]


def _sentences(
    seen: CohortFingerprint, orientations: int, counts: Mapping[str, Any]
) -> Sequence[str]:
    kind = "volumes" if seen.spatial_ndim == 3 else "images"
    sentences = [
        f"{counted(seen.scans, 'scan')} of {counted(seen.patients, 'patient')} in "
        f"{len(seen.scans_per_class)} classes; {_balance(seen)}.",
        f"The {kind} have {_medians(seen)}"
        + (f", in {orientations} orientations." if orientations > 1 else "."),
        _scale(seen),
    ]
    refused = sum(counts["quarantined_by_code"].values())
    if refused:
        sentences.append(f"{counted(refused, 'scan')} could not be used; the reasons are below.")
    return sentences


def _balance(seen: CohortFingerprint) -> str:
    counts = seen.scans_per_class
    rarest = min(counts, key=lambda name: counts[name])
    share = f"{100 * counts[rarest] / seen.scans:.3g} %"
    if counts[rarest] == max(counts.values()):
        return f"each has {share}"
    return f"the rarest, {rarest}, has {share}"


def _scale(seen: CohortFingerprint) -> str:
    if seen.looks_like_hu:
        return "Intensities are Hounsfield units: the same on every scanner."
    if seen.is_eight_bit or seen.intensities.has_one_scale:
        return "All scans are on one intensity scale."
    return (
        "Intensities have no absolute unit: scales differ "
        f"{seen.intensities.gain:.1f}-fold between scans."
    )


def _class_rows(seen: CohortFingerprint) -> list[dict[str, Any]]:
    most = max(seen.scans_per_class.values())
    return [
        {
            "name": name,
            "scans": count,
            "patients": seen.patients_per_class[name],
            "share": f"{100 * count / seen.scans:.1f} %",
            "width": f"{100 * count / most:.1f}%",
        }
        for name, count in list(seen.scans_per_class.items())[:_MOST_CLASSES]
    ]


def _size(seen: CohortFingerprint) -> str:
    return " × ".join(_span(axis.voxels) for axis in seen.axes)


def _spacing(seen: CohortFingerprint) -> str:
    known = [axis.spacing_mm for axis in seen.axes if axis.spacing_mm]
    if not known:
        return "not known in mm"
    text = " × ".join(_span(spread) for spread in known) + " mm"
    silent = seen.scans - seen.with_spacing
    return f"{text} ({silent:,} scans state none)" if silent else text


def _of_size(seen: CohortFingerprint) -> str:
    return f"of {_spacing(seen)}" if seen.with_spacing else "their size in mm is not known"


def _medians(seen: CohortFingerprint) -> str:
    text = " × ".join(f"{axis.voxels.median:.3g}" for axis in seen.axes)
    text += f" {seen.unit}s"
    known = [axis.spacing_mm.median for axis in seen.axes if axis.spacing_mm]
    if known:
        text += " of " + " × ".join(f"{mm:.2g}" for mm in known) + " mm"
    alike = all(axis.voxels.is_constant for axis in seen.axes)
    return text if alike else f"{text} at the median"


def _span(spread: Spread) -> str:
    """One number, or the median with both ends."""
    if spread.is_constant:
        return f"{spread.median:.3g}"
    return f"{spread.median:.3g} ({spread.minimum:.3g}–{spread.maximum:.3g})"


def _list(counts: Counts) -> str:
    shown = list(counts.items())[:_MOST_LISTED]
    text = "; ".join(f"{name or 'not stated'}: {count:,}" for name, count in shown)
    return f"{text}; and {len(counts) - len(shown)} more" if len(counts) > len(shown) else text


def _explained(counts: Counts, meanings: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """Code, count and meaning; the commonest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(code, count, meanings[code]) for code, count in ordered]


def _plan(seen: CohortFingerprint) -> dict[str, Any]:
    try:
        plan = plan_prep(seen)
    except CohortError as error:
        return {"decisions": [], "cautions": [error.message]}
    return {
        "decisions": [(d.field, flow(d.value), d.because) for d in plan.decisions],
        "cautions": plan.cautions,
    }


def _contact_sheet(
    sample: Sequence[SampledScan], classes: Sequence[str], folder: Path
) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each class some scans: id and picture."""
    shown = classes[:_SHEET_CLASSES]
    each = max(2, _SHEET_SCANS // max(3, len(shown)))
    groups = []
    for name in shown:
        scans = [scan for scan in sample if name in scan.labels][:each]
        pictures = [
            (scan.scan_id, data_uri(thumbnail_path(folder, scan.scan_id).read_bytes()))
            for scan in scans
        ]
        groups.append((name, pictures))
    return groups
