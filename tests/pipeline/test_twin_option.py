"""Which commands give a model its ONNX twin, and how they are told not to."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import medcurve


@pytest.mark.parametrize("command", [("release", "demo"), ("train", "linear")])
def test_a_model_gets_its_twin_unless_that_is_declined(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, twins = tmp_path / "model", []
    (tmp_path / "phantom3d" / "study-demo").mkdir(parents=True)
    monkeypatch.setattr("pipeline.model_stages.release_stage", lambda *_, **__: model)
    monkeypatch.setattr("pipeline.study_stages.train_stage", lambda *_: model)
    monkeypatch.setattr("pipeline.export_stage.twin_stage", twins.append)
    asked = (*command, "--data", "phantom3d", "--runs", tmp_path)
    assert medcurve(*asked, "--no-twin") == 0
    assert twins == []
    assert medcurve(*asked) == 0
    assert twins == [model]
