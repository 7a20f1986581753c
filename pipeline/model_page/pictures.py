"""A few test scans with where the model's answer comes from: the surest, and the least sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import ScanError
from data_prep.manifest import ScanReader, ScanRecord
from data_prep.task import Task
from pipeline.families.base import Family
from pipeline.model_page.gather import AnsweredScans
from pipeline.page import data_uri
from pipeline.serving.package import ModelPackage
from pipeline.trust.explain_methods import Method
from pipeline.trust.explain_picture import overlay_png
from pipeline.trust.explain_scan import explain, methods_of

# Occlusion asks the model up to a thousand times about each scan: of larger ones it is left out.
_MOST_OCCLUDED: Final = 1 << 11


@dataclass(frozen=True)
class Example:
    """One scan and its explanation.

    Attributes:
        why: Why it is shown.
        scan_id: Which; no name and no path.
        true, said: Classes, or labels; "none" where there is none.
        sure: Probability, calibrated, of what the model says.
        picture: PNG as a data address.
    """

    why: str
    scan_id: str
    true: str
    said: str
    sure: float
    picture: str


def examples(package: ModelPackage, tested: AnsweredScans, root: Path) -> list[Example]:
    """The most sure right, the most sure wrong and the least sure scan, each explained.

    Args:
        package: The model.
        tested: Its answers.
        root: Folder that the records' paths are relative to.

    Returns:
        At most three; none where an explanation is not cheap.
    """
    method = _cheap(package.family)
    if method is None:
        return []
    task = package.task
    sure, right = surest(task, tested)
    chosen = _chosen(sure, right)
    records = [tested.records[at] for at in chosen.values()]
    volumes = ScanReader(root, package.card.read).read(records)
    found = []
    for (why, at), record, volume in zip(chosen.items(), records, volumes, strict=True):
        said = tested.answers[at].predicted
        if isinstance(volume, ScanError):
            continue  # it was read a moment ago; without it the page still stands
        try:
            shown = explain(
                package.family, package.recipe, volume, method, said[0] if said else None
            )
        except ScanError:
            continue
        found.append(
            Example(
                why=why,
                scan_id=record.scan_id,
                true=_named(record),
                said=", ".join(said) or "none",
                sure=float(sure[at]),
                picture=data_uri(overlay_png(shown, volume, record.scan_id)),
            )
        )
    return found


def surest(task: Task, tested: AnsweredScans) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N,) calibrated probability of what the model says, and (N,) whether it is right.

    Of a multi-label task the probability of the label that it is least sure of, and whether all
    labels are right.
    """
    said = [task.encode(answer.predicted) for answer in tested.answers]
    rows = tested.shown
    if task.is_multi_label:
        decided = np.array(said, dtype=np.int64).reshape(rows.shape)
        sure = np.where(decided == 1, rows, 1 - rows).min(axis=1)
        return sure, (decided == tested.target).all(axis=1)
    chosen = np.array(said, dtype=np.int64)[:, 0]
    return rows[np.arange(len(rows)), chosen], chosen == tested.target


def _chosen(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, int]:
    """Why -> number of the scan; the first of equals, each scan once."""
    found: dict[str, int] = {}
    for why, among in (("The most sure right answer", right), ("The most sure wrong one", ~right)):
        if among.any():
            found[why] = int(np.flatnonzero(among)[sure[among].argmax()])
    least = int(sure.argmin())
    if least not in found.values():
        found["The least sure one"] = least
    return found


def _cheap(family: Family[Any]) -> Method | None:
    methods = methods_of(family)
    if methods[0] != "occlusion":
        return methods[0]
    if int(np.prod(family.scan_shape[1:])) <= _MOST_OCCLUDED:
        return "occlusion"
    return "integrated_gradients" if "integrated_gradients" in methods else None


def _named(record: ScanRecord) -> str:
    names: Sequence[str] = record.labels
    return ", ".join(names) or "none"
