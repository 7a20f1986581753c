"""The socket between a decode child and its parent, with shared memory for large arrays.

The parent maps the memory that the child wrote: arrays are not copied again. Memory is used over
and over, for fresh pages cost more than the copy; a piece is free again once no array in the
parent looks at it any more.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import time
import weakref
from collections import deque
from typing import Any, Final

import numpy as np

from data_prep.readers.wire import Block, Bytes, decode, encode

# Segment number or _INLINE, its capacity if it is new, bytes of JSON, bytes of arrays.
_HEADER: Final = struct.Struct("<qQQQ")
_INLINE: Final = -1
# Below this a copy through the socket is cheaper.
_SHARED_BYTES: Final = 1 << 16
# What the segments of a child may take in all, and their number: each holds a file descriptor.
_SEGMENTS_BYTES: Final = 1 << 28
_SEGMENTS: Final = 64
_MAX_TEXT_BYTES: Final = 1 << 26
_MAX_ARRAY_BYTES: Final = 1 << 34
_BLOCK_BYTES: Final = 1 << 20


class _Segment:
    """A piece of shared memory, in the child.

    Attributes:
        number: What both sides call it.
        capacity: Bytes.
        memory: (capacity,) uint8.
    """

    def __init__(self, number: int, capacity: int) -> None:
        self.number = number
        self.capacity = capacity
        self._descriptor: int | None = os.memfd_create("medcurve")
        os.ftruncate(self._descriptor, capacity)
        self.memory: Bytes = np.frombuffer(mmap.mmap(self._descriptor, capacity), np.uint8)

    def announce(self) -> int:
        """The capacity, if the parent does not know it yet, else 0."""
        return 0 if self._descriptor is None else self.capacity

    def hand_over(self, connection: socket.socket) -> None:
        """Give the parent access, once."""
        if self._descriptor is not None:
            socket.send_fds(connection, [b"\0"], [self._descriptor])
            os.close(self._descriptor)
            self._descriptor = None


class Sender:
    """The child's side. Values wait until they are sent, in one message.

    A message wakes a thread of the parent, which can cost more than decoding a small image.

    Args:
        connection: A stream socket to the parent.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._segments: dict[int, _Segment] = {}
        self._free: set[int] = set()
        self._texts: list[bytes] = []
        self._block = Block()

    @property
    def waiting_bytes(self) -> int:
        """Of the arrays that wait."""
        return self._block.size

    def add(self, value: object) -> None:
        """Put what ``wire.encode`` takes behind what waits already.

        Raises:
            TypeError: As ``wire.encode``.
        """
        self._texts.append(encode(value, self._block))

    def send(self) -> None:
        """Send what waits, as a list; nothing where nothing waits.

        Raises:
            OSError: If the parent is gone.
        """
        if not self._texts:
            return
        text, block = b"[" + b",".join(self._texts) + b"]", self._block
        self._texts, self._block = [], Block()
        size = block.size
        segment = self._free_segment(size) if size >= _SHARED_BYTES else None
        if segment is not None:
            block.store(segment.memory)
            header = _HEADER.pack(segment.number, segment.announce(), len(text), size)
            self._connection.sendall(header + text)
            segment.hand_over(self._connection)
            return
        head = _HEADER.pack(_INLINE, 0, len(text), size) + text
        message = np.zeros(len(head) + size, np.uint8)
        message[: len(head)] = np.frombuffer(head, np.uint8)
        block.store(message[len(head) :])
        self._connection.sendall(message.data)

    def release(self, numbers: tuple[int, ...]) -> None:
        """The parent does not look at these segments any more."""
        self._free |= set(numbers) & set(self._segments)

    def _free_segment(self, size: int) -> _Segment | None:
        """The smallest free segment that is large enough, or a new one, or None."""
        fitting = [self._segments[n] for n in self._free if self._segments[n].capacity >= size]
        if fitting:
            segment = min(fitting, key=lambda segment: segment.capacity)
            self._free.remove(segment.number)
            return segment
        capacity = 1 << (size - 1).bit_length()
        taken = sum(segment.capacity for segment in self._segments.values())
        if (
            not hasattr(os, "memfd_create")
            or len(self._segments) >= _SEGMENTS
            or taken + capacity > _SEGMENTS_BYTES
        ):
            return None
        segment = _Segment(len(self._segments), capacity)
        self._segments[segment.number] = segment
        return segment


class Receiver:
    """The parent's side.

    Args:
        connection: A stream socket to the child.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._mapped: dict[int, mmap.mmap] = {}
        self._released: deque[int] = deque()

    def receive(self, deadline: float | None = None) -> tuple[list[Any], int]:
        """Receive a message (a list of values), and the bytes that it holds.

        Args:
            deadline: ``time.monotonic()`` after which to give up; default: wait for ever.

        Raises:
            TimeoutError: At the deadline.
            EOFError: If the child has closed.
            ValueError: If what comes is not a message, or names what cannot be built.
            KeyError: If it names shared memory that was never announced.
            TypeError: As ``wire.decode``.
        """
        header = _HEADER.unpack(self._exactly(_HEADER.size, deadline))
        number, capacity, text_bytes, size = header
        if text_bytes > _MAX_TEXT_BYTES or max(size, capacity) > _MAX_ARRAY_BYTES:
            raise ValueError(f"a message of {text_bytes} and {max(size, capacity)} bytes")
        text = self._exactly(text_bytes, deadline)
        if number == _INLINE:
            memory = np.frombuffer(self._exactly(size, deadline), np.uint8)
        else:
            if capacity:
                self._mapped[number] = self._map(capacity, deadline)
            if size > len(self._mapped[number]):
                raise ValueError("more bytes than the shared memory holds")
            memory = np.frombuffer(self._mapped[number], np.uint8, size)
            # every array of this message is a view of `memory`, which goes with the last of them
            weakref.finalize(memory, self._released.append, number).atexit = False
        values = decode(text, memory)
        if not isinstance(values, list):
            raise ValueError("a message that is no list")
        return values, text_bytes + size

    def close(self) -> None:
        """Let go of the shared memory; arrays that look at it keep what they need."""
        self._mapped.clear()

    def take_released(self) -> tuple[int, ...]:
        """Numbers of segments that no array of the parent looks at any more."""
        count = len(self._released)
        return tuple(self._released.popleft() for _ in range(count))

    def _map(self, capacity: int, deadline: float | None) -> mmap.mmap:
        self._wait(deadline)
        _, descriptors, _, _ = socket.recv_fds(self._connection, 1, 1)
        if not descriptors:
            raise EOFError
        try:
            if os.fstat(descriptors[0]).st_size < capacity:
                raise ValueError("the shared memory is shorter than announced")
            return mmap.mmap(descriptors[0], capacity)
        finally:
            os.close(descriptors[0])

    def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)

    def _exactly(self, count: int, deadline: float | None) -> bytearray:
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count:
            self._wait(deadline)
            got = self._connection.recv_into(view[done : done + _BLOCK_BYTES])
            if not got:
                raise EOFError
            done += got
        return data
