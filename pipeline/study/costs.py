"""What a study will cost, before it is begun: from its journal, else from a short try."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, zip_longest
from statistics import median
from typing import Any, Final

import numpy as np

from data_prep.store import IndexRow, Store
from pipeline.dataset import Scans, load_rows, targets
from pipeline.families import FAMILIES, FamilyConfig, build_family
from pipeline.families.base import Family, FamilyError
from pipeline.metrics import resample
from pipeline.study.cell import pinned_threads
from pipeline.study.features import seed_of_features
from pipeline.study.grid import Plan, PlannedCell
from pipeline.study.journal import Entry
from pipeline.train_config import TrainConfig

_TRIED_SCANS: Final = 48  # enough for the pace of a batch; features of volumes are dear
_FEW_SCANS: Final = 16
# What is over sooner than this is timed several times, and networks take as many more steps.
_QUICK_S: Final = 0.2
_TIMES: Final = 3
_MORE_STEPS: Final = 16  # times as many at most
# Measured, of processor time: a worker imports torch and scikit-learn; drawing the report's figures
# takes about as long for a study of 612 cells as for one of ten.
_START_S: Final = 3.5
_REPORT_S: Final = 3.0


Features = tuple[str, int]  # of a family, and the seed that decides them


@dataclass(frozen=True)
class Costs:
    """Seconds of one process.

    Attributes:
        of_cells: Key of a cell that is missing -> fit and prediction.
        of_features: Family -> features of all scans for one seed, of families that have them
            worked out once.
        families: Config of each family.
        start: Until a worker is ready for its first cell.
        results: Of the results and the report, when all cells are computed.
    """

    of_cells: Mapping[str, float]
    of_features: Mapping[str, float]
    families: Mapping[str, FamilyConfig]
    start: float
    results: float

    def features(self, planned: PlannedCell) -> Features:
        """Which features a cell needs, should its family have any."""
        cell = planned.cell
        return cell.family, seed_of_features(self.families[cell.family], cell.seed)

    def left(self, cells: Iterable[PlannedCell], ready: Collection[Features] = ()) -> float:
        """Seconds that these cells take, with the features that they need.

        Args:
            cells: To be computed.
            ready: Features that are there.
        """
        cells = list(cells)
        features = {self.features(planned) for planned in cells} - set(ready)
        return sum(self.of_cells[planned.key] for planned in cells) + sum(
            self.of_features.get(family, 0.0) for family, _ in features
        )


def estimate_costs(
    plan: Plan, store: Store, entries: Mapping[str, Entry], missing: Iterable[PlannedCell]
) -> Costs:
    """How long the missing cells of a study take.

    A family with cells in the journal takes as long for its work as those did (their median). Any
    other is tried: after a fit to warm up, a network's fits of few and of more steps show what is
    done once and the pace of a step, and the same with fewer scans what every step costs, however
    small its batch; what is over quickly is the median of several. No fit is kept. A family that
    cannot be tried counts as nothing here: its cells will say why.

    Args:
        plan: The study.
        store: Where its scans lie.
        entries: What stands in the journal, by key.
        missing: Cells that are to be computed; of other families nothing is tried.
    """
    samples = _Samples.read(plan, store)
    by_family: dict[str, list[PlannedCell]] = defaultdict(list)
    for planned in missing:
        by_family[planned.cell.family].append(planned)
    of_cells: dict[str, float] = {}
    of_features: dict[str, float] = {}
    with pinned_threads(plan.config.threads):
        for name, cells in by_family.items():
            config = plan.families[name]
            try:
                work = build_family(config, plan.task, samples.shape, plan.config.seed).work
            except FamilyError:  # of such scans, say
                of_cells |= {one.key: 0.0 for one in cells}
                continue
            known = _known(plan, name, entries, work, samples.predicted)
            pace = known or _tried(config, plan, samples)
            of_cells |= {
                one.key: pace.of(work(len(one.train)), samples.predicted, one) for one in cells
            }
            of_features[name] = _features(config, plan, samples)
        scoring = len(plan.cells) * _scoring(plan, store)
    return Costs(of_cells, of_features, plan.families, _START_S, _REPORT_S + scoring)


@dataclass(frozen=True)
class _Pace:
    """What takes how long.

    Attributes:
        unit: Seconds of fitting a unit of work; of a network, a scan that a step sees.
        scan: Of predicting one scan.
        begin: Of what a fit does once, for one training scan (a pretrained network's first
            features).
        step: Of each step, beside its scans.
        training: What decides a network's steps and how often it predicts its validation scans,
            beside the work; None for other families.
    """

    unit: float
    scan: float
    begin: float = 0.0
    step: float = 0.0
    training: TrainConfig | None = None

    def of(self, work: float, predicted: int, cell: PlannedCell) -> float:
        """Seconds of a cell with so much work, that predicts so many scans beside its own."""
        n_scans = len(cell.train)
        epochs = self.training.epochs if self.training else 0
        steps = epochs * self.training.steps_per_epoch(n_scans) if self.training else 0
        seen = predicted + n_scans + epochs * len(cell.val)
        fitting = self.unit * work + self.step * steps + self.begin * n_scans
        return fitting + self.scan * seen


@dataclass(frozen=True, eq=False)
class _Samples:
    """Scans to try families on, and how many each cell predicts beside its own, and in all."""

    train: Scans
    few: Scans
    predicted: int
    scans: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.train.scan_shape

    @classmethod
    def read(cls, plan: Plan, store: Store) -> _Samples:
        rows = {split: store.rows(split) for split in ("train", "val", "test")}
        predicted = len(rows["val"]) + len(rows["test"]) * (1 + len(plan.config.conditions))
        return cls(
            train=load_rows(store, _of_each_class(rows["train"], _TRIED_SCANS)),
            few=load_rows(store, _of_each_class(rows["val"], _FEW_SCANS)),
            predicted=predicted,
            scans=predicted + len(rows["train"]),
        )


def _of_each_class(rows: list[IndexRow], count: int) -> list[IndexRow]:
    """The first rows of each class in turn, so many in all."""
    by_class: dict[tuple[int, ...], list[IndexRow]] = defaultdict(list)
    for row in rows:
        by_class[row.target].append(row)
    turns = chain.from_iterable(zip_longest(*by_class.values()))
    return list(islice((row for row in turns if row is not None), count))


def _known(
    plan: Plan,
    family: str,
    entries: Mapping[str, Entry],
    work: Callable[[int], float],
    predicted: int,
) -> _Pace | None:
    done = [
        (entries[one.key].seconds, work(len(one.train)))
        for one in plan.cells
        if one.cell.family == family and one.key in entries and entries[one.key].failure is None
    ]
    if not done:
        return None
    unit = median(seconds["fit"] / units for seconds, units in done)
    return _Pace(unit, median(seconds["predict"] for seconds, _ in done) / predicted)


def _tried(config: FamilyConfig, plan: Plan, samples: _Samples) -> _Pace:
    family = _briefly(config, plan, samples)
    try:
        train, few = (
            scans.with_x(family.prepare(scans.x)) for scans in (samples.train, samples.few)
        )
        family.fit(train, few)
        fit = _seconds(lambda: family.fit(train, few))
        predict = _seconds(lambda: family.predict_proba(few.x)) / len(few)
        training = config.params.training
        if training is None:
            return _Pace(fit / family.work(len(train)), predict)
        brief = training.brief()
        times = min(max(2, int(_QUICK_S / max(fit, 1e-9))), _MORE_STEPS)
        more_steps = times * brief.steps_per_epoch(len(train))
        longer = _briefly(config, plan, samples, training.brief(more_steps))

        def line(scans: Scans, short: float) -> tuple[float, float]:
            steps = (one.steps_per_epoch(len(scans)) for one in (brief, brief.brief(more_steps)))
            return _line(short, _seconds(lambda: longer.fit(scans, few)), *steps)

        once, each = line(train, fit)
        batch = min(training.batch_size, len(train))
        unit, fewer = each / batch, train.take(np.arange(min(_FEW_SCANS, len(train))))
        if len(fewer) < batch:
            _, small = line(fewer, _seconds(lambda: family.fit(fewer, few)))
            unit = min(max(each - small, 0.0) / (batch - len(fewer)), unit)
    except Exception:  # whatever it is, the study reports it for each of the family's cells
        return _Pace(0.0, 0.0)
    begin = max(0.0, once - predict * len(few)) / len(train)
    return _Pace(unit, predict, begin, each - unit * batch, training)


def _line(short: float, long: float, few: int, more: int) -> tuple[float, float]:
    """Seconds that are spent once and seconds of each step, by fits of few and of more steps."""
    each = min((long - short) / (more - few), short / few)
    if each <= 0:  # the clock's noise: the steps are too quick to matter beside the rest
        each = long / more
    return max(0.0, short - each * few), each


def _briefly(
    config: FamilyConfig, plan: Plan, samples: _Samples, training: TrainConfig | None = None
) -> Family[Any]:
    brief = config.model_copy(update={"params": config.params.brief(training)})
    return build_family(brief, plan.task, samples.shape, plan.config.seed)


def _features(config: FamilyConfig, plan: Plan, samples: _Samples) -> float:
    """Seconds that a family's features of all scans take; 0 where there are none to be kept."""
    if not FAMILIES[config.family].prepares(config.params):
        return 0.0
    family = build_family(config, plan.task, samples.shape, plan.config.seed)
    try:
        family.prepare(samples.few.x[:1])
        each = _seconds(lambda: family.prepare(samples.few.x)) / len(samples.few)
    except Exception:  # as above
        return 0.0
    return each * samples.scans


def _scoring(plan: Plan, store: Store) -> float:
    """Seconds that the results take for one cell: its scores of every resample of the patients."""
    rng = np.random.default_rng(plan.config.seed)
    each = 0.0
    for name in ("val", "test"):
        rows = store.rows(name)
        probability = rng.dirichlet(np.ones(plan.task.n_classes), len(rows))
        target = targets(plan.task, [row.target for row in rows])
        patients = np.array([row.patient_id for row in rows], dtype=np.str_)
        n = plan.config.resamples
        each += _seconds(partial(resample, plan.task, target, probability, patients, resamples=n))
    return each


def _seconds(work: Callable[[], object]) -> float:
    """How long it takes; the median of several times where that costs little."""
    found: list[float] = []
    while len(found) < (_TIMES if sum(found) < _QUICK_S else 1):
        started = time.monotonic()
        work()
        found.append(time.monotonic() - started)
    return median(found)
