"""The stages that talk with a hospital's systems: an archive asked, a listener that is sent to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from data_prep.errors import ConfigError
from data_prep.labelling import find_pseudonym_key, pseudonym
from pipeline.console import OUT, progress, say
from pipeline.engines import workers
from pipeline.extras import ExtraOptions, extras
from pipeline.model_stages import check_model, open_package
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.pacs.settings import Address, ListenConfig
    from pipeline.serving.predictions import PredictionSummary
    from pipeline.trust.shift_policy import OnShift


@dataclass(frozen=True)
class ArchiveRequest:
    """What is asked of a DICOMweb archive.

    Attributes:
        url: That under which ``/studies`` lies.
        queries: ``KEY=VALUE``, which scans.
        most_studies: More are refused.
        most_bytes: That are fetched.
        store: Store reports and pictures there afterwards.
        plain_http: Accept a URL without TLS on another machine.
    """

    url: str
    queries: tuple[str, ...]
    most_studies: int
    most_bytes: int
    store: bool
    plain_http: bool


def archive_stage(
    request: ArchiveRequest, out: Path, score: Callable[[Sequence[Path]], None]
) -> None:
    """Fetch scans from an archive, score them, and store what was made of them there.

    Args:
        request: Which scans, and from where.
        out: Folder that ``score`` writes into.
        score: Scores the scans of folders.
    """
    from pipeline.pacs.dicomweb import Archive, fetched
    from pipeline.pacs.limits import Limits
    from pipeline.pacs.query import parse_query

    query = parse_query(request.queries)
    limits = Limits(studies=request.most_studies, total_bytes=request.most_bytes)
    archive = Archive(request.url, limits, plain_http=request.plain_http)
    if not archive.is_safe:
        say(
            "WARNING: the archive is another machine and has no TLS: scans of patients and "
            "credentials travel unencrypted",
            style="bold yellow",
        )
    with ExitStack() as stack:
        with progress("fetch", "series") as report:  # ends before that of scoring begins
            folder, counts = stack.enter_context(fetched(archive, query, report))
        say(f"fetch: {counted(counts.objects, 'object')} of {counts.series} series")
        if counts.ours:
            made = counted(counts.ours, "report or picture", "reports and pictures")
            say(f"  left out: {made} of earlier predictions, which are no scans")
        for code, count in sorted(counts.refused.items()):
            say(f"  refused: {count} × {code}")
        score([folder])
    if request.store:
        paths = sorted((out / "dicom").glob("*.dcm"))
        archive.store(paths)
        say(f"store: {counted(len(paths), 'object')}")


def listen_stage(
    model: str,
    out: Path,
    config: ListenConfig,
    processes: int | None,
    runs: Path,
    uri: str | None,
    *,
    options: ExtraOptions,
    on_shift: OnShift | None,
) -> None:
    """Score studies that are sent by C-STORE, until Ctrl-C or SIGTERM.

    What comes in is not logged to MLflow: a listener runs for weeks.
    """
    from pipeline.pacs.settings import check_titles

    address = config.address
    check_titles([address.title, *address.callers])
    check_model(model)
    try:
        from pipeline.pacs.listen import listen, refuse_other_folder
        from pipeline.pacs.receiver import refuse_taken
    except ModuleNotFoundError as error:
        raise ConfigError(
            "config.no_pynetdicom",
            f"listening needs the Python package pynetdicom, which is not installed ({error})",
            fix="install it with: pip install -c constraints.txt -e '.[pacs]'",
        ) from error
    refuse_other_folder(out)
    refuse_taken(address)
    from pipeline.serving.inference import predict

    package = open_package(model, runs, uri, "auto")
    with extras(package, options):
        pass  # so that what lacks is said now
    key = find_pseudonym_key(runs)
    _warn_of_strangers(address)

    def score(folder: Path, target: Path) -> PredictionSummary:
        with extras(package, options) as written:
            return predict(
                package,
                [folder],
                target,
                workers=workers(processes),
                pseudonym=partial(pseudonym, key=key) if key else None,
                on_shift=on_shift,
                beside=written.beside,
            )

    def started(port: int) -> None:
        tls = " with TLS" if address.tls else ""
        say(f"listen: {address.title} on {address.host} port {port}{tls}; Ctrl-C ends")
        OUT.file.flush()

    with _told_to_stop() as stop:
        listen(out, config, score, stop, say, started)


def _warn_of_strangers(address: Address) -> None:
    """Say who on other machines may send, and read what is sent."""
    from pipeline.pacs.settings import is_loopback

    if is_loopback(address.host) or (address.tls and address.tls.authority):
        return
    how = "encrypted, from senders that show no certificate" if address.tls else "NOT ENCRYPTED"
    whom = "the callers of --allow" if address.callers else "ANYONE: name the senders by --allow"
    say(
        f"WARNING: listening on {address.host} for other machines, {how}; objects are taken from "
        f"{whom}",
        style="bold yellow",
    )


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second ends at once."""
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
