"""A released model as one torch program: prepared scans in, calibrated probabilities out."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pipeline.serving.package import ModelPackage
from pipeline.trust.calibration_traced import traced_calibration

INPUT: Final = "scans"
_TRACED_SCANS: Final = 3  # any number but 1, which torch.export takes for a constant


class Program(nn.Module):
    """(N, C, I, J[, K]) float32, as ``recipe.apply`` gives scans -> what ``twin.OUTPUTS`` names.

    The calibrated probabilities (N, n_classes) and those before calibration, both float64, and the
    features (N, D) float32, by which a scan is told from the training scans.
    """

    def __init__(self, package: ModelPackage) -> None:
        super().__init__()
        self._package = package

    def forward(self, scans: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes out of a batch."""
        raw, features = self._package.family.forward(scans)
        trust = self._package.card.trust
        return traced_calibration(trust.calibration, self._package.task, raw), raw, features


def traced(package: ModelPackage) -> ExportedProgram:
    """The program of a model, for any number of scans at once."""
    example = torch.zeros(_TRACED_SCANS, *package.card.scan_shape)
    with torch.no_grad():
        return torch.export.export(
            Program(package).eval(), (example,), dynamic_shapes=({0: Dim("batch", min=1)},)
        )
