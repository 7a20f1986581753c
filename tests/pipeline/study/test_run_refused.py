"""Studies that do not begin, or come to nothing, and what is said of them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import ConfigError, MedcurveError, StageError
from pipeline.families.checkpoint import CheckpointError
from pipeline.study import compute
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.grid import PlannedCell
from pipeline.study.jobs import Needs
from pipeline.study.journal import CellResult, Failure
from pipeline.study.plan import open_plan
from pipeline.study.run import cost_of_study, run_study
from pipeline.study.worker import Setup


def test_a_study_without_any_result_is_an_error(
    config: StudyConfig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hopeless(
        setup: Setup, cells: Sequence[PlannedCell], needs: Needs, **_: Any
    ) -> Iterator[tuple[PlannedCell, CellResult | Failure]]:
        for planned in cells:
            yield planned, Failure("family.refuses", "it does not want to")

    monkeypatch.setattr(compute, "run_local", hopeless)
    with pytest.raises(StudyError, match=r"all 10 cells failed.*family\.refuses") as caught:
        run_study(config, store, tmp_path / "out")
    assert caught.value.code == "study.all_failed"


def test_a_folder_of_another_kind_is_never_written_to(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("all of it")
    with pytest.raises(StageError, match="not written by medcurve"):
        run_study(config, store, out)
    with pytest.raises(StageError, match="output of stage 'prep'"):
        run_study(config, store, store)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_two_processes_do_not_run_one_study(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(StudyError, match="another process") as caught:
            run_study(config, store, out)
    finally:
        os.close(handle)
    assert caught.value.code == "study.locked"


def test_a_study_that_another_process_is_making_is_locked_and_not_foreign(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".study.json.77.part").write_text("{")
    (out / "elsewhere").write_text("what a study may have written by now")
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(StudyError, match="another process"):
            run_study(config, store, out)
    finally:
        os.close(handle)


def test_a_file_in_the_place_of_the_folder_is_told(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StageError, match="is a file"):
        run_study(config, store, tmp_path / "out")


def test_two_families_of_one_name_are_refused(store: Path, strict: str, tmp_path: Path) -> None:
    twin = tmp_path / "strict.yaml"
    shutil.copy(strict, twin)
    config = StudyConfig(families=(strict, str(twin)), sizes=(6,))
    with pytest.raises(ConfigError, match="two configs are called 'strict'"):
        open_plan(config, store)


def test_a_family_under_two_names_is_refused(store: Path, strict: str, tmp_path: Path) -> None:
    twin = tmp_path / "twin.yaml"
    shutil.copy(strict, twin)
    config = StudyConfig(families=(strict, str(twin)), sizes=(6,))
    with pytest.raises(ConfigError, match="'twin' and 'strict' are the same family") as caught:
        open_plan(config, store)
    assert caught.value.code == "config.same_family"


def own_weights(folder: Path, sha256: str = "0" * 64) -> str:
    """A family on weights of the user's own that are not there."""
    path = folder / "own.yaml"
    path.write_text(
        "family: pretrained\n"
        f"params: {{checkpoint: {{path: own.pth, sha256: '{sha256}'}}, reading: {{sizes: [32]}}}}\n"
    )
    return str(path)


def test_files_of_a_family_are_looked_at_before_any_training(
    here: None, store: Path, tmp_path: Path
) -> None:
    config = StudyConfig(families=("prior", own_weights(tmp_path)), sizes=(6,), subsets=1)
    for run_it in (run_study, cost_of_study):
        with pytest.raises(
            CheckpointError, match=r"family 'own', params\.checkpoint\.path"
        ) as caught:
            run_it(config, store, tmp_path / "out")
        assert caught.value.code == "checkpoint.not_found"
    (tmp_path / "own.pth").write_bytes(b"other weights")
    with pytest.raises(CheckpointError, match=r"family 'own', .*own\.pth") as caught:
        run_study(config, store, tmp_path / "out")
    assert caught.value.code == "checkpoint.wrong_sha256"
    assert "params.checkpoint.sha256" in caught.value.fix
    assert not list((tmp_path / "out").iterdir())
    run_study(config, store, tmp_path / "out", only=["prior"])  # which needs no weights


@pytest.mark.parametrize(
    ("family", "probe", "said"),
    [
        ("linear", "equivariance", "family 'linear' has no network to probe"),
        ("mlp", "position", "has no convolution"),
        ("knn", "adversarial", "has no gradient"),
    ],
)
def test_a_probe_that_cannot_look_at_its_family_is_refused_before_any_training(
    here: None, store: Path, tmp_path: Path, family: str, probe: str, said: str
) -> None:
    steadiness = {"probe": "steadiness"}
    # The last is not made for scans as small as these: its cells say so.
    probes = {"prior": [steadiness], family: [steadiness], "random_features": [steadiness]}
    settings = {
        "families": ("prior", family, "random_features"),
        "sizes": (6,),
        "subsets": 1,
        "resamples": 100,
    }
    study = StudyConfig.model_validate({**settings, "probes": probes})
    assert cost_of_study(study, store, tmp_path / "out").cells == 3  # which asks for no network
    probes[family].append({"probe": probe})
    study = StudyConfig.model_validate({**settings, "probes": probes})
    for run_it in (run_study, cost_of_study):
        with pytest.raises(StudyError, match=said) as caught:
            run_it(study, store, tmp_path / "out")
        assert caught.value.code == "study.unfit_probe"
        assert caught.value.message.startswith(f"probes.{family}.1: '{probe}' cannot look at")
        assert f"take it out of probes.{family} " in caught.value.fix
    assert not list((tmp_path / "out").glob("cells/*"))
    run_study(study, store, tmp_path / "out", only=["prior"])


def test_an_unknown_family_is_answered_with_the_nearest(
    config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=r"--only linaer.*'linear'") as caught:
        run_study(config, store, tmp_path / "out", only=["linaer"])
    assert caught.value.code == "study.unknown_family"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("trust", "code"),
    [
        ({"calibration": "vector"}, "trust.calibration_method"),
        ({"decision": {"rule": "youden"}}, None),
    ],
)
def test_what_a_release_could_not_fit_is_refused_before_any_training(
    store: Path, tmp_path: Path, trust: dict[str, object], code: str | None
) -> None:
    study = StudyConfig.model_validate(
        {"families": ("prior",), "sizes": (6,), "subsets": 1, "resamples": 100, "trust": trust}
    )
    if code is None:
        assert cost_of_study(study, store, tmp_path / "out").cells == 1
        return
    with pytest.raises(MedcurveError) as caught:
        run_study(study, store, tmp_path / "out")
    assert caught.value.code == code
    assert not list((tmp_path / "out").glob("cells/*"))
