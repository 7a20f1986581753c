"""What a node's reader answers, and how it is written down: no cluster is needed for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from decode_transforms import has_a_defect, turned_but_the_fifth

from data_prep.errors import ScanError
from data_prep.readers.decode_child import Job
from data_prep.readers.policy import DEFAULT_POLICY
from data_prep.readers.sandbox import DecodeError, DecodePool
from data_prep.readers.source import ScanSource
from data_prep.volume import Volume
from pipeline.node_reader import NodeReader, reading_identity, seen_sizes, unpack


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Three volumes, the second of which is cut off."""
    for number in range(3):
        array = np.arange(60, dtype=np.int16).reshape(3, 4, 5) + number
        nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / f"{number}.nii.gz")
    cut = tmp_path / "1.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-9])
    sources = tuple(ScanSource("nifti", (f"{number}.nii.gz",)) for number in range(3))
    return Job(tmp_path, sources, b"", DEFAULT_POLICY, 1 << 30, 60.0)


@pytest.fixture
def transform(request: pytest.FixtureRequest) -> bytes:
    """A transform, pickled as a pool does it."""
    import pickle

    return pickle.dumps(request.param)


def ask(job: Job, sizes: list[list[int]] | None = None) -> list[Any]:
    reader = NodeReader()
    try:
        return unpack(*reader.read(job, seen_sizes(job) if sizes is None else sizes))
    finally:
        if reader._pool is not None:
            reader._pool.close()


@pytest.mark.parametrize("transform", [turned_but_the_fifth], indirect=True)
def test_answers_are_those_of_a_pool(job: Job, transform: bytes) -> None:
    found = ask(replace(job, transform=transform))
    with DecodePool(job.root) as pool:
        here = [result for _, result in pool.read(job.sources, turned_but_the_fifth)]
    first, cut, last = found
    assert isinstance(cut, ScanError)
    assert (cut.code, cut.message, cut.fix) == (here[1].code, here[1].message, here[1].fix)
    for mine, theirs in ((first, here[0]), (last, here[2])):
        assert isinstance(mine, Volume)
        assert np.array_equal(mine.array, theirs.array)
        assert mine.array.strides[1:] == theirs.array.strides[1:]
        assert not mine.array.flags.c_contiguous
        assert not mine.array.flags.f_contiguous


@pytest.mark.parametrize("transform", [has_a_defect], indirect=True)
def test_a_defect_is_the_answer_to_every_source(job: Job, transform: bytes) -> None:
    found = ask(replace(job, transform=transform))
    assert [type(answer) for answer in found] == [DecodeError] * 3
    assert {answer.code for answer in found} == {"decode.failed"}


@pytest.mark.parametrize("change", [1, -1])
def test_files_that_are_others_here_are_not_read(job: Job, change: int) -> None:
    sizes = seen_sizes(job)
    sizes[2][0] += change
    found = ask(job, sizes)
    assert [answer.code for answer in found] == ["decode.unseen_folder"] * 3
    assert "2.nii.gz is missing there, or not the same file" in found[0].message
    assert "one path" in found[0].fix


def test_a_file_that_is_nowhere_is_that_scan_s_fault(job: Job) -> None:
    (job.root / "0.nii.gz").unlink()
    first, *_ = ask(job)
    assert isinstance(first, ScanError)


def test_what_decides_voxels_counts_and_torch_does_not() -> None:
    mine = reading_identity()
    assert mine == reading_identity()
    assert mine["pydicom"] and mine["medcurve"] and mine["instructions"] and mine["BLAS kernels"]
    assert "torch" not in mine
