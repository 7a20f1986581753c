"""Sections on scores: learning curves with forecasts, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pipeline.metrics import METRICS, higher_is_better
from pipeline.study.config import METRIC_WORDS
from pipeline.study.report.draw_cost import cost_against_score
from pipeline.study.report.draw_curves import (
    family_curve,
    learning_curves,
    metric_curves,
    scores_at_one_size,
)
from pipeline.study.report.panels import each, lines, look, together
from pipeline.study.report.parts import (
    Cell,
    Figure,
    Record,
    Section,
    Table,
    at_largest,
    estimate,
    number,
    plain,
    single,
)
from pipeline.study.results import COSTS, CURVES, FORECAST
from pipeline.study.summary import TREND_WORDS
from pipeline.wording import counted

_CROWDED: Final = 3  # more families than this are also shown one by one
_PANEL: Final = (2.4, 2.0)


def learning_curve_section(results: Record) -> Section:
    """Score against patients, the fitted law and its forecast."""
    config, families, sizes = results["config"], list(results["families"]), results["sizes"]
    metric, points = config["metric"], results["points"]
    words = METRIC_WORDS[metric]
    level = f"{100 * config['level']:g} %"
    several = len(sizes) > 1
    if several:
        ahead = results["ahead"]
        drawing = learning_curves(
            points, families, metric, config["targets"], results["laws"], ahead, results["band"]
        )
    else:
        drawing = scores_at_one_size(points, families, metric, config["targets"])
    ribbons = f"{'ribbons' if several else 'bars'}: {level} interval"
    caption = (
        f"Mean test {words} of {counted(config['subsets'], 'draw')} of patients and "
        f"{counted(config['seeds'], 'seed')}; {ribbons}."
    )
    if results["laws"]:
        caption += (
            " Points are measured, lines are the fitted law, dashed beyond the study to twice its "
            f"size; paler ribbons and upright lines: {level} interval of the forecast."
        )
    if config["targets"]:
        caption += f" Grey dashes: target {' and '.join(map(str, config['targets']))}."
    figures = [
        single("learning-curves", f"Test {words} against training patients", drawing, caption)
    ]
    if len(families) > _CROWDED and several and _any(points, metric):
        draw = family_curve(points, families, metric, config["targets"], results["band"])
        figures.append(
            Figure(
                f"Test {words} against training patients, family by family",
                each(draw, families, "curve", _PANEL),
                together(draw, families, "curve", _PANEL),
                "learning-curves-by-family",
                "Each family by itself, as measured; the others in grey"
                + ("; dashed: its law beyond the study." if results["band"] else "."),
            )
        )
    return Section(
        "Score against number of patients" if several else f"Score at {sizes[0]} patients",
        figures=tuple(figures),
        tables=tuple(_curve_tables(results, level)),
        files=(CURVES, FORECAST) if results["laws"] else (CURVES,),
    )


def cost_section(results: Record, costs: Mapping[str, float]) -> Section:
    """Score and seconds of one fit at the largest size, and the other metrics."""
    families, largest = list(results["families"]), results["sizes"][-1]
    metric, level = results["config"]["metric"], f"{100 * results['config']['level']:g} %"
    words = METRIC_WORDS[metric]
    shown = _shown(results)
    rows = tuple(
        (
            *plain(family),
            *(shown.get((family, largest, name), ("–", "")) for name in METRICS),
            *plain(f"{costs[family]:.3g} s" if family in costs else "–"),
        )
        for family in families
    )
    drawing = cost_against_score(costs, at_largest(results), families, metric)
    return Section(
        "Score against cost",
        figures=(
            single(
                "cost",
                f"Test {words} against the time of one fit",
                drawing,
                f"At {largest} patients: median time of one fit on the machine of the study; bars: "
                f"{level} interval.",
            ),
        ),
        tables=(
            Table(
                f"Every metric on the test scans at {largest} patients, with {level} interval",
                ("Family", *(METRIC_WORDS[name] for name in METRICS), "One fit"),
                rows,
            ),
        ),
        files=(COSTS,),
    )


def other_metrics_section(results: Record) -> Section | None:
    """Learning curves of the metrics that the study does not look at first; None with one size."""
    if len(results["sizes"]) == 1:
        return None
    families = list(results["families"])
    others = [name for name in METRICS if name != results["config"]["metric"]]
    shown = _shown(results)
    draw = metric_curves(results["points"], families, others)
    names = [METRIC_WORDS[name] for name in others]
    rows = tuple(
        (*plain(family, size), *(shown.get((family, size, name), ("–", "")) for name in others))
        for family in families
        for size in results["sizes"]
    )
    return Section(
        "The other metrics",
        sentences=(
            "Brier score and log loss are losses: lower is better. Intervals are for other draws "
            "from these training patients; what limits each family is told for others as well.",
        ),
        legend=tuple((name, look(at)[0], "") for at, name in enumerate(families)),
        figures=(
            Figure(
                "Test scores by the other metrics against training patients",
                each(draw, names, "metric", _PANEL),
                together(draw, names, "metric", _PANEL, lines(families)),
                "learning-curves-other-metrics",
            ),
        ),
        tables=(
            Table("Mean on the test scans, with interval", ("Family", "Patients", *names), rows),
        ),
        files=(CURVES,),
    )


def _curve_tables(results: Record, level: str) -> Iterator[Table]:
    """Measured scores, and what the laws foretell."""
    yield _scores_table(results, level)
    if results["trends"]:
        yield _gains_table(results, level)
    if results["laws"]:
        yield _laws_table(results, level)
    if results["backtest"]:
        yield _backtest_table(results)


def _scores_table(results: Record, level: str) -> Table:
    families, sizes = list(results["families"]), results["sizes"]
    metric, shown = results["config"]["metric"], _shown(results)
    return Table(
        f"Test {METRIC_WORDS[metric]} with {level} interval, by number of training patients",
        ("Family", *map(str, sizes)),
        tuple(
            (*plain(family), *(shown.get((family, size, metric), ("–", "")) for size in sizes))
            for family in families
        ),
    )


def _gains_table(results: Record, level: str) -> Table:
    words, trends = METRIC_WORDS[results["config"]["metric"]], results["trends"]
    start, end = trends[0]["start"], trends[0]["end"]
    return Table(
        f"{words} gained from {start} to {end} patients, with {level} interval",
        ("Family", "Gain", "The curve is"),
        tuple(
            (
                *plain(trend["family"]),
                estimate(trend, "gain", sign="+"),
                *plain(TREND_WORDS[trend["verdict"]]),
            )
            for trend in trends
        ),
    )


def _laws_table(results: Record, level: str) -> Table:
    metric = results["config"]["metric"]
    words = METRIC_WORDS[metric]
    ahead = {one["family"]: one for one in results["ahead"]}
    wanted: dict[str, list[Cell]] = {family: [] for family in results["families"]}
    for one in results["forecasts"]:
        wanted[one["family"]].append(_patients(one))
    error = f"1 − {words}" if higher_is_better(metric) else words
    return Table(
        f"Fitted law {error} = a + b n^−c, and what follows from it, with {level} interval",
        (
            *("Family", "a", "b", "c"),
            *(f"{words} at {size}" for size in sorted({o["size"] for o in ahead.values()})),
            *(f"Patients for {target:g}" for target in results["config"]["targets"]),
        ),
        tuple(
            (
                *plain(
                    law["family"], *(number(law[k]) for k in ("asymptote", "scale", "exponent"))
                ),
                *_at_its_size(ahead[law["family"]], ahead),
                *wanted[law["family"]],
            )
            for law in results["laws"]
        ),
    )


def _backtest_table(results: Record) -> Table:
    return Table(
        "Back-test: laws of the smaller half of the sizes",
        ("Family", "Patients", "Law fitted up to", "Foretold", "Measured", "Agree"),
        tuple(
            (
                *plain(one["family"], one["size"], one["fitted_to"]),
                estimate(one),
                *plain(number(one["measured"]), "yes" if one["covered"] else "no"),
            )
            for one in results["backtest"]
        ),
    )


def _at_its_size(one: Record, ahead: Mapping[str, Record]) -> Iterator[Cell]:
    """A forecast in the column of its size: families may differ in the largest size they have."""
    for size in sorted({other["size"] for other in ahead.values()}):
        yield estimate(one) if one["size"] == size else ("–", "")


def _patients(one: Record) -> Cell:
    if one["status"] == "reached below":
        return (f"at most {one['high']:.0f}", "the fewest studied")
    if one["status"] != "reached":
        return (one["status"], f"from {one['low']:.0f}" if one["low"] else "")
    return (f"{one['patients']:.0f}", f"[{one['low']:.0f}, {one['high']:.0f}]")


def _shown(results: Record) -> dict[tuple[str, int, str], Cell]:
    """The test points as cells, by family, size and metric."""
    return {
        (point["family"], point["size"], point["metric"]): estimate(point, "mean")
        for point in results["points"]
        if point["split"] == "test"
    }


def _any(points: Sequence[Record], metric: str) -> bool:
    return any(
        p["metric"] == metric and p["split"] == "test" and p["low"] is not None for p in points
    )
