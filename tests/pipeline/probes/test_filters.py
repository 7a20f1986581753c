"""Both operators are scipy's; the gallery shows the weights that it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probed import cnn, scans_of
from scipy import ndimage

from pipeline.probes import filters
from pipeline.probes.base import ProbeError
from pipeline.probes.filters import Filters, convolved, correlated


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.sampled_from([1, 3, 5]),
    columns=st.sampled_from([1, 3, 7]),
    seed=st.integers(0, 1000),
)
def test_both_operators_are_scipys(rows: int, columns: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    image, weights = draw.normal(size=(9, 11)), draw.normal(size=(rows, columns))
    ours = correlated(torch.from_numpy(image), torch.from_numpy(weights)).numpy()
    np.testing.assert_allclose(ours, ndimage.correlate(image, weights, mode="nearest"), atol=1e-12)
    ours = convolved(torch.from_numpy(image), torch.from_numpy(weights)).numpy()
    np.testing.assert_allclose(ours, ndimage.convolve(image, weights, mode="nearest"), atol=1e-12)


def test_mirroring_matters_where_a_kernel_has_a_side() -> None:
    found = Filters().measure(cnn(), scans_of((1, 20, 20)), seed=0)
    assert found["correlation_error"] < 1e-12
    assert found["convolution_error"] < 1e-12
    assert found["symmetric_difference"] < 1e-12
    assert found["asymmetric_difference"] == pytest.approx(2)


def test_an_operator_that_does_not_mirror_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "convolved", correlated)
    found = Filters().measure(cnn(), scans_of((1, 20, 20)), seed=0)
    assert found["convolution_error"] > 0.1
    assert found["asymmetric_difference"] == 0


def test_the_gallery_shows_the_weights_that_it_says() -> None:
    family = cnn((2, 20, 20))
    gallery = Filters(sigma=1.0, size=7).gallery(family, seed=0)
    assert list(gallery) == ["fixed", "random", "learned", "pretrained"]
    assert all(len(members) == 4 for members in gallery.values())
    first = family.net.get_parameter("stem.0.weight").detach().mean(dim=1)
    strongest = int(first.flatten(1).norm(dim=1).argmax())
    name, weights = gallery["learned"][0]
    assert name == f"channel {strongest}"
    torch.testing.assert_close(weights, first[strongest].double())
    for _, weights in gallery["random"]:
        assert weights.shape == (7, 7)
        assert abs(float(weights.mean())) < 1e-12
    fixed = dict(gallery["fixed"])
    assert float(fixed["blur"].sum()) == pytest.approx(1)
    assert abs(float(fixed["horizontal edge"].sum())) < 1e-6
    assert gallery["pretrained"][0][1].shape == (3, 3)


def test_edges_answer_to_edges_and_blobs_to_blobs() -> None:
    fixed = dict(Filters(sigma=1.0).gallery(cnn(), seed=0)["fixed"])
    rows = torch.arange(21).double()
    step = (rows > 10).double()[:, None].expand(21, 21)  # dark above, bright below
    answer = correlated(step, fixed["horizontal edge"])
    assert int(answer[:, 10].argmax()) in (10, 11)
    assert float(answer.max()) > 0.3
    assert float(correlated(step, fixed["vertical edge"]).abs().max()) < 1e-6
    blob = torch.exp(-((rows - 10) ** 2) / 2)
    answer = correlated(torch.outer(blob, blob), fixed["Laplacian"])
    assert int(answer.argmin()) == 10 * 21 + 10


def test_volumes_are_refused() -> None:
    shape = (1, 8, 8, 8)
    with pytest.raises(ProbeError) as raised:
        Filters().measure(cnn(shape), scans_of(shape), seed=0)
    assert raised.value.code == "probe.not_2d"


def test_an_operator_that_does_not_mirror_is_no_convolution() -> None:
    family, scans = cnn((1, 20, 18)), scans_of((1, 20, 18))
    found = Filters(mirrored=False).measure(family, scans, seed=0)
    assert found["correlation_error"] < 1e-12 < 0.1 < found["convolution_error"]
    assert found["asymmetric_difference"] == found["symmetric_difference"] == 0
