"""Builders for the serving tests: a cohort of hand-made scans and a small fitted model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers.policy import DEFAULT_POLICY
from data_prep.scan_look import look_at
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.evaluation.results import Evaluation, Score
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family
from pipeline.serving.card import TrainingRecord
from pipeline.serving.package import ModelPackage, save_package
from pipeline.trust.config import TrustConfig
from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.shift_reference import ShiftReference
from pipeline.trust.trusted import fit_trusted

BINARY = Task(kind="binary", class_names=("healthy", "lesion"))
MULTI_LABEL = Task(kind="multi-label", class_names=("mass", "effusion", "nodule"))

TRUST = TrustConfig()

MakePackage = Callable[..., ModelPackage]


def prep_config(shape: tuple[int, ...]) -> PrepConfig:
    """Z-scored scans of one shape, in a stated orientation."""
    return PrepConfig.model_validate(
        {
            "orientation": "RAS" if len(shape) == 3 else "as stored",
            "spacing_mm": None,
            "shape": shape,
            "fit": "resize",
            "intensity": {"kind": "z_score"},
            "channels": 1,
        }
    )


def random_volume(shape: tuple[int, ...], seed: int) -> Volume:
    """Noise in 0..255 without geometry."""
    array = np.random.default_rng(seed).integers(0, 256, size=(1, *shape)).astype(np.int16)
    return Volume(array, np.eye(4), has_geometry=False)


def reference_of(
    family: Family[Any], recipe: PrepRecipe, familiar: Sequence[Volume], config: TrustConfig
) -> ShiftReference:
    """What these scans look like; every other one is held out."""
    arrays = [recipe.apply(volume) for volume in familiar]
    looks = [look_at(volume, array) for volume, array in zip(familiar, arrays, strict=True)]
    features = family.features(family.prepare(torch.from_numpy(np.stack(arrays))))
    return fit_shift_reference(
        looks[::2], features[::2], looks[1::2], features[1::2], config.shift.false_alarms
    )


@pytest.fixture
def make_package(tmp_path: Path) -> MakePackage:
    """Fit a family on noise and save it as a package."""

    def build(
        shape: tuple[int, ...] = (6, 5, 4),
        task: Task = BINARY,
        name: str = "model",
        family: str = "linear",
        params: dict[str, Any] | None = None,
        familiar: Sequence[Volume] = (),
        config: TrustConfig = TRUST,
    ) -> ModelPackage:
        recipe = PrepRecipe.fit(prep_config(shape), [random_volume(shape, s) for s in range(4)])
        rng = np.random.default_rng(7)
        x = torch.from_numpy(rng.standard_normal((24, 1, *shape)).astype(np.float32))
        signal = x.reshape(24, -1)[:, : task.n_classes].numpy()
        if task.is_multi_label:
            target = (signal > 0).astype(np.int64)
        else:
            target = np.argmax(signal, axis=1).astype(np.int64)
        names = np.array([f"s{n}" for n in range(24)])
        scans = Scans(x, target, names, names)
        chosen = FamilyConfig.model_validate({"family": family, "params": params or {}})
        fitted = build_family(chosen, task, (1, *shape), 3)
        prepared = scans.with_x(fitted.prepare(scans.x))
        fitted.fit(prepared, prepared)
        probability = fitted.predict_proba(prepared.x)
        trust = fit_trusted(config, task, target, probability, names, seed=0)
        return save_package(
            tmp_path / name,
            fitted,
            chosen,
            DEFAULT_POLICY,
            recipe,
            TrainingRecord(
                data="noise", store="a" * 64, study="", cell="", patients=24, scans=24, chosen="-"
            ),
            trust,
            reference_of(fitted, recipe, familiar, config) if familiar else None,
            Evaluation(
                patients=8,
                scans=8,
                resamples=100,
                level=0.95,
                metrics={"auc": Score(value=0.75, low=0.5, high=0.9)},
            ),
        )

    return build


def _voxels(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, size=shape).astype(np.int16)


class Write:
    """Small scan files of noise, as other programs would write them."""

    @staticmethod
    def nifti(path: Path, seed: int, shape: tuple[int, ...] = (8, 7, 6)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        affine = np.diag([-1.5, 1.0, 2.0, 1.0])
        nib.save(nib.Nifti1Image(_voxels(seed, shape), affine), path)

    @staticmethod
    def png(path: Path, seed: int, shape: tuple[int, int] = (9, 8)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_voxels(seed, shape).astype(np.uint8)).save(path)

    @staticmethod
    def dicom_series(folder: Path, seed: int, shape: tuple[int, ...] = (7, 8, 6)) -> None:
        """An axial MR series of ``shape`` (rows, columns, slices), its files in random order."""
        folder.mkdir(parents=True, exist_ok=True)
        array = _voxels(seed, shape)
        for number in range(shape[2]):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = MRImageStorage
            meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{seed}.{number + 1}"
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image = Dataset()
            image.file_meta = meta
            image.SOPClassUID = MRImageStorage
            image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
            image.StudyInstanceUID = f"1.2.826.0.2.{seed}"
            image.SeriesInstanceUID = f"1.2.826.0.3.{seed}"
            image.FrameOfReferenceUID = f"1.2.826.0.4.{seed}"
            image.PatientID = f"P{seed}"
            image.PatientName = "Nobody^Here"
            image.Modality = "MR"
            image.Rows, image.Columns = shape[:2]
            image.PixelSpacing = [1.25, 1.5]
            image.SliceThickness = 2
            image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            image.ImagePositionPatient = [-10, -12, 2.0 * number]
            image.InstanceNumber = shape[2] - number
            image.RescaleSlope, image.RescaleIntercept = 1, 0
            image.SamplesPerPixel = 1
            image.PhotometricInterpretation = "MONOCHROME2"
            image.BitsAllocated = image.BitsStored = 16
            image.HighBit = 15
            image.PixelRepresentation = 1
            image.PixelData = array[:, :, number].tobytes()
            image.save_as(folder / f"{(number * 5) % shape[2]}.dcm", enforce_file_format=True)

    @staticmethod
    def truncate(path: Path, share: float = 0.6) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])


@pytest.fixture
def write() -> type[Write]:
    """Writers of small scan files."""
    return Write
