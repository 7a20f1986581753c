"""Can the probes of a study look at its families? Asked before the first cell."""

from __future__ import annotations

from collections.abc import Collection

from data_prep.store import Store
from pipeline.dataset import load_rows
from pipeline.families import build_family
from pipeline.families.base import FamilyError
from pipeline.probes.base import ProbeError
from pipeline.study.errors import StudyError
from pipeline.study.grid import Plan


def check_probes(plan: Plan, store: Store, families: Collection[str]) -> None:
    """Build the families that are probed, with first weights, and let each probe look at its own.

    Args:
        plan: The study.
        store: What it runs on.
        families: Whose cells are to be computed.

    Raises:
        StudyError: ``study.unfit_probe``.
    """
    probed = {name: probes for name, probes in plan.config.probes.items() if name in families}
    if not any(probed.values()):
        return
    shape = load_rows(store, store.rows("train")[:1]).scan_shape
    for name, probes in probed.items():
        try:
            family = build_family(plan.families[name], plan.task, shape, plan.seeds[0])
        except FamilyError:  # not made for these scans: its cells say so
            continue
        for number, probe in enumerate(probes):
            try:
                probe.check(family)
            except ProbeError as error:
                raise StudyError(
                    "study.unfit_probe",
                    f"probes.{name}.{number}: '{probe.probe}' cannot look at family '{name}': "
                    f"{error.message}",
                    fix=f"take it out of probes.{name} in the study's file, or {error.fix}",
                ) from error
