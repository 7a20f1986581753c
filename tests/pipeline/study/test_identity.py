from __future__ import annotations

from pipeline.study.identity import differences, identity


def test_a_process_is_like_itself() -> None:
    assert differences(identity(1), identity(1)) == ""


def test_what_differs_is_named_with_both_values() -> None:
    mine = identity(1)
    theirs = {name: value for name, value in mine.items() if name != "bf16"} | {"torch": "2.0"}
    words = differences(mine, theirs)

    assert f"torch is '2.0' there and '{mine['torch']}' here" in words
    assert f"bf16 is '' there and '{mine['bf16']}' here" in words
    assert words.count(" is ") == 2


def test_the_kernels_of_blas_and_the_version_count() -> None:
    mine = identity(1)
    assert mine["BLAS kernels"]
    assert mine["medcurve"]
    assert "threads" in differences(mine, identity(2))
