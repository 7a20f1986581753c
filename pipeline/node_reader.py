"""What reads scans on a node of a cluster, and writes down what became of them.

It knows nothing of the cluster that starts it and carries its answers.
"""

from __future__ import annotations

import pickle
import platform
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from threadpoolctl import threadpool_info

from data_prep.errors import ScanError
from data_prep.readers.child_process import DecodeError, outcome
from data_prep.readers.decode_child import Job, file_size
from data_prep.readers.sandbox import DecodePool
from data_prep.readers.source import ScanSource
from data_prep.readers.wire import Block, Bytes, decode, encode
from data_prep.stage import medcurve_version

# What decides which voxels come out of a file, beside our own code.
_LIBRARIES: Final = (
    *("numpy", "scipy", "nibabel", "pydicom", "pillow"),
    *("pylibjpeg-openjpeg", "pyjpegls", "python-gdcm"),
)

Sizes = list[list[int]]


class NodeReader:
    """Reads scans with a decode process of its own, under the limits that a job states."""

    def __init__(self) -> None:
        self._pool: DecodePool | None = None

    def identity(self) -> dict[str, str]:
        """What this process is, to be compared with the one that sends jobs."""
        return reading_identity()

    def read(self, job: Job, sizes: Sizes) -> tuple[bytes, Bytes]:
        """Answers to the sources of a job, for ``unpack``.

        They are written as ``wire`` does, not pickled: arrays keep their layout in memory, on
        which the rounding of sums depends.

        Args:
            job: What to read; root, policy and limits are the same for all jobs of a reader.
            sizes: ``seen_sizes`` of the job where it comes from.
        """
        block = Block()
        text = encode(self._messages(job, sizes), block)
        memory = np.empty(block.size, np.uint8)
        block.store(memory)
        return text, memory

    def _messages(self, job: Job, sizes: Sizes) -> list[tuple[Any, ...]]:
        for source, there, here in zip(job.sources, sizes, seen_sizes(job), strict=True):
            if there != here:
                return len(sizes) * [_broken(_unseen(job, source))]
        if self._pool is None:
            self._pool = DecodePool(job.root, 1, job.memory_bytes, job.timeout_s, job.policy)
        # It is loaded before any answer is taken, for that imports what answers may be made of.
        transform = pickle.loads(job.transform) if job.transform else None  # noqa: S301 - our own
        try:
            return [_message(result) for _, result in self._pool.read(job.sources, transform)]
        except DecodeError as error:
            return len(sizes) * [_broken(error)]


def unpack(text: bytes, memory: Bytes) -> list[Any]:
    """What ``NodeReader.read`` wrote down: values, ScanErrors and DecodeErrors.

    Args:
        text: The first of what it returned.
        memory: The second; arrays are views of it.
    """
    return [_outcome(message) for message in decode(text, memory)]


def seen_sizes(job: Job) -> Sizes:
    """Bytes of each source's files, as this machine sees them."""
    return [[file_size(job.root, path) for path in source.paths] for source in job.sources]


def reading_identity() -> dict[str, str]:
    """What two processes must have in common to make the same voxels of a file.

    Unlike a cell's identity, this asks for no torch and no GPU, which reading does not use.
    """
    targets = {f["current"] for d in np.lib.introspect.opt_func_info().values() for f in d.values()}
    blas = {str(lib.get("architecture", "")) for lib in threadpool_info() if _is_numpys(lib)}
    return {
        "medcurve": medcurve_version(),
        **{name: version(name) for name in _LIBRARIES},
        "machine": platform.machine(),
        "instructions": ", ".join(sorted(targets)),
        "BLAS kernels": ", ".join(sorted(blas)),
    }


def _is_numpys(library: dict[str, Any]) -> bool:
    """Not torch's, which is loaded in some processes only."""
    return library.get("internal_api") == "openblas" and "torch" not in str(library["filepath"])


def _unseen(job: Job, source: ScanSource) -> DecodeError:
    return DecodeError(
        "decode.unseen_folder",
        f"node {platform.node()} does not see {job.root} as the machine does on which the command "
        f"runs: {source.paths[0]} is missing there, or not the same file",
        fix="put the scans where all nodes see them under one path, or use --engine local",
    )


def _message(result: Any) -> tuple[Any, ...]:
    if isinstance(result, ScanError):
        return ("refused", result.code, result.message, result.fix)
    return ("scan", result)


def _broken(error: DecodeError) -> tuple[Any, ...]:
    return ("broken", error.code, error.message, error.fix)


def _outcome(message: tuple[Any, ...]) -> Any:
    if message[0] != "broken":
        return outcome(message)
    _, code, text, fix = message
    return DecodeError(code, text, fix=fix)
