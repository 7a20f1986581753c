"""Rank architectures by what they do with random weights, before any is trained.

Saxe et al. 2011, "On random weights and unsupervised feature learning": networks that classify
well on frozen random weights tend to be those that classify well once trained, and the former
takes seconds. Whether that holds for a set of architectures and scans is what ``verify`` measures:
on BreastMNIST, six shapes of cnn_scratch gave a rank correlation of 0.14 [-0.81, 0.83].
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.errors import MedcurveError
from data_prep.progress import Progress, silent
from data_prep.store import Store
from data_prep.task import Task
from pipeline.dataset import Scans, load_split
from pipeline.families import FamilyConfig, build_family, logistic, ridge
from pipeline.families.base import FamilyError
from pipeline.families.frozen import features_of, has_classifier
from pipeline.metrics import resample, score
from pipeline.prediction import memory_format
from pipeline.study.cell import pinned_threads
from pipeline.study.plan import read_families
from pipeline.study.rank_correlation import permutation_p, rank_correlation

Floats = NDArray[np.float64]

# The penalties of random_features: relative to a standardised row's mean squared length.
PENALTIES: Final = tuple(float(p) for p in np.logspace(0, -6, 13))
_THREADS: Final = 1  # as of a study's cell, unless the study says otherwise
_WARM_UP_FEATURES: Final = 4
_RESAMPLES: Final = 1000


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

    An architecture that refuses the scans or its training is named, and the others are ranked.

    Raises:
        ConfigError: A family's config is missing or wrong, or ``config.duplicate_family``.
        FamilyError: ``family.no_network``.
        MedcurveError: What the first architecture says, where all refuse.
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
    refused: dict[str, MedcurveError] = {}
    ways = [(try_frozen, frozen)] + ([(try_trained, trained)] if verify else [])
    with pinned_threads(_THREADS):
        for step, ((way, found), name) in enumerate(itertools.product(ways, configs)):
            progress(step, total)
            if name in refused:
                continue
            try:
                found[name] = way(configs[name], task, train, val, range(seeds))
            except MedcurveError as error:
                refused[name] = error
    if not frozen:
        raise next(iter(refused.values()))
    progress(total, total)
    return summarise(task, val, frozen, trained, refused)


def try_frozen(
    config: FamilyConfig, task: Task, train: Scans, val: Scans, seeds: Sequence[int]
) -> Trial:
    """Ridge on what the classifier of the untrained network sees, the penalty by left-out patients.

    One chunk of scans and a small ridge go before, untimed: what a process does once belongs to no
    architecture.

    Raises:
        FamilyError: ``family.one_class``, ``family.one_patient``, or as the family refuses scans.
    """
    build_family(config, task, train.scan_shape, seed=0).check_classes(train)
    _features(config, task, train.x[:1], seed=0)
    noise = np.random.default_rng(0).normal(size=(len(train), _WARM_UP_FEATURES))
    ridge.fit_classifier(task, noise.astype(np.float32), train.target, train.patient_ids, PENALTIES)
    started, rows = time.perf_counter(), []
    for seed in seeds:
        seen = _features(config, task, torch.cat([train.x, val.x]), seed)
        fitted = ridge.fit_classifier(
            task, seen[: len(train)], train.target, train.patient_ids, PENALTIES
        )
        rows.append(logistic.probability(task, fitted.weights.logits(seen[len(train) :])))
    return Trial(tuple(rows), (time.perf_counter() - started) / len(rows))


def _features(config: FamilyConfig, task: Task, x: Tensor, seed: int) -> NDArray[np.float32]:
    """(N, D) that the classifier of the untrained network sees, laid out as training has it."""
    net = build_family(config, task, tuple(x.shape[1:]), seed).network()
    assert net is not None  # screen_store has refused a family that has none
    found: NDArray[np.float32] = features_of(net, x.to(memory_format=memory_format(x.ndim))).numpy()
    return found


def try_trained(
    config: FamilyConfig, task: Task, train: Scans, val: Scans, seeds: Sequence[int]
) -> Trial:
    """The same networks, trained as their config says; a brief training goes before, untimed.

    Raises:
        MedcurveError: As the family's ``fit``.
    """
    _trained(config.model_copy(update={"params": config.params.brief()}), task, train, val, 0)
    started = time.perf_counter()
    rows = [_trained(config, task, train, val, seed) for seed in seeds]
    return Trial(tuple(rows), (time.perf_counter() - started) / len(rows))


def _trained(config: FamilyConfig, task: Task, train: Scans, val: Scans, seed: int) -> Floats:
    family = build_family(config, task, train.scan_shape, seed)
    fit_on, choose_on = (scans.with_x(family.prepare(scans.x)) for scans in (train, val))
    family.fit(fit_on, choose_on)
    return family.predict_proba(choose_on.x)


def agreement(
    task: Task, val: Scans, frozen: Sequence[Trial], trained: Sequence[Trial]
) -> Agreement:
    """How far the two ways rank the architectures alike, by the mean AUC over seeds.

    Args:
        task: What is predicted.
        val: The validation scans that all are scored on.
        frozen, trained: Trials of the same architectures, in the same order.
    """
    first, second = (np.array([_auc(task, val, t) for t in side]) for side in (frozen, trained))
    drawn = [np.stack([_drawn(task, val, t) for t in side]) for side in (frozen, trained)]
    rhos = np.array([rank_correlation(a, b) for a, b in zip(drawn[0].T, drawn[1].T, strict=True)])
    rhos = rhos[~np.isnan(rhos)]
    low, high = np.quantile(rhos, [0.025, 0.975]) if rhos.size else (math.nan, math.nan)
    rho = rank_correlation(first, second)
    return Agreement(rho, float(low), float(high), permutation_p(first, second))


def summarise(
    task: Task,
    val: Scans,
    frozen: Mapping[str, Trial],
    trained: Mapping[str, Trial],
    refused: Mapping[str, MedcurveError],
) -> Screening:
    """The table, best random-weight score first, and what it says.

    Args:
        task: What is predicted.
        val: The scans that all were scored on.
        frozen: Name -> architecture with random weights.
        trained: Name -> those that were trained as well; empty where none was to be.
        refused: Name -> what kept an architecture from one of the two.
    """
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
        if trained and name not in trained:
            row += ("–", "–", "–")
        elif trained:
            ratio = trained[name].seconds / frozen[name].seconds
            row += (
                f"{_auc(task, val, trained[name]):.3f}",
                f"{trained[name].seconds:.1f}",
                f"{ratio:.0f}x",
            )
        rows.append(row)
    sentences = ["AUC on the validation scans, mean over seeds, intervals over patients"]
    if len(trained) > 1:
        found = agreement(task, val, [frozen[name] for name in trained], list(trained.values()))
        sentences.append(
            f"rank correlation of random and trained scores: {found.rho:.2f} "
            f"[{found.low:.2f}, {found.high:.2f}] over patients; p = {found.p:.3f} over the "
            f"orders of {len(trained)} architectures"
        )
    sentences += [f"{name}: [{e.code}] {e.message}; {e.fix}" for name, e in refused.items()]
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
    try:
        net = build_family(config, task, scan_shape, seed=0).network()
    except MedcurveError:  # it will say so when its turn comes
        return
    if not has_classifier(net):
        raise FamilyError(
            "family.no_network",
            f"{name}: family '{config.family}' has no network that classifies scans and could have "
            "random weights",
            fix="screen families that train such a network: cnn_scratch, monai_network or mlp (or "
            "random_features with params.network)",
        )
