"""Which scans show the same image: a search over perceptual hashes, and a check of what it finds.

Two scans are near-duplicates where, in every plane of their miniatures,

1. at most 20 % of the hash's bits differ (of the first plane also of its 64 lowest frequencies),
2. and the planes, band-passed, correlate at 0.96 or more; at more than that in a cohort whose
   scans are all alike (``likeness.least_correlation``),

each after the best of nine shifts by at most one of 32 pixels. What this finds, and what it does
not, is measured by ``benchmarks/near_duplicates.py`` and stands in docs/leaks.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.likeness import SHIFTS, correlation, least_correlation
from data_prep.miniature import EDGE, HASH_BITS, Planes, hash_bits
from data_prep.progress import Progress, silent

MAX_BIT_SHARE: Final = 0.20
# A cohort of scans that are all alike has more pairs than anyone can look at.
MAX_PAIRS: Final = 10_000

_WORD_BITS: Final = 64
_LOW_LIMIT: Final = int(MAX_BIT_SHARE * _WORD_BITS)
_LIMIT: Final = int(MAX_BIT_SHARE * HASH_BITS)
# Tiles of the search and batches of the check: a few megabytes each, which a core's cache holds.
_TILE_A, _TILE_B, _BATCH = 128, 4096, 256

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class NearPair:
    """Two scans that show the same image.

    Attributes:
        a, b: Their positions, ``a`` before ``b``.
        bits: Bits that differ, in the plane where most do, of 256.
        correlation: Of the plane that correlates least.
    """

    a: int
    b: int
    bits: int
    correlation: float


@dataclass(frozen=True)
class NearDuplicates:
    """What a search found.

    Attributes:
        pairs: In the order of their positions.
        least_correlation: What was asked of a pair of images, and of volumes; nothing for a kind
            of which there are none.
        complete: False where the search broke off at ``MAX_PAIRS``.
    """

    pairs: tuple[NearPair, ...]
    least_correlation: tuple[float, ...]
    complete: bool


def near_duplicates(
    miniatures: Sequence[Planes], groups: Sequence[int], progress: Progress = silent
) -> NearDuplicates:
    """Pairs of near-duplicates whose two scans are in different groups.

    Every scan is compared with every scan of another group: the time grows with the square of
    their number, memory with their number. Images are compared with images only, and volumes
    with volumes. Deterministic.

    Args:
        miniatures: One a scan, as ``miniature`` gives them; constant scans are left out.
        groups: Group of each scan (its split).
        progress: Told (pairs compared, pairs in all) of images, then of volumes.
    """
    found: list[NearPair] = []
    thresholds = []
    for n_planes in (1, 3):
        members = [n for n, planes in enumerate(miniatures) if len(planes) == n_planes]
        own = np.array([groups[n] for n in members], dtype=np.int64)
        if len(set(own.tolist())) < 2:
            continue
        planes = np.stack([miniatures[n] for n in members])
        thresholds.append(least_correlation(planes, own))
        for pair in _search(planes, own, thresholds[-1], progress):
            a, b = sorted((members[pair.a], members[pair.b]))
            found.append(NearPair(a, b, pair.bits, pair.correlation))
            if len(found) == MAX_PAIRS:
                break
    found.sort(key=lambda pair: (pair.a, pair.b))
    return NearDuplicates(tuple(found), tuple(thresholds), len(found) < MAX_PAIRS)


def differing_bits(a: Planes, b: Planes) -> NDArray[np.int64]:
    """Bits of the hash that differ in each plane, after the best shift of ``b``.

    Args:
        a, b: (N, P, 32, 32).

    Returns:
        (N, P) of 0 to 256.
    """
    return _bits_between(_words(a), _shifted_words(b))


def _search(
    planes: Planes, groups: NDArray[np.int64], least: float, progress: Progress
) -> Iterator[NearPair]:
    words = _words(planes)
    shifted = np.concatenate(
        [_shifted_words(planes[n : n + _TILE_B]) for n in range(0, len(planes), _TILE_B)]
    )
    order = sorted(set(groups.tolist()))
    blocks = [
        (np.flatnonzero(groups == group), np.flatnonzero(groups > group)) for group in order[:-1]
    ]
    total = sum(len(first) * len(second) for first, second in blocks)
    done = 0
    for first, second in blocks:
        for a in range(0, len(first), _TILE_A):
            rows = first[a : a + _TILE_A]
            for b in range(0, len(second), _TILE_B):
                columns = second[b : b + _TILE_B]
                yield from _pairs(planes, words, shifted, rows, columns, least)
                done += len(rows) * len(columns)
                progress(done, total)


def _pairs(
    planes: Planes,
    words: Words,
    shifted: Words,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    least: float,
) -> Iterator[NearPair]:
    """Near-duplicates among ``rows`` x ``columns``."""
    near_a, near_b = np.nonzero(_low_bits(words[rows], shifted[columns]) <= _LOW_LIMIT)
    for start in range(0, len(near_a), _BATCH):
        a, b = rows[near_a[start : start + _BATCH]], columns[near_b[start : start + _BATCH]]
        bits = _bits_between(words[a], shifted[b]).max(axis=1)
        alike = bits <= _LIMIT
        a, b, bits = a[alike], b[alike], bits[alike]
        if not len(a):
            continue
        correlations = correlation(planes[a], planes[b]).min(axis=1)
        for n in np.flatnonzero(correlations >= least):
            yield NearPair(int(a[n]), int(b[n]), int(bits[n]), float(correlations[n]))


def _words(planes: Planes) -> Words:
    """(N, P, 32, 32) -> (N, P, 4) of 64 bits, lowest frequencies in the first."""
    return np.ascontiguousarray(hash_bits(planes)).view(np.uint64)


def _shifted_words(planes: Planes) -> Words:
    """(N, P, 32, 32) -> (N, P, 9, 4): the hash of each plane, shifted in nine ways."""
    wide = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    moved = [wide[..., 1 + i : 1 + i + EDGE, 1 + j : 1 + j + EDGE] for i, j in SHIFTS]
    return np.stack([_words(planes) for planes in moved], axis=2)


def _low_bits(a: Words, b: Words) -> NDArray[np.uint8]:
    """(N, P, 4) and (M, P, 9, 4) -> (N, M): differing low bits of the first plane, best shift."""
    best = np.full((len(a), len(b)), _WORD_BITS, dtype=np.uint8)
    for shift in range(len(SHIFTS)):
        differing = np.bitwise_count(a[:, 0, 0, None] ^ b[None, :, 0, shift, 0])
        np.minimum(best, differing, out=best)
    return best


def _bits_between(a: Words, b: Words) -> NDArray[np.int64]:
    """(N, P, 4) and (N, P, 9, 4) -> (N, P)."""
    counts = np.bitwise_count(a[:, :, None] ^ b).sum(axis=-1, dtype=np.int64)
    return np.asarray(counts.min(axis=-1))
