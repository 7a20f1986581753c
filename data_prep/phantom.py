"""Synthetic cohorts whose truth is known, written to disk as a hospital would send them.

A cohort is decided by its config alone: each patient has a random stream of its own, so that the
same patient comes out whatever else is generated, in whatever order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from data_prep.config import Config
from data_prep.files import digest
from data_prep.geometry import reorient
from data_prep.phantom_law import LesionLaw, Range, check_range
from data_prep.phantom_render import Anatomy, Ball, Variation, draw_anatomy, inside_ball, render
from data_prep.phantom_write import (
    ScanHeader,
    refuse_full,
    write_dicom,
    write_labels,
    write_nifti,
    write_png,
)
from data_prep.progress import Progress, silent
from data_prep.volume import Affine, Volume

Fraction = Annotated[float, Field(ge=0, le=1)]
FileFormat = Literal["dicom", "nifti", "png"]

# Half the field of view that every scan covers at least (mm): the body and a margin of air.
_FIELD_MM: Final = (52.0, 40.0, 48.0)
# Fields of view differ by this factor, so that resizing to one shape does not replace spacing.
_FIELD_LARGEST: Final = 1.4
_PNG_SPACING_MM: Final = 1.0  # what a reader has to assume where a file states no spacing
_COHORT, _INBOX = 0, 1  # streams of random numbers
_POSITIVE: Final = str.maketrans("LPI", "RAS")


class PhantomConfig(Config):
    """A phantom cohort.

    Attributes:
        ndim: 3 for volumes, 2 for single axial images.
        n_patients: Patients; about six in ten have one scan, three have two, one has three.
        seed: Decides everything that is random.
        law: What the classes depend on.
        dicom: Fraction of scans written as DICOM; the others are NIfTI (3D) or PNG (2D). A PNG
            states no geometry: it is written upright, at 1 mm.
        modality: MR (no unit, each scan has its own gain and offset) or CT (Hounsfield units).
        any_orientation: Each scan's axes lie in an order and direction of its own (48 for NIfTI, 24
            for DICOM, whose readers stack slices right-handed, 8 for a 2D image).
        spacing_mm: Smallest and largest voxel size; each axis of each scan has its own.
        slice_mm: The same for the distance between slices of a DICOM series.
        gain: Smallest and largest scanner gain (log-uniform); MR only.
        noise: Standard deviation of the scanner's noise, as a fraction of soft tissue.
        body_size: Relative standard deviation of the body's size.
        lobe: Standard deviation of the brightness of each lobe.
        vessels: Most vessels in a lobe.
        jitter: How far a lesion lies from its lobe's middle, 0 to 1.
        texture: Standard deviation of the tissue's texture.
    """

    ndim: Literal[2, 3] = 3
    n_patients: Annotated[int, Field(ge=1, le=100_000)] = 240
    seed: Annotated[int, Field(ge=0)] = 0
    law: LesionLaw = LesionLaw()
    dicom: Fraction = 0.4
    modality: Literal["MR", "CT"] = "MR"
    any_orientation: bool = True
    spacing_mm: Range = (2.5, 5.0)
    slice_mm: Range = (5.0, 7.0)
    gain: Range = (0.4, 2.5)
    noise: Fraction = 0.03
    body_size: Fraction = 0.06
    lobe: Fraction = 0.05
    vessels: Annotated[int, Field(ge=0, le=20)] = 2
    jitter: Fraction = 0.6
    texture: Fraction = 0.03

    @field_validator("spacing_mm", "slice_mm", "gain")
    @classmethod
    def _check_range(cls, value: Range) -> Range:
        return check_range(value)


@dataclass(frozen=True, eq=False)
class PhantomScan:
    """One scan of a phantom patient, as the scanner gives it.

    Attributes:
        name: File or folder, relative to the cohort's root.
        number: 1, 2 or 3 within its patient.
        format: How it is written.
        volume: Scanner values, oriented and spaced as the file will be.
    """

    name: str
    number: int
    format: FileFormat
    volume: Volume


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """One phantom patient.

    Attributes:
        patient_id: Stable name.
        label: The class that was drawn.
        bayes: True probability of each class of ``law.class_names``.
        scans: One to three.
        lesion: Where it is, in the patient's frame (RAS+ millimetres).
    """

    patient_id: str
    label: str
    bayes: tuple[float, ...]
    scans: tuple[PhantomScan, ...]
    lesion: Ball

    def lesion_mask(self, volume: Volume) -> NDArray[np.bool_]:
        """(I, J[, K]): the voxels of the lesion in a scan of this patient, as it is read.

        A PNG states no geometry: give the phantom's own ``PhantomScan.volume``, whose voxels are
        the same.
        """
        return inside_ball(self.lesion, volume)


def draw_patient(config: PhantomConfig, number: int, stream: int = _COHORT) -> PhantomPatient:
    """Patient ``number`` of a cohort, the same whatever other patients are drawn."""
    rng = np.random.default_rng([config.seed, stream, number])
    law = config.law
    lesion = law.draw(rng)
    bayes = law.probabilities(lesion)
    label = law.class_names[int(rng.choice(law.n_classes, p=bayes))]
    variation = Variation(
        config.body_size, config.lobe, config.vessels, config.jitter, config.texture
    )
    anatomy = draw_anatomy(lesion, variation, config.ndim, rng)
    patient_id = f"{'PX'[stream]}{number:05d}"
    count = int(rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1)))
    scans = []
    for scan in range(1, count + 1):
        own = np.random.default_rng([config.seed, stream, number, scan])
        scans.append(_draw_scan(config, anatomy, patient_id, scan, own))
    return PhantomPatient(patient_id, label, bayes, tuple(scans), anatomy.balls[-1])


def write_phantom(config: PhantomConfig, root: Path, progress: Progress = silent) -> None:
    """Write a cohort: scans, and ``labels.csv`` with the true probability of each class.

    ``labels.csv`` has the columns scan (path of the file, or of the series' folder), patient_id,
    label, and ``bayes_<class>`` for each class.

    Args:
        config: The cohort.
        root: Folder to write into; it is made where it does not exist.
        progress: Told (patients done, patients in all).

    Raises:
        StageError: ``phantom.not_empty`` if ``root`` holds anything.
    """
    refuse_full(root)
    rows: list[tuple[object, ...]] = []
    for number in range(config.n_patients):
        patient = draw_patient(config, number)
        for scan in patient.scans:
            _write_scan(config, root, patient.patient_id, scan)
            rows.append((scan.name, patient.patient_id, patient.label, *patient.bayes))
        progress(number + 1, config.n_patients)
    write_labels(root, config.law.class_names, rows)


def write_inbox(
    config: PhantomConfig, root: Path, n_patients: int = 6, progress: Progress = silent
) -> None:
    """Write new patients of the same kind without labels, and one file that is cut off.

    Formats alternate between patients, so that both kinds are there.

    Raises:
        StageError: ``phantom.not_empty`` if ``root`` holds anything.
    """
    refuse_full(root)
    for number in range(n_patients):
        dicom = float(number % 2 == 0)
        patient = draw_patient(config.model_copy(update={"dicom": dicom}), number, _INBOX)
        for scan in patient.scans:
            _write_scan(config, root, patient.patient_id, scan)
        progress(number + 1, n_patients)
    extra = draw_patient(config.model_copy(update={"dicom": 0.0}), n_patients, _INBOX).scans[0]
    whole = replace(extra, name=f"truncated{_suffix(config, extra.format)}")
    _write_scan(config, root, "", whole)
    path = root / whole.name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def _draw_scan(
    config: PhantomConfig,
    anatomy: Anatomy,
    patient_id: str,
    number: int,
    rng: np.random.Generator,
) -> PhantomScan:
    """Put a patient into a scanner."""
    form: FileFormat = "nifti" if config.ndim == 3 else "png"
    if rng.random() < config.dicom:
        form = "dicom"
    code = _draw_orientation(config, form, rng)
    axes = _draw_grid(config, form, code, rng)
    image = render(anatomy, axes)
    image += config.noise * rng.normal(size=image.shape)
    values = _scanner_values(config, image, rng)
    volume = reorient(Volume(values[np.newaxis], _affine(axes)), code)
    name = f"{patient_id}/scan{number}{_suffix(config, form)}"
    return PhantomScan(name, number, form, volume)


def _draw_orientation(config: PhantomConfig, form: FileFormat, rng: np.random.Generator) -> str:
    if form == "png" or not config.any_orientation:
        return "RAS" if config.ndim == 3 else "PL"
    pairs = np.array(["RL", "AP", "SI"][: config.ndim])
    return "".join(pair[rng.integers(2)] for pair in rng.permutation(pairs))


def _draw_grid(
    config: PhantomConfig, form: FileFormat, code: str, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Coordinates of the voxel centres along x, y (and z), in mm."""
    spacing = rng.uniform(*config.spacing_mm, size=config.ndim)
    if form == "dicom" and config.ndim == 3:
        # The slices of a series lie along the last axis of the array.
        spacing["RAS".index(code[2].translate(_POSITIVE))] = rng.uniform(*config.slice_mm)
    if form == "png":
        spacing[:] = _PNG_SPACING_MM
    axes = []
    for half, step in zip(_FIELD_MM[: config.ndim], spacing, strict=True):
        count = int(np.ceil(2 * half * rng.uniform(1.0, _FIELD_LARGEST) / step))
        axes.append(rng.uniform(-4.0, 4.0) + (np.arange(count) - (count - 1) / 2) * step)
    return axes


def _affine(axes: Sequence[NDArray[np.float64]]) -> Affine:
    affine = np.eye(4)
    for column, axis in enumerate(axes):
        affine[column, column] = axis[1] - axis[0]
        affine[column, 3] = axis[0]
    return affine


def _scanner_values(
    config: PhantomConfig, image: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Fractions of soft tissue as the scanner's own numbers."""
    if config.modality == "CT":
        return 1040 * image - 1000  # Hounsfield units: air -1000, soft tissue about 40
    low, high = np.log(config.gain)
    gain, offset = np.exp(rng.uniform(low, high)), rng.uniform(100.0, 400.0)
    return np.asarray(200 * gain * image + offset, dtype=np.float64)


def _suffix(config: PhantomConfig, form: FileFormat) -> str:
    """A DICOM volume is a folder of slices, everything else one file."""
    if form == "dicom":
        return "" if config.ndim == 3 else ".dcm"
    return ".nii.gz" if form == "nifti" else ".png"


def _write_scan(config: PhantomConfig, root: Path, patient_id: str, scan: PhantomScan) -> None:
    path = root / scan.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if scan.format == "dicom":
        header = ScanHeader(
            patient_id=patient_id,
            series=scan.number,
            cohort=digest(config.model_dump(mode="json")),
            modality=config.modality,
        )
        write_dicom(path, scan.volume, header)
    elif scan.format == "nifti":
        write_nifti(path, scan.volume)
    else:
        write_png(path, scan.volume)
