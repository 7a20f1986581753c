"""What decides a phantom patient's class: the law, apart from how it is drawn into an image.

A law draws what is true of a patient (the latent state z), gives the class probabilities P(y | z)
in closed form, and knows the best AUC that any classifier can reach.

Why P(y | z) is the Bayes probability P(y | x) of a scan x: the class is drawn from z alone, and
everything else in the image (anatomy, vessels, texture, scanner, orientation) is drawn without
looking at the class. So y and x are independent given z, and P(y | x) = E[P(y | z) | x]. The lesion
is drawn well above texture and noise, so x pins z down and the expectation is P(y | z) itself;
tests/data_prep/test_phantom.py measures z from finished scans to show how nearly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from data_prep.config import Config

Range = tuple[float, float]
Side = Literal["left", "right"]
Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Lesion:
    """The latent state z of a patient: all that the class depends on.

    Attributes:
        side: Anatomical side, the patient's own left or right.
        diameter_mm: Diameter of the ball.
        contrast: Brightness above the lobe around it, as a fraction of soft tissue above air; no
            scanner gain or offset changes it.
    """

    side: Side
    diameter_mm: float
    contrast: float


class LesionLaw(Config):
    """One lesion; its side, size and contrast are evidence for malignancy.

    Each kind of evidence can only be seen after one normalisation: the side after orientation, the
    size in millimetres after spacing, the contrast after intensity.

    With side s = ±1 (right +1) and size u and contrast v uniform on [-1, 1], the evidence is
    e = (w_s s + w_u u + w_v v) / (w_s + w_u + w_v), and log P(class k) is strength * k * e up to a
    constant (two classes: logistic regression; three: adjacent categories with a middle class
    that is likely where the evidence is small).

    Attributes:
        n_classes: 2 (benign, malignant) or 3 (benign, indeterminate, malignant).
        diameter_mm: Smallest and largest diameter.
        contrast: Smallest and largest contrast.
        side_weight: w_s.
        size_weight: w_u.
        contrast_weight: w_v.
        strength: How sure the evidence makes; 10 gives a best AUC of 0.95 at the other defaults.
        middle: Log odds in favour of the middle class of three.
    """

    kind: Literal["lesion"] = "lesion"
    n_classes: Literal[2, 3] = 2
    diameter_mm: Range = (9.0, 20.0)
    contrast: Range = (0.3, 0.9)
    side_weight: Weight = 0.6
    size_weight: Weight = 1.0
    contrast_weight: Weight = 1.0
    strength: Annotated[float, Field(gt=0)] = 10.0
    middle: float = 1.0

    @field_validator("diameter_mm", "contrast")
    @classmethod
    def _check_range(cls, value: Range) -> Range:
        return check_range(value)

    @model_validator(mode="after")
    def _check(self) -> LesionLaw:
        if self.side_weight + self.size_weight + self.contrast_weight == 0:
            raise ValueError("at least one weight must be above 0, else there is nothing to learn")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes from least to most evidence."""
        if self.n_classes == 2:
            return ("benign", "malignant")
        return ("benign", "indeterminate", "malignant")

    def draw(self, rng: np.random.Generator) -> Lesion:
        """A patient's latent state: side by coin, size and contrast uniform."""
        return Lesion(
            side="right" if rng.random() < 0.5 else "left",
            diameter_mm=float(rng.uniform(*self.diameter_mm)),
            contrast=float(rng.uniform(*self.contrast)),
        )

    def probabilities(self, lesion: Lesion) -> tuple[float, ...]:
        """P(class | z), in closed form, in the order of ``class_names``."""
        side = np.array(1.0 if lesion.side == "right" else -1.0)
        size = np.array(_unit(lesion.diameter_mm, self.diameter_mm))
        contrast = np.array(_unit(lesion.contrast, self.contrast))
        return tuple(float(p) for p in self._probabilities(side, size, contrast))

    def bayes_auc(self, nodes: int = 64) -> float:
        """AUC (macro one-vs-rest) of the true probabilities: no classifier does better on average.

        By the midpoint rule over z. With p = P(class | z), AUC = E[p (1 - p') 1(p > p')] /
        (E[p] E[1 - p]) for independent z and z', half for ties.

        Args:
            nodes: Grid points along size and along contrast; 64 is right to 1e-3.
        """
        grid = (np.arange(nodes) + 0.5) / nodes * 2 - 1
        side, size, contrast = np.meshgrid([-1.0, 1.0], grid, grid)
        probability = self._probabilities(side.ravel(), size.ravel(), contrast.ravel())
        classes = probability[:, 1:] if self.n_classes == 2 else probability
        return float(np.mean([_auc_of_truth(column) for column in classes.T]))

    def _probabilities(
        self, side: NDArray[np.float64], size: NDArray[np.float64], contrast: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        weights = self.side_weight, self.size_weight, self.contrast_weight
        total = weights[0] * side + weights[1] * size + weights[2] * contrast
        evidence = self.strength * total / sum(weights)
        if self.n_classes == 2:
            logits = np.stack([np.zeros_like(evidence), evidence], axis=-1)
        else:
            middle = evidence + self.middle
            logits = np.stack([np.zeros_like(evidence), middle, 2 * evidence], axis=-1)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=-1, keepdims=True), dtype=np.float64)


def check_range(value: Range) -> Range:
    """Refuse a range that is not two positive numbers in order.

    Raises:
        ValueError: If ``value`` is not 0 < low <= high.
    """
    low, high = value
    if not 0 < low <= high:
        raise ValueError(f"[{low:g}, {high:g}] is not a range: give two numbers, 0 < low <= high")
    return value


def _unit(value: float, limits: Range) -> float:
    """[low, high] to [-1, 1]; the middle where they are one."""
    low, high = limits
    return 0.0 if high == low else 2 * (value - low) / (high - low) - 1


def _auc_of_truth(p: NDArray[np.float64]) -> float:
    """AUC of the score p where a case is positive with probability p (equal scores count half)."""
    values, inverse = np.unique(p, return_inverse=True)
    positive = np.bincount(inverse, weights=p, minlength=len(values))
    negative = np.bincount(inverse, weights=1 - p, minlength=len(values))
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / (positive.sum() * negative.sum()))
