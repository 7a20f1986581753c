"""The leaderboard: one study after another, and what is said of each beside published scores."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_prep.errors import ConfigError, MedcurveError
from data_prep.published import Published
from pipeline.leaderboard import run_leaderboard
from pipeline.standings import (
    Estimate,
    Standing,
    Standings,
    rows,
    sentence,
    write_standings,
)

NAN = float("nan")
STUDY = {"families": ["prior", "linear"], "sizes": ["all"], "subsets": 1, "resamples": 100}
TINY = {"kind": "phantom", "phantom": {"ndim": 3, "n_patients": 60, "seed": 5}}
PREP = {"shape": 12, "spacing_mm": 8.0, "orientation": "RAS", "intensity": {"kind": "z_score"}}


def standing(family: str, auc: Estimate, *, chosen: bool = False) -> Standing:
    return Standing(family, 3, 0.9, auc, Estimate(0.8, 0.7, 0.9), chosen=chosen)


def standings(low: float, high: float, *, rebuilt: bool = False) -> Standings:
    """A chosen family with that interval, beside a published AUC of 0.9."""
    return Standings(
        cohort="toy",
        title="Toy",
        patients={"train": 10, "val": 3, "test": 4},
        validated_by="mean validation AUC",
        rule="chosen by the best",
        level=95.0,
        families=(
            standing("dull", Estimate(NAN, NAN, NAN)),
            standing("bright", Estimate((low + high) / 2, low, high), chosen=True),
            standing("brighter", Estimate(0.99, 0.98, 1.0)),
        ),
        published=(Published("net_28", 0.9, 0.85, "a page"),),
        rebuilt=rebuilt,
    )


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.91, 0.95, "above the best published"),
        (0.85, 0.89, "below the best published"),
        (0.85, 0.95, "within noise of the best published"),
        (0.9, 0.95, "within noise of the best published"),
    ],
)
def test_no_claim_where_the_interval_holds_both(low: float, high: float, words: str) -> None:
    said = sentence(standings(low, high))
    assert words in said
    assert said.startswith("Toy: bright, chosen by the best mean validation AUC, has test AUC")


def test_without_choice_or_published_scores() -> None:
    one = standings(0.8, 0.9)
    assert sentence(replace(one, published=())).endswith("accuracy 0.800 [0.700, 0.900].")
    unchosen = replace(one, families=one.families[:1])
    assert sentence(unchosen) == "Toy: no family has a validation score."


def test_best_first_undefined_last_then_the_published() -> None:
    methods = [row[0] for row in rows(standings(0.8, 0.9))]
    assert methods == ["brighter", "bright (chosen)", "dull", "net_28 (published)"]


def test_a_score_that_is_undefined_is_a_dash(tmp_path: Path) -> None:
    text = write_standings(tmp_path, [standings(0.8, 0.9)]).read_text()
    assert re.search(r"\| dull \|.*\| – \|", text)
    assert "nan" not in text


def test_rebuilt_data_are_called_so(tmp_path: Path) -> None:
    text = write_standings(tmp_path, [standings(0.8, 0.9, rebuilt=True)]).read_text()
    assert "net_28 (published, official data)" in text
    assert "The data are rebuilt; the published scores are of the official data." in text
    assert "rebuilt" not in write_standings(tmp_path, [standings(0.8, 0.9)]).read_text()


def test_the_csv_leaves_undefined_values_empty(tmp_path: Path) -> None:
    write_standings(tmp_path, [standings(0.8, 0.9)])
    with (tmp_path / "leaderboard.csv").open() as file:
        dull, bright, _, published = csv.DictReader(file)
    assert (dull["auc"], dull["auc_low"], dull["chosen"]) == ("", "", "False")
    assert (bright["auc_low"], bright["auc_high"], bright["chosen"]) == ("0.8", "0.9", "True")
    assert (published["method"], published["published"], published["seeds"]) == (
        "net_28",
        "True",
        "",
    )


def write(place: Path, name: str, content: object) -> str:
    (place / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return str(place / f"{name}.yaml")


def test_cohorts_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prep = write(tmp_path, "p", PREP)
    cohorts = [
        write(tmp_path, name, {"name": name, "prep": prep, "source": TINY}) for name in ("a", "b")
    ]
    runs = tmp_path / "runs"
    written = run_leaderboard(cohorts, write(tmp_path, "s", STUDY), runs, 1, None)
    results = json.loads((runs / "a" / "study-s" / "results.json").read_text())
    (point,) = (
        p
        for p in results["points"]
        if (p["family"], p["split"], p["metric"]) == ("linear", "test", "auc")
    )
    assert f"{point['mean']:.3f} [{point['low']:.3f}, {point['high']:.3f}]" in written.read_text()
    assert "0.500 [0.500, 0.500]" in written.read_text()  # prior's
    assert written.read_text().count("linear (chosen)") == 2
    printed = capsys.readouterr().out
    assert printed.count("chosen by the best mean validation AUC, has test AUC") == 2
    assert np.isfinite(point["mean"])


def test_a_wrong_name_stops_it_before_any_work(tmp_path: Path) -> None:
    prep = write(tmp_path, "p", PREP)
    good = write(tmp_path, "a", {"name": "a", "prep": prep, "source": TINY})
    with pytest.raises(MedcurveError, match="no_such"):
        run_leaderboard([good, "no_such"], "quick", tmp_path / "runs", 1, None)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("families", ["knn, no_such_family", None])
def test_a_wrong_study_stops_it_before_any_work(tmp_path: Path, families: str | None) -> None:
    cohort = {"name": "a", "prep": write(tmp_path, "p", PREP), "source": TINY}
    study = "nosuch"
    if families:
        study = write(tmp_path, "s", STUDY | {"families": families.split(", ")})
    with pytest.raises(ConfigError, match=r"no_?such"):
        run_leaderboard([write(tmp_path, "a", cohort)], study, tmp_path / "runs", 1, None)
    assert not (tmp_path / "runs").exists()
