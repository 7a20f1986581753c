from __future__ import annotations

import errno
from pathlib import Path

import pytest
from toy_study import Toys, assert_same_bits, toy_config, toy_needs

from data_prep.errors import StageError
from pipeline.study.engine import run_local
from pipeline.study.features import Preparation
from pipeline.study.grid import Plan
from pipeline.study.journal import CellResult, Failure
from pipeline.study.worker import Job, Prepared, Worker, attempt


def test_results_are_the_same_bits_for_one_and_two_workers(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    toys = Toys(tmp_path, {"toy": toy_config(diary=diary)}, seeds=2)
    one = toys.run(run_local, 1, toy_needs)
    prepared = diary.read_text().splitlines()
    for path in (tmp_path / "features").iterdir():
        path.unlink()
    two = toys.run(run_local, 2, toy_needs)

    assert len(one) == len(toys.plan.cells) == 8
    assert_same_bits(one, two)
    # Each seed prepared the three splits once, for all its sizes and subsets.
    assert sorted(prepared) == ["0 20", "0 32", "0 48", "1 20", "1 32", "1 48"]
    assert sorted(diary.read_text().splitlines()) == sorted(2 * prepared)


def test_a_worker_that_dies_costs_its_cell_only(tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"mortal": toy_config("dies when large"), "toy": toy_config()})
    cells = [planned for planned in toys.plan.cells if planned.cell.subset == 0]
    found = toys.run(run_local, 1, cells=cells)

    assert len(found) == 4
    for (family, size, _, _), result in found.items():
        if family == "mortal" and size == 12:
            assert isinstance(result, Failure)
            assert result.code == "study.worker_died"
            assert "status 9, 2 times" in result.message
            assert result.passing
        else:
            assert isinstance(result, CellResult)


def test_a_preparation_that_fails_fails_the_cells_that_need_it(tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"bad": toy_config("unprepared"), "toy": toy_config()})
    found = toys.run(run_local, 1, lambda p: toy_needs(p) if p.cell.family == "bad" else None)

    assert len(found) == 8
    failed = {key for key, result in found.items() if isinstance(result, Failure)}
    assert {family for family, *_ in failed} == {"bad"}
    assert len(failed) == 4


def test_stopping_ends_the_workers_at_once(tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"toy": toy_config(), "slow": toy_config("sleeps")})
    done: list[int] = []
    found = toys.run(run_local, stopped=lambda: len(done) == 2, after=done.append)

    assert len(found) == 2  # a later cell would sleep for a minute


def test_a_store_that_cannot_be_read_stops_the_study(tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"toy": toy_config()})
    (toys.store / "provenance.json").unlink()

    with pytest.raises(StageError, match="provenance"):
        toys.run(run_local, 1)


def test_a_full_disk_is_no_cells_failure_and_ends_the_study(tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"slow": toy_config("sleeps"), "full": toy_config("fills the disk")})
    with pytest.raises(OSError, match="No space left") as caught:  # and not in a minute
        toys.run(run_local, 2, cells=[toys.plan.cells[0], toys.plan.cells[-1]])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "features/x.npy")


def test_a_file_that_is_not_there_is_a_cells_failure(tmp_path: Path) -> None:
    def absent() -> None:
        (tmp_path / "absent").read_bytes()

    answer = attempt(absent)
    assert isinstance(answer, Failure)
    assert answer.code == "study.cell_crashed"


def worker(root: Path, mood: str) -> tuple[Worker, Plan]:
    toys = Toys(root, {"toy": toy_config(mood)})
    return Worker.open(toys.setup), toys.plan


@pytest.mark.parametrize(
    ("mood", "code", "said", "passing"),
    [
        ("refuses", "family.refuses", "does not want to; ask again", False),
        ("crashes", "study.cell_crashed", "RuntimeError at toy_study.py", True),
    ],
)
def test_an_error_of_a_family_is_its_cells_failure(
    tmp_path: Path, mood: str, code: str, said: str, passing: bool
) -> None:
    doing, plan = worker(tmp_path, mood)
    answer = doing.answer(Job(plan.cells[0], None))

    assert isinstance(answer, Failure)
    assert (answer.code, answer.passing) == (code, passing)
    assert said in answer.message
    assert str(tmp_path) not in answer.message


def test_damaged_features_are_made_again(tmp_path: Path) -> None:
    doing, plan = worker(tmp_path, "good")
    needs = Preparation("toy", 0, "key")
    assert isinstance(doing.answer(Job(None, needs)), Prepared)
    whole = doing.answer(Job(plan.cells[0], needs))
    for damaged, content in ("key-train.npy", b""), ("key.json", b"{"), ("key.json", b"[1]"):
        (tmp_path / "features" / damaged).write_bytes(content)
        fresh = Worker.open(doing.setup)
        again = fresh.answer(Job(plan.cells[0], needs))

        assert isinstance(whole, CellResult) and isinstance(again, CellResult)
        assert whole.test.tobytes() == again.test.tobytes()
