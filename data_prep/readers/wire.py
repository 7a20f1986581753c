"""How a decode child's results are written down: as data, never as pickles.

The child has decoded a file that nobody vouches for, so the parent must not let it name code to
run. Values travel as JSON with arrays beside it; the only objects that can be built are
dataclasses whose module the parent has imported already.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data_prep.volume import Array

_ALIGNMENT: Final = 64
_PLAIN: Final = (str, int, float, bool, type(None))
_ARRAY_KINDS: Final = "biufcSU"

Bytes = NDArray[np.uint8]


class Block:
    """Arrays that are to lie in memory one after another.

    Attributes:
        size: Bytes that they take.
    """

    def __init__(self) -> None:
        self.size = 0
        self._arrays: list[Array] = []

    def add(self, array: Array) -> int:
        """Put an array behind the others, and say where it begins."""
        start = self.size
        self._arrays.append(array)
        self.size += _room(array)
        return start

    def store(self, memory: Bytes) -> None:
        """Copy the arrays into ``memory``."""
        start = 0
        for array in self._arrays:
            moved = array.transpose(_axes_in_memory(array))
            np.ndarray(moved.shape, moved.dtype, memory, start)[...] = moved
            start += _room(array)


def encode(value: object, block: Block) -> bytes:
    """Plain values, lists, tuples, dicts, arrays and dataclasses of them: JSON, and the arrays.

    Args:
        value: What to write down.
        block: Its arrays are added to those of earlier values of the same message.

    Raises:
        TypeError: If ``value`` holds anything else; arrays that were met before it stay in
            ``block``, and nothing refers to them.
    """
    return json.dumps(_encode(value, block)).encode()


def decode(text: bytes | bytearray, memory: Bytes) -> Any:
    """What ``encode`` wrote down; arrays are views of ``memory``, and keep it alive.

    Raises:
        ValueError: If ``text`` is not what ``encode`` writes, or names what cannot be built.
        TypeError: If it describes an array or a dataclass that cannot be.
    """
    return _decode(json.loads(text), memory)


def _encode(value: object, block: Block) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _ARRAY_KINDS:
            raise TypeError(f"an array of {value.dtype} cannot be handed over")
        start = block.add(value)
        axes = _axes_in_memory(value)
        shape = [value.shape[axis] for axis in axes]
        return {"array": [value.dtype.str, shape, list(axes), start]}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list):
        return [_encode(item, block) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, block) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, block), _encode(v, block)] for k, v in value.items()]}
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        fields = [_encode(getattr(value, f.name), block) for f in dataclasses.fields(kind)]
        return {"object": [kind.__module__, kind.__qualname__, fields]}
    raise TypeError(
        f"a decode child cannot hand over {kind.__qualname__}; allowed: numbers, text, lists, "
        "tuples, dicts, arrays and dataclasses of them"
    )


def _decode(value: Any, memory: Bytes) -> Any:
    if isinstance(value, list):
        return [_decode(item, memory) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "tuple":
        return tuple(_decode(item, memory) for item in content)
    if tag == "dict":
        return {_decode(k, memory): _decode(v, memory) for k, v in content}
    if tag == "array":
        name, shape, axes, start = content
        dtype = np.dtype(name)
        if dtype.kind not in _ARRAY_KINDS:  # an object array would be a list of addresses
            raise ValueError(f"an array of {dtype}")
        end = start + math.prod(shape) * dtype.itemsize
        if start < 0 or min(shape, default=1) < 0 or end > len(memory):  # numpy lets some pass
            raise ValueError(f"an array from byte {start} to {end} of {len(memory)}")
        moved: Array = np.ndarray(shape, dtype, memory, start)
        return moved.transpose(np.argsort(axes))
    if tag != "object":
        raise ValueError(f"unknown tag {tag!r}")
    kind = _known_dataclass(content[0], content[1])
    fields = [_decode(item, memory) for item in content[2]]
    names = [field.name for field in dataclasses.fields(kind)]
    return kind(**dict(zip(names, fields, strict=True)))


def _known_dataclass(module: str, qualname: str) -> Any:
    """A dataclass of a module that is already imported: naming one never runs code."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        raise ValueError(f"{module}.{qualname} is not a known dataclass")
    return found


def _room(array: Array) -> int:
    return -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT


def _axes_in_memory(array: Array) -> tuple[int, ...]:
    """Axes from the slowest to the fastest, where the array is dense in some order of them.

    The layout is kept: sums over the array keep their rounding, and the copy is a plain one.
    """
    if array.flags.c_contiguous:
        return tuple(range(array.ndim))
    axes = tuple(int(n) for n in np.argsort([-stride for stride in array.strides], kind="stable"))
    dense = array.transpose(axes).flags.c_contiguous
    return axes if dense else tuple(range(array.ndim))
