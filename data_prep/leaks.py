"""Images that stand twice in a cohort, where that would spoil what is learned or measured.

Four kinds, the gravest first. A model that was trained on an image is not tested by it; two
patients with one image are one patient, or the image is not theirs; and of two labels on one image
one is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from data_prep.duplicates import near_duplicates
from data_prep.errors import CohortError
from data_prep.manifest import ScanRecord
from data_prep.miniature import Planes
from data_prep.progress import Progress, silent

LeakKind = Literal["labels", "splits", "patients", "near"]

# Kind -> code, and what it is in words.
_KINDS: Final[dict[LeakKind, tuple[str, str]]] = {
    "labels": ("split.conflicting_labels", "of identical images with different labels"),
    "splits": ("split.duplicates", "of identical images in different splits"),
    "patients": ("split.shared_images", "of identical images under two patients"),
    "near": ("split.near_duplicates", "of nearly identical images in different splits"),
}
KINDS: Final = tuple(_KINDS)


@dataclass(frozen=True)
class LeakPair:
    """Two scans that show the same image.

    Attributes:
        kind: The gravest that applies: identical pixels with different ``labels``, in different
            ``splits`` or under two ``patients``; or ``near``-identical ones in different splits.
        a, b: The scans.
        split_a, split_b: Where they stand.
        bits: Bits of the perceptual hash that differ, of 256; 0 for identical images.
        correlation: Of their miniatures; 1 for identical images.
    """

    kind: LeakKind
    a: ScanRecord
    b: ScanRecord
    split_a: str
    split_b: str
    bits: int = 0
    correlation: float = 1.0


@dataclass(frozen=True)
class Leaks:
    """What the gate found.

    Attributes:
        pairs: Gravest kind first, then in the order of the manifest.
        repeats: Scans whose pixels are those of another scan of the same patient with the same
            labels, which does no harm.
        compared: Scans that were compared with each other.
        constant: Scans of one intensity only, of which nothing can be said but for identity.
        least_correlation: What was asked of images, and of volumes (see ``duplicates``).
        complete: False where there are more near-duplicates than ``duplicates.MAX_PAIRS``.
    """

    pairs: tuple[LeakPair, ...]
    repeats: int
    compared: int
    constant: int
    least_correlation: tuple[float, ...]
    complete: bool

    def of_kind(self, kind: LeakKind) -> list[LeakPair]:
        """The pairs of one kind."""
        return [pair for pair in self.pairs if pair.kind == kind]

    @property
    def counts(self) -> tuple[str, ...]:
        """How many pairs there are of each kind, in words."""
        found = []
        for kind, (_, what) in _KINDS.items():
            if count := len(self.of_kind(kind)):
                more = "" if self.complete or kind != "near" else " or more"
                found.append(f"{count:,}{more} pair{'s' * (count != 1)} {what}")
        return tuple(found)


def find_leaks(
    records: Sequence[ScanRecord],
    split: Mapping[str, str],
    miniatures: Sequence[Planes],
    progress: Progress = silent,
) -> Leaks:
    """Look for images that stand twice.

    Args:
        records: The manifest.
        split: Split of each scan id.
        miniatures: Of each record.
        progress: Told (pairs compared, pairs in all).
    """
    exact = list(_identical(records, split))
    identical = [pair for pair in exact if pair is not None]
    # Of copies within a split one is compared: the others would say the same once more.
    first: dict[tuple[str, str], int] = {}
    for position, record in enumerate(records):
        first.setdefault((record.pixel_sha256, split[record.scan_id]), position)
    chosen = sorted(first.values())
    names = sorted(set(split.values()))
    found = near_duplicates(
        [miniatures[n] for n in chosen],
        [names.index(split[records[n].scan_id]) for n in chosen],
        progress,
    )
    near = []
    for pair in found.pairs:
        a, b = records[chosen[pair.a]], records[chosen[pair.b]]
        if a.pixel_sha256 != b.pixel_sha256:
            where = split[a.scan_id], split[b.scan_id]
            near.append(LeakPair("near", a, b, *where, pair.bits, pair.correlation))
    constant = sum(not record.perceptual_hash for record in records)
    return Leaks(
        pairs=tuple(sorted([*identical, *near], key=lambda pair: KINDS.index(pair.kind))),
        repeats=len(exact) - len(identical),
        compared=len(records) - constant,
        constant=constant,
        least_correlation=found.least_correlation,
        complete=found.complete,
    )


def refuse(leaks: Leaks, listing: str) -> None:
    """Stop if anything was found.

    Args:
        leaks: What was found.
        listing: Where all of it can be looked at; "" for nowhere.

    Raises:
        CohortError: Code of the gravest kind: ``split.conflicting_labels``, ``split.duplicates``,
            ``split.shared_images`` or ``split.near_duplicates``.
    """
    if not leaks.pairs:
        return
    gravest = leaks.pairs[0]
    scans = " and ".join(
        f"{record.scan_id} ({where}, '{'+'.join(record.labels)}')"
        for record, where in ((gravest.a, gravest.split_a), (gravest.b, gravest.split_b))
    )
    raise CohortError(
        _KINDS[gravest.kind][0],
        f"{', '.join(leaks.counts)}; first: scans {scans}"
        + (f"; all of them with pictures: {listing}" if listing else ""),
        fix="look at them, then take one scan of each pair out of the label table, correct its "
        "label, or give both the same patient id; or accept them, which is recorded: "
        "`medcurve split --accept-duplicates`, or split.accept_duplicates: true in the data config",
    )


def _identical(
    records: Sequence[ScanRecord], split: Mapping[str, str]
) -> Iterator[LeakPair | None]:
    """A pair for each scan whose pixels stood before, with the first that has them; None if it
    does no harm.
    """
    first: dict[str, ScanRecord] = {}
    for record in records:
        twin = first.setdefault(record.pixel_sha256, record)
        if twin is record:
            continue
        where = split[twin.scan_id], split[record.scan_id]
        if set(twin.labels) != set(record.labels):
            yield LeakPair("labels", twin, record, *where)
        elif where[0] != where[1]:
            yield LeakPair("splits", twin, record, *where)
        elif twin.patient_id != record.patient_id:
            yield LeakPair("patients", twin, record, *where)
        else:
            yield None
