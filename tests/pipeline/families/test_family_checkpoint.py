"""Weights from packages, files and servers: checked, never run, and named where they do not fit."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from data_prep.download import DownloadError
from data_prep.files import sha256_file
from pipeline.families.backbones import ARCHITECTURES
from pipeline.families.checkpoint import (
    CheckpointError,
    DownloadedCheckpoint,
    OwnCheckpoint,
    PackagedCheckpoint,
    load_weights,
    read_checkpoint,
)


def weights() -> dict[str, Tensor]:
    return {"first.weight": torch.arange(6.0).reshape(2, 3), "first.bias": torch.ones(2)}


def net() -> nn.Module:
    layers = nn.Module()
    layers.first, layers.head = nn.Linear(3, 2), nn.Linear(2, 4)
    return layers


def own(path: Path) -> OwnCheckpoint:
    return OwnCheckpoint(path=str(path), sha256=sha256_file(path))


@pytest.mark.parametrize("nested", ["", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_are_read_as_training_code_leaves_them(
    tmp_path: Path, nested: str, prefix: str
) -> None:
    named = {prefix + name: value for name, value in weights().items()}
    torch.save({nested: named, "epoch": 3} if nested else named, tmp_path / "own.pth")
    found = read_checkpoint(own(tmp_path / "own.pth"))
    assert found.keys() == weights().keys()
    assert all(torch.equal(found[name], value) for name, value in weights().items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "own.safetensors")
    found = read_checkpoint(own(tmp_path / "own.safetensors"))
    assert torch.equal(found["first.weight"], weights()["first.weight"])


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("canary").touch, ())


@pytest.mark.parametrize(
    "content",
    [Hostile(), [1, 2], {"epoch": 3}, b"no checkpoint", b"h\x00junk", b"junk", b"\x80\x02.", b""],
)
def test_what_is_no_state_dict_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"own\.pth.*\n.*state_dict\(\)") as caught:
        read_checkpoint(own(path))
    assert caught.value.code == "checkpoint.unreadable"
    assert not (tmp_path / "canary").exists()
    assert "weights_only" not in str(caught.value)  # torch advises to read it all the same
    assert "\x1b" not in str(caught.value)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(junk=st.binary(max_size=40), suffix=st.sampled_from([".pth", ".pt", ".safetensors"]))
def test_any_bytes_are_refused_in_our_own_words(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("junk") / f"own{suffix}"
    path.write_bytes(junk)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(own(path))
    assert caught.value.code == "checkpoint.unreadable"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.tensor([1.0, float("nan")]), "not finite"),
        (torch.tensor([float("-inf"), 1.0]), "not finite"),
        (torch.eye(2).to_sparse(), "sparse"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_no_numbers_are_refused_by_name(
    tmp_path: Path, value: Tensor, reason: str, suffix: str
) -> None:
    path = tmp_path / f"own{suffix}"
    content = weights() | {"first.bias": value}
    if suffix == ".pth":
        torch.save(content, path)
    elif value.layout is torch.strided:
        save_file(content, path)
    else:
        pytest.skip("safetensors does not write sparse tensors")
    with pytest.raises(CheckpointError, match=rf"own\{suffix}: 'first\.bias'.*{reason}") as caught:
        read_checkpoint(own(path))
    assert caught.value.code == "checkpoint.unreadable"


def test_damage_is_found_by_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file(weights(), path)
    checkpoint = own(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"expected {checkpoint.sha256}") as caught:
        read_checkpoint(checkpoint)
    assert caught.value.code == "checkpoint.wrong_sha256"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth") as caught:
        read_checkpoint(OwnCheckpoint(path=str(tmp_path / "absent.pth"), sha256="0" * 64))
    assert caught.value.code == "checkpoint.not_found"
    packaged = PackagedCheckpoint("no_such_weights", "models/x.pth", "0" * 64)
    with pytest.raises(CheckpointError, match="pip install no-such-weights") as caught:
        read_checkpoint(packaged)
    assert caught.value.code == "checkpoint.package_missing"


def test_weights_of_another_network_are_named_with_their_nearest() -> None:
    given = weights() | {"first.weight": torch.ones(2, 4)}
    given["frist.bias"] = given.pop("first.bias")
    with pytest.raises(CheckpointError) as caught:
        load_weights(net(), given, lambda name: name, optional="head")
    assert caught.value.code == "checkpoint.mismatch"
    assert caught.value.message == (
        "these weights are not for Module: 'first.weight' has shape (2, 4), expected (2, 3); "
        "'frist.bias' is not in the network; did you mean 'first.bias'?; 'first.bias' is missing"
    )


def test_a_message_names_three_faults_and_counts_the_rest() -> None:
    given = {f"layer.{i}": torch.ones(1) for i in range(5)}
    with pytest.raises(CheckpointError, match="and 4 more"):
        load_weights(net(), given, lambda name: name, optional="head")


def test_only_the_classifier_may_differ() -> None:
    layers = net()
    head = layers.get_parameter("head.weight").clone()
    given = weights() | {"head.weight": torch.ones(1000, 2)}
    load_weights(layers, given, lambda name: name, optional="head")
    assert torch.equal(layers.get_parameter("head.weight"), head)
    assert torch.equal(layers.get_parameter("first.bias"), torch.ones(2))
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        load_weights(layers, given, lambda name: name, optional="nothing")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server of one state dict, at ``/weights.pth``."""
    torch.save(weights(), tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/weights.pth"
        running.shutdown()
        thread.join()


def test_a_download_is_checked_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("MEDCURVE_DATA", str(tmp_path / "data"))
    digest = sha256_file(tmp_path / "weights.pth")
    found = read_checkpoint(DownloadedCheckpoint(server, digest[:8]))
    assert torch.equal(found["first.weight"], weights()["first.weight"])
    assert (tmp_path / "data" / "weights" / "weights.pth").is_file()
    offline = DownloadedCheckpoint("http://127.0.0.1:9/weights.pth", digest)
    assert read_checkpoint(offline).keys() == weights().keys()  # what was fetched before


def test_a_download_of_something_else_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("MEDCURVE_DATA", str(tmp_path / "data"))
    with pytest.raises(DownloadError, match="published is 00000000") as caught:
        read_checkpoint(DownloadedCheckpoint(server, "00000000"))
    assert caught.value.code == "download.wrong_sha256"
    assert not list((tmp_path / "data" / "weights").iterdir())


def test_offline_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDCURVE_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    checkpoint = DownloadedCheckpoint("http://127.0.0.1:9/resnet18-f37072fd.pth", "f37072fd")
    with pytest.raises(DownloadError, match="efficientnet-lite0, whose weights are inst") as caught:
        read_checkpoint(checkpoint)
    assert caught.value.code == "download.failed"
    assert str(tmp_path / ".medcurve" / "weights" / "resnet18-f37072fd.pth") in caught.value.fix


def test_published_digests_stand_in_the_files_names() -> None:
    for name, architecture in ARCHITECTURES.items():
        published = architecture.published
        assert not isinstance(published, OwnCheckpoint)
        file = published.file if isinstance(published, PackagedCheckpoint) else published.url
        assert file.removesuffix(".pth").endswith(published.sha256[:8]), name
        assert set(published.sha256) <= set(hashlib.sha256().hexdigest() + "0123456789abcdef")
