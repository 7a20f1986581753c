"""The network side of the listener: C-ECHO and C-STORE (PS3.4 annexes A and B), by pynetdicom."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event, EventHandlerType

from data_prep.errors import ConfigError
from pipeline.pacs.arrival import ArrivalError
from pipeline.pacs.guard import (
    GREETING_S,
    MOST_ASSOCIATIONS,
    PDU_BYTES,
    SILENT_S,
    BoundedServer,
    Budget,
    quiet_threads,
)
from pipeline.pacs.settings import Address
from pipeline.pacs.spool import Spool
from pipeline.pacs.tls import reason, tls_context

_VERIFICATION: Final = "1.2.840.10008.1.1"  # C-ECHO
# Statuses of C-STORE (PS3.4 B.2.3).
SUCCESS: Final = 0x0000
NO_ROOM: Final = 0xA700
OTHER_CLASS: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
_STATUS_OF: Final = {"ok": SUCCESS, "pacs.full": NO_ROOM, "pacs.other_class": OTHER_CLASS}
# Reasons of A-ASSOCIATE-RJ (PS3.8 9.3.4): (source, diagnostic).
_CALLING, _CALLED = (1, 3), (1, 7)
_MOST_SAID: Final = 50

Say = Callable[[str], None]


@dataclass
class Receiver:
    """Takes objects into a spool and counts them, from any number of threads.

    Attributes:
        spool: Where they go.
        budget: What associations may use.
        counts: Code -> objects; "ok" for those that were taken.
    """

    spool: Spool
    budget: Budget
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, event: Event) -> int:
        """Answer one C-STORE; a bad object costs nothing but itself."""
        if event.assoc.dimse.msg_queue.empty():  # what waits already counts with this one
            self.ended(event)
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

    def echo(self, event: Event) -> int:
        """Answer one C-ECHO."""
        self.ended(event)
        return SUCCESS

    def ended(self, event: Event) -> None:
        """An association has ended, or an object of it is whole."""
        self.budget.whole(event.assoc)


@dataclass
class Refusals:
    """Says who was refused and why, each once: the names that a site has to put right.

    Attributes:
        address: Whose rules they break.
        say: Told.
        count: Connections that were refused.
    """

    address: Address
    say: Say
    count: int = 0
    _said: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rejected(self, event: Event) -> None:
        """An association was rejected."""
        asked, answer = event.assoc.requestor.primitive, event.assoc.acceptor.primitive
        assert asked is not None
        assert answer is not None
        calling, called = _shown(asked.calling_ae_title), _shown(asked.called_ae_title)
        rejected = (answer.result_source, answer.diagnostic)
        if rejected == _CALLING:
            why = "no --allow names it"
        elif rejected == _CALLED:
            why = f"it calls '{called}', and the title here is '{self.address.title}'"
        else:
            why = f"{MOST_ASSOCIATIONS} associations are open already"
        self._tell(f"'{calling}' at {event.assoc.requestor.address}: {why}")

    def failed(self, host: str, error: BaseException | None) -> None:
        """A connection was lost before it was DICOM."""
        if isinstance(error, ssl.SSLError):
            self._tell(f"a connection from {host}: no TLS with it ({reason(error)})")

    def _tell(self, text: str) -> None:
        with self._lock:
            self.count += 1
            if text in self._said or len(self._said) > _MOST_SAID:
                return
            self._said.add(text)
            if len(self._said) > _MOST_SAID:
                text = "others: from now on they are only counted"
        self.say(f"listen: refused {text}")


def _shown(title: object) -> str:
    """An AE title as a sender states it, harmless in a log."""
    return "".join(c if c.isprintable() else "?" for c in str(title).strip()[:16])


@contextmanager
def receiving(receiver: Receiver, refusals: Refusals, address: Address) -> Iterator[BoundedServer]:
    """Listen until the block ends; then take no more, and break off what still sends.

    Raises:
        ConfigError: ``config.cannot_listen`` if the address cannot be used, ``config.tls``.
    """
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # it quotes what is sent
    tls = tls_context(address.tls) if address.tls else None
    handlers: list[EventHandlerType] = [
        (evt.EVT_C_ECHO, receiver.echo),
        (evt.EVT_C_STORE, receiver.store),
        (evt.EVT_CONN_CLOSE, receiver.ended),
        (evt.EVT_REJECTED, refusals.rejected),
    ]
    try:
        server = BoundedServer(
            _entity(address),
            (address.host, address.port),
            handlers,
            receiver.budget,
            tls,
            refusals.failed,
        )
    except OSError as error:
        raise _cannot_listen(address, error) from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with quiet_threads():
        try:
            yield server
        finally:
            server.shutdown()


def _entity(address: Address) -> AE:
    entity = AE(ae_title=address.title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(address.callers)
    entity.maximum_associations = MOST_ASSOCIATIONS
    entity.maximum_pdu_size = PDU_BYTES
    entity.network_timeout = entity.dimse_timeout = SILENT_S
    entity.acse_timeout = GREETING_S
    entity.add_supported_context(_VERIFICATION)
    for context in AllStoragePresentationContexts:
        assert context.abstract_syntax is not None
        entity.add_supported_context(context.abstract_syntax, list(AllTransferSyntaxes))
    return entity


def refuse_taken(address: Address) -> None:
    """Stop where the address cannot be listened on, before anything is begun that takes seconds.

    Raises:
        ConfigError: ``config.cannot_listen``.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        # as the listener has it: what is left of connections that ended is no hindrance
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address.host, address.port))
        except OSError as error:
            raise _cannot_listen(address, error) from None


def _cannot_listen(address: Address, error: OSError) -> ConfigError:
    why, fix = error.strerror or str(error), "give --host an address of this machine"
    if error.errno == errno.EADDRINUSE:
        why = "another program listens there, maybe another `medcurve listen`"
        fix = "end it, or choose another --port"
    elif error.errno == errno.EACCES:
        why, fix = "this user may not listen there", "choose a --port of 1024 or more"
    return ConfigError(
        "config.cannot_listen", f"{address.host} port {address.port}: {why}", fix=fix
    )
