"""Maps of evidence: they find the lesion, depend on the weights, and lie where the scan says."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from fitted_phantoms import TASK, fitted_phantoms
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from data_prep.errors import ScanError
from data_prep.geometry import reorient
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family, FamilyParams, State
from pipeline.trust import explain_scan
from pipeline.trust.explain_grad_cam import LEAST_PLACES, target_layer
from pipeline.trust.explain_methods import METHODS, ExplainError, Method, parse_method
from pipeline.trust.explain_perturbed import (
    _windows,
    blurred,
    integrated_gradients,
    occlusion,
)
from pipeline.trust.explain_scan import Explanation, explain, methods_of
from pipeline.trust.explain_score import LogOdds, log_odds, log_odds_net


def built(name: str, scan_shape: tuple[int, ...], task: Task = TASK, **params: object) -> Family:
    config = FamilyConfig.model_validate({"family": name, "params": params})
    return build_family(config, task, scan_shape, 0)


def mass_ratio(found: Explanation, lesion: NDArray[np.bool_]) -> float:
    """Share of the evidence that lies in the lesion, over the lesion's share of the scan."""
    evidence = np.maximum(found.map, 0)
    return float(evidence[lesion].sum() / evidence.sum() / lesion.mean())


def recipe_of(scan_shape: tuple[int, ...]) -> PrepRecipe:
    config = PrepConfig.model_validate({"shape": scan_shape[1:], "intensity": {"kind": "z_score"}})
    return PrepRecipe(config=config, spatial_ndim=len(scan_shape) - 1, channels=scan_shape[0])


def noise(shape: tuple[int, ...], seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).standard_normal(shape), np.eye(4))


# -- what they find


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_evidence_for_a_malignant_lesion_lies_in_it(ndim: int, method: Method) -> None:
    fitted = fitted_phantoms(ndim)
    ratios = [
        mass_ratio(explain(fitted.family, fitted.recipe, scan, method, "malignant"), lesion)
        for (scan, lesion), patient in zip(fitted.scans(), fitted.patients, strict=True)
        if patient.label == "malignant"
    ]
    assert len(ratios) > 4
    assert np.mean(ratios) >= 3


@pytest.mark.parametrize("method", METHODS)
def test_random_weights_change_the_map(method: Method) -> None:
    """Adebayo et al. 2018: a map that does not depend on the weights explains the scan alone."""
    fitted = fitted_phantoms(2)
    blank = build_family(
        FamilyConfig(family="cnn_scratch", params=fitted.family.params),
        TASK,
        fitted.recipe.scan_shape,
        seed=1,
    )
    alike = [
        spearmanr(
            *(explain(f, fitted.recipe, scan, method, "malignant").prepared.ravel() for f in pair)
        ).statistic
        for scan, _ in fitted.scans()[:8]
        for pair in [(fitted.family, blank)]
    ]
    assert np.abs(np.nanmean(alike)) < 0.5


def test_explaining_does_not_change_the_family_and_repeats() -> None:
    fitted = fitted_phantoms(2)
    scan, _ = fitted.scans()[0]
    before = copy.deepcopy(fitted.family.state())
    for method in METHODS:
        first, again = (explain(fitted.family, fitted.recipe, scan, method) for _ in range(2))
        assert (first.map == again.map).all()
    assert all((value == before[name]).all() for name, value in fitted.family.state().items())
    net = fitted.family.network()
    assert net is not None and not any(m._forward_hooks for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())


def test_the_same_scan_in_another_orientation_has_the_same_map_there() -> None:
    fitted = fitted_phantoms(3)
    scan = reorient(fitted.scans()[0][0], "RAS")
    turned = reorient(scan, "SPL")
    first, other = (explain(fitted.family, fitted.recipe, s, "grad_cam") for s in (scan, turned))
    back = reorient(Volume(other.map[None], turned.affine), "RAS").array[0]
    np.testing.assert_allclose(back, first.map, rtol=1e-5, atol=1e-7)
    assert first.peak_mm(scan) == pytest.approx(other.peak_mm(turned), abs=1e-6)


# -- what is explained


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_log_odds_are_those_of_the_probability(columns: int) -> None:
    logits = torch.linspace(-3, 4, 3 * columns).reshape(3, columns)
    names = tuple("abcd"[: max(2, columns)])
    task = Task(kind="binary" if columns < 3 else "multi-class", class_names=names)
    net = LogOdds(nn.Identity(), task)
    probability = (
        torch.cat([(-logits).sigmoid(), logits.sigmoid()], 1) if columns == 1 else logits.softmax(1)
    )
    expected = log_odds(probability.double().numpy())
    np.testing.assert_allclose(net(logits).numpy(), expected, atol=1e-4)


def test_log_odds_of_labels_are_their_logits() -> None:
    task = Task(kind="multi-label", class_names=("a", "b", "c"))
    logits = torch.randn(4, 3)
    assert (LogOdds(nn.Identity(), task)(logits) == logits).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_integrated_gradients_add_up_to_the_difference_they_explain(ndim: int) -> None:
    fitted = fitted_phantoms(ndim)
    net = log_odds_net(fitted.family)
    assert net is not None
    for scan, _ in fitted.scans()[:4]:
        x = torch.from_numpy(fitted.recipe.apply(scan))[None]
        baseline = blurred(x)
        with torch.no_grad():
            wanted = float((net(x) - net(baseline))[0, 1])
        found = integrated_gradients(net, x, baseline, 1, steps=128)
        assert float(found.sum()) == pytest.approx(wanted, abs=0.02 * abs(wanted) + 0.05)


def test_integrated_gradients_of_a_linear_score_are_exact() -> None:
    task = Task(kind="multi-label", class_names=("a", "b"))
    layer = nn.Linear(12, 2)
    net = LogOdds(nn.Sequential(nn.Flatten(), layer), task)
    x, baseline = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)
    found = integrated_gradients(net, x, baseline, 1, steps=3)
    expected = layer.weight[1].reshape(3, 4) * (x - baseline)[0, 0]
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("shape", [(24, 20), (9, 8, 12)])
def test_occlusion_of_one_voxel_that_counts_is_its_weight_around_it(shape: tuple[int, ...]) -> None:
    x = torch.zeros(1, 1, *shape)
    voxel = tuple(n // 2 for n in shape)
    x[(0, 0, *voxel)] = 3

    def score(scans: Tensor) -> NDArray[np.float64]:
        return scans[(slice(None), 0, *voxel)].double().numpy()

    found = occlusion(score, x, torch.zeros_like(x))
    assert found[voxel] == 3  # every window that holds it takes all of it away
    assert found.max() == 3 and found[(0,) * len(shape)] == 0


@pytest.mark.parametrize("shape", [(3, 5), (28, 28), (224, 300), (16, 20, 20), (64, 300, 2)])
def test_windows_cover_every_scan_and_are_bounded(shape: tuple[int, ...]) -> None:
    places = list(_windows(shape))
    covered = np.zeros(shape, dtype=bool)
    for place in places:
        covered[place] = True
    assert covered.all()
    assert len(places) == len(set(map(str, places))) <= {2: 576, 3: 1000}[len(shape)]


# -- which families have what


@pytest.mark.parametrize(
    ("name", "params", "has"),
    [
        ("linear", {}, ("occlusion",)),
        ("knn", {}, ("occlusion",)),
        ("random_features", {"filters": 8}, ("occlusion",)),
        ("mlp", {"widths": [4]}, ("occlusion", "integrated_gradients")),
        ("cnn_scratch", {"widths": [4, 8]}, METHODS),
        ("random_features", {"network": "cnn_scratch"}, METHODS),
        ("monai_network", {"architecture": "resnet18", "width": 0.1}, METHODS),
        ("monai_network", {"architecture": "densenet121", "width": 0.1}, METHODS),
        ("monai_network", {"architecture": "efficientnet-b0", "width": 0.2}, METHODS),
    ],
)
def test_families_have_the_methods_that_they_can_have(
    name: str, params: dict[str, object], has: tuple[Method, ...]
) -> None:
    family = built(name, (1, 20, 16), **params)
    assert methods_of(family) == has
    if name in ("linear", "knn"):
        return
    for method in has:
        found = explain(family, recipe_of((1, 20, 16)), noise((1, 25, 22)), method)
        assert found.map.shape == (25, 22) and found.prepared.shape == (20, 16)
        assert found.map.dtype == np.float32
    for method in set(METHODS) - set(has):
        with pytest.raises(ExplainError, match=f"'{method}' needs") as caught:
            explain(family, recipe_of((1, 20, 16)), noise((1, 20, 16)), method)
        assert caught.value.code == "explain.no_such_map"
        assert all(possible in caught.value.fix for possible in has)


@pytest.mark.parametrize(
    ("scan_shape", "reading"),
    [
        ((1, 20, 16), {"sizes": [64, 48]}),
        ((3, 20, 16), {"sizes": [64]}),
        ((2, 12, 9, 10), {"sizes": [64], "slices": 3}),
        ((1, 12, 9, 4), {"sizes": [64], "slices": 7}),
        ((1, 12, 12, 12), {"sizes": [32], "volume": "acs"}),
    ],
)
@pytest.mark.parametrize("mode", ["probe", "full"])
def test_a_network_that_sees_images_has_a_map_of_the_scan(
    scan_shape: tuple[int, ...], reading: dict[str, object], mode: str
) -> None:
    family = built("pretrained", scan_shape, mode=mode, reading=reading | {"stages": [2, 3]})
    if mode == "probe":
        state = family.state()
        state["weight"] = np.random.default_rng(0).standard_normal(state["weight"].shape)
        family.load_state(state)
    found = explain(family, recipe_of(scan_shape), noise(scan_shape), "grad_cam")
    assert found.prepared.shape == scan_shape[1:]
    assert found.prepared.max() > 0


def test_the_score_of_a_probe_is_that_of_its_probabilities() -> None:
    for name, params in [
        ("pretrained", {"reading": {"stages": [2], "sizes": [32]}}),
        ("random_features", {"network": "cnn_scratch"}),
    ]:
        family = built(name, (1, 16, 16), **params)
        state: State = family.state()
        state["weight"] = np.random.default_rng(0).standard_normal(state["weight"].shape) / 10
        family.load_state(state)
        x = torch.randn(2, 1, 16, 16)
        net = log_odds_net(family)
        assert net is not None
        expected = log_odds(family.predict_proba(family.prepare(x)))
        np.testing.assert_allclose(net(x).detach().numpy(), expected, atol=1e-3)


def test_slabs_lie_where_they_were_cut() -> None:
    """A network that sees slabs across each axis finds what is bright at its place."""
    from pipeline.trust.explain_grad_cam import _placed

    x = torch.zeros(1, 1, 8, 9, 10)
    for axis, edge in enumerate((8, 9, 10)):
        found = torch.zeros(edge, 1, 4, 4)
        found[5] = 1
        placed = _placed(found, axis, x)
        assert placed.shape == (8, 9, 10)
        assert set(np.nonzero(placed.numpy())[axis].tolist()) == {5}


def test_the_layer_is_the_last_that_still_has_places() -> None:
    x = torch.zeros(1, 1, 32, 32)
    family = built("cnn_scratch", (1, 32, 32), widths=[4, 4, 4, 4, 4, 4])  # 32 to 1
    net = log_odds_net(family)
    assert net is not None
    assert target_layer(net, x) == "net.stages.3" and LEAST_PLACES == 4
    narrow = log_odds_net(built("cnn_scratch", (1, 3, 2), widths=[4]))
    assert narrow is not None
    assert target_layer(narrow, torch.zeros(1, 1, 3, 2)) == "net.stages"


# -- what is refused


def test_unknown_names_are_answered_with_the_nearest() -> None:
    family = built("linear", (1, 6, 5))
    with pytest.raises(ExplainError, match="did you mean 'malignant'") as caught:
        explain(family, recipe_of((1, 6, 5)), noise((1, 6, 5)), target_class="malignent")
    assert caught.value.code == "explain.unknown_class"
    with pytest.raises(ExplainError, match="did you mean 'grad_cam'") as refused:
        parse_method("gradcam")
    assert refused.value.code == "explain.unknown_method"
    assert [parse_method(method) for method in METHODS] == list(METHODS)


class _NotFinite(Family[FamilyParams]):
    """A family whose answer can be anything."""

    name = "not_finite"
    answer = (float("nan"), 1.0)

    def fit(self, *_args: object) -> None: ...  # type: ignore[override]

    def probability(self, x: Tensor) -> Tensor:
        return torch.tensor(self.answer, dtype=torch.float64).expand(len(x), -1)

    def state(self) -> State:
        return {}

    def load_state(self, state: State) -> None: ...


def test_what_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    family = _NotFinite(FamilyParams(), TASK, (1, 6, 5), 0)
    with pytest.raises(ScanError, match="answer is NaN") as caught:
        explain(family, recipe_of((1, 6, 5)), noise((1, 6, 5)))
    assert caught.value.code == "model.not_finite"
    family.answer = (0.5, 0.5)
    monkeypatch.setattr(explain_scan, "occlusion", lambda *_: torch.full((6, 5), torch.inf))
    with pytest.raises(ScanError, match="map of method 'occlusion'"):
        explain(family, recipe_of((1, 6, 5)), noise((1, 6, 5)))


def test_an_empty_map_has_no_peak() -> None:
    zero = np.zeros((3, 4, 5), dtype=np.float32)
    found = Explanation(zero, zero, 0, "benign", 0.5, "grad_cam")
    assert found.peak() is None and found.peak_mm(noise((1, 3, 4, 5))) is None


def test_the_peak_is_said_in_the_patients_millimetres() -> None:
    values = np.zeros((3, 4, 5), dtype=np.float32)
    values[2, 1, 3] = 1
    affine = np.array([[0, 2.0, 0, 5], [-3.0, 0, 0, 6], [0, 0, 4.0, 7], [0, 0, 0, 1]])
    found = Explanation(values, values, 0, "benign", 0.5, "grad_cam")
    assert found.peak_mm(Volume(np.zeros((1, 3, 4, 5)), affine)) == (7.0, 0.0, 19.0)
    unknown = Volume(np.zeros((1, 3, 4, 5)), affine, has_geometry=False)
    assert found.peak_mm(unknown) is None
    for shape in itertools.product((1, 2), repeat=2):
        assert Explanation(
            np.ones(shape, dtype=np.float32), values, 0, "b", 0.5, "occlusion"
        ).peak() == (0, 0)
