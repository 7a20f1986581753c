"""What a claim found on real scans, on its page: a section that later runs leave as it is.

Real scans are not run each time that a claim is put to the test. So the section is stamped with
the study that it is of, and stays on the page, to the letter, for as long as that study does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pipeline.lecture.outcome import ClaimRun
from pipeline.study.grid import RESULT_VERSION

_END: Final = "<!-- end of real scans -->"


def stamped(run: ClaimRun, lines: Iterable[str]) -> Iterator[str]:
    """The section between two comments, the first of which says of which study it is."""
    yield _start(run)
    yield ""
    yield from lines
    yield _END
    yield ""


def kept(run: ClaimRun, page: Path) -> list[str]:
    """The section of an earlier run of the same study on a page; empty: it has none."""
    lines = page.read_text().splitlines() if page.is_file() else []
    if _start(run) not in lines or _END not in lines:
        return []
    return [*lines[lines.index(_start(run)) : lines.index(_END) + 1], ""]


def _start(run: ClaimRun) -> str:
    """What is computed, and what is asked of it: neither the words of the claim nor parameters that
    are left as they come, so that a new one is no new study.
    """
    config = run.config.model_dump(
        mode="json", exclude={"claim", "families"}, exclude_defaults=True
    )
    families = run.families.items()
    study = {
        "version": RESULT_VERSION,
        "study": config,
        "families": {
            name: one.model_dump(mode="json", exclude_defaults=True) for name, one in families
        },
        "asked": [str(one) for one in run.claim.anywhere()],
        "real": run.claim.real,
    }
    if only := {one: run.claim.only[one] for one in run.claim.real if one in run.claim.only}:
        study["only"] = only
    digest = hashlib.sha256(json.dumps(study, sort_keys=True).encode()).hexdigest()
    return f"<!-- real scans, by study {digest[:16]} -->"
