"""Do prediction sets of a refitted model hold the true class as often as they say?

    OMP_NUM_THREADS=1 python benchmarks/refit_coverage.py [--draws COHORTS]

Many small cohorts are drawn from one population: scans of 8 x 8 pixels, noise but for four pixels
that tell the class. Of each, a third of the patients validates. A family is released as it
is (fitted on the others, the rest learnt on validation) and refitted (``release --refit``), by
the code of the release; sets of 90 % are then asked about 2,000 new scans.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from data_prep.progress import silent
from data_prep.scan_look import ScanLook, look_at
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family
from pipeline.metrics import score
from pipeline.serving.refit import refit_on_all
from pipeline.trust.config import TrustConfig
from pipeline.trust.trusted import Trusted, fit_trusted

TASK: Final = Task(kind="binary", class_names=("healthy", "lesion"))
NEW: Final = 2_000
FAMILIES: Final[dict[str, dict[str, Any]]] = {
    "linear": {},
    "mlp": {"widths": [16], "train": {"epochs": 6, "min_steps": 60, "batch_size": 16}},
}


@dataclass(frozen=True)
class Found:
    """Of one cohort: share of new scans whose set holds the class, set size, log loss."""

    coverage: float
    size: float
    log_loss: float


def scans_of(patients: int, seed: int) -> Scans:
    """One scan a patient, half of them with a lesion."""
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(patients) % 2)
    x = rng.standard_normal((patients, 1, 8, 8)).astype(np.float32)
    x[:, 0, 0, :4] += 0.7 * target[:, None].astype(np.float32)
    names = np.array([f"p{n}" for n in range(patients)])
    return Scans(torch.from_numpy(x), target, names, names)


def looks_of(scans: Scans) -> list[ScanLook]:
    """What reading them would note."""
    return [look_at(Volume(a, np.eye(4), has_geometry=False), a) for a in scans.x.numpy()]


def judged(family: Family[Any], trust: Trusted, new: Scans) -> Found:
    """A model with its sets on new scans."""
    p = trust.calibration.apply(TASK, family.predict_proba(family.prepare(new.x)))
    sets = trust.conformal.sets(TASK, p)
    held = sets[np.arange(len(new)), new.target]
    return Found(held.mean(), sets.sum(axis=1).mean(), score(TASK, new.target, p)["log_loss"])


def both(config: FamilyConfig, patients: int, seed: int) -> tuple[Found, Found]:
    """One cohort, released as it is and refitted."""
    scans, new = scans_of(patients, seed), scans_of(NEW, 1_000_000 + seed)
    family = build_family(config, TASK, scans.scan_shape, 0)
    prepared = scans.with_x(family.prepare(scans.x))
    validates = np.arange(patients) % 3 == 0
    train, val = (prepared.take(np.flatnonzero(part)) for part in (~validates, validates))
    family.fit(train, val)
    plain = fit_trusted(
        TrustConfig(), TASK, val.target, family.predict_proba(val.x), val.patient_ids, seed=0
    )
    found = refit_on_all(config, TASK, scans, looks_of(scans), 0, 1, silent)
    again = fit_trusted(
        TrustConfig(), TASK, scans.target, found.probability, scans.patient_ids, seed=0
    )
    return judged(family, plain, new), judged(found.family, again, new)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=40)
    draws = parser.parse_args().draws
    print(
        "| Family | Patients | Release | Coverage | SD of cohorts | Classes in a set | Log loss |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, params in FAMILIES.items():
        config = FamilyConfig.model_validate({"family": name, "params": params})
        for patients in (60, 150):
            pairs = [both(config, patients, seed) for seed in range(draws)]
            for way, results in zip(("plain", "refit"), zip(*pairs, strict=True), strict=True):
                table = np.array([(r.coverage, r.size, r.log_loss) for r in results])
                mean, spread = table.mean(axis=0), table[:, 0].std(ddof=1)
                print(
                    f"| {name} | {patients} | {way} | {mean[0]:.3f} | {spread:.3f} | "
                    f"{mean[1]:.2f} | {mean[2]:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
