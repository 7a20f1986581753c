"""What a decode child hands over arrives as it was, and can be nothing but data."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.readers import channel, wire
from data_prep.readers.channel import Receiver, Sender

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def over_the_wire(value: object) -> Any:
    block = wire.Block()
    text = wire.encode(value, block)
    memory = np.zeros(block.size, np.uint8)
    block.store(memory)
    return wire.decode(text, memory)


@settings(max_examples=80, deadline=None)
@given(value=PLAIN)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    found = over_the_wire(value)
    assert found == value
    assert type(found) is type(value)


@settings(max_examples=80, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "<i2", ">f4", "f8", "?", "<U3"]),
    shape=st.lists(st.integers(0, 5), max_size=4),
    axes=st.permutations(range(4)),
    step=st.sampled_from([1, 2]),
)
def test_arrays_arrive_as_they_were(
    dtype: str, shape: list[int], axes: list[int], step: int
) -> None:
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    array = numbers.astype(dtype).transpose([axis for axis in axes if axis < len(shape)])
    array = array[::step] if array.ndim else array
    found, again = over_the_wire((array, array))
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(again, array)
    assert found.dtype == array.dtype
    assert found.flags.writeable
    if step == 1 and array.size:  # and it lies in memory as it did
        assert np.squeeze(found).strides == np.squeeze(array).strides


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array([None]), b"bytes", np.array(["2020"], "M8[Y]")],
    ids=["object", "set", "object array", "bytes", "date"],
)
def test_what_cannot_be_handed_over(value: object) -> None:
    with pytest.raises(TypeError, match=r"handed over|hand over"):
        wire.encode(value, wire.Block())


@contextmanager
def connected() -> Iterator[tuple[Sender, Receiver, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Sender(theirs), Receiver(ours), theirs


def pass_on(sender: Sender, receiver: Receiver, value: object) -> tuple[Any, int]:
    """Send from another thread, as a socket holds little."""
    sender.add(value)
    writer = threading.Thread(target=sender.send)
    writer.start()
    try:
        (found,), size = receiver.receive(time.monotonic() + 20)
        return found, size
    finally:
        writer.join()


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 1 << 14), min_size=1, max_size=12))
def test_values_that_wait_for_each_other_arrive_in_one_message(sizes: list[int]) -> None:
    with connected() as (sender, receiver, _):
        for number, size in enumerate(sizes):
            sender.add((number, np.full(size, number)))
            with pytest.raises(TypeError):
                sender.add([np.full(size, -1), object()])  # leaves nothing behind
        assert sender.waiting_bytes >= 8 * sum(sizes)
        writer = threading.Thread(target=sender.send)
        writer.start()
        found, _ = receiver.receive(time.monotonic() + 20)
        writer.join()
        assert sender.waiting_bytes == 0
        sender.send()  # nothing waits: nothing is sent
        with pytest.raises(TimeoutError):
            receiver.receive(time.monotonic() + 0.01)
    assert [number for number, _ in found] == list(range(len(sizes)))
    for size, (number, array) in zip(sizes, found, strict=True):
        np.testing.assert_array_equal(array, np.full(size, number))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("rows", [0, 3, 1 << 16])
def test_arrays_of_any_size(rows: int, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shared:
        monkeypatch.delattr(os, "memfd_create")
    array = np.random.default_rng(0).normal(size=(rows, 5))
    with connected() as (sender, receiver, _):
        found, size = pass_on(sender, receiver, (array, "x"))
    np.testing.assert_array_equal(found[0], array)
    assert found[1] == "x"
    assert size >= array.nbytes


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1 << 14, 1 << 17), min_size=1, max_size=15),
    keep=st.integers(0, 2**16),
)
def test_memory_is_used_again_only_when_nobody_looks_at_it(sizes: list[int], keep: int) -> None:
    """Some arrays are held on to, at random, as slices: they must never change."""
    rng = np.random.default_rng(keep)
    held: list[tuple[int, np.ndarray]] = []
    with connected() as (sender, receiver, _):
        for number, size in enumerate(sizes):
            (array, _), _ = pass_on(sender, receiver, (np.full((2, size), number), "x"))
            assert (array == number).all()
            if rng.random() < 0.5:
                held.append((number, array[1, ::3]))
            elif held and rng.random() < 0.5:
                held.pop(int(rng.integers(len(held))))
            del array
            sender.release(receiver.take_released())
            for expected, kept in held:
                assert (kept == expected).all()


def test_a_steady_stream_takes_one_piece_of_memory() -> None:
    with connected() as (sender, receiver, _):
        for number in range(20):
            array, _ = pass_on(sender, receiver, np.full(1 << 17, number))
            assert array[-1] == number
            del array
            sender.release(receiver.take_released())
        assert len(sender._segments) == 1


@pytest.mark.parametrize(
    ("limit", "value", "most"), [("_SEGMENTS", 3, 3), ("_SEGMENTS_BYTES", 1 << 22, 2)]
)
def test_who_keeps_everything_gets_copies(
    limit: str, value: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared memory is limited, and so are the descriptors that it holds."""
    monkeypatch.setattr(channel, limit, value)
    with connected() as (sender, receiver, _):
        arrays = [pass_on(sender, receiver, np.full(1 << 18, n))[0] for n in range(6)]
        assert len(sender._segments) == len(receiver._mapped) == most
        sender.release((77,))  # a number that was never given is not minded
        assert receiver.take_released() == ()
    for number, array in enumerate(arrays):
        assert (array == number).all()


def message(text: object, number: int = -1, capacity: int = 0, size: int = 0) -> bytes:
    data = json.dumps(text).encode()
    return struct.pack("<qQQQ", number, capacity, len(data), size) + data


def giant(text_bytes: int, size: int) -> bytes:
    return struct.pack("<qQQQ", -1, 0, text_bytes, size)


HOSTILE: list[tuple[str, bytes]] = [
    ("a class that is no dataclass", message({"object": ["subprocess", "Popen", ["true"]]})),
    ("a function", message({"object": ["os", "system", ["true"]]})),
    ("a module that is not imported", message({"object": ["antigravity", "x", []]})),
    ("too few fields", message({"object": ["data_prep.volume", "Volume", [1]]})),
    ("an array of objects", message({"array": ["|O", [1], [0], 0]}, size=8) + b"\0" * 8),
    ("an array beyond its bytes", message({"array": ["<f8", [100], [0], 0]}, size=8) + b"\0" * 8),
    ("a negative offset", message({"array": ["<f8", [1], [0], -8]}, size=8) + b"\0" * 8),
    ("a negative shape", message({"array": ["<f8", [-1], [0], 8]}, size=8) + b"\0" * 8),
    ("axes that are none", message({"array": ["<f8", [1], [0, 5], 0]}, size=8) + b"\0" * 8),
    ("unknown tag", message({"what": 1})),
    ("no list", message({"tuple": [1]})),
    ("two tags", message({"tuple": [], "dict": []})),
    ("a giant text", giant(1 << 40, 0)),
    ("a giant array", giant(0, 1 << 50)),
    ("not JSON", giant(3, 0) + b"abc"),
    ("memory that does not come", message([], 1, 1 << 20, 1 << 20) + b"\0"),
    ("memory never announced", message([], 7, 0, 10)),
    ("cut off", b"\0\0\0"),
]


@pytest.mark.parametrize("data", [pytest.param(d, id=name) for name, d in HOSTILE])
def test_a_child_cannot_make_the_parent_do_anything(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(data)
        with pytest.raises((ValueError, TypeError, KeyError, EOFError)):
            Receiver(ours).receive(time.monotonic() + 20)


@pytest.mark.parametrize(("capacity", "size"), [(1 << 20, 5), (16, 1 << 20)])
def test_shared_memory_that_is_too_short(capacity: int, size: int) -> None:
    with connected() as (_, receiver, theirs):
        theirs.sendall(message([], 1, capacity, size))
        descriptor = os.memfd_create("short")
        os.ftruncate(descriptor, 16)
        socket.send_fds(theirs, [b"\0"], [descriptor])
        os.close(descriptor)
        with pytest.raises(ValueError, match=r"shorter|more bytes"):
            receiver.receive(time.monotonic() + 20)


def test_waiting_ends_at_the_deadline() -> None:
    with connected() as (_, receiver, _theirs):
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            receiver.receive(begin + 0.2)
        assert time.monotonic() - begin < 5
        with pytest.raises(TimeoutError):
            receiver.receive(begin)
