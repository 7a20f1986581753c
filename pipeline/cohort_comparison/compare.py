"""Tests of two cohorts against each other, from what ingest and the survey have noted of them.

No model is needed and no scan is read for it: metadata and labels are the manifest's, intensities
those of the survey's sample, and appearance is that of ingest's miniatures (32 x 32 pixels, of a
volume its three projections, each on a grey scale of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_prep.errors import CohortError
from data_prep.files import read_json
from data_prep.fingerprint import CohortFingerprint, in_frame, labels_of
from data_prep.manifest import ScanRecord, load_manifest, load_miniatures
from data_prep.miniature import EDGE, Planes
from data_prep.survey import SampledScan, load_sample
from pipeline.trust.two_sample import MAX_SCANS, TwoSample, two_sample

Aspect = Literal["metadata", "intensities", "appearance", "labels"]
Rows = NDArray[np.float64]

LEVEL: Final = 0.05
_FOLDS: Final = 5
_CELLS: Final = 8  # along each axis of a miniature
_LEVELS: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_SEED: Final = 0xC0C0


@dataclass(frozen=True, eq=False)
class CohortSide:
    """One of two cohorts.

    Attributes:
        seen: Its fingerprint.
        counts: Content of ``ingest.json``.
        records: The manifest's rows.
        planes: The miniature of each.
        sample: The scans that the survey read again.
    """

    seen: CohortFingerprint
    counts: Mapping[str, Any]
    records: Sequence[ScanRecord]
    planes: Sequence[Planes]
    sample: Sequence[SampledScan]

    @property
    def name(self) -> str:
        """The cohort's name."""
        return self.seen.cohort


@dataclass(frozen=True)
class Difference:
    """What was found from one side.

    Attributes:
        test: The two-sample test.
        auroc: How well a classifier tells scans of the two cohorts apart whose patients it has not
            seen; None where there are too few patients.
    """

    test: TwoSample
    auroc: float | None


@dataclass(frozen=True, eq=False)
class CohortComparison:
    """What was found of two cohorts.

    Attributes:
        differences: Of each aspect that both cohorts have.
        identical: Scans of the second cohort that are voxel by voxel one of the first's.
        strangest: For each cohort the positions of its scans, the one least like the other
            cohort's scans first.
    """

    differences: Mapping[Aspect, Difference]
    identical: int
    strangest: tuple[NDArray[np.intp], NDArray[np.intp]]

    @property
    def p_value(self) -> float:
        """Of all aspects together (Bonferroni)."""
        least = min(found.test.p_value for found in self.differences.values())
        return min(1.0, len(self.differences) * least)

    def differing(self) -> list[Aspect]:
        """Aspects that differ at 5 % after Holm's correction, the clearest first."""
        ordered = sorted(self.differences.items(), key=lambda item: item[1].test.p_value)
        found: list[Aspect] = []
        for left, (aspect, difference) in zip(range(len(ordered), 0, -1), ordered, strict=True):
            if difference.test.p_value * left > LEVEL:
                break
            found.append(aspect)
        return found


def load_side(seen: CohortFingerprint, manifest_folder: Path, survey_folder: Path) -> CohortSide:
    """A cohort that is ingested and surveyed.

    Raises:
        StageError: A stage is missing or damaged.
    """
    records, _ = load_manifest(manifest_folder)
    return CohortSide(
        seen=seen,
        counts=read_json(manifest_folder / "ingest.json"),
        records=records,
        planes=load_miniatures(manifest_folder, records),
        sample=load_sample(survey_folder),
    )


def compare_cohorts(first: CohortSide, second: CohortSide) -> CohortComparison:
    """Test two cohorts against each other; deterministic.

    Raises:
        CohortError: ``compare.dimensions`` where one is of images and the other of volumes.
    """
    if first.seen.spatial_ndim != second.seen.spatial_ndim:
        raise CohortError(
            "compare.dimensions",
            f"scans of '{first.name}' are {first.seen.spatial_ndim}D and those of '{second.name}' "
            f"{second.seen.spatial_ndim}D: no model takes both",
            fix="compare cohorts of images with each other, and cohorts of volumes",
        )
    ndim = first.seen.spatial_ndim
    sides = [_alike(side, ndim) for side in (first, second)]
    sampled = [_sampled(side) for side in sides]
    appearance = [_appearance(side) for side in sides]
    found: dict[Aspect, Difference] = {
        "metadata": _difference(_metadata(sides), [_patients(s.records) for s in sides]),
        "intensities": _difference(
            (_quantiles(sides[0], sampled[0]), _quantiles(sides[1], sampled[1])),
            [_patients(records) for records in sampled],
        ),
        "appearance": _difference(
            (appearance[0], appearance[1]), [_patients(s.records) for s in sides]
        ),
    }
    if first.seen.task.class_names == second.seen.task.class_names:
        labels = [_labels(side) for side in sides]
        found["labels"] = _difference((labels[0], labels[1]), [_patients(s.records) for s in sides])
    known = {record.pixel_sha256 for record in first.records}
    return CohortComparison(
        differences=found,
        identical=sum(record.pixel_sha256 in known for record in second.records),
        strangest=_strangest(appearance[0], appearance[1]),
    )


def _alike(side: CohortSide, ndim: int) -> CohortSide:
    """Without the few scans that have other dimensions than most."""
    kept = [n for n, record in enumerate(side.records) if len(record.shape) - 1 == ndim]
    return CohortSide(
        side.seen,
        side.counts,
        [side.records[n] for n in kept],
        [side.planes[n] for n in kept],
        side.sample,
    )


def _patients(records: Sequence[ScanRecord]) -> list[str]:
    return [record.patient_id for record in records]


def _sampled(side: CohortSide) -> list[ScanRecord]:
    by_id = {record.scan_id: record for record in side.records}
    return [by_id[scan.scan_id] for scan in side.sample if scan.scan_id in by_id]


def _quantiles(side: CohortSide, sampled: Sequence[ScanRecord]) -> Rows:
    quantiles = {scan.scan_id: scan.quantiles for scan in side.sample}
    rows = np.array([quantiles[record.scan_id] for record in sampled])
    kept = np.linspace(0, 1, rows.shape[1])
    return np.array([np.interp(_LEVELS, kept, row) for row in rows])


def _metadata(sides: Sequence[CohortSide]) -> tuple[Rows, Rows]:
    """Logarithms of size and spacing, and 0 or 1 for each word that any scan has."""
    frames = {side.seen.frame for side in sides}
    frame = frames.pop() if len(frames) == 1 else "as stored"
    words = [[_words(record) for record in side.records] for side in sides]
    kinds = sorted({word for side in words for scan in side for word in scan})
    tables = []
    for side, scans in zip(sides, words, strict=True):
        lengths = np.array(
            [
                [*in_frame(r, r.shape[1:], frame), *in_frame(r, r.spacing_mm, frame)]
                for r in side.records
            ]
        )
        known = np.array([[kind in scan for kind in kinds] for scan in scans], dtype=np.float64)
        tables.append(np.hstack([np.log(lengths), known]))
    return tables[0], tables[1]


def _words(record: ScanRecord) -> set[str]:
    """A cohort's files may come in any order of axes: how they lie is no difference of scans."""
    return {
        f"format {record.format}",
        f"modality {record.modality}",
        f"type {record.dtype}",
        f"channels {record.shape[0]}",
        f"geometry {bool(record.orientation)}",
        *(f"flag {flag}" for flag in record.flags),
    }


def _appearance(side: CohortSide) -> Rows:
    """(N, planes x 64) means of 4 x 4 pixels, 0 to 1; 0 for a scan of one intensity."""
    n_planes = 1 if side.seen.spatial_ndim == 2 else 3
    rows = np.zeros((len(side.planes), n_planes, _CELLS, _CELLS))
    step = EDGE // _CELLS
    for row, planes in zip(rows, side.planes, strict=True):
        if len(planes):
            row[:] = planes.reshape(-1, _CELLS, step, _CELLS, step).mean(axis=(2, 4)) / 255
    return rows.reshape(len(rows), -1)


def _labels(side: CohortSide) -> Rows:
    names = list(side.seen.scans_per_class)
    return np.array(
        [[name in labels_of(record) for name in names] for record in side.records],
        dtype=np.float64,
    )


def _difference(rows: tuple[Rows, Rows], patients: Sequence[Sequence[str]]) -> Difference:
    both = np.vstack(rows)
    # One scale for both cohorts; a number that never differs says nothing.
    mean, scale = both.mean(axis=0), both.std(axis=0)
    standard = [(part - mean) / np.where(scale > 0, scale, 1) for part in rows]
    test = two_sample({"": standard[0]}, {"": standard[1]}, patients[0], patients[1])
    return Difference(test, _auroc(standard, patients))


def _auroc(rows: Sequence[Rows], patients: Sequence[Sequence[str]]) -> float | None:
    """Of a logistic regression on patients that it was not fitted on."""
    if min(len(set(names)) for names in patients) < _FOLDS:
        return None
    rng = np.random.default_rng(_SEED)
    kept = [rng.permutation(len(part))[:MAX_SCANS] for part in rows]
    x = np.vstack([part[chosen] for part, chosen in zip(rows, kept, strict=True)])
    cohort = np.repeat([0, 1], [len(chosen) for chosen in kept])
    groups = [
        (side, patients[side][n]) for side, chosen in enumerate(kept) for n in chosen.tolist()
    ]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    scores = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)),
        x,
        cohort,
        groups=[numbers[group] for group in groups],
        cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=_SEED),
        method="decision_function",
    )
    return float(roc_auc_score(cohort, scores))


def _strangest(first: Rows, second: Rows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rng = np.random.default_rng(_SEED)
    orders = []
    for own, other in ((first, second), (second, first)):
        reference = other[rng.permutation(len(other))[: 4 * MAX_SCANS]]
        looked_at = np.sort(rng.permutation(len(own))[: 4 * MAX_SCANS])
        near = np.sort(cdist(own[looked_at], reference), axis=1)[:, :3].mean(axis=1)
        orders.append(looked_at[np.argsort(-near, kind="stable")])
    return orders[0], orders[1]
