"""Losses, flips and dangers of answers whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from cohort_rows import image
from cohort_rows import row as manifest_row
from numpy.typing import NDArray

from data_prep.errors import CohortError, ConfigError
from data_prep.manifest import ScanRecord
from data_prep.task import Task
from pipeline.audit.answers import Answers
from pipeline.audit.audit import Audit, AuditRow, judge
from pipeline.audit.figure import panels, whole_figure
from pipeline.audit.summary import percent, sentences
from pipeline.audit.sweep import Step, sweep
from pipeline.metrics import bootstrap

Floats = NDArray[np.float64]

BINARY = Task(kind="binary", class_names=("healthy", "lesion"))
LABELS = Task(kind="multi-label", class_names=("mass", "effusion"))
STEPS = sweep((1, 28, 28), stored=True)
N = 60


def record_of(number: int, labels: tuple[str, ...], patient: str) -> ScanRecord:
    return manifest_row(number, patient_id=patient, labels=labels, **image())


RECORDS = tuple(record_of(n, (BINARY.class_names[n % 2],), f"P{n // 2}") for n in range(N))
# Well apart but for a few, so that the AUC is below 1.
SCORES = np.random.default_rng(1).normal(0, 1, N) + 2.0 * (np.arange(N) % 2) - 1.0


def rows(scores: Floats) -> Floats:
    lesion = 1 / (1 + np.exp(-scores))
    return np.stack([1 - lesion, lesion], axis=1)


def noisy(share: float) -> Floats:
    """Scores of which the first ``share`` of the scans are turned round."""
    turned = SCORES.copy()
    turned[: int(share * N)] *= -1
    return rows(turned)


def answers_of(
    change: Callable[[Step], Floats],
    steps: Sequence[Step] = STEPS,
    records: tuple[ScanRecord, ...] = RECORDS,
    base: Floats | None = None,
) -> Answers:
    base = rows(SCORES) if base is None else base
    shifted = np.array([[change(step) for step in steps]] * 2)
    return Answers(records, tuple(steps), np.array([base] * 2), shifted, base, ())


def find(audit: Audit, name: str) -> AuditRow:
    return next(row for row in audit.arm("with") if str(row.step) == name)


def test_answers_that_do_not_change_lose_nothing_exactly() -> None:
    audit = judge(answers_of(lambda _: rows(SCORES)), BINARY, resamples=50)
    expected = bootstrap(
        BINARY,
        np.arange(N, dtype=np.int64) % 2,
        rows(SCORES),
        np.array([record.patient_id for record in RECORDS]),
        names=["auc"],
        resamples=50,
    )["auc"]
    assert len(audit.rows) == 2 * len(STEPS)
    for row in (audit.base, audit.bare, audit.unnormalised, *audit.rows):
        assert (row.loss.value, row.loss.low, row.loss.high) == (0, 0, 0)
        assert (row.flips.value, row.flips.low, row.flips.high) == (0, 0, 0)
        assert (row.score.value, row.score.low, row.score.high) == (
            expected.value,
            expected.low,
            expected.high,
        )
        assert row.p == 1
    assert audit.dangers() == []
    assert (audit.scans, audit.patients) == (N, N // 2)
    assert "No realistic shift costs AUC more than chance" in sentences(audit, 0)[0]


@pytest.mark.parametrize("turned", [0, 1, 7, N])
def test_flips_are_the_scans_whose_class_changed(turned: int) -> None:
    def change(_: Step) -> Floats:
        changed = rows(SCORES)
        changed[:turned] = changed[:turned, ::-1]
        return changed

    audit = judge(answers_of(change, STEPS[:1]), BINARY, resamples=20)
    row = audit.arm("with")[0]
    assert row.flips.value == pytest.approx(turned / N)
    assert row.flips.low <= row.flips.value <= row.flips.high


def test_scores_that_move_together_flip_without_a_loss() -> None:
    audit = judge(answers_of(lambda _: rows(SCORES + 1.5)), BINARY, resamples=50)
    row = audit.arm("with")[0]
    assert row.loss.value == pytest.approx(0, abs=1e-12)
    assert row.flips.value == pytest.approx(np.mean((SCORES < 0) & (SCORES > -1.5)))
    told = sentences(audit, 0)
    assert any("what AUC does not show" in sentence for sentence in told)


def test_the_three_most_dangerous_are_the_kinds_that_cost_most_within_their_ranges() -> None:
    cost = {
        "noise 0.1 of the range": 0.5,
        "noise 0.05 of the range": 0.3,
        "gain 2x": 0.35,
        "scale 0.8x": 0.6,
        "gamma 1.5": 0.25,
        "blur 3 px": 1.0,  # beyond what is realistic
        "rotation 5 deg": 0.02,  # within chance
    }
    audit = judge(answers_of(lambda step: noisy(cost.get(str(step), 0.0))), BINARY)
    assert [str(row.step) for row in audit.dangers()] == [
        "scale 0.8x",
        "noise 0.1 of the range",
        "gain 2x",
    ]
    assert find(audit, "blur 3 px").loss.value > find(audit, "scale 0.8x").loss.value
    assert math.isnan(find(audit, "blur 3 px").p_holm)
    assert not audit.significant(find(audit, "rotation 5 deg"))
    told = sentences(audit, 4)
    assert told[0].startswith("The three most dangerous shifts are scale 0.8x (loss ")
    assert any("does not mind" in sentence and "bias" in sentence for sentence in told)
    assert "4 of the 60 scans" in told[-1]


def test_a_flip_and_a_misread_orientation_are_one_kind_and_ties_go_to_more_flips() -> None:
    def change(step: Step) -> Floats:
        if step.kind == "flip":
            return noisy(0.9)
        if str(step) == "gain 2x":
            return noisy(0.5)
        if str(step) == "bias 0.2 of the range":  # the same order of scans, moved
            return rows(np.log(noisy(0.5)[:, 1] / noisy(0.5)[:, 0]) + 1)
        return noisy(1.0 if step.kind == "orientation" else 0.0)

    audit = judge(answers_of(change), BINARY, resamples=300)
    dangers = audit.dangers()
    assert [row.step.kind for row in dangers if row.step] == ["orientation", "bias", "gain"]
    assert dangers[1].loss.value == pytest.approx(dangers[2].loss.value)
    assert dangers[1].flips.value > dangers[2].flips.value
    assert any("header states wrong (first two axes exchanged" in s for s in sentences(audit, 0))


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"gain 2x": 0.6}, "The only dangerous shift is gain 2x (loss"),
        ({"gain 2x": 0.6, "blur 1 px": 0.9}, "The two dangerous shifts are blur 1 px"),
    ],
)
def test_fewer_than_three_are_said_to_be_fewer(cost: dict[str, float], words: str) -> None:
    audit = judge(answers_of(lambda step: noisy(cost.get(str(step), 0.0))), BINARY, resamples=300)
    assert sentences(audit, 0)[0].startswith(words)


def test_what_costs_most_within_chance_is_named_after_the_dangers() -> None:
    cost = {"gain 2x": 0.6, "rotation 5 deg": 0.12, "blur 1 px": 0.1, "noise 0.1 of the range": 0.1}
    audit = judge(answers_of(lambda step: noisy(cost.get(str(step), 0.0))), BINARY, resamples=300)
    suspects = audit.suspects()
    assert [str(row.step) for row in audit.dangers()] == ["gain 2x"]
    assert 0 < len(suspects) <= 2
    assert all(row.realistic and not audit.significant(row) for row in suspects)
    told = sentences(audit, 0)[0]
    assert f"{suspects[0].step} (loss " in told
    assert told.endswith(f"within chance on {audit.patients} patients.")


def test_a_loss_is_a_rise_where_lower_is_better() -> None:
    audit = judge(answers_of(lambda _: noisy(0.5), STEPS[:1]), BINARY, "brier", resamples=50)
    row = audit.arm("with")[0]
    assert row.score.value > audit.base.score.value
    assert row.loss.value == pytest.approx(row.score.value - audit.base.score.value)


def test_any_label_that_changes_is_a_flip_of_a_multi_label_task() -> None:
    rng = np.random.default_rng(0)
    labels = [tuple(n for n in LABELS.class_names if rng.random() < 0.5) for _ in range(N)]
    records = tuple(record_of(n, found, f"P{n}") for n, found in enumerate(labels))
    base = rng.random((N, 2))
    changed = base.copy()
    changed[:15, 0] = 1 - changed[:15, 0]
    audit = judge(
        answers_of(lambda _: changed, STEPS[:1], records, base), LABELS, "accuracy", resamples=20
    )
    assert audit.arm("with")[0].flips.value == 15 / N


def test_a_split_of_one_class_has_no_auc() -> None:
    records = tuple(record_of(n, ("healthy",), f"P{n}") for n in range(N))
    with pytest.raises(CohortError, match="60 healthy, 0 lesion") as found:
        judge(answers_of(lambda _: rows(SCORES), STEPS[:1], records), BINARY)
    assert found.value.code == "audit.undefined_score"


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigError) as found:
        judge(answers_of(lambda _: rows(SCORES), STEPS[:1]), BINARY, "acuracy")
    assert found.value.code == "config.unknown_metric"


def test_the_same_audit_is_drawn_to_the_same_bytes_and_its_text_can_be_searched() -> None:
    audit = judge(answers_of(lambda _: noisy(0.2)), BINARY, resamples=20)
    figure = whole_figure(audit)
    assert figure == whole_figure(audit)
    assert panels(audit) == panels(audit)
    for words in ("without the recipe", "quarter", "gamma", "share of the range"):
        assert f">{words}<" in figure


def test_shares_are_never_rounded_to_none() -> None:
    assert [percent(share) for share in (0, 0.001, 0.37)] == ["0\xa0%", "<1\xa0%", "37\xa0%"]
