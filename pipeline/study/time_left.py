"""How long a study still takes: by its estimate, and by how that has fared so far."""

from __future__ import annotations

from typing import Final

from pipeline.study.costs import Costs, Features
from pipeline.study.grid import PlannedCell
from pipeline.study.journal import CellResult, Failure

# Cells count as if the first fifth of the work had gone as estimated: the first ones are the
# cheapest and take many times what they should, which says little of the dear ones.
_AS_ESTIMATED: Final = 0.2


class TimeLeft:
    """Time that is left.

    Args:
        costs: The estimate.
        missing: Cells that are to be computed.
        workers: Processes that compute them.
    """

    def __init__(self, costs: Costs, missing: list[PlannedCell], workers: int) -> None:
        self._costs, self._workers = costs, min(workers, len(missing))
        self._missing = {planned.key: planned for planned in missing}
        self._ready: set[Features] = set()
        self._expected = self._taken = _AS_ESTIMATED * costs.left(missing)
        self._start = costs.start

    @property
    def seconds(self) -> float:
        """On the clock, until results and report are written."""
        pace = self._taken / self._expected if self._expected > 0 else 1.0
        cells = pace * self._costs.left(self._missing.values(), self._ready) / self._workers
        return self._start + cells + self._costs.results

    def book(self, planned: PlannedCell, result: CellResult | Failure) -> None:
        """A cell is done."""
        del self._missing[planned.key]
        self._ready.add(self._costs.features(planned))
        self._start = 0.0  # of the workers, which are there by now
        if isinstance(result, CellResult):
            self._expected += self._costs.of_cells[planned.key]
            self._taken += sum(result.seconds.values())
