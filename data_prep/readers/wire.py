"""How a decode child hands its results over: as data, never as pickles.

The child has decoded a file that nobody vouches for, so the parent must not let it name code to
run. Values travel as JSON with arrays beside it; the only objects that can be built are frozen
dataclasses whose module the parent has imported already. Large arrays go through a memory file,
which the parent maps: nothing is copied.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import socket
import struct
import sys
import time
from typing import Any, Final, Literal

import numpy as np

from data_prep.volume import Array

_HEADER: Final = struct.Struct("<?QQ")  # in a memory file?, bytes of JSON, bytes of arrays
_ALIGNMENT: Final = 64
# Below this a copy through the socket is cheaper than a memory file.
_MEMORY_FILE_BYTES: Final = 1 << 18
_MAX_TEXT_BYTES: Final = 1 << 26
_MAX_ARRAY_BYTES: Final = 1 << 34
_BLOCK_BYTES: Final = 1 << 20
_PLAIN: Final = (str, int, float, bool, type(None))


def send(connection: socket.socket, value: object) -> None:
    """Send plain values, lists, tuples, dicts, arrays and frozen dataclasses of them.

    Raises:
        TypeError: If ``value`` holds anything else.
        OSError: If the other side is gone.
    """
    arrays: list[Array] = []
    text = json.dumps(_encode(value, arrays)).encode()
    size = sum(_room(array) for array in arrays)
    if size >= _MEMORY_FILE_BYTES and hasattr(os, "memfd_create"):
        connection.sendall(_HEADER.pack(True, len(text), size) + text)
        descriptor = os.memfd_create("medcurve")
        try:
            os.ftruncate(descriptor, size)
            with mmap.mmap(descriptor, size) as memory:
                _store(arrays, memory)
            socket.send_fds(connection, [b"\0"], [descriptor])
        finally:
            os.close(descriptor)
    else:
        buffer = bytearray(size)
        _store(arrays, buffer)
        connection.sendall(_HEADER.pack(False, len(text), size) + text + buffer)


def receive(connection: socket.socket, deadline: float | None = None) -> tuple[Any, int]:
    """Receive what ``send`` sent, and the bytes that it holds.

    Args:
        connection: A stream socket.
        deadline: ``time.monotonic()`` after which to give up; default: wait for ever.

    Raises:
        TimeoutError: At the deadline.
        EOFError: If the other side has closed.
        ValueError: If what comes is not a message, or names what cannot be built.
    """
    in_file, text_bytes, size = _HEADER.unpack(_exactly(connection, _HEADER.size, deadline))
    if text_bytes > _MAX_TEXT_BYTES or size > _MAX_ARRAY_BYTES:
        raise ValueError(f"a message of {text_bytes} and {size} bytes")
    text = _exactly(connection, text_bytes, deadline)
    memory: mmap.mmap | bytearray
    if in_file:
        _wait(connection, deadline)
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        if not descriptors:
            raise EOFError
        try:
            if os.fstat(descriptors[0]).st_size < size:
                raise ValueError("the memory file is shorter than announced")
            memory = mmap.mmap(descriptors[0], size)
        finally:
            os.close(descriptors[0])
    else:
        memory = _exactly(connection, size, deadline)
    return _decode(json.loads(text), memory), text_bytes + size


def _encode(value: object, arrays: list[Array]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufcSU":
            raise TypeError(f"an array of {value.dtype} cannot be handed over")
        arrays.append(value)
        start = sum(_room(array) for array in arrays[:-1])
        return {"array": [value.dtype.str, list(value.shape), _order(value), start]}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list):
        return [_encode(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, arrays), _encode(v, arrays)] for k, v in value.items()]}
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        fields = [_encode(getattr(value, f.name), arrays) for f in dataclasses.fields(kind)]
        return {"object": [kind.__module__, kind.__qualname__, fields]}
    raise TypeError(
        f"a decode child cannot hand over {kind.__qualname__}; allowed: numbers, text, lists, "
        "tuples, dicts, arrays and dataclasses of them"
    )


def _decode(value: Any, memory: mmap.mmap | bytearray) -> Any:
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
        name, shape, order, start = content
        dtype = np.dtype(name)
        if dtype.kind not in "biufcSU":  # an object array would be a list of addresses
            raise ValueError(f"an array of {dtype}")
        return np.ndarray(shape, dtype, memory, start, order=order)
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


def _order(array: Array) -> Literal["C", "F"]:
    """Memory order to keep, so that sums over the array keep their rounding."""
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _room(array: Array) -> int:
    return -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT


def _store(arrays: list[Array], memory: mmap.mmap | bytearray) -> None:
    start = 0
    for array in arrays:
        np.ndarray(array.shape, array.dtype, memory, start, order=_order(array))[...] = array
        start += _room(array)


def _wait(connection: socket.socket, deadline: float | None) -> None:
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        _wait(connection, deadline)
        got = connection.recv_into(view[done : done + _BLOCK_BYTES])
        if not got:
            raise EOFError
        done += got
    return data
