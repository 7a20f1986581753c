"""What every family keeps, in 2D and 3D and for every kind of task.

A family that is added to ``FAMILIES`` is swept without a line here; ``QUICK`` may make it cheaper.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_prep.task import Task, TaskKind
from pipeline.dataset import Scans
from pipeline.families import FAMILIES, FamilyConfig, build_family
from pipeline.families.base import Family, FamilyError, Fit
from pipeline.metrics import score
from pipeline.train_config import TrainConfig

BLIND = ("prior",)  # it looks at no voxel, so there is nothing that it could learn
PRETRAINED: dict[str, Any] = {"reading": {"sizes": [32], "stages": [1], "slices": 2}}
FINE_TUNED = PRETRAINED | {"train": {"epochs": 1, "min_steps": 2, "learning_rate": 1e-4}}
QUICK: dict[str, dict[str, Any]] = {
    "mlp": {"widths": [32], "train": {"epochs": 8, "min_steps": 80, "batch_size": 16}},
    "random_features": {"filters": 48, "sizes": [3, 5]},
    "cnn_scratch": {"widths": [8, 16], "train": {"epochs": 8, "min_steps": 80, "batch_size": 16}},
    "pretrained": PRETRAINED,
    "monai_network": {
        "architecture": "resnet18",
        "width": 0.125,
        "train": {"epochs": 4, "min_steps": 40, "batch_size": 16, "learning_rate": 3e-3},
    },
}
# Families that are another model altogether with other parameters: case -> (family, parameters).
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "filterbank boosted": ("filterbank", {"classifier": "boosted", "boost": {"trees": 80}}),
    "knn scan": ("knn", {"normalise": "scan"}),
    "pretrained full": ("pretrained", FINE_TUNED | {"mode": "full"}),
    "random_features network": ("random_features", {"network": "cnn_scratch"}),
}
CASES = {name: (name, QUICK.get(name, {})) for name in FAMILIES} | VARIANTS
# Parameters that lead through other convolutions; of these only what is saved and loaded is swept.
BRIEF = {"train": {"epochs": 1, "min_steps": 2, "batch_size": 16}}
CONVOLUTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "circular": ("cnn_scratch", BRIEF | {"widths": [8, 16], "padding": "circular"}),
    "full": ("cnn_scratch", BRIEF | {"widths": [8], "padding": "full", "residual": False}),
    "resnet18": ("monai_network", BRIEF | {"architecture": "resnet18"}),
    "densenet121": ("monai_network", BRIEF | {"architecture": "densenet121"}),
    "inflated": (
        "pretrained",
        FINE_TUNED | {"mode": "full", "reading": PRETRAINED["reading"] | {"volume": "inflated"}},
    ),
}
SHAPES = {"2D": (1, 12, 11), "3D": (2, 8, 9, 8)}
N_CLASSES: dict[TaskKind, int] = {"binary": 2, "multi-class": 3, "multi-label": 2, "ordinal": 3}

sweep = pytest.mark.parametrize(
    ("name", "ndim", "kind"),
    [(name, ndim, kind) for name in CASES for ndim in SHAPES for kind in N_CLASSES],
)
each_family = pytest.mark.parametrize("name", CASES)


def task_of(kind: TaskKind) -> Task:
    return Task(kind=kind, class_names=tuple("abc"[: N_CLASSES[kind]]))


def scans_of(task: Task, shape: tuple[int, ...], n: int, seed: int) -> Scans:
    """Noise with a bright cube for each class, each class at its own place; separable."""
    rng = np.random.default_rng(seed)
    if task.is_multi_label:
        target = rng.integers(0, 2, (n, task.n_classes))
    else:
        target = rng.permutation(np.arange(n) % task.n_classes)
    x = rng.normal(0, 0.5, (n, *shape)).astype(np.float32)
    for label in range(task.n_classes):
        place = (slice(None), *(slice(1 + 2 * label, 4 + 2 * label) for _ in shape[1:]))
        for i in np.flatnonzero(task.one_hot(target)[:, label]):
            x[i][place] += 2.0
    ids = np.array([f"{seed}-{i}" for i in range(n)])
    return Scans(
        torch.from_numpy(x), target, np.array([f"p{seed}-{i // 2}" for i in range(n)]), ids
    )


def family_of(name: str, ndim: str, kind: TaskKind, seed: int = 0) -> Family[Any]:
    family, params = (CASES | CONVOLUTIONS)[name]
    config = FamilyConfig.model_validate({"family": family, "params": params})
    return build_family(config, task_of(kind), SHAPES[ndim], seed)


def prepared(family: Family[Any], scans: Scans) -> Scans:
    return scans.with_x(family.prepare(scans.x))


def fit(family: Family[Any], shape: tuple[int, ...]) -> Fit:
    train, val = (scans_of(family.task, shape, n, seed) for n, seed in ((60, 1), (24, 2)))
    return family.fit(prepared(family, train), prepared(family, val))


@cache
def fitted(name: str, ndim: str, kind: TaskKind) -> Family[Any]:
    family = family_of(name, ndim, kind)
    fit(family, SHAPES[ndim])
    return family


@cache
def unseen(ndim: str, kind: TaskKind) -> Scans:
    return scans_of(task_of(kind), SHAPES[ndim], 60, 3)


def predict(family: Family[Any], scans: Scans) -> NDArray[np.float64]:
    return family.predict_proba(family.prepare(scans.x))


@each_family
def test_features_that_serve_every_seed_are_the_same(name: str) -> None:
    family = FAMILIES[CASES[name][0]]
    x = unseen("2D", "binary").x[:5]
    rows = [family_of(name, "2D", "binary", seed).prepare(x) for seed in (0, 1)]
    if not family.seeded_prepare or family.prepare is Family.prepare:
        assert torch.equal(*rows)
    else:
        assert not torch.equal(*rows)


@sweep
def test_it_learns_what_can_be_separated(name: str, ndim: str, kind: TaskKind) -> None:
    family, scans = fitted(name, ndim, kind), unseen(ndim, kind)
    auc = score(family.task, scans.target, predict(family, scans))["auc"]
    assert auc == 0.5 if name in BLIND else auc > 0.9


@sweep
def test_its_rows_are_probabilities(name: str, ndim: str, kind: TaskKind) -> None:
    family, scans = fitted(name, ndim, kind), unseen(ndim, kind)
    rows = predict(family, scans)
    assert rows.shape == (len(scans), family.task.n_classes)
    assert rows.dtype == np.float64
    assert ((rows >= 0) & (rows <= 1)).all()
    if not family.task.is_multi_label:
        assert np.allclose(rows.sum(axis=1), 1, atol=1e-12)


@sweep
def test_the_seed_repeats_every_bit(name: str, ndim: str, kind: TaskKind) -> None:
    torch.manual_seed(99)  # what happened before must not matter
    again = family_of(name, ndim, kind)
    torch.randn(3)
    fit(again, SHAPES[ndim])
    first = fitted(name, ndim, kind)
    assert np.array_equal(predict(again, unseen(ndim, kind)), predict(first, unseen(ndim, kind)))
    fit(again, SHAPES[ndim])  # a second fit starts afresh
    assert np.array_equal(predict(again, unseen(ndim, kind)), predict(first, unseen(ndim, kind)))


@each_family
def test_what_was_chosen_needs_no_validation(name: str) -> None:
    scans = [scans_of(task_of("multi-class"), SHAPES["2D"], n, n) for n in (40, 20)]
    family, params = CASES[name]
    config = FamilyConfig.model_validate({"family": family, "params": params})
    few = TrainConfig(epochs=4, min_steps=8, batch_size=16)
    config = config.model_copy(update={"params": config.params.brief(few)})
    first, again = (build_family(config, task_of("multi-class"), SHAPES["2D"], 0) for _ in "12")
    train, val = (prepared(first, some) for some in scans)
    chosen = first.fit(train, val).chosen
    told: list[tuple[int, int]] = []
    found = again.fit_chosen(train, chosen, lambda done, total: told.append((done, total))).chosen
    assert {key: chosen[key] for key in found} == found
    assert set(chosen) - set(found) <= {"val_log_loss"}
    assert told[-1][0] == told[-1][1] > 0
    x = unseen("2D", "multi-class")
    assert np.array_equal(predict(again, x), predict(first, x))


@sweep
def test_a_saved_state_becomes_the_same_object(name: str, ndim: str, kind: TaskKind) -> None:
    family = fitted(name, ndim, kind)
    state = family.state()
    other = family_of(name, ndim, kind, seed=7)
    other.load_state({key: value.copy() for key, value in state.items()})
    assert np.array_equal(predict(other, unseen(ndim, kind)), predict(family, unseen(ndim, kind)))
    for key, value in other.state().items():
        assert np.array_equal(value, state[key]), key
        assert value.flags.c_contiguous
        assert value.dtype.kind in "fiu"


@pytest.mark.parametrize(
    ("name", "ndim"),
    [(name, "3D" if name == "inflated" else "2D") for name in CONVOLUTIONS] + [("circular", "3D")],
)
def test_a_saved_state_gives_the_same_bits_whatever_the_convolution(name: str, ndim: str) -> None:
    family, x = fitted(name, ndim, "multi-class"), unseen(ndim, "multi-class")
    other = family_of(name, ndim, "multi-class", seed=7)
    other.load_state({key: value.copy() for key, value in family.state().items()})
    assert np.array_equal(predict(other, x), predict(family, x))


@sweep
def test_a_row_does_not_depend_on_the_others(name: str, ndim: str, kind: TaskKind) -> None:
    family, x = fitted(name, ndim, kind), unseen(ndim, kind).x
    together = family.predict_proba(family.prepare(x))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    shuffled = family.predict_proba(family.prepare(x[order]))
    alone = np.concatenate([family.predict_proba(family.prepare(row[None])) for row in x])
    assert np.allclose(shuffled, together[order.numpy()], rtol=0, atol=1e-6)
    assert np.allclose(alone, together, rtol=0, atol=1e-6)


@sweep
def test_features_are_of_each_scan_alone_and_outlive_the_object(
    name: str, ndim: str, kind: TaskKind
) -> None:
    family, x = fitted(name, ndim, kind), unseen(ndim, kind).x[:20]
    together = family.features(family.prepare(x))
    assert together.ndim == 2
    assert len(together) == len(x)
    assert together.dtype == np.float32
    assert (together.shape[1] == 0) == (name in BLIND)
    assert np.isfinite(together).all()
    alone = np.concatenate([family.features(family.prepare(row[None])) for row in x])
    assert np.allclose(alone, together, rtol=1e-4, atol=1e-4)
    assert np.array_equal(family.features(family.prepare(x)), together)
    probability, seen = family.look(family.prepare(x))
    assert np.array_equal(probability, family.predict_proba(family.prepare(x)))
    assert seen.dtype == np.float32
    assert np.allclose(seen, together, rtol=1e-5, atol=1e-5)
    other = family_of(name, ndim, kind, seed=7)
    other.load_state({key: value.copy() for key, value in family.state().items()})
    assert np.array_equal(other.features(other.prepare(x)), together)


@sweep
def test_its_way_in_one_piece_is_the_way_that_predicts(
    name: str, ndim: str, kind: TaskKind
) -> None:
    family, x = fitted(name, ndim, kind), unseen(ndim, kind).x[:7]
    with torch.no_grad():
        probability, features = family.forward(x)
    assert probability.dtype == torch.float64
    assert np.allclose(probability.numpy(), family.predict_proba(family.prepare(x)), atol=1e-6)
    assert features.dtype == torch.float32
    assert np.allclose(features.numpy(), family.features(family.prepare(x)), rtol=1e-4, atol=1e-4)


@sweep
def test_prepare_works_row_by_row_and_knows_no_labels(name: str, ndim: str, kind: TaskKind) -> None:
    fresh, x = family_of(name, ndim, kind), unseen(ndim, kind).x
    before = x.clone()
    together = fresh.prepare(x)
    assert len(together) == len(x)
    assert torch.allclose(together, torch.cat([fresh.prepare(row[None]) for row in x]), atol=1e-5)
    assert torch.equal(fitted(name, ndim, kind).prepare(x), together)  # fitting changes nothing
    assert torch.equal(x, before)


@sweep
def test_inspection_names_what_is_stored_and_counts_the_weights(
    name: str, ndim: str, kind: TaskKind
) -> None:
    family = fitted(name, ndim, kind)
    held = family.inspect()
    assert held.arrays == {key: value.shape for key, value in family.state().items()}
    net = family.network()
    assert bool(held.layers) == (net is not None)
    if net is not None:
        weights = sum(p.numel() for p in net.parameters())
        assert sum(layer.parameters for layer in held.layers) == weights


@sweep
def test_one_class_only_is_refused_by_name(name: str, ndim: str, kind: TaskKind) -> None:
    family = family_of(name, ndim, kind)
    train = scans_of(family.task, SHAPES[ndim], 12, 1)
    target = np.zeros_like(train.target)
    train = Scans(train.x, target, train.patient_ids, train.scan_ids)
    with pytest.raises(FamilyError, match=f"{family.name}.*'a'") as caught:
        family.fit(prepared(family, train), prepared(family, train))
    assert caught.value.code == "family.one_class"


@each_family
def test_progress_ends_at_its_total(name: str) -> None:
    told: list[tuple[int, int]] = []
    family = family_of(name, "2D", "binary")
    train, val = (prepared(family, scans_of(family.task, SHAPES["2D"], n, n)) for n in (40, 20))
    before = train.x.clone()
    family.fit(train, val, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert torch.equal(train.x, before)


@each_family
@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "dtype"])
def test_a_state_that_does_not_fit_is_refused_by_name(name: str, fault: str) -> None:
    family = fitted(name, "2D", "multi-class")
    state = dict(family.state())
    key = max(state, key=lambda k: state[k].size)
    if fault == "missing":
        del state[key]
    elif fault == "extra":
        key = "surplus"
        state[key] = np.zeros(2)
    elif fault == "shape":
        state[key] = state[key][:-1]
    else:
        state[key] = state[key].astype(np.float16)
    with pytest.raises(FamilyError, match=f"{family.name}: array '{key}'") as caught:
        family.load_state(state)
    assert caught.value.code == "family.bad_state"


@each_family
def test_twenty_scans_are_enough_to_train(name: str) -> None:
    family = family_of(name, "2D", "binary")
    train, val = (scans_of(family.task, SHAPES["2D"], n, n) for n in (20, 10))
    family.fit(prepared(family, train), prepared(family, val))
    scans = unseen("2D", "binary")
    assert name in BLIND or score(family.task, scans.target, predict(family, scans))["auc"] > 0.8
