"""Measurements of what a fitted network does, as numbers and as pictures.

To add one: a file here, a line in ``ProbeConfig`` and one in ``PROBES``. Probes know families and
scans, and neither studies nor stores.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from pipeline.probes.adversarial import Adversarial
from pipeline.probes.base import Probe
from pipeline.probes.equivariance import Equivariance
from pipeline.probes.filters import Filters
from pipeline.probes.influence import Influence
from pipeline.probes.position import Position
from pipeline.probes.receptive_field import ReceptiveField

ProbeConfig = Annotated[
    Equivariance | Influence | Position | ReceptiveField | Filters | Adversarial,
    Field(discriminator="probe"),
]

PROBES: Final[dict[str, type[Probe]]] = {
    "equivariance": Equivariance,
    "influence": Influence,
    "position": Position,
    "receptive_field": ReceptiveField,
    "filters": Filters,
    "adversarial": Adversarial,
}
