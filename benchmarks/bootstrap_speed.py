"""How long do 10,000 resamples of 2,000 patients take, beside a loop over scikit-learn?

    OMP_NUM_THREADS=1 python benchmarks/bootstrap_speed.py

Processor time of one core; the loop is timed over 50 resamples and counted 200-fold.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from data_prep.task import Task
from pipeline.evaluation.decision import Decision
from pipeline.evaluation.scores import evaluate

_PATIENTS, _RESAMPLES, _LOOPED = 2000, 10_000, 50


def main() -> int:
    """Print the table."""
    rng = np.random.default_rng(0)
    task = Task(kind="binary", class_names=("healthy", "ill"))
    target = (rng.random(_PATIENTS) < 0.3).astype(np.int64)
    p = 1 / (1 + np.exp(-(1.5 * target - 1 + rng.normal(size=_PATIENTS))))
    rows, ids = np.stack([1 - p, p], axis=1), np.arange(_PATIENTS).astype(np.str_)
    started = time.process_time()
    evaluate(task, target, rows, ids, Decision(), resamples=_RESAMPLES)
    ours = time.process_time() - started
    print("| What | s of processor time | ratio |")
    print("|---|---|---|")
    print(f"| every metric, with intervals | {ours:.2f} | 1 |")
    for metric in (roc_auc_score, average_precision_score):
        started = time.process_time()
        for _ in range(_LOOPED):
            drawn = rng.integers(_PATIENTS, size=_PATIENTS)
            metric(target[drawn], p[drawn])
        looped = (time.process_time() - started) * _RESAMPLES / _LOOPED
        name = metric.__name__
        print(f"| a loop over `{name}` alone | {looped:.1f} | {looped / ours:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
