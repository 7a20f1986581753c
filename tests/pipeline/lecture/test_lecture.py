"""A claim from its YAML to its page, its runs in MLflow, and its failure."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.cohort import CohortConfig
from data_prep.config import CONFIG_ROOT, find_config, read_config
from data_prep.errors import ConfigError
from pipeline import tracking
from pipeline.families import choice_name
from pipeline.lecture.numerals import estimate, number, spans
from pipeline.lecture.outcome import ClaimRun
from pipeline.lecture.page import write_page
from pipeline.lecture.run import (
    ClaimError,
    Mode,
    claims,
    quickened,
    run_claim,
    run_lecture,
    smaller,
    tell,
)
from pipeline.study.claim import Claim, Expectation, Flip, Quick
from pipeline.study.config import StudyConfig
from pipeline.study.expectation import judge
from pipeline.study.flipped import flipped
from pipeline.study.plan import read_families
from pipeline.study.quantity import Quantity
from pipeline.study_stages import held_stage, read_study
from pipeline.workspace import open_workspace

CNN = {
    "name": "cnn",
    "like": "cnn_plain",
    "params": {"widths": [4], "convolutions": 1, "train": {"epochs": 1, "min_steps": 2}},
}
FLIPPED = {"lecture/presence_centred": "lecture/texture_direction"}  # where a line sees nothing
STUDY: dict[str, Any] = {
    "families": ["prior", "linear", CNN],
    "sizes": ["all"],
    "subsets": 1,
    "seeds": 2,
    "resamples": 100,
    "conditions": [{"kind": "shift", "amount": 4}],
    "probes": {"cnn": [{"probe": "receptive_field"}]},
    "claim": {
        "number": 99,
        "title": "A line sees more than nothing",
        "says": "Linear beats the prior.",
        "source": "common sense",
        "practice": "Fit a line.",
        "limits": "Where there is nothing to see.",
        "cohorts": ["lecture/presence_centred"],
        "expect": [
            {"value": "linear", "is": "above", "of": "prior", "by": 0.1},
            {
                "value": {"family": "cnn", "measured": "receptive_field/field"},
                "is": "near",
                "of": 5,
            },
            {"value": "linear", "is": "above", "of": {"family": "linear", "under": "shift 4 px"}},
        ],
        "report": [{"value": "prior", "is": "above", "of": "linear"}],
        "flip": {"says": "It sees as little as the prior.", "cohorts": FLIPPED},
        "quick": {"patients": 80, "seeds": 1},
    },
}


def written(folder: Path, **claim: Any) -> str:
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "claim": STUDY["claim"] | claim}))
    return str(path)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the runs, and the docs, of a claim that was put to the test quickly."""
    folder = tmp_path_factory.mktemp("lecture")
    run_lecture([written(folder)], folder / "runs", 1, None, Mode(quick=True), folder / "docs")
    return folder


@pytest.fixture(scope="module")
def small(shown: Path) -> ClaimRun:
    """The same claim, as its page looks at it."""
    config = read_study(str(shown / "line.yaml"))
    return run_claim("line", config, shown / "runs" / "quick", 1, None, Mode(quick=True))


def test_the_page_says_what_was_expected_and_what_came_out(shown: Path) -> None:
    page = (shown / "docs" / "line.md").read_text()
    for words in (
        "# 99. A line sees more than nothing",
        "It came out as expected",
        "| linear is above prior by 0.1 or more |",
        "| cnn (receptive_field: field) is within 0.05 of 5 | 5.000 |",
        "| family | 32 patients | shift 4 px |",
        "`widths: [4]`",
        "**In practice.** Fit a line.",
        "**Where it does not hold.** Where there is nothing to see.",
        "![A line sees more than nothing](line.svg)",
    ):
        assert words in page, words
    figure = (shown / "docs" / "line.svg").read_text()
    assert figure.startswith("<svg")
    assert "presence_centred" in figure


def test_the_page_is_the_same_bytes_for_the_same_run(shown: Path) -> None:
    for name in ("line.md", "line.svg"):
        kept = (shown / "runs" / "quick" / "lecture" / name).read_bytes()
        assert kept == (shown / "docs" / name).read_bytes()


def test_its_runs_are_arms_of_one_experiment(shown: Path) -> None:
    client = tracking.client.connect(tracking.default_uri(shown / "runs" / "quick"))
    (experiment,) = (one for one in client.search_experiments() if one.name != "Default")
    assert experiment.name == "claim 99: A line sees more than nothing"
    runs = client.search_runs([experiment.experiment_id])
    families = {
        run.info.run_name: run for run in runs if run.data.tags.get("medcurve.kind") == "family"
    }
    assert families.keys() == {"prior", "linear", "cnn"}
    assert families["linear"].data.tags["medcurve.arm"] == "linear on lecture-presence-centred"
    assert families["linear"].data.tags["medcurve.claim"] == "99"
    assert families["linear"].data.tags["medcurve.claim_mode"] == "quick"
    (study,) = (run for run in runs if run.data.tags["medcurve.kind"] == "study")
    told = [study.data.tags[f"medcurve.{name}"] for name in ("claim", "claim_mode", "claim_held")]
    assert told == ["99", "quick", "yes"]
    asked = "tags.`medcurve.claim_mode` = 'full'"
    assert not client.search_runs([experiment.experiment_id], asked)
    assert families["cnn"].data.metrics["measured/receptive_field_field"] == 5
    assert "test/shift 4 px_auc" in families["linear"].data.metrics


def as_run(folder: Path, shown: Path, mode: str) -> Path:
    """The quick claim's study, as it would stand had it been run so."""
    study = folder / mode / "study-line"
    shutil.copytree(shown / "runs" / "quick" / "lecture-presence-centred" / "study-line", study)
    results = json.loads((study / "results.json").read_text())
    results["config"]["claim"]["mode"] = mode
    (study / "results.json").write_text(json.dumps(results))
    return study


def test_one_server_keeps_a_claim_apart_from_the_same_claim_undone(
    shown: Path, tmp_path: Path
) -> None:
    """Also where cohort, store and name are the same, as at full size they are."""
    uri = tracking.default_uri(tmp_path)
    full, undone = (as_run(tmp_path, shown, mode) for mode in ("full", "flipped"))
    for folder in (full, undone):
        assert tracking.sync_study(folder, uri).created == 1 + 3 + 3
    tracking.mark_held(full, uri, held=True)
    tracking.mark_held(undone, uri, held=False)
    again = [tracking.sync_study(folder, uri) for folder in (full, undone)]
    assert [(one.created, one.removed) for one in again] == [(0, 0), (0, 0)]
    assert again[0].experiment_id == again[1].experiment_id
    runs = tracking.client.connect(uri).search_runs(
        [again[0].experiment_id], "tags.`medcurve.kind` = 'study'"
    )
    held = {
        run.data.tags["medcurve.claim_mode"]: run.data.tags["medcurve.claim_held"] for run in runs
    }
    assert (len(runs), held) == (2, {"full": "yes", "flipped": "no"})


def test_a_store_that_does_not_answer_costs_a_verdict_nothing(
    shown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = open_workspace(shown / "runs" / "quick", "lecture/presence_centred")
    held_stage(workspace, "line", "nowhere", held=True)
    assert "tracking.bad_uri" in capsys.readouterr().err


def test_a_claim_run_otherwise_has_folders_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Path] = {}

    class SeenError(Exception):
        pass

    def seen(*args: Any) -> None:
        asked[args[-1].recorded] = args[2]
        raise SeenError

    monkeypatch.setattr("pipeline.lecture.run.run_claim", seen)
    for quick, flip in ((False, False), (True, False), (False, True), (True, True)):
        with pytest.raises(SeenError):
            run_lecture(["permutation"], tmp_path, 1, None, Mode(quick=quick, flip=flip))
    assert asked == {
        "full": tmp_path,
        "quick": tmp_path / "quick",
        "flipped": tmp_path / "flip",
        "quick flipped": tmp_path / "quick" / "flip",
    }


def test_the_index_leads_to_the_pages_that_there_are(shown: Path) -> None:
    index = (shown / "docs" / "README.md").read_text()
    row = "| 99 | [A line sees more than nothing](line.md) | Linear beats the prior. |"
    assert index.splitlines()[-1] == row
    assert "permutation.md" not in index  # it has no page there


def test_a_claim_that_does_not_hold_is_an_error_and_has_its_page(
    shown: Path, tmp_path: Path
) -> None:
    expect = [{"value": "prior", "is": "above", "of": "linear"}]
    name = written(tmp_path, expect=expect, title="The prior wins")
    shutil.copytree(shown / "runs", tmp_path / "runs")
    with pytest.raises(ClaimError, match="99 The prior wins") as caught:
        run_lecture([name], tmp_path / "runs", 1, None, Mode(quick=True))
    assert caught.value.code == "claim.not_shown"
    page = (tmp_path / "runs" / "quick" / "lecture" / "line.md").read_text()
    assert "It did not come out as expected" in page
    assert "**not**: it is not above by 0" in page


def test_what_is_only_reported_decides_nothing(small: ClaimRun, tmp_path: Path) -> None:
    assert (small.holds, small.reported) == (True, [])
    asked = judge(small.claim.report[0], small.outcomes)
    page = write_page(replace(small, reported=[asked]), tmp_path).read_text()
    assert "It came out as expected" in page
    assert "Asked as well, but not asserted:" in page
    assert "| prior is above linear |" in page
    assert "**not**: it is not above by 0" in page


def test_a_claim_about_the_terms_of_the_loss_shows_all_of_them(shown: Path, tmp_path: Path) -> None:
    prior, linear = ({"family": name, "term": "total"} for name in ("prior", "linear"))
    name = written(tmp_path, expect=[{"value": prior, "is": "above", "of": linear}])
    run = run_claim(name, read_study(name), shown / "runs" / "quick", 1, None, Mode(quick=True))
    page = write_page(run, tmp_path).read_text()
    table = page.partition("**Expected squared loss, taken apart**")[2].splitlines()
    head, rows = table[2], table[4:6]
    assert head.startswith("| family | patients | noise | bias2 | variance_data |")
    assert head.endswith("| total | log loss on training scans |")
    assert [row.split(" | ")[0] for row in rows] == ["| prior", "| linear"]
    assert " | not known | " in rows[0]  # one subset tells nothing of how subsets differ
    assert "taken apart" not in (shown / "runs" / "quick" / "lecture" / "line.md").read_text()


def test_what_was_found_on_real_scans_stays_on_the_page(shown: Path, tmp_path: Path) -> None:
    """To the letter, where a later run does not look at them; as long as it is of this study."""
    real = "lecture/texture_direction"
    name, runs = written(tmp_path, real=[real]), shown / "runs"

    def page(mode: Mode) -> str:
        run_lecture([name], runs, 1, None, mode)
        return (runs / "quick" / "lecture" / "line.md").read_text()

    absent = f"**On real scans** (`{real}`) it was not run:"
    assert absent in page(Mode(quick=True))
    told = page(Mode(quick=True, real=True))
    assert f"**On real scans**, test AUC, `{real}`:" in told
    assert absent not in told
    of_real = told.partition("asked here by direction:")[2]
    assert "| linear is above prior |" in of_real  # "by 0.1" is of the phantom
    assert "**not**" in of_real  # for there is nothing for a line to see in stripes
    assert page(Mode(quick=True)) == told
    figure = runs / "quick" / "lecture" / "line-real.svg"
    assert "(line-real.svg)" in told
    assert "texture_direction" in figure.read_text()
    name = written(tmp_path, real=[real], quick=STUDY["claim"]["quick"] | {"seeds": 2})
    assert absent in page(Mode(quick=True))
    assert not figure.exists()


def test_a_family_is_run_and_asked_about_only_where_it_is_said_to_be(
    shown: Path, tmp_path: Path
) -> None:
    real = "lecture/texture_direction"
    name = written(tmp_path, real=[real], only={real: ["linear", "prior"]})
    mode = Mode(quick=True, real=True)
    run = run_claim(name, read_study(name), shown / "runs" / "quick", 1, None, mode)
    assert [choice_name(one) for one in run.real[real].config.families] == ["prior", "linear"]
    assert not run.real[real].config.probes
    assert len(run.outcomes["lecture/presence_centred"].config.families) == 3
    assert ["cnn" in one.expectation for one in run.asked[real]] == [False] * 3


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"only": {"phantom2d": ["prior"]}}, "claim.only.*'phantom2d'.*has lecture/presence"),
        ({"only": {"lecture/presence_centred": ["liner"]}}, "'liner'.*mean 'linear'"),
        ({"only": {"lecture/presence_centred": ["prior", "linear"]}}, "'cnn .*is not run on"),
        ({"quick": {"steps": {"cn": 3}}}, "claim.quick.steps.*'cn'.*mean 'cnn'"),
    ],
)
def test_a_claim_names_cohorts_and_families_that_there_are(
    claim: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_study(written(tmp_path, **claim))


def test_a_claim_fails_without_its_mechanism(shown: Path) -> None:
    run_lecture([written(shown)], shown / "runs", 1, None, Mode(quick=True, flip=True))
    page = (shown / "runs" / "quick" / "flip" / "lecture" / "line.md").read_text()
    assert "**Undone.** It sees as little as the prior. So the claim must fail." in page
    assert "It did not come out as expected" in page
    client = tracking.client.connect(tracking.default_uri(shown / "runs" / "quick" / "flip"))
    found = client.search_runs(
        [one.experiment_id for one in client.search_experiments()],
        "tags.`medcurve.claim_mode` = 'quick flipped' and tags.`medcurve.claim_held` = 'no'",
    )
    assert [run.data.tags["medcurve.kind"] for run in found] == ["study"]


def test_what_is_undone_takes_no_page_of_the_docs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="with --flip") as caught:
        run_lecture(["permutation"], tmp_path, 1, None, Mode(flip=True), tmp_path / "docs")
    assert caught.value.code == "claim.undone_page"
    assert not list(tmp_path.iterdir())


def test_a_claim_that_holds_without_its_mechanism_is_an_error(shown: Path, tmp_path: Path) -> None:
    flip = {"says": "Nothing of weight.", "params": {"cnn": {"dropout": 0.1}}}
    name = written(tmp_path, flip=flip)
    with pytest.raises(ClaimError, match="A line sees more") as caught:
        run_lecture([name], shown / "runs", 1, None, Mode(quick=True, flip=True))
    assert caught.value.code == "claim.shown_anyway"


def test_a_flip_changes_what_it_names_and_nothing_else() -> None:
    config = StudyConfig.model_validate(STUDY)
    flip = Flip(says="s", params={"cnn": {"widths": [6]}}, permute={"linear": 3, "cnn": 4})
    assert flipped(config, flip).probes == config.probes
    before, after = (read_families(one.families) for one in (config, flipped(config, flip)))
    assert list(before) == list(after)
    assert after["prior"] == before["prior"]
    assert (after["linear"].permute, after["linear"].params) == (3, before["linear"].params)
    assert after["cnn"].permute == 4
    changed = after["cnn"].params.model_dump() | {"widths": (4,)}
    assert changed == before["cnn"].params.model_dump()


@pytest.mark.parametrize(
    ("flip", "said"),
    [
        ({"params": {"cn": {}}}, "claim.flip.params: the claim has no 'cn'.*mean 'cnn'"),
        ({"permute": {"lin": 1}}, "the claim has no 'lin'"),
        ({"cohorts": {"lecture/presence": "phantom2d"}}, "it has lecture/presence_centred"),
        ({"probes": {"linear": [{"probe": "cost"}]}}, "the claim has no 'linear'.*it has cnn"),
        ({}, "changes nothing"),
    ],
)
def test_a_flip_of_what_is_not_there_is_refused(
    tmp_path: Path, flip: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_study(written(tmp_path, flip={"says": "s", **flip}))


@pytest.mark.parametrize(
    ("flip", "said"),
    [
        ({"params": {"cnn": {"dropout": 0.0, "widths": [6]}}}, "params.cnn.dropout is 0.0 without"),
        ({"params": {"cnn": {"train": {"epochs": 1}}}}, "params.cnn.train.epochs is 1 without"),
        ({"permute": {"linear": None}}, "permute.linear is None without"),
        ({"cohorts": dict.fromkeys(FLIPPED, next(iter(FLIPPED)))}, "presence_centred is lecture/"),
        ({"probes": {"cnn": [{"probe": "receptive_field"}]}}, "probes.cnn is receptive_field"),
    ],
)
def test_a_flip_to_what_is_there_already_is_refused(
    tmp_path: Path, flip: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_study(written(tmp_path, flip={"says": "s", **flip}))
    assert caught.value.code == "claim.idle_flip"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("receptive_field/feild", "did you mean 'receptive_field/field'.*receptive_field/support"),
        ("cost/parameters", "'cost/parameters' is not measured on 'cnn'"),
    ],
)
def test_what_no_probe_of_the_family_measures_is_refused(
    tmp_path: Path, name: str, said: str
) -> None:
    asked = {"value": {"family": "cnn", "measured": name}, "is": "above", "of": 1}
    with pytest.raises(ConfigError, match=said):
        read_study(written(tmp_path, expect=[asked]))
    other = {"value": {"family": "linear", "measured": "cost/parameters"}, "is": "above", "of": 1}
    with pytest.raises(ConfigError, match="give nothing"):
        read_study(written(tmp_path, expect=[other]))


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ({"measured": "receptive_field/feild"}, "measured.*did you mean 'receptive_field/field'"),
        (
            {"measured": "receptive_field/field", "breaks": {"lecture/presence": 5}},
            "breaks.*'lecture/presence'.*it has lecture/presence_centred",
        ),
    ],
)
def test_an_axis_that_the_study_does_not_have_is_refused(
    tmp_path: Path, against: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=f"claim.against.{said}"):
        read_study(written(tmp_path, against=against))


def test_a_flip_must_go_on_measuring_what_is_expected(tmp_path: Path) -> None:
    flip = {"says": "s", "probes": {"cnn": [{"probe": "cost"}]}}
    with pytest.raises(ConfigError, match=r"claim\.flip\.probes.*give cost/parameters"):
        read_study(written(tmp_path, flip=flip))


def test_a_flip_says_what_must_fail_and_all_of_that_must(shown: Path, tmp_path: Path) -> None:
    """Undone, a line sees nothing, and the window of the network stays as it was."""
    flip = STUDY["claim"]["flip"]

    def undone(fails: list[int]) -> list[str]:
        config = read_study(written(tmp_path, flip=flip | {"fails": fails}))
        runs = shown / "runs" / "quick" / "flip"
        run = run_claim("line", config, runs, 1, None, Mode(quick=True, flip=True))
        if fails == [1]:
            assert "fail in row 1 of what is expected." in write_page(run, tmp_path).read_text()
        return run.stands

    assert (undone([]), undone([1])) == ([], [])
    assert undone([1, 2]) == ["cnn (receptive_field: field) is within 0.05 of 5"]
    with pytest.raises(ConfigError, match="there is no expectation 4; 'expect' has 1 to 3"):
        undone([4])


def test_what_only_full_size_shows_is_not_asked_of_the_small_version(
    shown: Path, tmp_path: Path
) -> None:
    """Nor is its cohort looked at, nor must it fail undone."""
    lost = {"family": "linear", "cohort": "lecture/texture_direction"}
    late = {"value": lost, "is": "above", "of": 0.99, "quick": False}
    changed = {
        "cohorts": [*STUDY["claim"]["cohorts"], lost["cohort"]],
        "expect": [*STUDY["claim"]["expect"], late],
        "flip": STUDY["claim"]["flip"] | {"fails": [1, 4]},
        "departs": "The lecture says nothing of it.",
        "seconds": True,
    }
    config = read_study(written(tmp_path, **changed))
    run = run_claim("line", config, shown / "runs" / "quick", 1, None, Mode(quick=True))
    assert run.holds
    assert (len(run.judgements), list(run.outcomes)) == (3, STUDY["claim"]["cohorts"])
    assert run.stands == [run.judgements[0].expectation]
    page = write_page(run, tmp_path).read_text()
    assert "**Other than in the lecture.** The lecture says nothing of it." in page
    assert re.search(r"\| time of a fit[^|]*\| [0-9.]+( to [0-9.]+)? s \|", page)
    with pytest.raises(ConfigError, match="put those with 'quick: false' last"):
        read_study(written(tmp_path, expect=[late, *STUDY["claim"]["expect"]]))


def test_a_number_is_never_rounded_to_none() -> None:
    assert [number(one) for one in (0.0, -0.0, 0.0123, 1234.4)] == [
        "0.000",
        "0.000",
        "0.012",
        "1,234",
    ]
    assert (number(1e-5), number(-3e-4, "+")) == ("1.0e-05", "-3.0e-04")
    assert number(-1.6e-15) == "0.000"  # what sums of doubles leave of 0


def test_a_number_without_an_interval_stands_alone() -> None:
    nan = math.nan
    assert [spans(-0.5, 0.25, "+"), spans(nan, nan)] == [["[-0.500, +0.250]"], []]
    assert estimate(0.5, nan, nan) == "0.500"
    assert estimate(0.5, 0.25, 0.75) == "0.500 [0.250, 0.750]"
    assert number(nan, "+") == "–"


def test_where_there_is_no_interval_the_reason_is_told(
    small: ClaimRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = {"family": "linear", "scans": "train", "metric": "log_loss"}
    asked = Expectation.model_validate({"value": fitted, "is": "above", "of": 0})
    run = replace(small, judgements=[*small.judgements, judge(asked, small.outcomes)])
    tell(run, Mode(quick=True))
    told, page = capsys.readouterr().out, write_page(run, tmp_path).read_text()
    assert re.search(r"training scans is above 0 +[+]\S+ +– +as expected", told)
    assert "note: –, no interval: the score is on training scans, of one subset" in told
    assert re.search(r"\| [+]\S+ \| as expected \|\n", page)
    assert page.count("Where no interval stands, ") == 1
    assert "stands, the score is on training scans, of one subset: a fact of these fits" in page
    assert "nan" not in told + page


def test_a_flip_can_measure_otherwise() -> None:
    config = StudyConfig.model_validate(STUDY)
    flip = Flip.model_validate({"says": "s", "probes": {"cnn": [{"probe": "cost"}]}})
    after = flipped(config, flip)
    assert [probe.probe for probe in after.probes["cnn"]] == ["cost"]
    assert read_families(after.families) == read_families(config.families)


def test_a_study_without_a_claim_is_refused() -> None:
    with pytest.raises(ConfigError, match="makes no claim"):
        run_lecture([str(find_config("study", "quick"))], Path("nowhere"), 1, None)


def test_quick_shortens_training_and_nothing_else() -> None:
    config = StudyConfig.model_validate(STUDY)
    brief = quickened(config, Quick(steps=7, sizes=(20,), seeds=1))
    families, before = read_families(brief.families), read_families(config.families)
    assert list(families) == ["prior", "linear", "cnn"]
    assert families["linear"] == before["linear"]
    training = families["cnn"].params.training
    assert training is not None
    assert training.min_steps == 7
    changed = families["cnn"].params.model_dump() | {"train": None}
    assert changed == before["cnn"].params.model_dump() | {"train": None}
    assert (brief.sizes, brief.seeds, brief.conditions) == ((20,), 1, config.conditions)
    assert quickened(config, Quick()).families == config.families
    named = read_families(quickened(config, Quick(steps={"cnn": 9})).families)
    assert named["cnn"].params.training.min_steps == 9
    assert quickened(config, Quick(steps={"other": 9})).families == config.families


def test_quick_leaves_out_what_nothing_is_expected_of() -> None:
    config = StudyConfig.model_validate(STUDY)
    looked_at = [Quantity(family="linear"), Quantity(family="prior")]
    brief = quickened(config, Quick(), looked_at)
    assert list(read_families(brief.families)) == ["prior", "linear"]
    assert (brief.probes, brief.conditions) == ({}, ())
    under = Quantity(family="linear", under="shift 4 px")
    assert quickened(config, Quick(), [under]).conditions == config.conditions


def test_small_batches_at_a_high_rate_make_a_quick_version_quicker() -> None:
    config = StudyConfig.model_validate(STUDY)
    brief = quickened(config, Quick(steps=7, batch_size=3, learning_rate=0.02))
    training = read_families(brief.families)["cnn"].params.training
    assert training is not None
    assert (training.batch_size, training.learning_rate, training.min_steps) == (3, 0.02, 7)


def test_a_claim_expects_numbers_of_the_cohort_that_they_name() -> None:
    one = {"value": "a", "is": "above", "of": {"family": "b", "cohort": "phantom2d"}}
    claim = Claim.model_validate(
        STUDY["claim"] | {"cohorts": ["lecture/presence", "phantom2d"], "expect": [one]}
    )
    assert [q.family for q in claim.expected_on("lecture/presence")] == ["a"]
    assert [q.family for q in claim.expected_on("phantom2d")] == ["b"]


def test_only_cohorts_that_are_generated_become_smaller() -> None:
    def cohort(name: str) -> CohortConfig:
        return read_config(find_config("data", name), CohortConfig)

    for name, part in (("lecture/presence", "scene"), ("phantom2d", "phantom")):
        source = smaller(cohort(name), 50).source
        assert getattr(source, part).n_patients == 50
    assert smaller(cohort("breastmnist"), 50) == cohort("breastmnist")


CLAIMS = sorted((CONFIG_ROOT / "study" / "lecture").glob("*.yaml"))


def test_claims_come_in_the_order_of_the_lecture() -> None:
    numbers = [read_study(name).claim.number for name in claims()]  # type: ignore[union-attr]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == len(CLAIMS)


@pytest.mark.parametrize("path", CLAIMS, ids=lambda path: path.stem)
def test_every_claim_has_its_page_and_came_out(path: Path) -> None:
    claim = read_study(f"lecture/{path.stem}").claim
    assert claim is not None
    page = (CONFIG_ROOT.parent / "docs" / "lecture" / f"{path.stem}.md").read_text()
    assert page.startswith(f"# {claim.number}. {claim.title}\n")
    assert "It came out as expected." in page
    assert all(f"| {expectation} |" in page for expectation in claim.expect)
    assert f"**Where it does not hold.** {claim.limits}\n" in page


@pytest.mark.parametrize("path", CLAIMS, ids=lambda path: path.stem)
def test_no_claim_writes_by_hand_what_a_run_measures(path: Path) -> None:
    """Scores, shares and counts come from the run, or they drift from it; but for the AUC that is
    the best there is, by the making of the scenes.
    """
    claim = read_study(f"lecture/{path.stem}").claim
    assert claim is not None
    words = f"{claim.says} {claim.practice} {claim.departs} {claim.limits}"
    assert set(re.findall(r"\d[.,]\d+", words)) <= {"0.95"}
