"""Which scans a model has seen, so that predicting one of them again is not taken for a test.

A package keeps 64 bits of a digest for each scan: they say "this very image" to whoever holds the
image, and nothing about an image to whoever does not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from functools import cached_property
from typing import Final

import numpy as np
from pydantic import field_validator

from data_prep.config import Config

SEEN_FLAGS: Final = {
    "seen_in_training": "the model was fitted on this very image: no test of it",
    "seen_in_validation": "the model was chosen by this very image: no test of it",
}

_DIGEST: Final = np.dtype("<u8")


class SeenScans(Config):
    """Digests of scans, sorted, 8 bytes each, as base64; a million scans are 11 MB.

    Attributes:
        train: The scans that the model was fitted on.
        val: The scans by which its epoch, its penalty or it itself was chosen.
    """

    train: str = ""
    val: str = ""

    @field_validator("train", "val")
    @classmethod
    def _whole_digests(cls, value: str) -> str:
        try:
            whole = len(base64.b64decode(value, validate=True)) % _DIGEST.itemsize == 0
        except binascii.Error as error:
            raise ValueError(f"not base64 ({error})") from error
        if not whole:
            raise ValueError("not a whole number of digests of 8 bytes")
        return value

    @classmethod
    def of(cls, train: Iterable[str], val: Iterable[str]) -> SeenScans:
        """From the scans' pixel digests (``data_prep.miniature.pixel_digest``)."""
        return cls(train=_encode(train), val=_encode(val))

    def flags(self, pixel_sha256: str) -> tuple[str, ...]:
        """Those of ``SEEN_FLAGS`` that are true of a scan with this pixel digest."""
        short = _short(pixel_sha256)
        both = zip(SEEN_FLAGS, (self._train, self._val), strict=True)
        return tuple(flag for flag, digests in both if short in digests)

    @cached_property
    def _train(self) -> frozenset[int]:
        return _decode(self.train)

    @cached_property
    def _val(self) -> frozenset[int]:
        return _decode(self.val)


def _short(pixel_sha256: str) -> int:
    # Hashed again: a package cannot be joined to a manifest, whose digests are the pixels' own.
    digest = hashlib.sha256(f"medcurve seen {pixel_sha256}".encode()).digest()
    return int.from_bytes(digest[: _DIGEST.itemsize], "little")


def _encode(pixel_digests: Iterable[str]) -> str:
    short = np.array(sorted({_short(digest) for digest in pixel_digests}), dtype=_DIGEST)
    return base64.b64encode(short.tobytes()).decode()


def _decode(text: str) -> frozenset[int]:
    return frozenset(np.frombuffer(base64.b64decode(text), _DIGEST).tolist())
