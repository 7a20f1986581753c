"""What a process must share with another one for a cell to give the same bits in both."""

from __future__ import annotations

from threadpoolctl import threadpool_info

from data_prep.stage import medcurve_version
from pipeline.study.cell import arithmetic


def identity(threads: int) -> dict[str, str]:
    """What two processes must have in common to give a cell the same bits.

    Beyond what a cell's key says, this is the kernels that BLAS chose for the processor: machines
    whose instructions are the same may be given different ones.
    """
    kernels = {str(lib.get("architecture", "")) for lib in threadpool_info()}
    return {
        "medcurve": medcurve_version(),
        **arithmetic(threads),
        "BLAS kernels": ", ".join(sorted(kernels - {""})),
    }
