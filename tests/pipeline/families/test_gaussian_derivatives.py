"""Derivatives are scipy's, and the invariants do not change when the image is turned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from pipeline.families.gaussian_derivatives import (
    derivatives,
    gradient_magnitude,
    hessian_eigenvalues,
    orders,
)

SHAPES = [(2, 2, 13, 17), (2, 1, 9, 10, 11)]


def noise(shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape)).float()


def test_orders_are_all_up_to_the_second() -> None:
    assert orders(2) == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    assert len(orders(3)) == len(set(orders(3))) == 1 + 3 + 6


@pytest.mark.parametrize("shape", SHAPES, ids=["2D", "3D"])
@pytest.mark.parametrize("sigma", [0.7, 1.5, 4.0])
def test_derivatives_are_scipys_times_sigma_to_the_order(
    shape: tuple[int, ...], sigma: float
) -> None:
    x = noise(shape)
    for order, found in derivatives(x, sigma).items():
        expected = ndimage.gaussian_filter(
            x.double().numpy(), (0, 0, *[sigma] * len(order)), (0, 0, *order), mode="nearest"
        )
        assert np.allclose(found.numpy(), expected * sigma ** sum(order), atol=2e-5), order


@pytest.mark.parametrize("shape", SHAPES, ids=["2D", "3D"])
def test_eigenvalues_are_numpys_in_rising_order(shape: tuple[int, ...]) -> None:
    ndim = len(shape) - 2
    found = derivatives(noise(shape), 1.3)
    hessian = np.zeros((*shape, ndim, ndim))
    for a in range(ndim):
        for b in range(ndim):
            order = tuple((axis == a) + (axis == b) for axis in range(ndim))
            hessian[..., a, b] = found[order].double().numpy()
    expected = np.linalg.eigvalsh(hessian)
    assert np.allclose(torch.stack(hessian_eigenvalues(found), -1), expected, atol=2e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_flat_image_has_no_slope_and_no_curvature(ndim: int) -> None:
    """Equal eigenvalues, where the closed form divides nothing by nothing.

    A kernel that ends at 4 sigma, as scipy's does, leaves 0.03 % of the brightness.
    """
    found = derivatives(torch.full((1, 1, *[6] * ndim), 5.0), 2.0)
    for response in (gradient_magnitude(found), *hessian_eigenvalues(found)):
        assert torch.isfinite(response).all()
        assert response.abs().max() < 5.0 * 4e-4


@pytest.mark.parametrize("axes", [(2, 3), (2, 4), (3, 4)])
def test_invariants_turn_with_the_volume(axes: tuple[int, int]) -> None:
    x = noise((1, 1, 9, 9, 9))
    plain, turned = (derivatives(v, 1.0) for v in (x, torch.rot90(x, 1, axes)))
    for before, after in zip(
        (gradient_magnitude(plain), *hessian_eigenvalues(plain)),
        (gradient_magnitude(turned), *hessian_eigenvalues(turned)),
        strict=True,
    ):
        assert torch.allclose(torch.rot90(before, 1, axes), after, atol=1e-5)


def test_a_blob_is_found_at_its_scale() -> None:
    """Scale normalisation: the Laplacian of a blob of width s is strongest at sigma = s."""
    squared = ((np.indices((61, 61)) - 30.0) ** 2).sum(axis=0)
    blob = torch.from_numpy(np.exp(-squared / (2 * 4.0**2))).float()[None, None]
    sigmas = [2.0, 3.0, 4.0, 5.0, 6.0]
    strength = [
        float(-sum(v[0, 0, 30, 30] for v in hessian_eigenvalues(derivatives(blob, sigma))))
        for sigma in sigmas
    ]
    assert sigmas[int(np.argmax(strength))] == 4.0
