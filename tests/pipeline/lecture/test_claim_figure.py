"""What a claim's figure shows, from points that are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pipeline.lecture.figure import draw_claim, draw_real
from pipeline.lecture.outcome import ClaimRun
from pipeline.page import MARKERS, svg
from pipeline.study.components import Measured
from pipeline.study.condition import Condition
from pipeline.study.config import StudyConfig
from pipeline.study.expectation import StudyOutcome
from pipeline.study.learning_curve import Curves, Point, Where
from pipeline.study.plan import read_families

COHORT = "lecture/presence"
TINY = {"like": "cnn_tiny"}
SUPPORT = {"family": "b", "cohort": "lecture/count", "measured": "receptive_field/support"}
WIDTHS = range(1, 11)


def family(name: str, width: int) -> dict[str, Any]:
    return {"name": name, "params": {"widths": [width]}, **TINY}


def point(where: Where, mean: float) -> Point:
    ends = (mean - 0.01, mean + 0.02)
    return Point(where.family, where.size, where.split, where.metric, mean, *ends, 0, 0, 1, 1, 1)


def claim_run(
    study: Mapping[str, Any],
    values: Mapping[tuple[str, str, str], float],
    sizes: Sequence[int] = (32,),
) -> ClaimRun:
    """A run whose study has these values, (family, split, metric) -> mean, at every size."""
    claim = {"number": 1, "title": "t", "says": "s", "source": "s", "practice": "p", "limits": "l"}
    claim |= {"cohorts": [COHORT], "flip": {"says": "f", "cohorts": {COHORT: "phantom2d"}}}
    config = StudyConfig.model_validate(
        {"sizes": ["all"], **study, "claim": claim | study["claim"]}
    )
    places = {Where(f, n, split, m): v for (f, split, m), v in values.items() for n in sizes}
    noise = np.random.default_rng(0).normal(0, 1e-3, (len(places), 40))
    drawn = {where: v + noise[row] for row, (where, v) in enumerate(places.items())}
    curves = Curves({where: point(where, v) for where, v in places.items()}, drawn, {})
    assert config.claim is not None
    return ClaimRun(
        name="lecture/made_up",
        claim=config.claim,
        config=config,
        families=read_families(config.families),
        outcomes={COHORT: StudyOutcome(config, sizes, curves)},
        real={},
        judgements=[],
        reported=[],
        asked={},
        pictures={},
        quick=False,
    )


def places(run: ClaimRun) -> dict[str, Axes]:
    """The panels that are drawn, by title."""
    figure = draw_claim(run)
    assert figure is not None
    assert svg(figure, "made_up").startswith("<svg")
    return {axes.get_title(): axes for axes in figure.axes if axes.axison}


def marked(axes: Axes) -> list[Line2D]:
    """The points or lines of a panel, without their bars."""
    return [line for line in axes.lines if line.get_marker() in MARKERS]


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


SCORES = {(name, "test", "auc"): value for name, value in (("prior", 0.5), ("linear", 0.8))}
ABOVE = {"expect": [{"value": "linear", "is": "above", "of": "prior"}]}


def test_scores_are_drawn_against_size_where_there_are_several() -> None:
    study = {"families": ["prior", "linear"], "sizes": [16, 32], "claim": ABOVE}
    (panel,) = places(claim_run(study, SCORES, (16, 32))).values()
    assert (labels(panel), panel.get_xlabel()) == (["16", "32"], "training patients")
    assert panel.get_ylabel() == "test AUC"


def test_scores_are_drawn_family_by_family_where_nothing_else_differs() -> None:
    (panel,) = places(claim_run({"families": ["prior", "linear"], "claim": ABOVE}, SCORES)).values()
    assert labels(panel) == ["prior", "linear"]


def test_terms_of_the_loss_are_drawn_over_the_families_at_each_size() -> None:
    names = ("prior", "linear", "tight")
    bias2 = [{"family": name, "term": "bias2"} for name in names]
    claim = {"expect": [{"value": bias2[0], "is": "above", "of": bias2[1]}]}
    tight = {"name": "tight", "like": "linear", "params": {"penalties": [1.0]}}
    study = {"families": ["prior", "linear", tight], "sizes": [16, 32], "claim": claim}
    run = claim_run(study, SCORES, (16, 32))
    values = dict(zip(product(names, (16, 32)), (0.5, 0.4, 0.3, 0.1, 0.35, np.nan), strict=True))
    terms = {where: {"bias2": Measured(v, np.full(9, v))} for where, v in values.items()}
    first = replace(run.outcomes[COHORT], terms=terms)
    _, panel = places(replace(run, outcomes={COHORT: first})).values()
    assert (panel.get_title(), labels(panel)) == ("presence: bias squared", list(names))
    lines = [(one.get_label(), one[0].get_xydata().tolist()) for one in panel.containers]
    assert lines == [  # joined only where families are of one kind
        ("16 patients", [[0, 0.5]]),
        ("_nolegend_", [[1, 0.3], [2, 0.35]]),
        ("32 patients", [[0, 0.4]]),
        ("_nolegend_", [[1, 0.1]]),
    ]


def test_one_number_is_no_figure() -> None:
    expect = {"expect": [{"value": "linear", "is": "above", "of": 0.5}]}
    run = claim_run({"families": ["linear"], "claim": expect}, {("linear", "test", "auc"): 0.8})
    assert draw_claim(run) is None


def test_a_shift_of_several_amounts_is_a_curve_with_and_without_what_is_done_about_it() -> None:
    gains = [{"kind": "gain", "amount": amount} for amount in (0.5, 2)]
    then = [{**gain, "then": {"kind": "z_score"}} for gain in gains]
    turn = {"kind": "orientation", "amount": 4}
    unshifted = {"kind": "bias", "amount": 0, "then": {"kind": "z_score"}}
    shifts = [*gains, *then, unshifted, turn]
    expect = {"expect": [{"value": "linear", "is": "above", "of": 0.5}]}
    study = {"families": ["linear"], "conditions": shifts, "claim": expect}
    splits = ["test", *(Condition.model_validate(shift).split for shift in shifts)]
    run = claim_run(study, {("linear", split, "auc"): 0.6 for split in splits})
    curve, names = places(run).values()
    assert (labels(curve), curve.get_xlabel()) == (["0.5", "1", "2"], "gain, factor")
    assert curve.get_legend_handles_labels()[1] == ["linear", "linear, then z_score"]
    assert labels(names) == ["as they are", "orientation: quarter turn"]
    lines = [line for line in curve.lines if line.get_linewidth() == 1.4]
    assert [list(line.get_xdata()) for line in lines if line.get_linestyle() == "-"] == [
        [0.5, 1, 2],
        [0.5, 1, 2],
    ]
    assert curve.get_ylim() == names.get_ylim()


def test_what_is_measured_at_several_amounts_is_a_curve_that_begins_at_none() -> None:
    asked = {"family": "cnn", "measured": "adversarial/pgd accuracy at 0.02"}
    study = {
        "families": [family("cnn", 4)],
        "probes": {"cnn": [{"probe": "adversarial"}]},
        "claim": {"expect": [{"value": asked, "is": "below", "of": 0.5}]},
    }
    ways = {f"{way} accuracy at {e}": 0.4 for way in ("pgd", "noise") for e in ("0.01", "0.02")}
    values = {"accuracy": 0.9, "pgd flip": 0.01, **ways}
    run = claim_run(study, {("cnn", "measured", f"adversarial/{n}"): v for n, v in values.items()})
    (panel,) = places(run).values()
    assert panel.get_title() == "adversarial: accuracy"
    assert labels(panel) == ["0", "0.01", "0.02"]
    assert panel.get_legend_handles_labels()[1] == ["pgd", "noise"]
    assert "epsilon" in panel.get_xlabel()
    assert panel.get_ylabel() == "share of scans that are answered right"


def test_a_mean_over_amounts_is_no_point_of_their_curve() -> None:
    asked = {"family": "cnn", "measured": "equivariance/border_mean at 2"}
    study = {
        "families": [family("cnn", 4)],
        "probes": {"cnn": [{"probe": "equivariance", "up_to": 2}]},
        "claim": {"expect": [{"value": asked, "is": "above", "of": 0}]},
    }
    values = {"border_mean": 0.3, "border_mean at 1": 0.2, "border_mean at 2": 0.4}
    run = claim_run(study, {("cnn", "measured", f"equivariance/{n}"): v for n, v in values.items()})
    (panel,) = places(run).values()
    assert labels(panel) == ["1", "2"]


@pytest.mark.parametrize(("other", "panels"), [(5.0, 0), (9.0, 1)])
def test_what_all_families_have_alike_is_not_drawn(other: float, panels: int) -> None:
    quantities = [{"family": f, "measured": "receptive_field/field"} for f in ("a", "b")]
    study = {
        "families": [family("a", 4), family("b", 8)],
        "probes": {name: [{"probe": "receptive_field"}] for name in "ab"},
        "claim": {"expect": [{"value": quantities[0], "is": "near", "of": quantities[1]}]},
    }
    fields = {("a", "measured"): 5.0, ("b", "measured"): other}
    values = {(f, split, "receptive_field/field"): v for (f, split), v in fields.items()}
    scores = {(f, "test", "auc"): 0.8 for f in ("a", "b")}
    found = places(claim_run(study, values | scores))
    assert len(found) == 1 + panels
    if panels:
        panel = found["receptive_field: field"]
        assert (panel.get_ylabel(), panel.get_ylim()[0] < 0.5) == ("voxels along an axis", True)


def test_scores_that_foretell_others_are_drawn_against_them() -> None:
    pairs = {f"random_{width}": f"trained_{width}" for width in WIDTHS}
    trained = [family(name, width) for width, name in zip(WIDTHS, pairs.values(), strict=True)]
    guessed = [family(name, 20 + width) for width, name in zip(WIDTHS, pairs, strict=True)]
    study = {
        "families": ["prior", "linear", *trained, *guessed],
        "claim": {**ABOVE, "report": [{"ranks": pairs, "by": 0.5}]},
    }
    scores = {(name, "test", "auc"): 0.5 + w / 50 for name, w in zip(pairs, WIDTHS, strict=True)}
    scores |= {(name, "test", "auc"): 0.6 for name in pairs.values()}
    scores["trained_10", "test", "auc"] = 0.9
    run = claim_run(study, {**SCORES, **scores})
    figure = draw_claim(run)
    assert figure is not None
    by_family, ranks = (axes for axes in figure.axes if axes.axison)
    assert labels(by_family) == ["prior", "linear"]
    assert "rank correlation +0." in ranks.get_xlabel()
    assert ranks.get_ylabel() == "test AUC of trained_1, ..."
    looks = {(line.get_color(), line.get_marker()) for line in marked(ranks)}
    assert len(looks) == len(pairs)
    assert not looks & {(line.get_color(), line.get_marker()) for line in marked(by_family)}


def test_ranks_that_are_asked_of_several_cohorts_are_drawn_once_of_real_scans() -> None:
    pairs = {f"random_{width}": f"trained_{width}" for width in WIDTHS}
    names = [*pairs, *pairs.values()]
    study = {
        "families": [family(name, number) for number, name in enumerate(names, 1)],
        "claim": {
            "cohorts": [COHORT, "lecture/count"],
            "expect": [{"value": "trained_1", "is": "above", "of": 0.4}],
            "report": [{"ranks": pairs, "by": 0.5}, {"ranks": pairs, "cohort": "lecture/count"}],
        },
    }
    run = claim_run(study, {(name, "test", "auc"): n / 50 for n, name in enumerate(names)})
    outcome = run.outcomes[COHORT]
    run = replace(run, outcomes=dict.fromkeys(run.claim.cohorts, outcome))
    words = "does one score foretell another?"
    assert {f"presence: {words}", f"count: {words}"} <= set(places(run))
    real = draw_real(replace(run, real=dict.fromkeys(["breastmnist", "phantom2d"], outcome)))
    assert real is not None
    titles = [axes.get_title() for axes in real.axes if words in axes.get_title()]
    assert titles == [f"breastmnist: {words}", f"phantom2d: {words}"]


def test_scores_are_drawn_against_what_is_measured_and_where_they_are_to_break() -> None:
    study = {
        "families": [family("a", 4), family("b", 8)],
        "probes": {name: [{"probe": "receptive_field"}] for name in "ab"},
        "claim": {
            "cohorts": [COHORT, "lecture/count"],
            "expect": [{"value": SUPPORT, "is": "near", "of": 9}],
            "against": {
                "measured": "receptive_field/field",
                "breaks": {COHORT: 7},
                "says": "size of the pattern",
            },
        },
    }
    fields = {(f, "measured", "receptive_field/field"): v for f, v in (("a", 9.0), ("b", 5.0))}
    support = {(f, "measured", "receptive_field/support"): v for f, v in (("a", 9.0), ("b", 5.0))}
    scores = {(f, "test", "auc"): v for f, v in (("a", 0.9), ("b", 0.5))}
    run = claim_run(study, fields | support | scores)
    run = replace(run, outcomes=dict.fromkeys(run.claim.cohorts, run.outcomes[COHORT]))
    panel, beside = places(run).values()
    assert (panel.get_title(), labels(panel)) == ("score against field", ["5", "9"])
    assert "voxels along an axis\n(dotted: size of the pattern)" in panel.get_xlabel()
    assert panel.get_legend_handles_labels()[1] == ["presence", "count"]
    presence, count = marked(panel)
    assert list(presence.get_ydata()) == [0.5, 0.9]
    assert any(list(line.get_xdata()) == [7, 7] for line in panel.lines)
    # What is measured has the colour of the cohort that it is measured on: here no family has one.
    assert beside.get_title() == "receptive_field: support on count"
    assert [line.get_color() for line in marked(beside)] == [count.get_color()] * 2
    assert count.get_color() != presence.get_color()
