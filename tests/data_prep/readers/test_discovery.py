"""What is found in a folder, and what is never opened: FAULTS.md items 33 and 83 to 88."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch import read_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scan_files import write_ct, write_nifti, write_series

from data_prep.errors import SCAN_CODES, ScanError
from data_prep.readers import ScanSource, access, discover, read_scan
from data_prep.readers.sniff import is_text, sniff

Case = Callable[[Path], object]


def link_out(folder: Path) -> None:
    outside = folder.parent.parent / "outside.nii"
    write_nifti(outside)
    (folder / "x.nii").symlink_to(outside)


def folder_link_out(folder: Path) -> None:
    write_nifti(folder.parent.parent / "outside" / "x.nii")
    (folder / "there").symlink_to(folder.parent.parent / "outside")


def loop(folder: Path) -> None:
    (folder / "a.nii").symlink_to(folder / "b.nii")
    (folder / "b.nii").symlink_to(folder / "a.nii")


def dangling(folder: Path) -> None:
    (folder / "x.nii").symlink_to(folder / "nowhere.nii")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "x.nii")


def unix_socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x.nii")
    finally:
        os.chdir(here)


def device_link(folder: Path) -> None:
    (folder / "x.nii").symlink_to("/dev/zero")


QUARANTINED: list[tuple[str, Case, list[str]]] = [
    ("83 link out", link_out, ["file.link_outside"]),
    ("83 folder link out", folder_link_out, ["file.link_outside"]),
    ("83 loop", loop, ["file.unreadable", "file.unreadable"]),
    ("83 dangling link", dangling, ["file.unreadable"]),
    ("86 FIFO", fifo, ["file.not_regular"]),
    ("86 socket", unix_socket, ["file.not_regular"]),
    ("86 device", device_link, ["file.link_outside"]),
]


@pytest.mark.parametrize(
    ("case", "codes"), [pytest.param(c, codes, id=name) for name, c, codes in QUARANTINED]
)
def test_what_must_not_be_opened_is_quarantined(
    tmp_path: Path, case: Case, codes: list[str]
) -> None:
    outcome = read_batch(tmp_path / "root", case)
    assert outcome.codes == codes
    assert outcome.good_ones_read


def test_a_folder_that_contains_itself_is_walked_once(tmp_path: Path) -> None:
    def case(folder: Path) -> None:
        write_nifti(folder / "x.nii")
        (folder / "again").symlink_to(folder)

    outcome = read_batch(tmp_path, case)
    assert len(outcome.volumes) == 1
    assert outcome.skipped == ["a link to a folder, which is read under its own name"]


def test_a_link_within_the_root_is_the_file(tmp_path: Path) -> None:
    def case(folder: Path) -> None:
        target = write_nifti(folder / ".annex" / "x.nii")
        (folder / "x.nii").symlink_to(target)

    outcome = read_batch(tmp_path, case)
    assert outcome.volume.array.shape == (1, 4, 5, 6)
    assert outcome.skipped == ["hidden"]


@pytest.mark.fault(84)
@pytest.mark.parametrize(
    "path", ["../outside.nii", "a/../../outside.nii", "/etc/passwd", "sub/../../outside.nii"]
)
def test_a_path_that_leaves_the_root_is_refused(tmp_path: Path, path: str) -> None:
    write_nifti(tmp_path / "outside.nii")  # item 84
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (rejected,) = discover(tmp_path / "root", [Path(path)]).rejected
    assert rejected.code == "file.link_outside"
    source = ScanSource("nifti", ("../outside.nii",))
    with pytest.raises(ScanError, match=r"file\.link_outside"):
        read_scan(tmp_path / "root", source)


def test_only_the_paths_asked_for_are_read(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii", "sub/c.nii"):
        write_nifti(tmp_path / name)
    found = discover(tmp_path, [Path("b.nii"), tmp_path / "sub", Path("missing.nii")])
    assert [source.paths for source in found.sources] == [("b.nii",), ("sub/c.nii",)]
    assert [(entry.paths, entry.code) for entry in found.rejected] == [
        (("missing.nii",), "file.unreadable")
    ]


@pytest.mark.fault(85)
@pytest.mark.parametrize(
    "name",
    [
        *("café.nii", "cafe\u0301.nii", "new\nline.nii", "a b'\".nii", "=1+1.nii", "-rf.nii"),
        os.fsdecode(b"latin caf\xe9.nii"),
    ],
    ids=["NFC", "NFD", "newline", "quotes", "formula", "option", "not Unicode"],
)
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    outcome = read_batch(tmp_path, lambda folder: write_nifti(folder / name))
    assert f"case/{name}" in [source.paths[0] for source in outcome.found.sources]
    assert outcome.volume.array.shape == (1, 4, 5, 6)
    assert outcome.good_ones_read


def test_every_file_is_in_exactly_one_place(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", 4)
    write_ct(tmp_path / "ct" / "copy.dcm", 2)
    write_nifti(tmp_path / "a.nii.gz")
    write_nifti(tmp_path / "pair.img")
    write_nifti(tmp_path / "zip.img.gz")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "p.png")
    for name in ("labels.csv", "README", "x.json", "t.npz", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"PK\3\4\0\0" if name == "t.npz" else b"text")
    (tmp_path / "unknown.bin").write_bytes(bytes(range(256)))
    (tmp_path / "empty.png").touch()
    found = discover(tmp_path)
    files = [
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ]
    seen = [path for source in found.sources for path in source.paths]
    seen += [path for entry in found.rejected for path in entry.paths]
    seen += [entry.path for entry in found.skipped]
    assert sorted(seen) == sorted(files)
    assert {entry.code for entry in found.rejected} == {"file.unknown_format", "file.empty"}
    assert len(found.sources) == 5
    again = discover(tmp_path)
    assert again == found


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    write_nifti(tmp_path / ".git" / "x.nii")
    write_nifti(tmp_path / "._x.nii")
    found = discover(tmp_path)
    assert not found.sources
    assert [(entry.path, entry.reason) for entry in found.skipped] == [
        ("._x.nii", "hidden"),
        (".git", "hidden"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_quarantined(tmp_path: Path) -> None:
    write_nifti(tmp_path / "x.nii").chmod(0)
    (rejected,) = discover(tmp_path).rejected
    assert rejected.code == "file.unreadable"


def test_errors_of_the_operating_system_are_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nifti(tmp_path / "sub" / "x.nii")

    def refuse(*arguments: Any) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(access.os, "open", refuse)
        (rejected,) = discover(tmp_path).rejected
        assert rejected.code == "file.unreadable"
        assert "Permission denied" in rejected.reason
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        (rejected,) = discover(tmp_path).rejected
        assert rejected.code == "file.unreadable"
    with monkeypatch.context() as patch:
        patch.setattr(access.os, "read", refuse)
        (rejected,) = discover(tmp_path).rejected
        assert rejected.code == "file.unreadable"


@pytest.mark.fault(88)
def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nifti(tmp_path / "x.nii")  # item 88
    (source,) = discover(tmp_path).sources
    open_regular = access.open_regular

    def open_and_touch(root: Path, relative: str) -> int:
        descriptor = open_regular(root, relative)
        state = {"reads": 0}
        real = os.fstat

        def fstat(number: int) -> os.stat_result:
            state["reads"] += number == descriptor
            if state["reads"] == 2:
                with path.open("ab") as file:
                    file.write(b"more")
            return real(number)

        monkeypatch.setattr(access.os, "fstat", fstat)
        return descriptor

    monkeypatch.setattr(access, "open_regular", open_and_touch)
    with pytest.raises(ScanError, match=r"file\.changed"):
        read_scan(tmp_path, source)


def test_a_fifo_in_the_place_of_a_file_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the file and its opening, somebody puts a FIFO there."""
    path = write_nifti(tmp_path / "x.nii")
    before = os.lstat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(access.os, "lstat", lambda _: before)
    with pytest.raises(ScanError, match=r"file\.not_regular"):
        access.read_bytes(tmp_path, "x.nii")


def test_a_file_above_the_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nifti(tmp_path / "x.nii")
    monkeypatch.setattr(access, "MAX_FILE_BYTES", 100)
    with pytest.raises(ScanError, match=r"file\.too_large"):
        access.read_bytes(tmp_path, "x.nii")


def test_content_is_told_from_any_bytes(tmp_path: Path) -> None:
    assert sniff(b"") == "other"
    assert sniff(b"\x1f\x8b\x08 not a gzip stream") == "other"
    assert is_text("Grüße".encode())
    assert is_text("text".encode("utf-16"))
    assert is_text(("x" * 2047 + "é").encode()[:2048])
    assert not is_text(b"\xff\xfa\x80")
    assert not is_text(b"a\0b")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_sniffing_never_fails(head: bytes) -> None:
    assert sniff(head) in ("dicom", "nifti", "nifti_header", "raster", "other")
    is_text(head)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400), suffix=st.sampled_from(["", ".dcm", ".nii", ".png", ".img"]))
def test_any_bytes_are_answered_with_a_code(
    data: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / f"x{suffix}").write_bytes(data)
    found = discover(folder)
    assert len(found.sources) + len(found.rejected) + len(found.skipped) == 1
    for entry in found.rejected:
        assert entry.code in SCAN_CODES
    for source in found.sources:
        try:
            read_scan(folder, source)
        except ScanError as error:
            assert error.code in SCAN_CODES


def test_what_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, code in (
        (".", "file.not_regular"),
        ("empty", "file.empty"),
        ("x", "file.unreadable"),
    ):
        with pytest.raises(ScanError) as caught:
            access.read_bytes(tmp_path, name)
        assert caught.value.code == code


def test_a_file_that_fails_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk error, or a network share that goes away."""
    write_nifti(tmp_path / "x.nii")

    class Failing:
        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *arguments: object) -> None:
            pass

        def read(self) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(access.os, "fdopen", lambda *arguments, **options: Failing())
    with pytest.raises(ScanError, match="Input/output error"):
        access.read_bytes(tmp_path, "x.nii")
