"""MedMNIST: the table, the files, and FAULTS.md item 70."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.errors import ConfigError, ScanError
from data_prep.readers import read_scan
from data_prep.readers.medmnist import (
    FACTS,
    SPLITS,
    facts_of,
    find_npz,
    image_volume,
    is_official,
    iter_images,
    npz_sources,
    open_npz,
)
from data_prep.readers.medmnist_facts import file_of, md5_file
from data_prep.task import Task


def arrays_of(dataset: str, counts: tuple[int, int, int] = (5, 3, 2)) -> dict[str, np.ndarray]:
    """Small arrays with the axes and labels of a dataset."""
    facts = FACTS[dataset]
    shape = (28,) * facts.spatial_ndim + ((3,) if facts.channels == 3 else ())
    rng = np.random.default_rng(0)
    multi_label = facts.task == "multi-label"
    n_classes = len(facts.class_names)
    arrays: dict[str, np.ndarray] = {}
    for split, count in zip(SPLITS, counts, strict=True):
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, *shape)).astype(np.uint8)
        width, top = (n_classes, 2) if multi_label else (1, n_classes)
        arrays[f"{split}_labels"] = rng.integers(0, top, (count, width)).astype(np.uint8)
    return arrays


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def test_the_table_has_18_datasets_and_one_rebuilt() -> None:
    official = [facts for facts in FACTS.values() if facts.files]
    assert len(official) == 18
    assert sum(facts.spatial_ndim == 3 for facts in official) == 6
    for facts in official:
        assert sorted(facts.files) == ([28, 64] if facts.spatial_ndim == 3 else [28, 64, 128, 224])
        Task(kind=facts.task, class_names=facts.class_names)
        for size, file in facts.files.items():
            assert len(file.md5) == 32
            assert facts.file_name(size) in file.url
    rebuilt = facts_of("pneumoniamnist_rebuilt")
    assert "rebuilt" in rebuilt.title
    assert not rebuilt.files
    assert rebuilt.n_samples == FACTS["pneumoniamnist"].n_samples


@pytest.mark.parametrize("dataset", list(FACTS))
def test_every_dataset_is_read(tmp_path: Path, dataset: str) -> None:
    stored = arrays_of(dataset)
    path = write_npz(tmp_path / "x.npz", stored)
    arrays = open_npz(path, dataset)
    for split in SPLITS:
        np.testing.assert_array_equal(arrays.images[split], stored[f"{split}_images"])
        np.testing.assert_array_equal(arrays.labels[split], stored[f"{split}_labels"])
    facts = FACTS[dataset]
    volume = image_volume(arrays.images["train"][0])
    assert volume.array.shape == (facts.channels, *(28,) * facts.spatial_ndim)
    assert not volume.has_geometry
    sources = npz_sources("x.npz", arrays)
    assert len(sources) == 10
    for source in sources:
        split, number = source.item.split("/")
        image = read_scan(tmp_path, source).array
        expected = image_volume(stored[f"{split}_images"][int(number)]).array
        np.testing.assert_array_equal(image, expected)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        del arrays[name]

    return change


def with_array(name: str, array: np.ndarray) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = array

    return change


MALFORMED: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("70 missing images", without("val_images")),
    ("70 missing labels", without("test_labels")),
    ("70 object array", with_array("train_images", np.array([{"a": 1}, None], dtype=object))),
    ("70 float images", with_array("train_images", np.zeros((5, 28, 28)))),
    ("70 too many axes", with_array("train_images", np.zeros((5, 28, 28, 3), np.uint8))),
    ("70 empty", with_array("train_images", np.zeros((0, 28, 28), np.uint8))),
    ("70 other count of labels", with_array("train_labels", np.zeros((4, 1), np.uint8))),
    ("70 flat labels", with_array("train_labels", np.zeros(5, np.uint8))),
    ("70 unknown class", with_array("train_labels", np.full((5, 1), 2, np.uint8))),
    ("70 negative class", with_array("train_labels", np.full((5, 1), -1, np.int64))),
]


@pytest.mark.parametrize("change", [pytest.param(c, id=name) for name, c in MALFORMED])
def test_a_file_of_other_content_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    arrays = arrays_of("breastmnist")
    change(arrays)
    path = write_npz(tmp_path / "x.npz", arrays)
    with pytest.raises(ScanError, match=r"npz\.malformed"):
        open_npz(path, "breastmnist")


def npy_header(shape: tuple[int, ...], descr: str = "|u1", version: int = 1) -> bytes:
    out = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    write = (
        np.lib.format.write_array_header_1_0
        if version == 1
        else np.lib.format.write_array_header_2_0
    )
    write(out, header)
    return out.getvalue()


def zip_of(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


CODE = npy_header((1,)).replace(b"False", b"open(")
UNKNOWN = npy_header((1,)).replace(b"|u1", b"|Z1")

HOSTILE: list[tuple[str, dict[str, bytes], str]] = [
    ("70 8 TB header", {"train_images.npy": npy_header((1 << 43,))}, "file.too_large"),
    (
        "70 overflowing header",
        {"train_images.npy": npy_header((1 << 40, 1 << 40))},
        "file.too_large",
    ),
    ("70 header larger than data", {"train_images.npy": npy_header((9, 28, 28))}, "npz.malformed"),
    ("70 zip bomb", {"train_images.npy": npy_header((9,)) + bytes(1 << 24)}, "npz.malformed"),
    ("70 not npy", {"train_images.npy": b"hello"}, "npz.malformed"),
    (
        "70 code in the header",
        {"train_images.npy": npy_header((1,)).replace(b"False", b"open(")},
        "npz.malformed",
    ),
    (
        "70 unknown type",
        {"train_images.npy": npy_header((1,)).replace(b"|u1", b"|Z1")},
        "npz.malformed",
    ),
    (
        "70 newer header",
        {"train_images.npy": npy_header((3,), version=2) + b"abc"},
        "npz.malformed",
    ),
]


@pytest.mark.parametrize(("members", "code"), [pytest.param(m, c, id=n) for n, m, c in HOSTILE])
def test_a_hostile_file_is_refused(tmp_path: Path, members: dict[str, bytes], code: str) -> None:
    path = zip_of(tmp_path / "x.npz", members)
    with pytest.raises(ScanError) as caught:
        open_npz(path, "breastmnist")
    assert caught.value.code == code


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", arrays_of("breastmnist"))
    data = bytearray(path.read_bytes())
    data[300] ^= 8
    path.write_bytes(bytes(data))
    with pytest.raises(ScanError, match=r"npz\.malformed"):
        open_npz(path, "breastmnist")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip")
    with pytest.raises(ScanError, match=r"npz\.malformed"):
        open_npz(tmp_path / "x.npz", "breastmnist")
    with pytest.raises(ScanError, match=r"file\.unreadable"):
        open_npz(tmp_path / "missing.npz", "breastmnist")


def test_items_that_are_not_there(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", arrays_of("breastmnist"))
    (source, *_) = npz_sources("x.npz", open_npz(path, "breastmnist"))
    for item in ("train/99", "other/0", "train/-1", "train"):
        with pytest.raises(ScanError, match=r"npz\.malformed"):
            read_scan(tmp_path, type(source)("npz", ("x.npz",), item=item))


def test_files_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MEDCURVE_DATA", raising=False)
    assert find_npz("breastmnist") is None
    home = tmp_path / "home" / ".medmnist" / "breastmnist_64.npz"
    home.parent.mkdir(parents=True)
    home.touch()
    assert find_npz("breastmnist") is None
    assert find_npz("breastmnist", 64) == home
    monkeypatch.setenv("MEDCURVE_DATA", str(tmp_path / "data"))
    named = tmp_path / "data" / "medmnist" / "breastmnist_64.npz"
    named.parent.mkdir(parents=True)
    named.touch()
    assert find_npz("breastmnist", 64) == named
    assert not is_official(named, "breastmnist", 64)
    assert not is_official(named, "pneumoniamnist_rebuilt")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'breastmnist'"):
        find_npz("brestmnist")
    with pytest.raises(ConfigError, match="28, 64"):
        find_npz("adrenalmnist3d", 224)
    with pytest.raises(ConfigError, match="no download address"):
        file_of("pneumoniamnist_rebuilt", 28)


@pytest.mark.parametrize(
    ("dataset", "official"),
    [("breastmnist", True), ("adrenalmnist3d", True), ("pneumoniamnist_rebuilt", False)],
)
def test_real_files(dataset: str, official: bool) -> None:
    if not os.environ.get("MEDCURVE_DATA"):
        pytest.skip("MEDCURVE_DATA is not set: no real MedMNIST files")
    path = find_npz(dataset)
    assert path is not None
    assert is_official(path, dataset) == official
    assert len(md5_file(path)) == 32
    arrays = open_npz(path, dataset)
    counts = {split: len(arrays.images[split]) for split in SPLITS}
    assert counts == FACTS[dataset].n_samples


@pytest.mark.parametrize("dataset", ["breastmnist", "pathmnist", "adrenalmnist3d"])
def test_images_are_streamed(tmp_path: Path, dataset: str) -> None:
    stored = arrays_of(dataset)
    path = write_npz(tmp_path / "x.npz", stored)
    for split in SPLITS:
        streamed = list(iter_images(path, dataset, split))
        np.testing.assert_array_equal(np.stack(streamed), stored[f"{split}_images"])


def test_a_damaged_stream_is_refused_at_its_end(tmp_path: Path) -> None:
    arrays = arrays_of("breastmnist")
    path = zip_of(
        tmp_path / "x.npz",
        {"train_images.npy": npy_header((5, 28, 28)) + arrays["train_images"].tobytes()},
        zipfile.ZIP_STORED,
    )
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ScanError, match=r"npz\.malformed"):
        list(iter_images(path, "breastmnist", "train"))


def test_what_cannot_be_streamed(tmp_path: Path) -> None:
    images = np.asfortranarray(arrays_of("breastmnist")["train_images"])
    path = write_npz(tmp_path / "x.npz", {"train_images": images})
    for split in ("train", "val"):
        with pytest.raises(ScanError, match=r"npz\.malformed"):
            list(iter_images(path, "breastmnist", split))
    with pytest.raises(ScanError, match=r"npz\.malformed"):
        list(iter_images(path, "pathmnist", "train"))
