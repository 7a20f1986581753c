from __future__ import annotations

from pipeline.study.identity import identity


def test_a_process_is_like_itself() -> None:
    assert identity(1) == identity(1)


def test_the_kernels_of_blas_and_the_version_count() -> None:
    mine = identity(1)
    assert mine["BLAS kernels"]
    assert mine["medcurve"]
    assert mine != identity(2)
