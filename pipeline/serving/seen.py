"""Which scans and patients a model has seen, so that predicting them is not taken for a test.

A package keeps 64 bits of a digest for each scan: they say "this very image" to whoever holds the
image, and nothing about an image to whoever does not. Patient ids are few enough to be guessed, so
what it keeps of a patient is the digest of a pseudonym under the site's key: only where that key
lies can a scan's DICOM PatientID be compared.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from pydantic import field_validator

from data_prep.config import Config
from data_prep.scan_look import ScanLook

SEEN_FLAGS: Final = {
    "seen_in_training": "the model was fitted on this very image: no test of it",
    "seen_in_validation": "the model was chosen by this very image: no test of it",
}
PATIENT_FLAGS: Final = {
    "patient_in_training": "the model was fitted on a scan of this patient: no test of it",
    "patient_in_validation": "the model was chosen by a scan of this patient: no test of it",
}

_DIGEST: Final = np.dtype("<u8")


@dataclass(frozen=True)
class MaybeSeen:
    """Tells by its look that a model has not seen a scan, before its voxels are digested.

    To digest the voxels takes a fifth of a volume's whole time; its look is taken anyway.

    Attributes:
        keys: Of the fingerprints of all that was seen, sorted, 8 bytes each; None if they were not
            kept: then any scan may be one.
    """

    keys: bytes | None

    def __call__(self, look: ScanLook) -> bool:
        """Whether the scan that looks so can be one that the model has seen."""
        if self.keys is None:
            return True
        keys = np.frombuffer(self.keys, _DIGEST)
        key = _short(look.fingerprint)
        place = int(np.searchsorted(keys, np.uint64(key)))
        return place < len(keys) and int(keys[place]) == key


# Where nobody asks whether scans were seen.
NONE_SEEN: Final = MaybeSeen(b"")


class SeenScans(Config):
    """Digests, sorted, 8 bytes each, as base64; a million scans are 22 MB.

    Attributes:
        train: The scans that the model was fitted on.
        val: The scans by which its epoch, its penalty or it itself was chosen.
        train_patients: The patients of ``train``.
        val_patients: The patients of ``val``.
        looks: The fingerprints of the scans of both; None in a package that was written before
            they were kept.
    """

    train: str = ""
    val: str = ""
    train_patients: str = ""
    val_patients: str = ""
    looks: str | None = None

    @field_validator("train", "val", "train_patients", "val_patients", "looks")
    @classmethod
    def _whole_digests(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            whole = len(base64.b64decode(value, validate=True)) % _DIGEST.itemsize == 0
        except binascii.Error as error:
            raise ValueError(f"not base64 ({error})") from error
        if not whole:
            raise ValueError("not a whole number of digests of 8 bytes")
        return value

    @classmethod
    def of(
        cls,
        train: Iterable[str],
        val: Iterable[str],
        train_patients: Iterable[str] = (),
        val_patients: Iterable[str] = (),
        looks: Iterable[str] | None = None,
    ) -> SeenScans:
        """From pixel digests (``data_prep.miniature.pixel_digest``), pseudonyms, fingerprints."""
        return cls(
            train=_encode(train),
            val=_encode(val),
            train_patients=_encode(train_patients),
            val_patients=_encode(val_patients),
            looks=None if looks is None else _encode(looks),
        )

    @cached_property
    def maybe(self) -> MaybeSeen:
        """By which most scans are known not to be among these."""
        if not self.train and not self.val:
            return NONE_SEEN
        return MaybeSeen(None if self.looks is None else base64.b64decode(self.looks))

    def flags(self, pixel_sha256: str, patient: str = "") -> tuple[str, ...]:
        """What is true of a scan: of ``SEEN_FLAGS``, and of ``PATIENT_FLAGS`` if they are not.

        Args:
            pixel_sha256: Digest of its pixels; "" if ``maybe`` said that it is none of them.
            patient: Pseudonym of its patient, "" if it is not known.
        """
        image = zip(SEEN_FLAGS, (self._train, self._val), strict=True)
        person = zip(PATIENT_FLAGS, (self._train_patients, self._val_patients), strict=True)
        scan = tuple(flag for flag, digests in image if _short(pixel_sha256) in digests)
        if scan or not patient:
            return scan
        return tuple(flag for flag, digests in person if _short(patient) in digests)

    @cached_property
    def _train(self) -> frozenset[int]:
        return _decode(self.train)

    @cached_property
    def _val(self) -> frozenset[int]:
        return _decode(self.val)

    @cached_property
    def _train_patients(self) -> frozenset[int]:
        return _decode(self.train_patients)

    @cached_property
    def _val_patients(self) -> frozenset[int]:
        return _decode(self.val_patients)


def _short(name: str) -> int:
    # Hashed again: a package cannot be joined to a manifest, whose digests are the pixels' own.
    digest = hashlib.sha256(f"medcurve seen {name}".encode()).digest()
    return int.from_bytes(digest[: _DIGEST.itemsize], "little")


def _encode(names: Iterable[str]) -> str:
    short = np.array(sorted({_short(name) for name in names}), dtype=_DIGEST)
    return base64.b64encode(short.tobytes()).decode()


def _decode(text: str) -> frozenset[int]:
    return frozenset(np.frombuffer(base64.b64decode(text), _DIGEST).tolist())
