"""Section on which families differ beyond noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from pipeline.study.config import METRIC_WORDS
from pipeline.study.report.parts import Cell, Record, Section, Table, estimate, plain
from pipeline.study.results import COMPARISONS
from pipeline.wording import counted

_MANY_PAIRS: Final = 12  # more are behind a fold


def comparison_section(results: Record) -> Section | None:
    """Which families differ beyond noise; None with one family."""
    if not results["differences"]:
        return None
    words, largest = METRIC_WORDS[results["config"]["metric"]], results["sizes"][-1]
    here = [pair for pair in results["differences"] if pair["size"] == largest]
    differ = [pair for pair in here if pair["winner"]]
    counts = f"{len(differ)} of {counted(len(here), 'pair')}"
    tables = []
    if differ:
        tables.append(
            Table(
                f"Beyond noise at {largest} patients",
                ("Better", "Than", f"By ({words})", "p (Holm)"),
                tuple(_won(pair) for pair in differ),
                folded=len(differ) > _MANY_PAIRS,
            )
        )
    header = ("Pair", "Cells", f"Advantage in {words}", "p (Holm)", "Verdict")
    by_size = groupby(results["differences"], key=lambda pair: pair["size"])
    rows = tuple((*plain(size), *_difference(pair)) for size, pairs in by_size for pair in pairs)
    tables.append(Table("Every pair at every size", ("Patients", *header), rows))
    return Section(
        "Is one family better than another?",
        sentences=(
            f"At {largest} patients {counts} of families "
            f"{'differs' if len(differ) == 1 else 'differ'} beyond noise.",
            f"Advantage in {words} of the first over the second, on the same test patients and the "
            "same draws of training patients. Intervals hold for all pairs of a size together "
            "(Bonferroni); the verdict is by Holm's rule on paired tests, which may tell two "
            "families apart whose interval still holds 0.",
            *_few_patients(here),
            *_unpaired(results),
        ),
        tables=tuple(tables),
        files=(COMPARISONS,),
    )


def _few_patients(pairs: Sequence[Record]) -> Iterator[str]:
    if any(pair["few_patients"] for pair in pairs):
        yield "A class has so few test patients that no difference is called settled."


def _unpaired(results: Record) -> Iterator[str]:
    """Said where cells failed: the other family's of the same draw are left out too."""
    if any(cell["status"] == "failed" for cell in results["cells"]):
        yield (
            "Some cells failed: a pair is compared on the draws and seeds for which both families "
            "have a cell, as many as the table says."
        )


def _won(pair: Record) -> tuple[Cell, ...]:
    """A difference beyond noise, the better family first."""
    turned = pair["winner"] == pair["second"]
    gain = {name: pair[name] for name in ("gain", "low", "high")}
    if turned:
        gain = {"gain": -gain["gain"], "low": -gain["high"], "high": -gain["low"]}
    loser = pair["first"] if turned else pair["second"]
    return (
        *plain(pair["winner"], loser),
        estimate(gain, "gain", sign="+"),
        *plain(_p_value(pair["p_holm"])),
    )


def _p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _difference(pair: Record) -> tuple[Cell, ...]:
    names = f"{pair['first']} – {pair['second']}"
    if pair["gain"] is None:
        return plain(names, pair["pairs"], "–", "–", "not defined")
    noise = "not settled" if pair["few_patients"] else "within noise"
    verdict = f"{pair['winner']} is better" if pair["winner"] else noise
    return (
        *plain(names, pair["pairs"]),
        estimate(pair, "gain", sign="+"),
        *plain(_p_value(pair["p_holm"]), verdict),
    )
