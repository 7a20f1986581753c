"""A claim's page in Markdown, written from its run alone, so that it cannot drift from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from data_prep.config import dotted
from data_prep.files import write_bytes
from pipeline.families import FAMILIES
from pipeline.lecture.figure import draw_claim, draw_real
from pipeline.lecture.fit_seconds import FitSeconds, in_words
from pipeline.lecture.loss_terms import loss_terms
from pipeline.lecture.numerals import estimate, number, spans
from pipeline.lecture.outcome import ClaimRun, condition, measured, scored, untold
from pipeline.lecture.pictures import Drawn
from pipeline.lecture.real_scans import kept, stamped
from pipeline.page import STYLE, markdown_table, svg
from pipeline.study.claim import Claim, Flip
from pipeline.study.config import METRIC_WORDS
from pipeline.study.expectation import Judgement, StudyOutcome
from pipeline.study.learning_curve import Point
from pipeline.wording import counted

_MOST_COLUMNS: Final = 6
_INDEX: Final = """\
# The lecture's claims

What convolutional networks can learn and what they cannot: each claim is put to the test by a
study that says beforehand what must come out (`configs/study/lecture`). `make lecture CLAIM=NAME`
runs one of them, `make lecture` all, `QUICK=1` a small version; `FLIP=1` undoes what the claim
rests on, and it must fail. The pages are written by the run (`--docs docs/lecture`).
"""


def write_page(run: ClaimRun, folder: Path, *, patients: bool = True) -> Path:
    """Write ``<claim>.md`` with the figure ``<claim>.svg`` and the pictures that it shows.

    What stands there of real scans stays, with its figure, where this run has not looked at any and
    the study is the same.

    Args:
        run: The claim, put to the test.
        folder: Where.
        patients: Whether pictures may show real scans: not where pages are made public.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{run.short_name}.md"
    figure = draw_claim(run)
    _write_figure(figure, folder / f"{run.short_name}.svg")
    before = kept(run, page)
    if run.real or not before:
        _write_figure(draw_real(run), folder / f"{run.short_name}-real.svg")
    shown = {
        f"{run.short_name}-{Path(cohort).stem}-{one.name}.png": (cohort, one)
        for cohort, pictures in run.pictures.items()
        for one in pictures
        if patients or cohort in run.outcomes
    }
    for name, (_, one) in shown.items():
        write_bytes(folder / name, one.png)
    real = list(stamped(run, _real(run))) if run.real else before
    lines = _lines(run, shown, real, has_figure=figure is not None)
    write_bytes(page, ("\n".join(lines) + "\n").encode())
    return page


def _write_figure(figure: Figure | None, file: Path) -> None:
    if figure is None:
        file.unlink(missing_ok=True)  # of an earlier run
        return
    with mpl.rc_context(STYLE):
        drawn = svg(figure, file.stem).encode()
    write_bytes(file, drawn)


def write_index(claims: Mapping[str, Claim], folder: Path) -> Path:
    """Write ``README.md`` with a line for each claim, by name, that has its page in the folder."""
    rows = [
        (str(claim.number), f"[{claim.title}]({Path(name).stem}.md)", claim.says)
        for name, claim in claims.items()
        if (folder / f"{Path(name).stem}.md").is_file()
    ]
    lines = [*_INDEX.splitlines(), "", *markdown_table(("", "claim", "in short"), rows)]
    path = folder / "README.md"
    write_bytes(path, ("\n".join(lines) + "\n").encode())
    return path


def _lines(
    run: ClaimRun,
    pictures: Mapping[str, tuple[str, Drawn]],
    real: Sequence[str],
    *,
    has_figure: bool,
) -> Iterator[str]:
    claim, config = run.claim, run.config
    yield f"# {claim.number}. {claim.title}"
    yield ""
    yield f"**Claimed.** {claim.says} ({claim.source})"
    yield ""
    small = ", the small version of it" if run.quick else ""
    options = f"{' QUICK=1' if run.quick else ''}{' FLIP=1' if run.flipped else ''}"
    command = f"make lecture CLAIM={run.short_name}{options}"
    if run.flipped:
        yield f"**Undone.** {claim.flip.says} So the claim must fail{_where(claim.flip)}."
        yield ""
    grid = f"{counted(config.subsets, 'subset')} x {counted(config.seeds, 'seed')}"
    yield f"**Run.** `{command}`{small}: the study `{run.file}`, {grid}, on"
    yield ", ".join(f"`{cohort}` ({_sizes(one)})" for cohort, one in run.outcomes.items()) + "."
    yield ""
    yield from markdown_table(("family", "what it is"), _families(run))
    yield ""
    if has_figure:
        yield f"![{claim.title}]({run.short_name}.svg)"
        yield ""
    for name, (cohort, one) in pictures.items():
        yield f"`{one.of.probe}` of `{one.of.family}`, fitted on `{cohort}`:"
        yield ""
        yield f"![{one.of.probe} of {one.of.family} on {cohort}]({name})"
        yield ""
    verdict = "It came out as expected." if run.holds else "**It did not come out as expected.**"
    yield f"**What came out.** {verdict} Intervals are of {100 * config.level:g} %, over test"
    yield "patients, subsets and seeds. *By X or more* is asked of the difference itself, whose"
    yield "interval must not hold 0; *within X* is asked of the whole interval."
    yield ""
    yield from _judged("expected", run.judgements, "as expected")
    if run.reported:
        yield "Asked as well, but not asserted:"
        yield ""
        yield from _judged("asked", run.reported, "yes")
    yield from _scores("Scores", run.outcomes, run.seconds)
    yield from loss_terms(claim, run.outcomes)
    yield from real
    if claim.real and not real and not run.flipped:
        names = ", ".join(f"`{cohort}`" for cohort in claim.real)
        yield f"**On real scans** ({names}) it was not run:"
        yield f"`medcurve lecture {run.short_name} --real` does."
        yield ""
    if not run.flipped:
        yield f"**What it rests on.** Undone (`make lecture CLAIM={run.short_name} FLIP=1`), the"
        yield f"claim must fail{_where(claim.flip)}: {claim.flip.says}"
        yield ""
    yield f"**In practice.** {claim.practice}"
    yield ""
    if claim.departs:
        yield f"**Other than in the lecture.** {claim.departs}"
        yield ""
    yield f"**Where it does not hold.** {claim.limits}"


def _real(run: ClaimRun) -> Iterator[str]:
    """What came out on real scans; the figure is drawn where there is something to compare."""
    yield from _scores("On real scans", run.real, run.seconds)
    yield from loss_terms(run.claim, run.real)
    if draw_real(run) is not None:
        yield f"![{run.claim.title}, on real scans]({run.short_name}-real.svg)"
        yield ""
    yield "Nothing was asserted about these. What is expected above, asked here by direction:"
    yield ""
    for cohort, asked in run.asked.items():
        yield f"`{cohort}`:"
        yield ""
        yield from _judged("asked", asked, "yes")


def _where(flip: Flip) -> str:
    """Which rows of what is expected rest on the mechanism."""
    rows = " and ".join(", ".join(map(str, flip.fails)).rsplit(", ", 1))
    return f" in row{'s' * (len(flip.fails) > 1)} {rows} of what is expected" if rows else ""


def _judged(column: str, judgements: Sequence[Judgement], held: str) -> Iterator[str]:
    yield from markdown_table(
        (column, "one", "the other", "difference", "came out"),
        (
            (
                one.expectation,
                number(one.value),
                number(one.of),
                " ".join([number(one.difference, "+"), *spans(one.low, one.high, "+")]),
                held if one.holds else f"**not**: {one.why}",
            )
            for one in judgements
        ),
    )
    yield ""
    for why in untold(judgements):
        yield f"Where no interval stands, {why}."
        yield ""


def _sizes(outcome: StudyOutcome) -> str:
    return f"{', '.join(map(str, outcome.sizes))} training patients"


def _families(run: ClaimRun) -> Iterator[tuple[str, str]]:
    """Each family, and those of its parameters that are not its kind's defaults."""
    for name, family in run.families.items():
        own = dotted(family.params.model_dump(mode="json"))
        usual = dotted(FAMILIES[family.family].Params().model_dump(mode="json"))
        words = [f"`{key}: {_written(own[key])}`" for key in own if usual.get(key) != own[key]]
        if family.permute is not None:
            words.append("voxels permuted")
        yield f"`{name}`", ", ".join([f"`{family.family}`", *words])


def _written(value: Any) -> str:
    """As YAML has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _scores(
    title: str, outcomes: Mapping[str, StudyOutcome], seconds: Mapping[str, FitSeconds]
) -> Iterator[str]:
    for cohort, outcome in outcomes.items():
        points = list(scored(outcome))
        words = METRIC_WORDS[outcome.config.metric]
        yield f"**{title}**, test {words}, `{cohort}`:"
        yield ""
        yield from _table(points)
        yield ""
        yield from _measured(cohort, outcome, seconds.get(cohort, {}))


def _measured(cohort: str, outcome: StudyOutcome, seconds: FitSeconds) -> Iterator[str]:
    """What probes measured at the largest size, and how long fits took: a column for a family."""
    probed = [p for p in measured(outcome) if p.cells and p.size == outcome.sizes[-1]]
    if not probed:
        return
    found = {(p.metric, p.family): estimate(p.mean, p.low, p.high) for p in probed}
    families = list(dict.fromkeys(p.family for p in probed))
    largest = outcome.sizes[-1]
    times = {name: in_words(fits) for (name, size), fits in seconds.items() if size == largest}
    words = "time of a fit, quickest to slowest (not asserted)"
    size = f", {largest} patients" if len(outcome.sizes) > 1 else ""
    yield f"**Measured**, `{cohort}`{size}:"
    yield ""
    yield from markdown_table(
        ("what", *families),
        [
            *(
                (name.replace("/", ": "), *(found.get((name, family), "") for family in families))
                for name in dict.fromkeys(p.metric for p in probed)
            ),
            *([(words, *(times.get(name, "") for name in families))] if times else []),
        ],
    )
    yield ""


def _columns(points: Sequence[Point]) -> dict[tuple[int, str], str]:
    """(size, condition) -> heading."""
    sizes = {point.size for point in points}
    return {
        (point.size, condition(point)): ", ".join(
            [
                *([f"{point.size} patients"] if len(sizes) > 1 or not condition(point) else []),
                *([condition(point)] if condition(point) else []),
            ]
        )
        for point in sorted(points, key=lambda point: point.size)
    }


def _table(points: Sequence[Point]) -> Iterator[str]:
    """A row for each family; turned, where there are too many columns to read them."""
    columns = _columns(points)
    families = list(dict.fromkeys(point.family for point in points))
    cells = {(p.family, p.size, condition(p)): estimate(p.mean, p.low, p.high) for p in points}
    if len(columns) <= _MOST_COLUMNS:
        rows = [(name, *(cells[name, *column] for column in columns)) for name in families]
        yield from markdown_table(("family", *columns.values()), rows)
    else:
        turned = [
            (words, *(cells[name, *column] for name in families))
            for column, words in columns.items()
        ]
        yield from markdown_table(("test scans", *families), turned)
