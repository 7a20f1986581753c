"""Scenes: small images of two classes with a Bayes error that is exactly known.

What is seen decides the class but for labels that are flipped with a stated probability. Noise is
bounded, and small enough beside the signal that no two classes share an image, so that the Bayes
probability of a scene is ``label_noise`` or ``1 - label_noise`` and nothing in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from data_prep.config import Config
from data_prep.phantom_law import Range, check_range
from data_prep.phantom_write import refuse_full, write_labels, write_pixels
from data_prep.progress import Progress, silent
from data_prep.scene_draw import OVERLAP, Floats, turning
from data_prep.scene_tasks import (
    Configuration,
    Count,
    Leaves,
    Location,
    PatternSize,
    Pose,
    Position,
    Presence,
    TextureDirection,
    TextureWavelength,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
AnySceneTask = Annotated[
    Presence
    | Configuration
    | Count
    | TextureDirection
    | TextureWavelength
    | PatternSize
    | Location
    | Position
    | Leaves,
    Field(discriminator="kind"),
]

# Of a 16-bit file: what grey level 1 is stored as, in every scene of every cohort.
FULL_SCALE: Final = 65535
# Noise is uniform, up to this many standard deviations either way.
_NOISE_REACH: Final = float(np.sqrt(3))
# A T and an L that are turned by any angle differ by 0.49 in some pixel, wherever they lie: noise
# of an eighth of the contrast never reaches half of that.
_MOST_NOISE_TURNED: Final = 0.125
_SCENE: Final = 2  # stream of random numbers; a phantom's are 0 and 1


class SceneConfig(Config):
    """A cohort of scenes, one scan a patient; classes are drawn by coin.

    Grey levels are from 0 to 1 (``FULL_SCALE`` in the file). A scan is
    ``gain * (grey + contrast * signal + noise)``, and nothing is clipped.

    Attributes:
        task: What decides the class.
        n_patients: Patients, and scans.
        seed: Decides everything that is random.
        edge_px: Rows and columns.
        label_noise: Probability that the label is not the class that is seen: the Bayes error.
        contrast: Brightness of a dot or a wave above its surroundings.
        noise: Standard deviation of noise (uniform, so that it has bounds), independent between
            pixels; at most a quarter of ``contrast`` (of ``leaves``, 0.0025 of it), an eighth where
            ``rotation_deg`` is not 0.
        grey: Darkest and brightest surroundings; uniform, one level a scan.
        gain: Smallest and largest gain, log-uniform, one a scan.
        inverted: Share of scans in which bright and dark are exchanged. At 0.5 every pixel's mean
            is the same in both classes.
        translation_px: Largest shift of the whole arrangement along each axis, in whole pixels.
        rotation_deg: Largest turn of each pattern about its own middle, the same for all of a scan.
        orientation: Whether each pattern is also turned by quarters and mirrored, in one of the
            eight ways of the square, the same for all of a scan.
    """

    task: AnySceneTask
    n_patients: Annotated[int, Field(ge=1, le=100_000)] = 600
    seed: Annotated[int, Field(ge=0)] = 0
    edge_px: Annotated[int, Field(ge=16, le=512, multiple_of=8)] = 32
    label_noise: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    contrast: Annotated[float, Field(gt=0, le=1)] = 0.12
    noise: Fraction = 0.015
    grey: Range = (0.25, 0.25)
    gain: Range = (1.0, 1.0)
    inverted: Fraction = 0.0
    translation_px: Annotated[int, Field(ge=0)] = 0
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    orientation: bool = False

    @field_validator("grey", "gain")
    @classmethod
    def _check_range(cls, value: Range) -> Range:
        return check_range(value)

    @model_validator(mode="after")
    def _check(self) -> SceneConfig:
        for nuisance, why in self.task.refused.items():
            if getattr(self, nuisance):
                raise ValueError(f"{nuisance} is not for task '{self.task.kind}': {why}")
        if self.rotation_deg > self.task.most_rotation_deg:
            raise ValueError(
                f"rotation_deg {self.rotation_deg:g} is too much for task '{self.task.kind}': at "
                f"most {self.task.most_rotation_deg:g}, or the class could not be told"
            )
        room = self.task.room_px(self.edge_px, self._swells)
        if self.translation_px > room:
            raise ValueError(
                f"edge_px {self.edge_px} is too small for task '{self.task.kind}'"
                if room < 0
                else f"translation_px {self.translation_px} would move the arrangement out of the "
                f"image: at most {room}, or a larger edge_px"
            )
        noise = min(self.task.most_noise, _MOST_NOISE_TURNED if self._swells else 1.0)
        most = noise * self.contrast
        if self.noise > most:
            raise ValueError(
                f"noise {self.noise:g} is too much for contrast {self.contrast:g}: above "
                f"{most:.4g} the class could not be seen for sure, and the Bayes error not known"
            )
        reach = self.contrast * (OVERLAP if self._swells else 1.0) + _NOISE_REACH * self.noise
        darkest, brightest = self.grey[0] - reach, self.gain[1] * (self.grey[1] + reach)
        if darkest < 0 or brightest > 1:
            raise ValueError(
                f"grey levels would reach from {self.gain[0] * darkest:.3g} to {brightest:.3g}, "
                "beyond 0 to 1: change grey, contrast, noise or gain"
            )
        return self

    @property
    def class_names(self) -> tuple[str, str]:
        """First and second class."""
        return self.task.class_names

    @property
    def bayes_error(self) -> float:
        """Share of labels that the best classifier gets wrong: those that are flipped."""
        return self.label_noise

    @property
    def bayes_auc(self) -> float:
        """AUC of the class that is seen: no classifier has more on average.

        With classes of equal frequency the one threshold has a true positive rate of 1 - e and a
        false positive rate of e; the area under the line through it is 1 - e.
        """
        return 1 - self.label_noise

    @property
    def _swells(self) -> bool:
        return self.rotation_deg > 0


@dataclass(frozen=True, eq=False)
class Scene:
    """One scan and what is true of it.

    Attributes:
        patient_id: Stable name.
        shown: The class that is seen.
        label: The class that it is said to be.
        bayes: True probability of each class, given the pixels.
        pixels: (rows, columns) uint16, ``FULL_SCALE`` times the grey levels.
    """

    patient_id: str
    shown: str
    label: str
    bayes: tuple[float, float]
    pixels: NDArray[np.uint16]


def draw_scene(config: SceneConfig, number: int) -> Scene:
    """Scene ``number`` of a cohort, the same whatever other scenes are drawn."""
    rng = np.random.default_rng([config.seed, _SCENE, number])
    second, flipped = bool(rng.random() < 0.5), bool(rng.random() < config.label_noise)
    likely, unlikely = 1 - config.label_noise, config.label_noise
    names = config.class_names
    return Scene(
        patient_id=f"S{number:05d}",
        shown=names[second],
        label=names[second != flipped],
        bayes=(unlikely, likely) if second else (likely, unlikely),
        pixels=np.rint(FULL_SCALE * _grey_levels(config, second, rng)).astype(np.uint16),
    )


def write_scenes(config: SceneConfig, root: Path, progress: Progress = silent) -> None:
    """Write a cohort as 16-bit PNG files and ``labels.csv``.

    ``labels.csv`` has the columns scan (path of the file), patient_id, label, and
    ``bayes_<class>`` for each class.

    Args:
        config: The cohort.
        root: Folder to write into; it is made where it does not exist.
        progress: Told (patients done, patients in all).

    Raises:
        StageError: ``phantom.not_empty`` if ``root`` holds anything.
    """
    refuse_full(root)
    root.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = []
    for number in range(config.n_patients):
        scene = draw_scene(config, number)
        name = f"{scene.patient_id}.png"
        write_pixels(root / name, scene.pixels)
        rows.append((name, scene.patient_id, scene.label, *scene.bayes))
        progress(number + 1, config.n_patients)
    write_labels(root, config.class_names, rows)


def _grey_levels(config: SceneConfig, second: bool, rng: np.random.Generator) -> Floats:
    """What the scan shows, from 0 to 1. Nothing but the signal looks at the class."""
    gain = np.exp(rng.uniform(*np.log(config.gain)))
    grey = rng.uniform(*config.grey)
    sign = -1.0 if rng.random() < config.inverted else 1.0
    most = config.translation_px
    shift = rng.integers(-most, most, size=2, endpoint=True).astype(np.float64)
    quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    degrees = float(rng.uniform(-config.rotation_deg, config.rotation_deg))
    turn = (
        turning(quarters, mirrored, degrees) if config.orientation else turning(0, False, degrees)
    )
    pose = Pose(config.edge_px, most, shift, turn, config._swells)
    signal = config.task.draw(second, pose, rng)
    reach = _NOISE_REACH * config.noise
    noise = rng.uniform(-reach, reach, size=signal.shape)
    return np.asarray(gain * (grey + sign * config.contrast * signal + noise))
