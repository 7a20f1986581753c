"""``medcurve listen``: score each study that is sent, once it has been quiet for a while."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from data_prep.errors import ConfigError, MedcurveError, StageError
from pipeline.pacs.guard import BoundedServer, Budget
from pipeline.pacs.receiver import Receiver, Refusals, receiving
from pipeline.pacs.settings import ListenConfig
from pipeline.pacs.spool import Spool, Taken
from pipeline.serving.predictions import PredictionSummary
from pipeline.wording import counted

SPOOL: Final = "spool"
_MARK: Final = ".listening"  # in every folder that a listener made; locked while one runs
_LOOK_S: Final = 0.2  # between looks for a quiet study

# From the folder of a study and the folder for its tables to what was scored.
Score = Callable[[Path, Path], PredictionSummary]
Say = Callable[[str], None]


def listen(
    out: Path,
    config: ListenConfig,
    score: Score,
    stop: threading.Event,
    say: Say,
    started: Callable[[int], None] = lambda _: None,
) -> None:
    """Receive studies into ``out/spool``, score each into ``out/STUDY``, until told to stop.

    A study that gets more objects after it was scored is scored again, by these alone, into
    ``out/STUDY.2`` and so on. Told to stop, it lets senders finish, takes no more, and scores what
    it holds; what a sender did not finish in time stays in the spool for the next start. A
    study's folder is written whole or not at all; its objects are removed from the spool then.

    Args:
        out: Private folder.
        config: How.
        score: Scores the scans of one folder into another.
        stop: Set to end.
        say: Told what happens, without a word of patients.
        started: Told the port once it listens.

    Raises:
        ConfigError: ``config.cannot_listen``, ``config.tls``, or ``config.out_in_use`` by another
            listener.
        StageError: As ``refuse_other_folder``.
    """
    refuse_other_folder(out)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    out.chmod(0o700)  # an empty folder that stood there was perhaps open to others
    with _alone(out):
        _listen(out, config, score, stop, say, started)


def refuse_other_folder(out: Path) -> None:
    """Refuse a folder that holds something, and was not made by a listener.

    Raises:
        StageError: ``stage.not_ours``.
    """
    if out.exists() and not out.is_dir():
        raise StageError(
            "stage.not_ours",
            f"{out} is a file; a listener writes a folder for each study",
            fix="give a folder with --out: a new one, an empty one, or that of an earlier listener",
        )
    if out.is_dir() and not (out / _MARK).is_file() and any(out.iterdir()):
        raise StageError(
            "stage.not_ours",
            f"{out} exists and was not made by `medcurve listen`",
            fix="choose another --out: a new folder, an empty one, or that of an earlier listener",
        )


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    with (out / _MARK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                "config.out_in_use",
                f"another `medcurve listen` writes to {out}",
                fix="choose another --out, or end the other one",
            ) from None
        yield


def _listen(
    out: Path,
    config: ListenConfig,
    score: Score,
    stop: threading.Event,
    say: Say,
    started: Callable[[int], None],
) -> None:
    address = config.address
    spool = Spool(out / SPOOL, config.most_bytes, config.most_objects)
    receiver = Receiver(spool, Budget(address.most_object_bytes))
    refusals = Refusals(address, say)
    with receiving(receiver, refusals, address) as server:
        started(server.server_address[1])
        if spool.studies:
            say(f"listen: left by an earlier run: {counted(spool.studies, 'study', 'studies')}")
        while not stop.wait(_LOOK_S):
            if taken := spool.take(config.quiet_s):
                _score(spool, taken, out, score, say)
        left = _let_finish(server, config.grace_s)
    # Where all finished, all studies are whole; else only those that are quiet.
    while taken := spool.take(config.quiet_s if left else 0.0):
        if not _score(spool, taken, out, score, say):
            break
    found = receiver.counts + receiver.budget.counts
    counts = ", ".join(f"{count} {code}" for code, count in sorted(found.items()))
    refused = f"; refused {counted(refusals.count, 'connection')}" if refusals.count else ""
    say(
        f"listen: ended; received: {counts or 'nothing'}{refused}; "
        f"{counted(spool.studies, 'study', 'studies')} left in {SPOOL}/"
    )


def _let_finish(server: BoundedServer, grace_s: float) -> int:
    """Wait for senders; how many had not finished in time."""

    def sending() -> int:
        # a connection that never said who it is sends nothing
        return sum(found.is_established for found in server.active_associations)

    end = time.monotonic() + grace_s
    while time.monotonic() < end and sending():
        time.sleep(_LOOK_S / 4)
    return sending()


def _score(spool: Spool, taken: Taken, out: Path, score: Score, say: Say) -> bool:
    """Score one study; whether it is done with. Nothing that is wrong with it ends the listener."""
    target = _free_folder(out, taken.uid)
    try:
        found = score(taken.folder, target)
    except MedcurveError as error:
        say(f"listen: a study was not scored: {error.code}; its objects are dropped")
    except OSError as error:
        say(f"listen: a study waits, its tables cannot be written: {error.strerror}")
        spool.put_back(taken)
        return False
    except Exception as error:  # a fault of ours must not cost the studies after it
        say(f"listen: a study was not scored: {type(error).__name__}; its objects are dropped")
    else:
        say(
            f"listen: a study with {found.ok} scored + {found.quarantined} quarantined + "
            f"{found.skipped} skipped → {out.name}/"
        )
    spool.done(taken)
    return True


def _free_folder(out: Path, uid: str) -> Path:
    """``out/UID``, or with a number where one of this study stands."""
    number, target = 1, out / uid
    while target.exists():
        number += 1
        target = out / f"{uid}.{number}"
    return target
