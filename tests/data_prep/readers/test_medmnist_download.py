"""Downloading from a server of our own: resumed, checked, and clear about what went wrong."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from data_prep.download import DownloadError
from data_prep.errors import ConfigError
from data_prep.readers import medmnist_facts
from data_prep.readers.medmnist_download import download_npz
from data_prep.readers.medmnist_facts import FACTS, MedMnistFile

CONTENT = bytes(range(256)) * 4096


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    break_after: list[int] = field(default_factory=list)
    ranges: bool = True
    status: int = 200
    length: bool = True
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if state.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.break_after:
                body = body[: state.break_after.pop(0)]
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield state
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """BreastMNIST with the md5 of our content."""
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    breast = replace(FACTS["breastmnist"], files={28: MedMnistFile("https://example.org/b", md5)})
    monkeypatch.setattr(medmnist_facts, "FACTS", {**FACTS, "breastmnist": breast})


def test_a_file_is_fetched_once(tmp_path: Path, server: Server) -> None:
    told: list[tuple[int, int]] = []
    folder = tmp_path / "new" / "folder"
    path = download_npz(
        "breastmnist", 28, folder, lambda a, b: told.append((a, b)), base_url=server.url
    )
    assert path == folder / "breastmnist.npz"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert [entry.name for entry in folder.iterdir()] == ["breastmnist.npz"]
    download_npz("breastmnist", 28, folder, base_url=server.url)
    assert len(server.asked) == 1


def test_a_broken_transfer_goes_on_where_it_broke(tmp_path: Path, server: Server) -> None:
    server.break_after = [400_000]
    path = download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["", "bytes=400000-"]


def test_a_later_call_goes_on_as_well(tmp_path: Path, server: Server) -> None:
    server.break_after = [300_000, 0]
    with pytest.raises(DownloadError, match=r"download\.failed"):
        download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert (tmp_path / "breastmnist.npz.part").stat().st_size == 300_000
    assert not (tmp_path / "breastmnist.npz").exists()
    path = download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=300000-"


def test_a_transfer_that_keeps_breaking_is_given_up(tmp_path: Path, server: Server) -> None:
    server.break_after = [100, 100, 100, 100, 100]
    with pytest.raises(DownloadError, match=r"download\.failed"):
        download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert len(server.asked) == 3


def test_a_server_without_ranges_starts_again(tmp_path: Path, server: Server) -> None:
    server.ranges = False
    server.break_after = [400_000]
    path = download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["", "bytes=400000-"]


def test_a_server_that_states_no_length(tmp_path: Path, server: Server) -> None:
    server.length = False
    path = download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert path.read_bytes() == CONTENT


def test_a_leftover_that_is_too_long_is_thrown_away(tmp_path: Path, server: Server) -> None:
    (tmp_path / "breastmnist.npz.part").write_bytes(CONTENT + b"more")
    path = download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert path.read_bytes() == CONTENT


def test_wrong_content_is_thrown_away(tmp_path: Path, server: Server) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(DownloadError, match=r"download\.wrong_md5") as caught:
        download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert list(tmp_path.iterdir()) == []
    assert "https://example.org/b" in caught.value.fix
    assert str(tmp_path / "breastmnist.npz") in caught.value.fix


def test_a_damaged_file_is_fetched_again(tmp_path: Path, server: Server) -> None:
    (tmp_path / "breastmnist.npz").write_bytes(b"half")
    assert download_npz("breastmnist", 28, tmp_path, base_url=server.url).read_bytes() == CONTENT


def test_refused_by_the_server(tmp_path: Path, server: Server) -> None:
    server.status = 404
    with pytest.raises(DownloadError, match=r"404|Not Found"):
        download_npz("breastmnist", 28, tmp_path, base_url=server.url)
    assert len(server.asked) == 1


def test_no_network_says_what_to_do(tmp_path: Path, server: Server) -> None:
    with pytest.raises(DownloadError, match="refused") as caught:
        download_npz("breastmnist", 28, tmp_path, base_url="http://127.0.0.1:9")
    fix = caught.value.fix
    assert "https://example.org/b" in fix
    assert medmnist_facts.FACTS["breastmnist"].files[28].md5 in fix
    assert str(tmp_path) in fix


def test_only_http_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="only http"):
        download_npz("breastmnist", 28, tmp_path, base_url="file:///etc")


def test_what_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"medmnist\.not_official"):
        download_npz("pneumoniamnist_rebuilt", 28, tmp_path)
    with pytest.raises(ConfigError, match=r"medmnist\.unknown_size"):
        download_npz("breastmnist", 99, tmp_path)
