"""What one connection to the listener may cost: an end to every read, and a bound on their number.

pynetdicom by itself waits for ever for the rest of a PDU, holds one of any length in memory, and
lets one TLS handshake keep all others from connecting.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import EventHandlerType
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

# Of P-DATA-TF PDUs (PS3.8 annex D.1): peers are told the first. Other PDUs are longer where they
# are whole (an association request with every context has 0.2 MB); none may exceed the second.
PDU_BYTES: Final = 1 << 17
MOST_PDU_BYTES: Final = 1 << 20
GREETING_S: Final = 5.0  # that a connection has to say who it is: it takes a place meanwhile
SILENT_S: Final = 60.0  # that it may be silent, or take for one PDU
OBJECT_S: Final = 900.0  # that it may take for one object
# Associations at a time; one more is told so. Connections at a time; one more is closed.
MOST_ASSOCIATIONS: Final = 8
MOST_CONNECTIONS: Final = 4 * MOST_ASSOCIATIONS
_ENDING_S: Final = 1.0  # that associations have to be broken off by the protocol
_BLOCK: Final = 1 << 16


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Keep tracebacks of associations out of the log: nonsense that a peer sends ends its thread.

    They would quote what was sent.
    """
    before = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if not isinstance(found.thread, Association | DULServiceProvider):
            before(found)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


@dataclass
class _Pending:
    """What an association has sent of what is not whole yet."""

    since: float
    size: int = 0


@dataclass
class Budget:
    """Bytes and time that associations may use until an object of theirs is whole.

    Attributes:
        most_object_bytes: For one object; for all associations together twice that.
        counts: Code -> associations that were broken off for it.
    """

    most_object_bytes: int
    counts: Counter[str] = field(default_factory=Counter)
    _pending: WeakKeyDictionary[Hashable, _Pending] = field(default_factory=WeakKeyDictionary)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spend(self, association: Hashable, size: int) -> None:
        """Count bytes before they are read.

        Raises:
            OSError: They are too many, or come too late.
        """
        with self._lock:
            now = time.monotonic()
            pending = self._pending.setdefault(association, _Pending(now))
            pending.size += size
            together = sum(one.size for one in self._pending.values())
            if pending.size > self.most_object_bytes or together > 2 * self.most_object_bytes:
                code = "pacs.too_large"
            elif now - pending.since > OBJECT_S:
                code = "pacs.too_slow"
            else:
                return
            del self._pending[association]
            self.counts[code] += 1
        raise OSError(code)

    def whole(self, association: Hashable) -> None:
        """Count anew: an object of an association is whole, or it has ended."""
        with self._lock:
            self._pending.pop(association, None)


class BoundedSocket(AssociationSocket):
    """The socket of an association that pynetdicom made, with bounded reads."""

    def __init__(self, made: AssociationSocket, budget: Budget) -> None:
        self.__dict__.update(made.__dict__)
        self._budget = budget

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or fewer where the peer ends before.

        Raises:
            OSError: They are more than may come, or do not come in time: pynetdicom closes the
                connection then.
        """
        if nr_bytes > MOST_PDU_BYTES:
            self._budget.counts["pacs.too_large"] += 1
            raise OSError("pacs.too_large")
        self._budget.spend(self.assoc, nr_bytes)
        assert self.socket is not None
        end = time.monotonic() + (SILENT_S if self.assoc.is_established else GREETING_S)
        data = bytearray()
        while len(data) < nr_bytes:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            block = self.socket.recv(min(_BLOCK, nr_bytes - len(data)))
            if not block:
                break
            data += block
        self.socket.settimeout(SILENT_S)  # for what is sent
        return data


class _Handler(RequestHandler):
    """Greets a peer, in a thread of its own."""

    request: socket.socket
    server: BoundedServer

    def setup(self) -> None:
        self.request.settimeout(GREETING_S)
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()

    def _create_association(self) -> Association:
        association = super()._create_association()
        made = association.dul.socket
        assert made is not None
        association.dul.socket = BoundedSocket(made, self.server.budget)
        return association


class BoundedServer(ThreadedAssociationServer):
    """Takes a bounded number of connections, none of which keeps others waiting.

    Args:
        entity: Whose contexts are accepted.
        address: To listen on.
        handlers: Of pynetdicom's events.
        budget: Of the associations.
        tls: None: connections are not encrypted.
        failed: Told the peer's address and why a connection was lost before it was DICOM.
    """

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        handlers: list[EventHandlerType],
        budget: Budget,
        tls: ssl.SSLContext | None,
        failed: Callable[[str, BaseException | None], None],
    ) -> None:
        self.budget = budget
        self._failed = failed
        self._greeted = 0
        self._counting = threading.Lock()
        super().__init__(
            entity,
            address,
            entity.ae_title,
            entity.supported_contexts,
            tls,
            handlers,
            request_handler=_Handler,
        )

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its TLS handshake comes later, in its own thread."""
        assert self.socket is not None
        accepted, address = self.socket.accept()
        if self.ssl_context is not None:
            accepted = self.ssl_context.wrap_socket(
                accepted, server_side=True, do_handshake_on_connect=False
            )
        return accepted, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is a place for one more."""
        with self._counting:
            if self._greeted + len(self.active_associations) >= MOST_CONNECTIONS:
                return False
            self._greeted += 1
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Greet; an association has its own thread from then on."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._counting:
                self._greeted -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of a connection that was lost in its greeting."""
        self._failed(str(client_address[0]), sys.exception())

    def shutdown(self) -> None:
        """Take no more, and break off what still sends."""
        # pynetdicom's own takes itself from a list that only ``start_server`` fills
        socketserver.BaseServer.shutdown(self)
        self.server_close()
        broken = self.active_associations
        told = [association for association in broken if association.is_established]
        for association in told:
            threading.Thread(target=association.abort, daemon=True).start()
        end = time.monotonic() + _ENDING_S
        for association in told:
            association.join(max(0.0, end - time.monotonic()))
        for association in broken:
            held = association.dul.socket
            if association.is_alive() and held is not None and held.socket is not None:
                with suppress(OSError):  # in the middle of a PDU nothing else ends it
                    held.socket.shutdown(socket.SHUT_RDWR)
