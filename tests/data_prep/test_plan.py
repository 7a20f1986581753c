"""A plan is a whole recipe with a reason for every field, and its YAML is read back as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohort_rows import cohort, image, look, of_rows, row
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import read_config
from data_prep.errors import CohortError, ConfigError, MedcurveError
from data_prep.plan import check_plan_name, plan_prep, plan_yaml, write_plan
from data_prep.preprocess import PrepConfig

KINDS: dict[str, dict[str, Any]] = {
    "mr": {},
    "ct": {"modality": "CT", "minimum": -1024.0, "maximum": 3000.0},
    "xray": image(modality="DX", dtype="uint16", maximum=4095.0),
    "colour": image(shape=(3, 500, 700)),
    "odd": image(shape=(5, 40, 40), dtype="float32", maximum=7.5),
    "silent volumes": {"orientation": "", "spacing_mm": (1.0, 1.0, 1.0), "modality": ""},
}


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    scales=st.lists(st.floats(1, 1e4), min_size=2, max_size=6),
    budget=st.one_of(st.none(), st.integers(512, 10**6)),
    command=st.text(max_size=120),
)
def test_the_yaml_is_the_plan(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    scales: list[float],
    budget: int | None,
    command: str,
) -> None:
    seen = cohort(6, looks=[look(-1000, scale) for scale in scales], **KINDS[kind])
    plan = plan_prep(seen, budget)
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    write_plan(path, plan_yaml(plan, seen, command))
    assert read_config(path, PrepConfig) == plan.config
    assert [each.field for each in plan.decisions] == list(PrepConfig.model_fields)
    assert all(each.because for each in plan.decisions)
    text = path.read_text()
    assert all(len(line) <= 100 or "# " in line for line in text.splitlines())


def test_a_field_that_does_not_exist_would_be_seen(tmp_path: Path) -> None:
    text = plan_yaml(plan_prep(cohort()), cohort(), "x").replace("shape:", "shap:")
    write_plan(tmp_path / "plan.yaml", text)
    with pytest.raises(ConfigError, match=r"unknown field 'shap'; did you mean 'shape'"):
        read_config(tmp_path / "plan.yaml", PrepConfig)


def test_images_and_volumes_need_two_recipes() -> None:
    rows = [row(0), row(1, **image())]
    with pytest.raises(CohortError, match=r"1 images .* 1 volumes") as caught:
        plan_prep(of_rows(rows))
    assert caught.value.code == "plan.mixed_dimensions"


def test_a_budget_that_no_grid_keeps_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 512") as caught:
        plan_prep(cohort(), 511)
    assert caught.value.code == "plan.budget_too_small"
    assert plan_prep(cohort(), 512).config.shape == 8
    assert plan_prep(cohort(**image()), 64).config.shape == 8


def rows_of(changes: list[dict[str, Any]]) -> list[Any]:
    return [row(number, **change) for number, change in enumerate(changes)]


@pytest.mark.parametrize(
    ("changes", "looks", "unreadable", "caution"),
    [
        ([{"modality": "MR"}, {"modality": "CT"}], None, 0, "several modalities in one cohort"),
        ([{"modality": "CT"}] * 2, None, 0, "not Hounsfield units"),
        ([{"flags": ("burned_in_annotation",)}, {}], None, 0, "burned into 1 of 2 scans"),
        ([{}] * 2, [look()], 1, "1 of 2 sampled scans could not be read again"),
        (
            [{}] * 20,
            [look(reach_mm=(40.0, 40.0, 40.0))] * 19 + [look(reach_mm=(80.0, 40.0, 40.0))],
            0,
            "shows 80 mm of body (left to right), of which the middle 40 mm are kept",
        ),
        (
            [image(), image(orientation="PL", spacing_mm=(2.0, 2.0))],
            None,
            0,
            "1 of 2 scans state no pixel size in mm, and 1 mm is assumed for them: if",
        ),
        (
            [image()] + [image(orientation="PL", spacing_mm=(2.0, 2.0))] * 19,
            None,
            0,
            "1 of 20 scans state no pixel size in mm, and 1 mm is assumed for them",
        ),
    ],
)
def test_what_no_recipe_can_put_right_is_said(
    changes: list[dict[str, Any]], looks: Any, unreadable: int, caution: str
) -> None:
    seen = of_rows(rows_of(changes), looks, unreadable)
    plan = plan_prep(seen)
    assert [text for text in plan.cautions if caution in text], plan.cautions
    assert f"# Caution: {plan.cautions[0]}"[:60] in plan_yaml(plan, seen, "x")


def test_a_plain_cohort_needs_no_caution() -> None:
    looks = [look(0, scale) for scale in np.geomspace(500, 900, 10)]
    assert plan_prep(cohort(looks=looks)).cautions == ()
    assert plan_prep(cohort(**image())).cautions == ()


def test_no_rule_looks_at_a_label() -> None:
    one = of_rows([row(n, labels=("benign",)) for n in range(6)])
    other = of_rows([row(n, labels=("malignant",)) for n in range(6)])
    assert plan_prep(one) == plan_prep(other)


def test_an_edited_plan_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plan.yaml"
    write_plan(path, "shape: 8\n")
    write_plan(path, "shape: 8\n")
    with pytest.raises(ConfigError, match="--overwrite") as caught:
        write_plan(path, "shape: 12\n")
    assert caught.value.code == "plan.exists"
    assert path.read_text() == "shape: 8\n"
    write_plan(path, "shape: 12\n", overwrite=True)
    assert path.read_text() == "shape: 12\n"


@pytest.mark.parametrize("name", ["plan", "plan.yalm", "plan.json"])
def test_a_name_that_prep_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(MedcurveError, match=r"use --out plan\.yaml"):
        check_plan_name(Path(name))
    check_plan_name(Path("plan.yml"))
