"""What an audit found, in words: the answer first."""

from __future__ import annotations

from typing import Final

from pipeline.audit.audit import LEAST_LOSS, SHOWN_DANGERS, Audit, AuditRow, Estimate
from pipeline.audit.sweep import RANGES
from pipeline.shifts import ORIENTATION_MISTAKES
from pipeline.study.config import METRIC_WORDS
from pipeline.wording import decimals, listed

# Flips of a kind that counts as harmless.
HARMLESS_FLIPS: Final = 0.01
# Flips that are told although the score holds.
_MANY_FLIPS: Final = 0.1

_COUNTS: Final = {2: "two", 3: "three"}


def sentences(audit: Audit, seen: int) -> list[str]:
    """The findings, most important first.

    Args:
        audit: What was found.
        seen: Of how many of the scans it was fitted on, or chosen by, them or their patients.
    """
    found = [_dangers(audit), *_silent_flips(audit), *_harmless(audit), _forgotten(audit)]
    found += _headers(audit)
    if seen:
        found.append(
            f"Caution: the model was fitted on, or chosen by, {seen} of the {audit.scans} scans, "
            "or scans of their patients: for them its score is no test."
        )
    return found


def described(audit: Audit, row: AuditRow) -> str:
    """One row: ``AUC 0.934 → 0.594, loss 0.340 [0.235, 0.435], 37 % of predictions flip``."""
    scores = f"{decimals(audit.base.score.value)} → {decimals(row.score.value)}"
    return (
        f"{METRIC_WORDS[audit.metric]} {scores}, loss {decimals(row.loss.value)} "
        f"{interval(row.loss)}, {percent(row.flips.value)} of predictions flip"
    )


def interval(estimate: Estimate) -> str:
    """``[0.235, 0.435]``."""
    return f"[{decimals(estimate.low)}, {decimals(estimate.high)}]"


def percent(share: float) -> str:
    """``37 %``; what is not none is at least ``<1 %``. The space does not break."""
    return "<1\N{NO-BREAK SPACE}%" if 0 < share < 0.005 else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _dangers(audit: Audit) -> str:
    worst = audit.dangers()
    metric = METRIC_WORDS[audit.metric]
    if not worst:
        none = (
            f"No realistic shift costs {metric} more than chance explains, on {audit.scans} scans "
            f"of {audit.patients} patients."
        )
        return none + _suspects(audit)
    shown = [f"{row.step} (loss {decimals(row.loss.value)})" for row in worst]
    of_what = f"of {metric} {decimals(audit.base.score.value)}"
    if len(worst) == 1:
        return f"The only dangerous shift is {shown[0]}, {of_what}.{_suspects(audit)}"
    which = "most dangerous shifts" if len(worst) == SHOWN_DANGERS else "dangerous shifts"
    said = f"The {_COUNTS[len(worst)]} {which} are {listed(shown)}, {of_what}."
    return said + _suspects(audit)


def _suspects(audit: Audit) -> str:
    """What follows them, where fewer than three are beyond chance."""
    rows = audit.suspects()
    if not rows:
        return ""
    shown = listed([f"{row.step} (loss {decimals(row.loss.value)})" for row in rows])
    verb = "comes" if len(rows) == 1 else "come"
    return f" Next {verb} {shown}, within chance on {audit.patients} patients."


def _silent_flips(audit: Audit) -> list[str]:
    rows = [row for row in audit.arm("with") if row.realistic]
    loud = {row.step.kind for row in rows if row.step and audit.significant(row)}
    quiet = [row for row in rows if row.step and row.step.kind not in loud]
    row = max(quiet, key=lambda r: r.flips.value, default=None)
    if row is None or row.flips.value < _MANY_FLIPS:
        return []
    metric, flips = METRIC_WORDS[audit.metric], percent(row.flips.value)
    return [
        f"Beware of what {metric} does not show: {row.step} costs it nothing significant "
        f"({decimals(row.score.value)}), and {flips} of predictions flip."
    ]


def _harmless(audit: Audit) -> list[str]:
    rows = [row for row in audit.arm("with") if row.realistic]
    tried = {row.step.kind for row in rows if row.step}
    harmed = {
        row.step.kind
        for row in rows
        if row.step and (abs(row.loss.value) >= LEAST_LOSS or row.flips.value > HARMLESS_FLIPS)
    }
    if not (harmless := [one.kind for one in RANGES if one.kind in tried - harmed]):
        return []
    return [
        f"With its recipe the model does not mind {listed(harmless)}: no realistic amount changes "
        f"{METRIC_WORDS[audit.metric]} by {LEAST_LOSS:g} or flips more than "
        f"{percent(HARMLESS_FLIPS)} of predictions."
    ]


def _forgotten(audit: Audit) -> str:
    bare, unnormalised = audit.bare, audit.unnormalised
    text = f"Where normalisation is forgotten: {described(audit, unnormalised)}"
    if bare.score == unnormalised.score and bare.flips == unnormalised.flips:
        return f"{text}; where all preprocessing is, the same."
    return f"{text}; where all preprocessing is: {described(audit, bare)}."


def _headers(audit: Audit) -> list[str]:
    def worst(kind: str) -> AuditRow | None:
        rows = [row for row in audit.arm("with") if row.step and row.step.kind == kind]
        return max(rows, key=lambda row: (row.loss.value, row.flips.value), default=None)

    wrong, right = worst("orientation"), worst("storage")
    if wrong is None:
        return []
    mistake = ORIENTATION_MISTAKES[int(wrong.step.amount) - 1] if wrong.step else ""
    text = (
        f"No recipe repairs an orientation that the header states wrong ({mistake}: loss "
        f"{decimals(wrong.loss.value)})"
    )
    if right is None:
        return [f"{text}. These scans' headers state none at all."]
    return [
        f"{text}. What is only stored along other axes, as the header truly says, costs at most "
        f"{decimals(max(right.loss.value, 0))}."
    ]
