"""How often a learning curve's 95 % intervals hold the truth, on simulated scores.

    python benchmarks/curve_coverage.py [--studies 1000]

A cell's score is 0 plus an effect of the test patients, of its subset and of its seed, each normal.
A point's interval is to hold 0. "Before" is the plain percentile interval of the same resamples,
without Student's t. Seed 0; about a minute.
"""

from __future__ import annotations

import argparse

import numpy as np

from pipeline.study.learning_curve import Draws, Replicates, distribution, interval

RESAMPLES = 1000
CASES = (  # subsets, seeds, and the standard deviation by patients, subsets and seeds
    (1, 3, 0.0, 0.0, 1.0),
    (1, 3, 1.0, 0.0, 1.0),
    (1, 3, 1.0, 0.0, 4.0),
    (2, 1, 1.0, 1.0, 0.0),
    (2, 3, 1.0, 1.0, 1.0),
    (2, 3, 1.0, 3.0, 0.0),
    (3, 3, 1.0, 2.0, 0.0),
    (5, 3, 0.0, 1.0, 1.0),
    (5, 3, 1.0, 1.0, 1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    rng = np.random.default_rng(0)
    print("| subsets x seeds | sd by patients, subsets, seeds | before | now | wider by |")
    print("|---|---|---|---|---|")
    for subsets, seeds, *sd in CASES:
        draws = Draws.of(subsets, seeds, RESAMPLES, 0)
        held, width = np.zeros(2), np.zeros(2)
        for _ in range(studies):
            cells = scores(rng, subsets, seeds, *sd)
            drawn = distribution(cells, draws)
            for at, freedom in enumerate((np.inf, cells.freedom)):
                low, high = interval(drawn, 0.95, freedom)
                held[at] += low <= 0 <= high
                width[at] += high - low
        before, now = held / studies
        spread = ", ".join(f"{part:g}" for part in sd)
        wider = width[1] / width[0]
        print(f"| {subsets} x {seeds} | {spread} | {before:.1%} | {now:.1%} | {wider:.2f} |")


def scores(
    rng: np.random.Generator, subsets: int, seeds: int, patients: float, subset: float, seed: float
) -> Replicates:
    """Cells of one study, and what they are on each resample of its test patients."""
    values = (
        rng.normal(0, patients)
        + rng.normal(0, subset, (subsets, 1))
        + rng.normal(0, seed, (1, seeds))
    )
    return Replicates(values, values[..., None] + rng.normal(0, patients, RESAMPLES))


if __name__ == "__main__":
    main()
