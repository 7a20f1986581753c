"""The words for bias, variance and forecasts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.study.components import Component, Decomposed, Measured
from pipeline.study.config import StudyConfig
from pipeline.study.crossing import Crossing
from pipeline.study.explanation import limit_sentences, outlook_sentences
from pipeline.study.forecast import Forecast, Foretold, Outlook, Status
from pipeline.study.reach import Reach
from pipeline.study.verdict import Limit, Verdict

TERMS = {
    "bias2": 0.11,
    "variance_data": 0.01,
    "variance_seed": 0.005,
    "variance": 0.015,
    "total": 0.125,
}


def taken(family: str, size: int = 80, **changes: float) -> Decomposed:
    values = TERMS | changes
    components = tuple(
        Component(family, size, "squared", "", name, value, value - 0.01, value + 0.01)
        for name, value in values.items()
    )
    squared = {name: Measured(value, np.array([value])) for name, value in values.items()}
    return Decomposed(family, size, 0.5, components, squared, *[np.zeros(1)] * 2, np.zeros((1, 2)))


def verdict(
    family: str, limit: Limit, *, borrowed: int = 0, known: bool = False, beyond: bool = True
) -> Verdict:
    return Verdict(family, 80, limit, limit, limit, borrowed, known, beyond)


def unsettled(family: str) -> Verdict:
    turned: tuple[Limit, Limit] = ("variance-limited (patients)", "bias-limited")
    return Verdict(family, 80, "not settled", *turned, 0, False, False)


def told(found: Sequence[Decomposed], verdicts: Sequence[Verdict]) -> list[str]:
    return list(limit_sentences(found, verdicts, 80))


def test_bias_is_told_with_its_share_and_what_it_holds() -> None:
    found = [taken("linear"), taken("linear", 40)]
    assert told(found, [verdict("linear", "bias-limited")]) == [
        "At 80 patients linear is bias-limited: bias² 0.11 [0.10, 0.12] of 0.12; noise of the "
        "labels counts as bias."
    ]
    (known,) = told(found, [verdict("linear", "bias-limited", known=True)])
    assert "noise" not in known
    (perhaps,) = told(found, [verdict("linear", "bias-limited", beyond=False)])
    assert perhaps.endswith("noise of the labels counts as bias, and may be all of it for linear.")


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("variance-limited (patients)", "variance by patients 0.01 [0.00, 0.02] of 0.12."),
        ("variance-limited (seed)", "variance by seed 0.01 [-0.01, 0.01] of 0.12."),
        ("variance-limited", "variance 0.01 [0.00, 0.03] of 0.12."),
        ("at the noise floor", "noise 0.10 [0.09, 0.11] of 0.12."),
        ("undecided", "bias² 0.11 [0.10, 0.12] and variance 0.01 [0.00, 0.03] of 0.12."),
    ],
)
def test_each_verdict_shows_the_terms_that_decide(limit: Limit, words: str) -> None:
    (sentence,) = told([taken("linear", noise=0.1)], [verdict("linear", limit, known=True)])
    assert sentence.endswith(words)


def test_families_of_one_verdict_share_a_sentence() -> None:
    found = [taken(name) for name in ("linear", "mlp", "knn")]
    sentences = told(
        found,
        [
            verdict("linear", "bias-limited", borrowed=40),
            verdict("mlp", "variance-limited"),
            verdict("knn", "bias-limited", borrowed=40),
        ],
    )
    assert len(sentences) == 2
    assert sentences[0].startswith("At 80 patients these are bias-limited: linear (bias² 0.11 [")
    assert ") and knn (" in sentences[0]
    assert "variance by patients is taken to be at most that at 40 patients" in sentences[0]


def test_too_few_subsets_are_named_as_the_reason() -> None:
    one = taken("linear")
    unsure = dict(one.squared) | {
        name: Measured(TERMS[name], np.array([math.nan])) for name in ("bias2", "variance_data")
    }
    components = tuple(
        replace(c, low=math.nan, high=math.nan) if c.term in ("bias2", "variance") else c
        for c in one.components
    )
    few = replace(one, squared=unsure, components=components)
    (sentence,) = told([few], [verdict("linear", "undecided")])
    assert "bias² 0.11 and variance 0.01" in sentence
    assert sentence.endswith("; at least 5 subsets are needed to tell how much they differ.")


def test_a_verdict_that_turns_is_told_with_both_sides() -> None:
    both = "variance-limited (patients) if corrected for draws that share patients, bias-limited if"
    assert told([taken("linear")], [unsettled("linear")]) == [
        "At 80 patients linear is limited by bias or variance, not settled which: bias² 0.11 "
        f"[0.10, 0.12] and variance 0.01 [0.00, 0.03] of 0.12; it is {both} not."
    ]
    names = ("linear", "mlp")
    found = [taken(name, variance_seed=math.nan) for name in names]
    (sentence,) = told(found, [unsettled(name) for name in names])
    assert all(f"; {name} is {both} not" in sentence for name in names)
    assert sentence.endswith(
        "with one seed, what chance does to a fit counts as variance by patients."
    )


def test_one_subset_is_named_as_the_reason() -> None:
    found = [taken("linear", variance_data=math.nan)]
    (sentence,) = told(found, [verdict("linear", "undecided")])
    assert "variance by seed 0.01" in sentence
    assert sentence.endswith("; one subset cannot tell bias from variance by patients.")


def forecast(family: str, status: Status, low: float = 90.2, high: float = 210.9) -> Forecast:
    return Forecast(family, "auc", 0.9, status, 130.4, low, high, 0.93, 0.91, 0.94)


def outlook(*forecasts: Forecast, crossings: Sequence[Crossing] = (), hits: str = "") -> Outlook:
    backtest = tuple(
        Foretold("a", "auc", 40, 20, 0.8, 0.7, 0.9, 0.85 if hit == "y" else 0.95) for hit in hits
    )
    return Outlook({}, forecasts, (), (), backtest, tuple(crossings))


def words(found: Outlook, *reached: Reach) -> list[str]:
    config = StudyConfig(families=("linear",), sizes=(20,), targets=(0.9,))
    return list(outlook_sentences(found, reached, config))


def test_forecasts_are_told_by_their_status() -> None:
    assert words(
        outlook(
            forecast("linear", "reached"),
            forecast("mlp", "reached"),
            forecast("easy", "reached below", low=20),
            forecast("prior", "not reachable"),
            forecast("knn", "not identifiable"),
            Forecast("cnn", "auc", 0.9, "not identifiable", *[math.nan] * 6),
            forecast("new", "not identifiable", low=math.nan),
        )
    ) == [
        "By its fitted curve, AUC 0.9 takes linear 131 [91, 211] and mlp 131 [91, 211] patients.",
        "By its fitted curve, AUC 0.9 takes no more than the fewest patients of: easy (20).",
        "By its fitted curve, prior does not reach AUC 0.9: the curve levels off at 0.93 "
        "[0.91, 0.94].",
        "Patients for AUC 0.9 are not identifiable from these sizes: knn (more than 90), cnn "
        "(no law: fewer than 4 sizes, or a curve that falls) and new.",
    ]


def test_what_was_measured_is_not_foretold_to_be_otherwise() -> None:
    """A target that was reached beyond noise takes no forecast; on average, it is said beside."""

    def reach(family: str, p_holm: float, gain: float = 0.1) -> Reach:
        return Reach(family, 80, 0.9, gain, p_holm, 0.95, few_patients=False)

    found = outlook(forecast("linear", "reached"), forecast("prior", "not reachable"))
    seen = (reach("linear", 0.001), reach("prior", 0.5))
    assert words(found, *seen) == [
        "By its fitted curve, prior does not reach AUC 0.9, though its mean at 80 patients does: "
        "the curve levels off at 0.93 [0.91, 0.94]."
    ]
    assert len(words(found, reach("linear", 0.001, -0.1), reach("prior", 0.001, -0.1))) == 2


def test_a_reason_that_is_not_of_all_families_names_its_own() -> None:
    """Where cells failed, one family may have a single subset and the others many."""
    found = [taken("linear", variance_data=math.nan), taken("mlp")]
    (sentence,) = told(found, [verdict("linear", "undecided"), verdict("mlp", "undecided")])
    assert sentence.endswith("; one subset of linear cannot tell bias from variance by patients.")


def test_only_settled_crossings_are_told() -> None:
    sure = Crossing("random_features", "cnn_scratch", "auc", 140, 90, 210, settled=True)
    open_ = Crossing("linear", "mlp", "auc", 140, 0, math.inf, settled=False)
    assert words(outlook(crossings=[sure, open_])) == [
        "random_features is overtaken by cnn_scratch at 140 [90, 210] patients (AUC)."
    ]


def test_the_back_test_is_told_with_its_hits() -> None:
    assert words(outlook(hits="yyn")) == [
        "Back-test: laws fitted to the smaller half of the sizes agree with 2 of 3 scores measured "
        "at the larger sizes."
    ]
