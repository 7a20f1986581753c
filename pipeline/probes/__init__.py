"""Measurements of what a fitted network does, as numbers and as pictures.

To add one: a file here, a line in ``ProbeConfig`` and one in ``PROBES``. Probes know families and
scans, and neither studies nor stores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from data_prep.config import is_path, read_config
from data_prep.errors import ConfigError, nearest
from data_prep.yaml_file import read_yaml
from pipeline.probes.adversarial import Adversarial
from pipeline.probes.base import Probe
from pipeline.probes.cost import Cost
from pipeline.probes.equivariance import Equivariance
from pipeline.probes.filters import Filters
from pipeline.probes.foreign import Foreign
from pipeline.probes.influence import Influence
from pipeline.probes.position import Position
from pipeline.probes.receptive_field import ReceptiveField
from pipeline.probes.steadiness import Steadiness

ProbeConfig = Annotated[
    Equivariance
    | Influence
    | Position
    | ReceptiveField
    | Filters
    | Adversarial
    | Cost
    | Foreign
    | Steadiness,
    Field(discriminator="probe"),
]

PROBES: Final[dict[str, type[Probe]]] = {
    "equivariance": Equivariance,
    "influence": Influence,
    "position": Position,
    "receptive_field": ReceptiveField,
    "filters": Filters,
    "adversarial": Adversarial,
    "cost": Cost,
    "foreign": Foreign,
    "steadiness": Steadiness,
}


def bounds_of(measured: str) -> tuple[float, float]:
    """Least and largest value of what is measured, ``probe/quantity``."""
    return PROBES[measured.partition("/")[0]].bounds


def load_probe(name: str) -> Probe:
    """A probe as it is by default, or as a YAML file has it, whose field ``probe`` says which.

    Raises:
        ConfigError: ``probe.unknown``, or as ``read_config``.
    """
    kind = read_yaml(Path(name))[0].get("probe") if is_path(name) else name
    if not isinstance(kind, str) or kind not in PROBES:
        names = list(PROBES)
        found = f"{name}: probe is '{kind}'" if is_path(name) else f"no probe '{kind}'"
        raise ConfigError(
            "probe.unknown",
            f"{found}{nearest(str(kind), names)}",
            fix=f"use one of {', '.join(names)}, or a YAML file whose field 'probe' is one",
        )
    return read_config(Path(name), PROBES[kind]) if is_path(name) else PROBES[kind]()
