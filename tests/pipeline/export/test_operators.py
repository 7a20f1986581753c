"""What ONNX is told to do in an operator's place is what the operator does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.export.operators import OPERATORS

ATEN = torch.ops.aten
SHAPES = {2: (7, 5), 3: (7, 5, 4)}


@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("cells", [1, 2, 3, 4])
def test_cells_are_pooled_as_torch_pools_them(ndim: int, cells: int) -> None:
    x = torch.randn(2, 3, *SHAPES[ndim], generator=torch.Generator().manual_seed(cells))
    mean = {2: ATEN.adaptive_avg_pool2d.default, 3: ATEN.adaptive_avg_pool3d.default}[ndim]
    most = {2: ATEN.adaptive_max_pool2d.default, 3: ATEN.adaptive_max_pool3d.default}[ndim]
    wanted = (cells,) * ndim
    assert torch.allclose(OPERATORS[mean](x, wanted), mean(x, wanted), atol=1e-6)
    assert torch.equal(OPERATORS[most](x, wanted)[0], most(x, wanted)[0])


def test_an_axis_that_is_pooled_into_itself_is_left_alone() -> None:
    x = torch.randn(1, 1, 4, 6)
    found: Any = OPERATORS[ATEN.adaptive_avg_pool2d.default](x, (4, 3))
    assert torch.equal(found, x.unflatten(3, (3, 2)).mean(dim=4))


def test_sorting_and_the_longest_side() -> None:
    x = torch.tensor([[3.0, 1.0, 2.0]])
    values, indices = OPERATORS[ATEN.sort.stable](x, stable=True, dim=1)
    assert values.tolist() == [[1.0, 2.0, 3.0]]
    assert indices.tolist() == [[1, 2, 0]]
    assert OPERATORS[ATEN.hypot.default](torch.tensor(3.0), torch.tensor(4.0)) == 5.0
