"""Section on what limits each family: bias, variance by patients, variance by seed, or noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from pipeline.study.config import METRIC_WORDS
from pipeline.study.report.draw_limits import (
    LETTERS,
    TERMS,
    legend,
    limits,
    limits_at_one_size,
    patches,
)
from pipeline.study.report.panels import each, together
from pipeline.study.report.parts import Cell, Figure, Record, Section, Table, estimate, plain
from pipeline.study.results import DECOMPOSITION, VERDICTS

_PANEL: Final = (2.4, 2.0)


def limit_section(results: Record) -> Section | None:
    """Bias and variance of every family and size; None where no cell is finished."""
    found: dict[tuple[str, int], dict[str, Record]] = defaultdict(dict)
    for one in results["decomposition"]:
        if one["loss"] == "squared" and not one["class_name"]:
            found[one["family"], one["size"]][one["term"]] = one
    if not found:
        return None
    verdicts = {(one["family"], one["size"]): one["limit"] for one in results["verdicts"]}
    families = [name for name in results["families"] if any(name == f for f, _ in found)]
    entries = legend(found)
    if len(results["sizes"]) > 1:
        draw = limits(found, verdicts, results["sizes"])
        whole = together(draw, families, "limits", _PANEL, patches(entries))
        drawings = each(draw, families, "limits", _PANEL), whole
    else:
        whole = limits_at_one_size(found, verdicts, families)
        drawings = (whole,), whole
    used = [name for name in LETTERS if name in verdicts.values()]
    letters = ", ".join(f"{LETTERS[name]} {name}" for name in used)
    noisy = any("noise" in terms for terms in found.values())
    floor = (
        "The Bayes probabilities of these scans are known, so noise is a term of its own: no "
        "classifier can have less loss."
        if noisy
        else "The noise of the labels cannot be told from bias on real scans, and is in it."
    )
    return Section(
        "What limits each family?",
        sentences=(
            "Expected squared loss (Brier score) of one fit on the test scans, taken apart. Bias "
            "is what stays however the training patients and the seed fall; variance is what they "
            f"change. {floor}",
            _sum(results, noisy),
        ),
        legend=tuple(entries),
        figures=(
            Figure(
                "Bias and variance by number of training patients, family by family",
                *drawings,
                "bias-variance",
                f"Verdict on each bar: {letters}. Estimates are unbiased, so a small variance can "
                "come out below 0; it is then drawn as none. Black: interval of each part, counted "
                "from where the part begins; with few draws there is none.",
            ),
        ),
        tables=(_table(results, found), *_gap_table(results)),
        files=(DECOMPOSITION, VERDICTS),
    )


def _sum(results: Record, noisy: bool) -> str:
    """Why the sum of the terms has another interval than the Brier score of the curves."""
    patients = results["patients"]["train"]
    what = (
        "expected over the labels that the scans could have had, where the Brier score of the "
        "other tables is of those that they have"
        if noisy
        else "which other tables of this page have as well"
    )
    chance = (
        "; they also have the chance of the labels in them, which makes them wider, so that either "
        "can be the wider one"
        if noisy
        else ""
    )
    return (
        f"The sum is the mean Brier score, {what}. Its interval here, like those of bias and "
        f"variance, is also for other training patients than these {patients}, which draws near "
        f"the full size have mostly in common; in the other tables intervals are for other draws "
        f"from these {patients}, wider by Student's t where subsets and seeds are few{chance}."
    )


def _table(results: Record, found: dict[tuple[str, int], dict[str, Record]]) -> Table:
    level = f"{100 * results['config']['level']:g} %"
    names = [name for name, *_ in TERMS if any(name in terms for terms in found.values())]
    heads = {name: words for name, words, _ in TERMS}
    by_place = {(one["family"], one["size"]): one for one in results["verdicts"]}
    rows = tuple(
        (
            *plain(family, size),
            *(estimate(terms[name]) for name in (*names, "total")),
            _verdict(by_place[family, size]),
        )
        for (family, size), terms in found.items()
    )
    header = ("Family", "Patients", *(heads[name].capitalize() for name in names))
    return Table(f"Terms with {level} interval", (*header, "Sum", "Verdict"), rows)


def _gap_table(results: Record) -> Iterator[Table]:
    """How much better training scans score: wide where variance is, narrow where bias is."""
    words = METRIC_WORDS[results["config"]["metric"]]
    by_place = {(one["family"], one["size"]): one for one in results["gaps"]}
    rows = tuple(
        (
            *plain(family),
            *(estimate(by_place[family, size], sign="+") for size in results["sizes"]),
        )
        for family in results["families"]
    )
    if any(one["value"] is not None for one in results["gaps"]):
        yield Table(
            f"How much better {words} is on a fit's own training scans than on test scans",
            ("Family", *map(str, results["sizes"])),
            rows,
        )


def _verdict(one: Record) -> Cell:
    borrowed = one["borrowed_from"]
    return (one["limit"], f"variance by patients of size {borrowed}" if borrowed else "")
