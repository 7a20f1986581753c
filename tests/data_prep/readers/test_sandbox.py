"""Decode children: equal results, in order; a crash, hang or bomb costs one file."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import child_work
import numpy as np
import pytest
from scan_files import nifti_image, write_nifti, write_series

from data_prep.errors import ScanError
from data_prep.readers import ReadPolicy, ScanSource, child_process, discover, read_scan, sandbox
from data_prep.readers.decode_child import Job
from data_prep.readers.sandbox import DecodeError, DecodePool
from data_prep.volume import Volume


def write_numbered(folder: Path, count: int, shape: tuple[int, int, int] = (2, 3, 4)) -> None:
    for number in range(count):
        array = np.full(shape, number, np.int16)
        write_nifti(folder / f"{number:03d}.nii", nifti_image(array))


@pytest.fixture
def numbered(tmp_path: Path) -> tuple[Path, tuple[ScanSource, ...]]:
    """Twelve scans whose voxels are their number."""
    write_numbered(tmp_path, 12)
    return tmp_path, discover(tmp_path).sources


Numbered = tuple[Path, tuple[ScanSource, ...]]


def test_children_read_what_the_parent_reads(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", 5)
    write_nifti(tmp_path / "a.nii.gz")
    large = np.arange(80 * 80 * 30, dtype=np.float32).reshape(80, 80, 30)
    write_nifti(tmp_path / "large.nii", nifti_image(large))
    (tmp_path / "damaged.nii").write_bytes((tmp_path / "large.nii").read_bytes()[:500])
    sources = discover(tmp_path).sources
    with DecodePool(tmp_path, workers=2) as pool:
        results = list(pool.read(sources))
    assert [source for source, _ in results] == list(sources)
    for source, result in results:
        if isinstance(result, ScanError):
            assert source.paths == ("damaged.nii",)
            assert result.code == "nifti.truncated"
            continue
        direct = read_scan(tmp_path, source)
        assert isinstance(result, Volume)
        np.testing.assert_array_equal(result.array, direct.array)
        np.testing.assert_array_equal(result.affine, direct.affine)
        assert result.array.dtype == direct.array.dtype
        assert result.array.flags.f_contiguous == direct.array.flags.f_contiguous
        assert (result.flags, result.modality) == (direct.flags, direct.modality)


def test_a_transform_runs_in_the_child(numbered: Numbered) -> None:
    root, sources = numbered
    with DecodePool(root, workers=2) as pool:
        pids = {pid for _, pid in pool.read(sources, child_work.pid)}
        assert os.getpid() not in pids
        for number, (_, result) in enumerate(pool.read(sources, child_work.summary)):
            assert isinstance(result, child_work.Summary)
            assert result.mean == number
            assert result.shape == (1, 2, 3, 4)
            assert result.names == ["a", "ü"]
            assert result.counts == {"voxels": 24}
            np.testing.assert_array_equal(result.array, np.full((1, 1, 3, 4), number))
        refused = [result for _, result in pool.read(sources[:1], child_work.refuse)]
    assert isinstance(refused[0], ScanError)
    assert refused[0].code == "volume.wrong_ndim"
    assert refused[0].fix == "take another"


@pytest.mark.fault(8)
@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        ("abort", "file.crashed", "SIGABRT"),
        ("segfault", "file.crashed", "SIGSEGV"),
        ("exit", "file.crashed", "exit status 3"),
        ("panic", "file.crashed", "exit status 1"),
        ("memory", "file.crashed", "out of memory"),
        ("hang", "file.timeout", "5 s"),
    ],
)
def test_the_scan_that_kills_a_child_is_the_only_one_lost(
    numbered: Numbered, how: str, code: str, reason: str
) -> None:
    root, sources = numbered
    with DecodePool(root, workers=2, timeout_s=5 if how == "hang" else 60) as pool:
        results = [r for _, r in pool.read(sources, child_work.Misbehave(5, how))]
    bad = results[5]
    assert isinstance(bad, ScanError)
    assert bad.code == code
    assert reason in bad.message
    assert "005.nii" in bad.message
    assert [r for r in results if r is not bad] == [n for n in range(12) if n != 5]


def test_every_scan_may_kill_its_child(numbered: Numbered) -> None:
    root, sources = numbered

    with DecodePool(root, workers=1) as pool:
        for victim in range(3):
            work = child_work.Misbehave(victim, "abort")
            results = [r for _, r in pool.read(sources[:3], work)]
            assert [isinstance(r, ScanError) for r in results] == [n == victim for n in range(3)]


def test_a_bomb_is_stopped_by_the_memory_limit(tmp_path: Path) -> None:
    """A header that stays below the size limit, but above what the child may take."""
    write_nifti(tmp_path / "x.nii", nifti_image(np.zeros((400, 400, 100), np.float64)))
    (source,) = discover(tmp_path).sources
    with DecodePool(tmp_path, memory_bytes=1 << 20) as pool:
        ((_, result),) = pool.read([source], child_work.first_voxel)
        assert result == 0  # in proportion to its file, it takes little
        ((_, result),) = pool.read([source], child_work.Misbehave(0, "memory"))
    assert isinstance(result, ScanError)
    assert result.code == "file.crashed"


def test_a_defect_of_the_transform_is_not_the_scans_fault(numbered: Numbered) -> None:
    root, sources = numbered
    with DecodePool(root) as pool:
        with pytest.raises(DecodeError, match="a defect"):
            list(pool.read(sources, child_work.defect))
        with pytest.raises(DecodeError, match="cannot hand over object"):
            list(pool.read(sources, child_work.bad_object))
        assert all(isinstance(volume, Volume) for _, volume in pool.read(sources))


def test_a_transform_that_cannot_be_loaded(numbered: Numbered) -> None:
    root, sources = numbered
    with DecodePool(root) as pool:
        pickled = pickle.dumps(child_work.pid).replace(b"child_work", b"child_xxxx")
        job = Job(root, (), pickled, ReadPolicy(), 1 << 30, 60)
        held = sandbox._Held()
        task = sandbox._Task(sources[0], 0)
        pool._serve(job, sandbox.deque([task]), held)
        with pytest.raises(DecodeError, match="child_xxxx"):
            task.outcome.result()


def test_children_that_do_not_start(numbered: Numbered, monkeypatch: pytest.MonkeyPatch) -> None:
    root, sources = numbered
    monkeypatch.setattr(child_process, "_START", "raise SystemExit(9)")
    with DecodePool(root) as pool, pytest.raises(DecodeError, match="exit status 9"):
        list(pool.read(sources))


def test_reading_may_be_broken_off_and_begun_again(numbered: Numbered) -> None:
    root, sources = numbered
    with DecodePool(root, workers=2) as pool:
        for _ in range(3):
            results = pool.read(sources, child_work.first_voxel)
            assert next(results)[1] == 0
            del results
        values = [value for _, value in pool.read(sources, child_work.first_voxel)]
    assert values == list(range(12))


def test_sources_are_taken_a_few_at_a_time(tmp_path: Path) -> None:
    write_numbered(tmp_path, 300)
    sources = discover(tmp_path).sources
    taken = 0

    def feed() -> Any:
        nonlocal taken
        for source in sources:
            taken += 1
            yield source

    with DecodePool(tmp_path, workers=1) as pool:
        results = pool.read(feed(), child_work.first_voxel)
        next(results)
        assert taken <= 4 * 32 + 1
        assert [value for _, value in results] == list(range(1, 300))


def test_results_ahead_of_their_turn_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files that become large arrays: no more of them lie about than fit the limit."""
    write_numbered(tmp_path, 40)
    sources = discover(tmp_path).sources
    monkeypatch.setattr(sandbox, "_HELD_BYTES", 1 << 25)
    most = 0
    add = sandbox._Held.add

    def counting(self: Any, size: int) -> None:
        nonlocal most
        add(self, size)
        most = max(most, self._bytes)

    monkeypatch.setattr(sandbox._Held, "add", counting)
    with DecodePool(tmp_path, workers=2) as pool:
        for number, (_, array) in enumerate(pool.read(sources, child_work.large)):
            assert array.max() == array.min() == number
            if number == 0:
                time.sleep(0.5)  # let the children run ahead
    size = 4 * 64 * (1 << 16)
    assert most <= (1 << 25) + 3 * size


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_behind(numbered: Numbered) -> None:
    root, sources = numbered
    before = open_files()
    with DecodePool(root, workers=2) as pool:
        pids = {pid for _, pid in pool.read(sources, child_work.pid)}
        list(pool.read(sources, child_work.large))
    gc.collect()
    assert open_files() <= before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_closing_breaks_off_what_is_under_way(numbered: Numbered) -> None:
    root, sources = numbered
    pool = DecodePool(root, timeout_s=600)
    results = pool.read(sources, child_work.Misbehave(0, "hang"))
    caught: list[Any] = []

    def consume() -> None:
        try:
            caught.append(next(results)[1])
        except DecodeError as error:
            caught.append(error)

    reader = threading.Thread(target=consume)
    reader.start()
    time.sleep(1.5)
    pool.close()
    reader.join(timeout=20)
    assert not reader.is_alive()
    assert isinstance(caught[0], ScanError | DecodeError)
    with pytest.raises(RuntimeError):
        list(pool.read(sources))


def test_a_child_ends_with_its_parent(numbered: Numbered, tmp_path: Path) -> None:
    root, _ = numbered
    program = (
        "import os, sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import child_work\n"
        "from data_prep.readers import discover\n"
        "from data_prep.readers.sandbox import DecodePool\n"
        "pool = DecodePool(Path(sys.argv[1]))\n"
        "sources = discover(Path(sys.argv[1])).sources\n"
        "print(next(pool.read(sources, child_work.pid))[1], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    here = str(Path(child_work.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", program, str(root), here], capture_output=True, check=False
    )
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")
