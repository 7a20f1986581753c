"""Answers to scans that come one request at a time: as a path on this machine, or as an array.

What a server of models hands over. A scan that cannot be read is a row with a code and a reason, as
in ``predict``; no request raises. Paths are read only below a folder that the operator names: who
may ask for an answer may not therefore read every file of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_prep.errors import MedcurveError, ScanError
from data_prep.readers.sandbox import DecodePool
from data_prep.volume import Volume
from pipeline.serving.answers import Answer, answers, not_finite
from pipeline.serving.inputs import find_inputs, readable
from pipeline.serving.package import ModelPackage
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
            set), ``shift_score``, ``flagged``, ``code`` and ``reason``.
        """
        read = [self._prepared(request) for request in requests]
        prepared = [scan for scan in read if isinstance(scan, PreparedScan)]
        looks = [scan.look for scan in prepared]
        found = answers(self.package, [scan.array for scan in prepared], looks)
        return [
            self._answered(next(found)) if isinstance(scan, PreparedScan) else _refused(scan)
            for scan in read
        ]

    def _prepared(self, request: Mapping[str, Any]) -> PreparedScan | MedcurveError:
        path, array = request.get("path"), request.get("array")
        try:
            if (path is None) == (array is None):
                raise RequestError("serve.no_scan", "give either 'path' or 'array', one of the two")
            if array is not None:
                return PrepareScan(self.package.recipe)(_volume(array, request.get("affine")))
            return self._read(path)
        except MedcurveError as error:
            return error

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
        folders = find_inputs([chosen], _NOWHERE, policy)
        scans = [(folder, scan.source) for folder in folders for scan in folder.scans]
        if rejected := [found.rejected for folder in folders for found in folder.rejected]:
            raise ScanError(rejected[0].code, rejected[0].reason)
        if len(scans) != 1:
            raise RequestError("serve.not_one_scan", f"the path holds {len(scans)} scans, not one")
        ((folder, source),) = scans
        with DecodePool(folder.root, 1, policy=policy) as pool:
            ((_, result),) = pool.read([source], PrepareScan(self.package.recipe))
        if isinstance(result, ScanError):
            raise result
        return result

    def _answered(self, answer: Answer) -> Row:
        if not answer.finite:
            return _refused(not_finite())
        names = self.package.task.class_names
        return {
            "status": "ok",
            "predicted": "|".join(answer.predicted),
            "probability": dict(zip(names, map(float, answer.probability), strict=True)),
            "within": "|".join(answer.within),
            "shift_score": answer.shift.score if answer.shift else None,
            "flagged": bool(answer.shift and answer.shift.flagged),
            "code": "",
            "reason": "",
        }


def _inside(root: Path, path: object) -> Path:
    if isinstance(path, str) and "\0" not in path:
        chosen = (root / path).resolve()
        if chosen.is_relative_to(root) and chosen != root:
            return chosen
    raise RequestError("serve.outside_root", f"the path is not below {ROOT_VARIABLE}")


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


def _refused(error: MedcurveError) -> Row:
    return {
        "status": "quarantined",
        "predicted": "",
        "probability": {},
        "within": "",
        "shift_score": None,
        "flagged": False,
        "code": error.code,
        "reason": readable(error.message),
    }
