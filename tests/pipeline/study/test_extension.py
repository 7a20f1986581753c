"""A grid with more in it than its file says, and that this is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import ConfigError
from pipeline.study.config import StudyConfig
from pipeline.study.extension import (
    EXTENSION,
    Extension,
    extended,
    read_extension,
    write_extension,
)

BASE = StudyConfig(families=("linear",), sizes=(16, "all"), subsets=3, seeds=1)


def test_a_grid_is_extended_and_keeps_what_it_has() -> None:
    more = extended(BASE, ["subsets=5", "seeds=2", "sizes=32,16, 64", "families=knn,linear"])
    assert (more.subsets, more.seeds) == (5, 2)
    assert more.sizes == (16, "all", 32, 64)
    assert more.families == ("linear", "knn")
    assert extended(BASE, []) == BASE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("subsets=2", "the study has 3 subsets"),
        ("subsets=many", "the study has 3 subsets"),
        ("subsets=4,5", "the study has 3 subsets"),
        ("metric=auc", "one of subsets, seeds, sizes, families"),
        ("sizes", "expected NAME=VALUE"),
        ("sizes=", "expected NAME=VALUE"),
        ("sizes=2", "sizes"),
    ],
)
def test_a_wrong_extension_says_what_is_right(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        extended(BASE, [change])


CHANGES = st.lists(
    st.one_of(
        st.integers(3, 9).map(lambda n: f"subsets={n}"),
        st.integers(1, 4).map(lambda n: f"seeds={n}"),
        st.lists(st.integers(4, 40), min_size=1, max_size=3, unique=True).map(
            lambda sizes: "sizes=" + ",".join(map(str, sizes))
        ),
        st.sampled_from(["families=knn", "families=mlp,linear"]),
    ),
    max_size=3,
    unique_by=lambda change: change.partition("=")[0],
)


@settings(max_examples=60, deadline=None)
@given(first=CHANGES, second=CHANGES)
def test_what_was_added_is_remembered_by_runs_that_do_not_say_it(
    tmp_path_factory: pytest.TempPathFactory, first: list[str], second: list[str]
) -> None:
    out = tmp_path_factory.mktemp("study")
    wide = extended(BASE, first)
    write_extension(out, BASE, wide)
    assert read_extension(out).of(BASE) == wide
    assert (out / EXTENSION).exists() == (wide != BASE)
    try:
        wider = extended(wide, second)
    except ConfigError as error:  # fewer than there are
        assert error.code == "study.bad_extension"
        return
    write_extension(out, BASE, wider)
    assert read_extension(out).of(BASE) == wider
    assert extended(wider, second) == wider  # the same command again


def test_what_the_file_has_by_now_is_not_there_twice(tmp_path: Path) -> None:
    write_extension(tmp_path, BASE, extended(BASE, ["subsets=5", "sizes=32", "families=knn"]))
    grown = BASE.model_copy(update={"subsets": 8, "sizes": (16, 32), "families": ("knn",)})
    assert read_extension(tmp_path).of(grown) == grown
    assert str(read_extension(tmp_path)) == "subsets=5 sizes=32 families=knn"


def test_a_path_holds_from_wherever_the_next_command_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_extension(tmp_path, BASE, extended(BASE, ["families=./own.yaml"]))
    before = read_extension(tmp_path).of(BASE)
    assert before.families == ("linear", str(tmp_path / "own.yaml"))
    assert extended(before, ["families=own.yaml"]) == before  # the same command again


def test_the_way_back_and_a_memory_that_was_changed_by_hand(tmp_path: Path) -> None:
    assert extended(BASE, ["none"]) == BASE
    with pytest.raises(ConfigError, match="3 subsets") as caught:
        extended(BASE, ["subsets=2"])
    assert "--extend none" in (caught.value.fix or "")
    assert read_extension(tmp_path) == Extension()
    (tmp_path / EXTENSION).write_text('{"subset": 3}')
    with pytest.raises(ConfigError, match=r"extension\.json.*'subsets'"):
        read_extension(tmp_path)
