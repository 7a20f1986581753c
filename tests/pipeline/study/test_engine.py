from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from toy_study import build_toy, open_store, toy_config, write_store

from data_prep.errors import StageError
from pipeline.families import FamilyConfig
from pipeline.study.config import StudyConfig
from pipeline.study.engine import Needs, run_local
from pipeline.study.features import Preparation
from pipeline.study.grid import Plan, PlannedCell, make_plan
from pipeline.study.journal import CellResult, Failure
from pipeline.study.worker import Job, Prepared, Setup, Worker

Outcome = dict[tuple[str, int, int, int], CellResult | Failure]


class Toys:
    """A study of toy families on one store, without its folder."""

    def __init__(self, root: Path, families: dict[str, FamilyConfig], seeds: int = 1) -> None:
        self.store = write_store(root / "store")
        config = StudyConfig(families=tuple(families), sizes=(6, 12), subsets=2, seeds=seeds)
        self.plan: Plan = make_plan(config, families, open_store(self.store), {})
        self.setup = Setup(
            self.store, root / "features", root / "checkpoints", families, 1, build_toy
        )

    def run(
        self,
        workers: int = 1,
        needs: Needs = lambda _: None,
        cells: Sequence[PlannedCell] | None = None,
    ) -> Outcome:
        found = run_local(
            self.setup,
            self.plan.cells if cells is None else cells,
            needs,
            workers=workers,
            stopped=lambda: False,
        )
        return {
            (p.cell.family, p.cell.size, p.cell.subset, p.cell.seed): result for p, result in found
        }


def toy_needs(planned: PlannedCell) -> Preparation:
    return Preparation(planned.cell.family, planned.cell.seed, f"toy-{planned.cell.seed}")


def test_results_are_the_same_bits_for_one_and_two_workers(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    toys = Toys(tmp_path, {"toy": toy_config(diary=diary)}, seeds=2)
    one = toys.run(1, toy_needs)
    prepared = diary.read_text().splitlines()
    for path in (tmp_path / "features").iterdir():
        path.unlink()
    two = toys.run(2, toy_needs)

    assert len(one) == len(toys.plan.cells) == 8
    assert one.keys() == two.keys()
    for key in one:
        first, second = one[key], two[key]
        assert isinstance(first, CellResult) and isinstance(second, CellResult)
        assert first.val.tobytes() == second.val.tobytes()
        assert first.test.tobytes() == second.test.tobytes()
    # Each seed prepared the three splits once, for all its sizes and subsets.
    assert sorted(prepared) == ["0 20", "0 32", "0 48", "1 20", "1 32", "1 48"]
    assert sorted(diary.read_text().splitlines()) == sorted(2 * prepared)


def test_a_worker_that_dies_costs_its_cell_only(tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"mortal": toy_config("dies when large"), "toy": toy_config()})
    cells = [planned for planned in toys.plan.cells if planned.cell.subset == 0]
    found = toys.run(1, cells=cells)

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
    found = toys.run(1, lambda p: toy_needs(p) if p.cell.family == "bad" else None)

    assert len(found) == 8
    failed = {key for key, result in found.items() if isinstance(result, Failure)}
    assert {family for family, *_ in failed} == {"bad"}
    assert len(failed) == 4


def test_stopping_ends_the_workers_at_once(tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"toy": toy_config(), "slow": toy_config("sleeps")})
    done: list[PlannedCell] = []
    found = run_local(
        toys.setup, toys.plan.cells, lambda _: None, workers=1, stopped=lambda: len(done) == 2
    )
    for planned, _ in found:  # the third cell would sleep for a minute
        done.append(planned)

    assert len(done) == 2


def test_a_store_that_cannot_be_read_stops_the_study(tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"toy": toy_config()})
    (toys.store / "provenance.json").unlink()

    with pytest.raises(StageError, match="provenance"):
        toys.run(1)


def worker(root: Path, mood: str) -> tuple[Worker, Plan]:
    toys = Toys(root, {"toy": toy_config(mood)})
    return Worker.open(toys.setup), toys.plan


@pytest.mark.parametrize(
    ("mood", "code", "said", "passing"),
    [
        ("refuses", "family.refuses", "does not want to ask again", False),
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
    (tmp_path / "features" / "key-train.npy").write_bytes(b"")
    fresh = Worker.open(doing.setup)
    again = fresh.answer(Job(plan.cells[0], needs))

    assert isinstance(whole, CellResult) and isinstance(again, CellResult)
    assert whole.test.tobytes() == again.test.tobytes()
