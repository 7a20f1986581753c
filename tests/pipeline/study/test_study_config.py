from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.config import CONFIG_ROOT, read_config
from data_prep.errors import ConfigError
from pipeline.metrics import METRICS
from pipeline.study.config import METRIC_WORDS, StudyConfig
from pipeline.study.plan import read_families

STUDIES = sorted((CONFIG_ROOT / "study").rglob("*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_loads_and_its_header_says_how_to_run_it(path: Path) -> None:
    config = read_config(path, StudyConfig)
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]

    assert config.families
    assert any(line.startswith("# Command:") for line in header)


def test_the_three_studies_exist() -> None:
    assert {"demo", "quick", "bias_variance"} <= {path.stem for path in STUDIES}


def test_metrics_are_those_of_the_metrics_module() -> None:
    assert set(METRIC_WORDS) == set(METRICS)


def test_release_metric_follows_the_study_unless_given() -> None:
    config = StudyConfig.model_validate(
        {"families": ["linear"], "sizes": ["all"], "metric": "brier"}
    )
    other = StudyConfig.model_validate(
        {"families": ["linear"], "sizes": [8], "release": {"metric": "log_loss"}}
    )

    assert config.release_metric == "brier"
    assert other.release_metric == "log_loss"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("families: [linear]\nsizes: [20, 20]\n", "field 'sizes'.*'20' is listed twice"),
        ("families: [linear, linear]\nsizes: [20]\n", "'linear' is listed twice"),
        ("families: [linear]\nsizes: [20]\ntargets: [5]\n", "5 is no value that auc can take"),
        ("families: []\nsizes: [20]\n", "field 'families'"),
        ("families: [linear]\nsizes: [3]\n", "field 'sizes.0' = 3.*greater than or equal to 4"),
        ("families: [linear]\nsizes: [most]\n", "field 'sizes.0' = 'most'.*'all'"),
        ("families: [linear]\nsizes: [20]\nmetric: acu\n", "did you mean 'auc'"),
        ("families: [linear]\nsizes: [20]\nsubset: 3\n", "did you mean 'subsets'"),
        ("families: [liner]\nsizes: [20]\n", "field 'families.0' = 'liner'.*did you mean 'linear'"),
        (
            "families: [{name: a, like: liner}]\nsizes: [20]\n",
            "field 'families.0.like' = 'liner'.*did you mean 'linear'",
        ),
        ("families: [{name: a, liek: mlp}]\nsizes: [20]\n", "families.0.liek.*mean 'like'"),
        (
            "families: [linear]\nsizes: [20]\nrelease: {rule: bset}\n",
            "field 'release.rule'.*did you mean 'best'",
        ),
    ],
)
def test_a_wrong_field_is_answered_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(written(tmp_path, text), StudyConfig)


def test_variants_stand_beside_names_and_are_told_apart(tmp_path: Path) -> None:
    text = "families: [mlp, {name: shuffled, like: mlp, permute: 1}]\nsizes: [20]\n"
    families = read_families(read_config(written(tmp_path, text), StudyConfig).families)
    assert list(families) == ["mlp", "shuffled"]
    assert (families["mlp"].permute, families["shuffled"].permute) == (None, 1)


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("{name: mlp, like: linear}", "two configs are called 'mlp'"),
        ("{name: again, like: mlp}", "'again' and 'mlp' are the same family"),
    ],
)
def test_a_variant_that_is_not_one_is_refused(tmp_path: Path, family: str, said: str) -> None:
    path = written(tmp_path, f"families: [mlp, {family}]\nsizes: [20]\n")
    with pytest.raises(ConfigError, match=said):
        read_families(read_config(path, StudyConfig).families)
