"""Rank architectures by what they do with random weights, before any is trained.

Saxe et al. 2011, "On random weights and unsupervised feature learning": networks that classify
well on frozen random weights tend to be those that classify well once trained, and the former
takes seconds. Whether that holds for a set of architectures and scans is what ``verify`` measures:
on BreastMNIST, six shapes of cnn_scratch gave a rank correlation of 0.49 [0.03, 0.94].
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from data_prep.progress import Progress, silent
from data_prep.store import Store
from data_prep.task import Task
from pipeline.dataset import Scans, load_split
from pipeline.families import FamilyConfig, build_family, logistic, ridge
from pipeline.families.base import FamilyError
from pipeline.families.frozen import features_of
from pipeline.metrics import resample, score
from pipeline.study.plan import read_families

Floats = NDArray[np.float64]

# The penalties of random_features: relative to a standardised row's mean squared length.
PENALTIES: Final = tuple(float(p) for p in np.logspace(0, -6, 13))
_RESAMPLES: Final = 1000
_MOST_ORDERS: Final = 10_000  # of the permutation test; all of them up to 7 architectures


@dataclass(frozen=True, eq=False)
class Trial:
    """One architecture in one of the two ways, over all seeds.

    Attributes:
        probability: Of each seed, (N_val, n_classes).
        seconds: Of one seed, on average.
    """

    probability: tuple[Floats, ...]
    seconds: float


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of two scores over architectures.

    Attributes:
        rho: The correlation.
        low: End of its 95 % interval over validation patients (the architectures stay).
        high: The other end.
        p: Share of the orders of the architectures that correlate at least as highly (one-sided
            permutation test).
    """

    rho: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Screening:
    """What a screening found: a table, best first, and sentences."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]


def screen_store(
    store_folder: Path,
    families: Sequence[str],
    seeds: int,
    *,
    verify: bool = False,
    progress: Progress = silent,
) -> Screening:
    """Rank families by the validation AUC of ridge on their networks' random features.

    The networks' test scans are never looked at. With ``verify`` each is trained as well, and
    scored on the validation scans that also choose its epoch.

    Raises:
        ConfigError: A family's config is missing or wrong.
        FamilyError: ``family.no_network``; or a network does not fit the scans.
        StageError: The store is missing or damaged.
    """
    configs = read_families(families)
    store = Store.open(store_folder)
    task, train, val = store.task, load_split(store, "train"), load_split(store, "val")
    for name, config in configs.items():
        _refuse_without_network(name, config, task, train.scan_shape)
    total = len(configs) * (2 if verify else 1)
    frozen: dict[str, Trial] = {}
    trained: dict[str, Trial] = {}
    for name, config in configs.items():
        progress(len(frozen), total)
        frozen[name] = try_frozen(config, task, train, val, range(seeds))
    for name, config in configs.items() if verify else ():
        progress(total // 2 + len(trained), total)
        trained[name] = try_trained(config, task, train, val, range(seeds))
    progress(total, total)
    return summarise(task, val, frozen, trained)


def try_frozen(
    config: FamilyConfig, task: Task, train: Scans, val: Scans, seeds: Sequence[int]
) -> Trial:
    """Ridge on what the classifier of the untrained network sees, the penalty by left-out patients.

    Raises:
        FamilyError: ``family.no_network``, ``family.one_patient``.
    """
    started, rows = time.perf_counter(), []
    for seed in seeds:
        family = build_family(config, task, train.scan_shape, seed)
        family.check_classes(train)
        net = family.network()
        assert net is not None  # screen_store has refused a family that has none
        fitted = ridge.fit_classifier(
            task, features_of(net, train.x).numpy(), train.target, train.patient_ids, PENALTIES
        )
        logits = fitted.weights.logits(features_of(net, val.x).numpy())
        rows.append(logistic.probability(task, logits))
    return Trial(tuple(rows), (time.perf_counter() - started) / len(rows))


def try_trained(
    config: FamilyConfig, task: Task, train: Scans, val: Scans, seeds: Sequence[int]
) -> Trial:
    """The same networks, trained as their config says."""
    started, rows = time.perf_counter(), []
    for seed in seeds:
        family = build_family(config, task, train.scan_shape, seed)
        fit_on, choose_on = (scans.with_x(family.prepare(scans.x)) for scans in (train, val))
        family.fit(fit_on, choose_on)
        rows.append(family.predict_proba(choose_on.x))
    return Trial(tuple(rows), (time.perf_counter() - started) / len(rows))


def agreement(
    task: Task, val: Scans, frozen: Sequence[Trial], trained: Sequence[Trial]
) -> Agreement:
    """How far the two ways rank the architectures alike, by the mean AUC over seeds."""
    first, second = (np.array([_auc(task, val, t) for t in side]) for side in (frozen, trained))
    drawn = [np.stack([_drawn(task, val, t) for t in side]) for side in (frozen, trained)]
    rhos = np.array([rank_correlation(a, b) for a, b in zip(drawn[0].T, drawn[1].T, strict=True)])
    rhos = rhos[~np.isnan(rhos)]
    low, high = np.quantile(rhos, [0.025, 0.975]) if rhos.size else (math.nan, math.nan)
    rho = rank_correlation(first, second)
    return Agreement(rho, float(low), float(high), permutation_p(first, second))


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's; NaN where a side is constant or not finite."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return math.nan
    a, b = (rankdata(side) - (len(side) + 1) / 2 for side in (first, second))
    length = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / length if length else math.nan


def permutation_p(first: Floats, second: Floats, seed: int = 0) -> float:
    """Share of the orders of ``second`` whose correlation is at least the one found."""
    found = rank_correlation(first, second)
    if math.isnan(found):
        return math.nan
    n = len(second)
    exact = math.factorial(n) <= _MOST_ORDERS
    generator = np.random.default_rng(seed)
    orders = (
        itertools.permutations(range(n))
        if exact
        else (tuple(generator.permutation(n)) for _ in range(_MOST_ORDERS))
    )
    reached = [rank_correlation(first, second[list(order)]) >= found - 1e-12 for order in orders]
    own = 0 if exact else 1  # a drawn order may lack the one found (Phipson and Smyth 2010)
    return (sum(reached) + own) / (len(reached) + own)


def summarise(
    task: Task, val: Scans, frozen: dict[str, Trial], trained: dict[str, Trial]
) -> Screening:
    """The table, best random-weight score first, and what it says."""
    scores = {name: _auc(task, val, trial) for name, trial in frozen.items()}
    header: tuple[str, ...] = ("architecture", "random AUC [95 %]", "s")
    if trained:
        header += ("trained AUC", "s", "cheaper")
    rows = []
    for name in sorted(frozen, key=lambda n: -scores[n]):
        row: tuple[str, ...] = (
            name,
            _with_interval(task, val, frozen[name]),
            f"{frozen[name].seconds:.2f}",
        )
        if trained:
            ratio = trained[name].seconds / frozen[name].seconds
            row += (
                f"{_auc(task, val, trained[name]):.3f}",
                f"{trained[name].seconds:.1f}",
                f"{ratio:.0f}x",
            )
        rows.append(row)
    sentences = ["AUC on the validation scans, mean over seeds, intervals over patients"]
    if len(trained) > 1:
        found = agreement(task, val, list(frozen.values()), list(trained.values()))
        sentences.append(
            f"rank correlation of random and trained scores: {found.rho:.2f} "
            f"[{found.low:.2f}, {found.high:.2f}] over patients; p = {found.p:.3f} over the "
            f"orders of {len(trained)} architectures"
        )
    return Screening(header, tuple(rows), tuple(sentences))


def _auc(task: Task, val: Scans, trial: Trial) -> float:
    return float(np.mean([score(task, val.target, rows)["auc"] for rows in trial.probability]))


def _drawn(task: Task, val: Scans, trial: Trial) -> Floats:
    """The mean AUC over seeds in each resample of the patients, the same for every trial."""
    each = [
        resample(task, val.target, rows, val.patient_ids, names=("auc",), resamples=_RESAMPLES)[
            "auc"
        ]
        for rows in trial.probability
    ]
    mean: Floats = np.mean(each, axis=0)
    return mean


def _with_interval(task: Task, val: Scans, trial: Trial) -> str:
    drawn = _drawn(task, val, trial)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return f"{_auc(task, val, trial):.3f} [{low:.3f}, {high:.3f}]"


def _refuse_without_network(
    name: str, config: FamilyConfig, task: Task, scan_shape: tuple[int, ...]
) -> None:
    if build_family(config, task, scan_shape, seed=0).network() is None:
        raise FamilyError(
            "family.no_network",
            f"{name}: family '{config.family}' has no network whose weights could be random",
            fix="screen families with a network: cnn_scratch, monai_network or mlp",
        )
