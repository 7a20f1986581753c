"""Answers to scans that come one request at a time: as a path on this machine, or as an array.

What a server of models hands over. A scan that cannot be read is a row with a code and a reason, as
in ``predict``; no request raises. Paths are read only below a folder that the operator names: who
may ask for an answer may not therefore read every file of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_prep.errors import MedcurveError, ScanError
from data_prep.preprocess import AS_STORED
from data_prep.readers.sandbox import DecodePool
from data_prep.volume import Volume
from pipeline.serving.answers import answers
from pipeline.serving.inputs import find_inputs
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import (
    CLASS_SEPARATOR,
    FLAG_SEPARATOR,
    UNLIKE_TRAINING,
    Prediction,
    answered,
    refused,
)
from pipeline.serving.prepared import PreparedScan, PrepareScan

# The folder below which a server may read the scans that requests name; unset: none.
ROOT_VARIABLE: Final = "MEDCURVE_SERVE_ROOT"
FIELDS: Final = ("path", "array", "affine")
_MOST_VOXELS: Final = 1 << 28
_NOWHERE: Final = Path("/nowhere/medcurve")  # no output folder that an input could lie in

Row = dict[str, Any]


class RequestError(MedcurveError):
    """A request for an answer that names no scan, or none that may be read."""


@dataclass(frozen=True, eq=False)
class RowScorer:
    """A model that answers requests.

    Attributes:
        package: It.
        root: Below which paths are read; None: paths are refused.
    """

    package: ModelPackage
    root: Path | None = None

    def score(self, requests: Sequence[Mapping[str, Any]]) -> list[Row]:
        """One row a request, in their order.

        Args:
            requests: ``path`` of one scan (a file, or the folder of a DICOM series); or ``array``,
                (C, I, J[, K]) voxels as a reader gives them, with its 4 x 4 ``affine`` (voxel to
                RAS+ millimetres) where it has a geometry.

        Returns:
            ``status``, ``predicted``, ``probability`` of each class, ``within`` (the prediction
            set), ``shift_score``, ``flagged`` (unlike the training scans), ``flags``, ``code`` and
            ``reason``: as ``predictions.csv`` has them, and by what the model was told to do with
            scans that do not look like the training scans.
        """
        read = [self._prepared(request) for request in requests]
        prepared = [scan for scan in read if isinstance(scan, PreparedScan)]
        found = answers(self.package, [s.array for s in prepared], [s.look for s in prepared])
        card = self.package.card
        rows = []
        for scan in read:
            if isinstance(scan, PreparedScan):
                flags = (*scan.flags, *card.training.seen.flags(scan.pixel_sha256))
                row = answered("", (), flags, next(found), card.trust.on_shift)
            else:
                row = refused("", (), (), scan)
            rows.append(self._row(row))
        return rows

    def _prepared(self, request: Mapping[str, Any]) -> PreparedScan | MedcurveError:
        path, array = request.get("path"), request.get("array")
        try:
            if (path is None) == (array is None):
                raise RequestError("serve.no_scan", "give either 'path' or 'array', one of the two")
            if array is not None:
                volume = _volume(array, request.get("affine"))
                self._check_geometry(volume)
                return self._prepare(volume)
            return self._read(path)
        except MedcurveError as error:
            return error

    @property
    def _prepare(self) -> PrepareScan:
        return PrepareScan(self.package.recipe, self.package.card.training.seen.maybe)

    def _check_geometry(self, volume: Volume) -> None:
        """Refuse an array that the model would take in whatever direction its axes have."""
        card, prep = self.package.card, self.package.recipe.config
        placed = prep.orientation != AS_STORED or prep.spacing_mm is not None
        strict = card.read.nifti_without_geometry == "refuse"
        is_volume = volume.array.ndim == len(card.scan_shape) == 4
        if is_volume and not volume.has_geometry and placed and strict:
            raise RequestError(
                "serve.bad_array",
                "this model takes no volume whose axes and voxel sizes are unknown; give 'affine' "
                "with the array: 4 x 4, from voxel to RAS+ millimetres",
            )

    def _read(self, path: object) -> PreparedScan:
        """The scan at a path below ``root``."""
        if self.root is None:
            raise RequestError(
                "serve.paths_off",
                f"this server reads no paths; it was started without {ROOT_VARIABLE}",
            )
        root = self.root.resolve()
        # Whether it exists is not told of what lies elsewhere.
        chosen = _inside(root, path)
        policy = self.package.card.read
        try:
            folders = find_inputs([chosen], _NOWHERE, policy)
        except MedcurveError as error:
            # Who asks is not told where on this machine the scans lie.
            said = error.message.replace(str(chosen), str(path))
            raise RequestError(error.code, said) from error
        if not all(folder.root.resolve().is_relative_to(root) for folder in folders):
            raise _outside()  # a cohort's manifest, whose scans lie elsewhere
        scans = [(folder, scan.source) for folder in folders for scan in folder.scans]
        if rejected := [found.rejected for folder in folders for found in folder.rejected]:
            raise ScanError(rejected[0].code, rejected[0].reason)
        if len(scans) != 1:
            raise RequestError("serve.not_one_scan", f"the path holds {len(scans)} scans, not one")
        ((folder, source),) = scans
        with DecodePool(folder.root, 1, policy=policy) as pool:
            ((_, result),) = pool.read([source], self._prepare)
        if isinstance(result, ScanError):
            raise result
        return result.with_files_flags(source.flags)

    def _row(self, found: Prediction) -> Row:
        names = self.package.task.class_names
        return {
            "status": found.status,
            "predicted": CLASS_SEPARATOR.join(found.predicted),
            "probability": dict(zip(names, found.probability, strict=False)),
            "within": CLASS_SEPARATOR.join(found.within),
            "shift_score": found.shift,
            "flagged": UNLIKE_TRAINING in found.flags,
            "flags": FLAG_SEPARATOR.join(found.flags),
            "code": found.code,
            "reason": found.reason,
        }


def _inside(root: Path, path: object) -> Path:
    if not isinstance(path, str) or not path or "\0" in path:
        raise RequestError("serve.bad_path", "'path' must be text that is not empty")
    with suppress(OSError, RuntimeError):  # a name too long, links in a circle
        chosen = (root / path).resolve()
        if chosen.is_relative_to(root) and chosen != root:
            return chosen
    raise _outside()


def _outside() -> RequestError:
    return RequestError("serve.outside_root", f"the path is not below {ROOT_VARIABLE}")


def _volume(array: object, affine: object) -> Volume:
    try:
        voxels = np.asarray(array, dtype=np.float32)
        geometry = None if affine is None else np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RequestError("serve.bad_array", f"not an array of numbers ({error})") from error
    if voxels.ndim not in (3, 4) or not 0 < voxels.size <= _MOST_VOXELS:
        raise RequestError(
            "serve.bad_array",
            f"an array of shape {voxels.shape}; allowed are C x I x J and C x I x J x K",
        )
    if not np.isfinite(voxels).all():
        raise RequestError("serve.bad_array", "the array holds NaN or infinite voxels")
    if geometry is None:
        return Volume(voxels, np.eye(4), has_geometry=False)
    if geometry.shape != (4, 4) or not np.isfinite(geometry).all() or _singular(geometry):
        raise RequestError("serve.bad_array", "'affine' is no invertible 4 x 4 matrix")
    return Volume(voxels, geometry)


def _singular(affine: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    return bool(abs(np.linalg.det(affine[:3, :3])) < np.finfo(np.float64).tiny)
