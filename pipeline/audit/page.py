"""The audit's folder: a page, a table with everything, the figure, and what could not be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from data_prep.errors import ScanError
from data_prep.files import write_bytes, write_csv
from data_prep.manifest import ScanRecord
from pipeline.audit.audit import LEAST_LOSS, Audit, AuditRow, Estimate
from pipeline.audit.figure import ARMS, panels, whole_figure
from pipeline.audit.summary import interval, percent, sentences
from pipeline.page import render
from pipeline.serving.card import ModelCard
from pipeline.study.config import METRIC_WORDS
from pipeline.wording import decimals

PAGE: Final = "audit.html"
TABLE: Final = "audit.csv"
FIGURE: Final = "audit.svg"

_HEADER: Final = (
    *("kind", "amount", "shift", "recipe", "realistic", "metric"),
    *("score", "score_low", "score_high", "loss", "loss_low", "loss_high", "p", "p_holm"),
    *("flips", "flips_low", "flips_high", "danger"),
)


def write_audit(
    audit: Audit,
    card: ModelCard,
    cohort: str,
    refused: Sequence[tuple[ScanRecord, ScanError]],
    seen: int,
    folder: Path,
) -> None:
    """Write ``audit.html``, ``audit.csv``, ``audit.svg`` and ``quarantine.csv``.

    The page names no scan and no patient; ``quarantine.csv`` holds paths, and only its owner may
    read it.

    Args:
        audit: What was found.
        card: The model's.
        cohort: Name of the cohort that the scans are of.
        refused: Scans that could not be answered.
        seen: Of how many of the others it was fitted on, or chosen by, them or their patients.
        folder: Exists.
    """
    dangers = audit.dangers()
    everything = [audit.base, audit.bare, audit.unnormalised, *audit.rows]
    write_csv(folder / TABLE, _HEADER, [_cells(audit, row, dangers) for row in everything])
    quarantine = [(p, e.code, e.message) for record, e in refused for p in record.paths]
    write_csv(folder / "quarantine.csv", ("path", "code", "reason"), quarantine)
    (folder / "quarantine.csv").chmod(0o600)
    write_bytes(folder / FIGURE, whole_figure(audit).encode())
    values = {
        "cohort": cohort,
        "family": card.family.family,
        "trained_on": card.training.data,
        "sentences": sentences(audit, seen),
        "audit": audit,
        "metric": METRIC_WORDS[audit.metric],
        "level": f"{100 * audit.level:g}",
        "arms": [(arm, colour) for arm, (colour, _, _) in ARMS.items()],
        "panels": panels(audit),
        "dangers": [(str(row.step), _shown(row)) for row in dangers],
        "unshifted": [
            ("as the model is used: with its recipe", _shown(audit.base)),
            ("normalisation forgotten", _shown(audit.unnormalised)),
            ("all preprocessing forgotten", _shown(audit.bare)),
        ],
        "rows": [
            (str(a.step), a.realistic, _shown(a), audit.significant(a), _shown(b))
            for a, b in zip(audit.arm("with"), audit.arm("without"), strict=True)
        ],
        "least_loss": LEAST_LOSS,
        "intensity": card.recipe.config.intensity.kind,
        "refused": len(refused),
        "table": TABLE,
    }
    write_bytes(folder / PAGE, render("pipeline.audit", "audit.html.j2", values))


def _cells(audit: Audit, row: AuditRow, dangers: Sequence[AuditRow]) -> list[object]:
    step = row.step
    named = (step.kind, step.amount, str(step)) if step else ("none", "", "nothing shifted")
    rank = dangers.index(row) + 1 if row in dangers else ""
    numbers = [*_numbers(row.score), *_numbers(row.loss), row.p, row.p_holm, *_numbers(row.flips)]
    shown = ["" if math.isnan(number) else round(number, 6) + 0.0 for number in numbers]
    return [*named, row.arm, row.realistic, audit.metric, *shown, rank]


def _numbers(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _shown(row: AuditRow) -> dict[str, Any]:
    return {
        "score": decimals(row.score.value),
        "score_interval": interval(row.score),
        "loss": decimals(row.loss.value),
        "loss_interval": interval(row.loss),
        "flips": percent(row.flips.value),
    }
