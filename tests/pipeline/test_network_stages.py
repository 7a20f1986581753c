"""``medcurve inspect``: a table of every family, a drawing of a network, errors that teach."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.errors import ConfigError
from pipeline import network_stages
from pipeline.families.monai_nets import build_monai_net
from pipeline.inspection import inspect_network
from pipeline.network_figure import draw_network
from pipeline.network_stages import inspect_stage, memory, parse_shape, screen_stage
from pipeline.study import screening
from pipeline.study.screening import Screening


def test_a_network_is_shown_as_table_and_drawing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect_stage("cnn_scratch_small", "1,20,16", 3, None, tmp_path)
    said = capsys.readouterr().out
    drawing = tmp_path / "inspect-cnn_scratch_small.svg"
    assert "stages.1.convolutions.1.0" in said
    assert "32 x 10 x 8" in said
    assert "whole scan" in said
    assert str(drawing) in said
    text = drawing.read_text(encoding="utf-8")
    assert "cnn_scratch_small on a scan of 1 x 20 x 16" in text
    assert "receptive field (voxels)" in text


def test_a_network_of_images_says_what_of_and_how_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect_stage("pretrained_partial", "1,8,10,12", 2, None, tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "fields in pixels, are of one image of 3 x " in said
    assert "a scan, of which it makes 2" in said
    text = (tmp_path / "inspect-pretrained_partial.svg").read_text(encoding="utf-8")
    assert "pretrained_partial on an image of 3 x " in text


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3276, "3.2 KiB"), (5 << 19, "2.5 MiB")],
)
def test_memory_is_told_in_a_unit_that_leaves_a_digit(size: int, shown: str) -> None:
    assert memory(size) == shown


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")]
)
def test_the_drawings_format_follows_its_name(tmp_path: Path, suffix: str, magic: bytes) -> None:
    out = tmp_path / "there" / f"net{suffix}"
    inspect_stage("mlp", "1,6,6,6", 2, out, tmp_path)
    assert out.read_bytes().startswith(magic)


def test_a_network_of_many_layers_is_drawn_with_some_of_their_names() -> None:
    layers = inspect_network(build_monai_net("densenet121", (1, 16, 16), 2, width=0.1), (1, 16, 16))
    figure = draw_network("net", layers, (1, 16, 16))
    shown = [layer for layer in layers if layer.kind != "norm"]
    names = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert 10 < len(names) < 40 < len(shown)
    assert all(len(name) <= 28 for name in names)
    assert len(figure.axes[0].patches) == len(shown)


def test_a_family_without_a_network_says_what_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect_stage("linear", "1,6,5", 2, None, tmp_path)
    said = capsys.readouterr().out
    assert "30 x 1" in said
    assert "no network" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["28,28", "1,28,x", "1,0,28", "", "1,2,3,4,5", "1,-2,3"])
def test_a_shape_that_is_none_is_answered_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="not the shape of a scan") as caught:
        parse_shape(text)
    assert caught.value.code == "inspect.bad_shape"
    assert "1,28,28" in caught.value.fix


def test_a_drawing_of_unknown_format_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'\.bmp'") as caught:
        inspect_stage("nothing of that name", "1,28,28", 2, tmp_path / "net.bmp", tmp_path)
    assert caught.value.code == "inspect.unknown_drawing"


def test_screening_refuses_a_stale_store_and_prints_what_it_finds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Place:
        store = Path("store")

    checked: list[object] = []
    monkeypatch.setattr(network_stages, "refuse_stale", checked.append)
    monkeypatch.setattr(
        screening,
        "screen_store",
        lambda *_args, **_named: Screening(("architecture", "AUC"), (("net", "0.9"),), ("so",)),
    )
    place = Place()
    screen_stage(place, ["net"], 1, verify=False)
    assert checked == [place]
    said = capsys.readouterr().out
    assert "net" in said
    assert said.endswith("so\n")
