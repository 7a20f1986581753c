"""What a study says of its cells that have no result: whose they are, how many, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.study.journal import Entry, Failure

_MOST_SAID: Final = 300  # characters of a reason


def failure_sentences(entries: Sequence[Entry]) -> list[str]:
    """One for each family of which cells failed; those of which all failed come first."""
    whole, part = [], []
    for family in dict.fromkeys(entry.cell.family for entry in entries):
        of_family = [entry.failure for entry in entries if entry.cell.family == family]
        failures = [failure for failure in of_family if failure is not None]
        if failures and len(failures) == len(of_family):
            count = f"all {len(of_family)} of its cells" if len(of_family) > 1 else "its only cell"
            whole.append(f"{family} has no result: {count} failed {_why(failures)}")
        elif failures:
            part.append(
                f"{len(failures)} of {len(of_family)} cells of {family} failed and are left out "
                f"{_why(failures)}"
            )
    return whole + part


def _why(failures: Sequence[Failure]) -> str:
    first, passing = failures[0], sum(failure.passing for failure in failures)
    message = " ".join(first.message.split())[:_MOST_SAID].rstrip(" .")
    which = "first: " if len(failures) > 1 else ""
    again = f"; running the study again tries {passing} once more" if passing else ""
    return f"({which}[{first.code}] {message}{again})."
