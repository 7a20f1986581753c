"""What a section of the report is made of; the template lays out every section alike.

A section that has figures has their tables and the CSV file that both come from, so that nothing is
shown that cannot be read as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]
Cell = tuple[str, str]  # text, and what is set small below it


@dataclass(frozen=True)
class Figure:
    """A drawing, or several of one kind side by side.

    Attributes:
        label: What it shows, for those who do not see it.
        drawings: SVG elements.
        whole: The same as one SVG, for files and MLflow.
        name: Stem of its file.
        caption: How to read it.
    """

    label: str
    drawings: tuple[str, ...]
    whole: str
    name: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of a row is its head.

    Attributes:
        caption: What the numbers are.
        header: Names of the columns.
        rows: As many cells each.
        folded: Whether it is behind a fold.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = True


@dataclass(frozen=True)
class Section:
    """One question and what is known about it.

    Attributes:
        title: The question.
        sentences: The answer, and what must be known to read it.
        legend: Name, colour and pattern (``""`` or ``"hatched"``) of what the figures show.
        figures: Drawings.
        tables: All numbers that the figures show.
        files: Names of the CSV files that hold them all.
    """

    title: str
    sentences: tuple[str, ...] = ()
    legend: tuple[tuple[str, str, str], ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    files: tuple[str, ...] = ()


def single(name: str, label: str, drawing: str, caption: str = "") -> Figure:
    """A figure of one drawing."""
    return Figure(label, (drawing,), drawing, name, caption)


def plain(*texts: object) -> tuple[Cell, ...]:
    """A row of cells with nothing below."""
    return tuple((str(text), "") for text in texts)


def estimate(row: Record, value: str = "value", digits: int = 3, sign: str = "") -> Cell:
    """A number and its interval; a dash where it is not defined."""
    if row[value] is None:
        return ("–", "")
    ends = ""
    if row["low"] is not None and row["high"] is not None:
        ends = f"[{row['low']:{sign}.{digits}f}, {row['high']:{sign}.{digits}f}]"
    return (f"{row[value]:{sign}.{digits}f}", ends)


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def at_largest(results: Record, split: str = "test") -> Sequence[Record]:
    """The points of the headline metric at the largest size."""
    return [
        point
        for point in results["points"]
        if point["size"] == results["sizes"][-1]
        and point["metric"] == results["config"]["metric"]
        and point["split"] == split
    ]
