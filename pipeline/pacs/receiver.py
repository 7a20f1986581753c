"""The network side of the listener: C-ECHO and C-STORE (PS3.4 annexes A and B), by pynetdicom."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.transport import ThreadedAssociationServer

from data_prep.errors import ConfigError
from pipeline.pacs.arrival import ArrivalError
from pipeline.pacs.settings import Address
from pipeline.pacs.spool import Spool

_VERIFICATION: Final = "1.2.840.10008.1.1"  # C-ECHO
# Statuses of C-STORE (PS3.4 B.2.3).
SUCCESS: Final = 0x0000
NO_ROOM: Final = 0xA700
OTHER_CLASS: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
_STATUS_OF: Final = {"ok": SUCCESS, "pacs.full": NO_ROOM, "pacs.other_class": OTHER_CLASS}
_MOST_ASSOCIATIONS: Final = 8
_SILENT_S: Final = 60.0
_GREETING_S: Final = 5.0  # that a connection has to say who it is: it takes a place meanwhile


@dataclass
class Receiver:
    """Takes objects into a spool and counts them, from any number of threads.

    Attributes:
        counts: Code -> objects; "ok" for those that were taken.
    """

    spool: Spool
    most_object_bytes: int
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pending: dict[int, int] = field(default_factory=dict)

    def store(self, event: Event) -> int:
        """Answer one C-STORE; a bad object costs nothing but itself."""
        self.closed(event)
        code = "ok"
        try:
            self.spool.add(event.encoded_dataset(), str(event.request.AffectedSOPClassUID))
        except ArrivalError as error:
            code = error.code
        except OSError:
            code = "pacs.full"
        except Exception:  # a command that pynetdicom cannot make a file header of
            code = "pacs.not_dicom"
        with self._lock:
            self.counts[code] += 1
        return _STATUS_OF.get(code, NOT_UNDERSTOOD)

    def watch(self, event: Event) -> None:
        """Break off where a sender sends more than an object may have, before it fills memory."""
        key = id(event.assoc)
        with self._lock:
            pending = self._pending[key] = self._pending.get(key, 0) + len(event.data)
            too_large = pending > self.most_object_bytes
            if too_large and pending - len(event.data) <= self.most_object_bytes:
                self.counts["pacs.too_large"] += 1
        if too_large:
            event.assoc.abort()

    def closed(self, event: Event) -> None:
        """Count anew: an association has ended, or an object of it is whole."""
        with self._lock:
            self._pending.pop(id(event.assoc), None)


@contextmanager
def receiving(receiver: Receiver, address: Address) -> Iterator[ThreadedAssociationServer]:
    """Listen until the block ends; then take no more, and break off what still sends.

    Raises:
        ConfigError: ``config.cannot_listen`` if the address cannot be used.
    """
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # it quotes what is sent
    entity = AE(ae_title=address.title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(address.callers)
    entity.maximum_associations = _MOST_ASSOCIATIONS
    entity.network_timeout = entity.dimse_timeout = _SILENT_S
    entity.acse_timeout = _GREETING_S
    entity.add_supported_context(_VERIFICATION)
    for context in AllStoragePresentationContexts:
        assert context.abstract_syntax is not None
        entity.add_supported_context(context.abstract_syntax, list(AllTransferSyntaxes))
    handlers: list[EventHandlerType] = [
        (evt.EVT_C_STORE, receiver.store),
        (evt.EVT_DATA_RECV, receiver.watch),
        (evt.EVT_CONN_CLOSE, receiver.closed),
    ]
    try:
        server = entity.start_server(
            (address.host, address.port), block=False, evt_handlers=handlers
        )
    except OSError as error:
        raise ConfigError(
            "config.cannot_listen",
            f"{address.host} port {address.port}: {error.strerror or error}",
            fix="choose another --port, or an address of this machine with --host",
        ) from None
    assert server is not None
    try:
        yield server
    finally:
        server.shutdown()
