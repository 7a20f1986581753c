"""The evaluation's folder: the page with scans and without, the card, all numbers, the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from data_prep.files import write_bytes, write_csv, write_json
from pipeline.model_page.facts import markdown
from pipeline.model_page.gather import AnsweredScans
from pipeline.model_page.judged import Judged
from pipeline.model_page.pictures import Example
from pipeline.model_page.summary import sentences
from pipeline.model_page.values import page_values
from pipeline.model_page.words import percent
from pipeline.page import render
from pipeline.serving.answers import PROBABILITY_DECIMALS
from pipeline.serving.package import ModelPackage

PAGE: Final = "evaluation.html"
PAGE_WITHOUT_SCANS: Final = "evaluation_without_scans.html"
CARD: Final = "MODEL_CARD.md"
NUMBERS: Final = "evaluation.json"
ANSWERS: Final = "test_predictions.csv"
QUARANTINE: Final = "quarantine.csv"
# What may leave the site: counts and scores, no scan and no row of one.
TO_SHARE: Final = (PAGE_WITHOUT_SCANS, CARD, NUMBERS)


def write_evaluation(
    package: ModelPackage,
    tested: AnsweredScans,
    judged: Judged,
    examples: Sequence[Example],
    folder: Path,
) -> None:
    """Write the pages, ``MODEL_CARD.md``, ``evaluation.json`` and two tables.

    What shows scans, or has a row for each, only its owner may read: ``evaluation.html``,
    ``test_predictions.csv`` and ``quarantine.csv``.

    Args:
        package: The model.
        tested: Its answers.
        judged: What they are worth.
        examples: Scans to show; may be none.
        folder: Exists.
    """
    write_json(folder / NUMBERS, judged.model_dump(mode="json"))
    answer = sentences(judged, package.card)
    write_bytes(folder / CARD, markdown(package, judged, answer).encode())
    _write_answers(package, tested, folder / ANSWERS)
    refused = [(path, e.code, e.message) for record, e in tested.refused for path in record.paths]
    write_csv(folder / QUARANTINE, ("path", "code", "reason"), refused)
    values = page_values(package, tested, judged, answer) | {
        "numbers": NUMBERS,
        "card": CARD,
        "answers": ANSWERS,
        "quarantine": QUARANTINE if judged.refused else "",
    }
    shown = {"examples": [asdict(one) | {"sure": percent(one.sure)} for one in examples]}
    for name, more in ((PAGE, shown), (PAGE_WITHOUT_SCANS, {"examples": []})):
        page = render("pipeline.model_page", "evaluation.html.j2", values | more)
        write_bytes(folder / name, page)
    for name in (PAGE, ANSWERS, QUARANTINE):
        (folder / name).chmod(0o600)


def _write_answers(package: ModelPackage, tested: AnsweredScans, path: Path) -> None:
    names = package.task.class_names
    header = [
        *("scan_id", "true", "predicted", "prediction_set"),
        *(f"raw_{name}" for name in names),
        *(f"p_{name}" for name in names),
        *("shift_score", "shift_p", "shift_flagged"),
    ]
    rows = []
    for record, answer in zip(tested.records, tested.answers, strict=True):
        shift = answer.shift
        rows.append(
            (
                record.scan_id,
                *(";".join(words) for words in (record.labels, answer.predicted, answer.within)),
                *(round(float(p), PROBABILITY_DECIMALS) for p in answer.raw),
                *(float(p) for p in answer.probability),
                *((round(shift.score, 4), shift.p_value, shift.flagged) if shift else ("",) * 3),
            )
        )
    write_csv(path, header, rows)
