"""The machine's load beside a study: sampled while it runs, whole lines only, never in its way."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.study import usage
from pipeline.study.usage import Usage, read_usage, sampled


def test_samples_are_taken_while_the_block_runs(tmp_path: Path) -> None:
    path = tmp_path / "system.csv"
    before = time.time_ns() // 1_000_000
    with sampled(path, every_s=0.05):
        deadline = time.monotonic() + 20
        while len(read_usage(path)) < 3 and time.monotonic() < deadline:
            sum(range(10_000))
    found = read_usage(path)

    assert len(found) >= 3
    assert path.read_text().startswith("time_ms,cpu_utilization_percentage,system_memory_usage_")
    assert [sample.time_ms for sample in found] == sorted(sample.time_ms for sample in found)
    assert found[0].time_ms >= before
    assert max(sample.cpu_utilization_percentage for sample in found) > 0
    for sample in found:
        assert 0 <= sample.cpu_utilization_percentage <= 100
        assert 0 < sample.system_memory_usage_percentage < 100
        assert sample.system_memory_usage_megabytes > 10


def test_processor_time_is_counted_as_the_kernel_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1000 ticks 250 are busy: user, system and softirq; guests are within user."""
    first, second = "cpu  100 0 50 800 50 0 0 0 9 9", "cpu  200 0 150 1500 100 0 50 0 99 99"
    texts = iter([first])
    stat = type("Stat", (), {"read_text": lambda _: next(texts, second)})()
    monkeypatch.setattr(usage, "_STAT", stat)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 4000000 kB\nMemFree: 10 kB\nMemAvailable: 3000000 kB\n")
    monkeypatch.setattr(usage, "_MEMINFO", meminfo)
    with sampled(tmp_path / "system.csv", every_s=0.0):
        pass  # the last sample is taken at the end
    sample = read_usage(tmp_path / "system.csv")[0]

    assert sample.cpu_utilization_percentage == pytest.approx(100 * 250 / 1000)
    assert sample.system_memory_usage_megabytes == pytest.approx(1024.0)
    assert sample.system_memory_usage_percentage == pytest.approx(25.0)


def test_a_line_that_a_kill_cut_off_is_left_out_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "system.csv"
    one, two = Usage(1, 10.0, 100.0, 5.0), Usage(2, 20.0, 200.0, 6.0)
    usage._append(path, one)
    with path.open("a") as file:
        file.write("2,20.")
    assert read_usage(path) == [one]
    usage._append(path, two)
    assert read_usage(path) == [one, two]
    assert path.read_text().count("time_ms") == 1


def test_a_short_block_and_a_system_without_the_files_keep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "system.csv"
    with sampled(path):
        pass
    monkeypatch.setattr(usage, "_STAT", tmp_path / "none")
    with sampled(path, every_s=0.0):
        time.sleep(0.05)
    assert read_usage(path) == []
    assert not path.exists()
