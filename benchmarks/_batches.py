"""What the benchmarks of `medcurve predict` share: scans on disk, and a model of them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from data_prep.miniature import pixel_digest
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers.policy import DEFAULT_POLICY
from data_prep.scan_look import look_at
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.evaluation.results import Evaluation, Score
from pipeline.families import FamilyConfig, build_family
from pipeline.serving.card import TrainingRecord
from pipeline.serving.package import ModelPackage, save_package
from pipeline.serving.seen import SeenScans
from pipeline.trust.config import TrustConfig
from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.trusted import fit_trusted

TASK = Task(kind="binary", class_names=("healthy", "lesion"))


def smooth(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A 12-bit image that compresses about as an MR scan does: a smooth field and noise."""
    rng = np.random.default_rng(seed)
    field = np.zeros(shape)
    for axis, edge in enumerate(shape):
        waves = np.sin(np.linspace(0, 3 + rng.random() * 6, edge) + rng.random() * 6)
        field += waves.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    noise = rng.integers(0, 40, shape)
    body = field > -0.5  # air around it, as in most scans
    return np.where(body, (field + 3) * 300 + noise, 0).astype(np.int16)


def write_niftis(folder: Path, count: int, shape: tuple[int, int, int]) -> None:
    """Volumes as ``.nii.gz``, in LPS, as most converters write them."""
    folder.mkdir(parents=True)
    for number in range(count):
        image = nib.Nifti1Image(smooth(shape, number), np.diag([-1.5, -1.5, 2.5, 1.0]))
        nib.save(image, folder / f"{number:05d}.nii.gz")


def write_dicoms(folder: Path, count: int, edge: int) -> None:
    """Single uncompressed images of 12 bits in 16, each a study of its own."""
    folder.mkdir(parents=True)
    for number in range(count):
        ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        kind = DigitalXRayImageStorageForPresentation
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = kind
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[f"image {number}"])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.SeriesInstanceUID = generate_uid(entropy_srcs=[f"series {number}"])
        ds.StudyInstanceUID = generate_uid(entropy_srcs=[f"study {number}"])
        ds.PatientID, ds.Modality = f"P{number}", "DX"
        ds.Rows = ds.Columns = edge
        ds.PixelSpacing = [0.4, 0.4]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.PixelData = smooth((edge, edge), number).astype(np.uint16).tobytes()
        ds.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)


def model(folder: Path, prep: dict[str, object], family: dict[str, object]) -> ModelPackage:
    """A package whose network has its first weights, with all that a released one has."""
    config = PrepConfig.model_validate(prep)
    shape = config.shape
    raw = [Volume(smooth(shape, 900 + n)[None], np.eye(4), has_geometry=False) for n in range(24)]
    recipe = PrepRecipe.fit(config, raw[:4])
    arrays = [recipe.apply(volume) for volume in raw]
    chosen = FamilyConfig.model_validate(family)
    fitted = build_family(chosen, TASK, arrays[0].shape, 3)
    target = np.arange(24, dtype=np.int64) % 2
    names = np.array([f"s{n}" for n in range(24)])
    scans = Scans(torch.from_numpy(np.stack(arrays)), target, names, names)
    if chosen.family == "linear":
        fitted.fit(scans, scans)
    prepared = fitted.prepare(scans.x)
    features = fitted.features(prepared)
    looks = [look_at(volume, array) for volume, array in zip(raw, arrays, strict=True)]
    trust = TrustConfig()
    return save_package(
        folder,
        fitted,
        chosen,
        DEFAULT_POLICY,
        recipe,
        TrainingRecord(
            data="noise",
            store="a" * 64,
            study="",
            cell="",
            patients=24,
            scans=24,
            chosen="-",
            seen=SeenScans.of(
                [pixel_digest(volume) for volume in raw], [], looks=[x.fingerprint for x in looks]
            ),
        ),
        fit_trusted(trust, TASK, target, fitted.predict_proba(prepared), names, seed=0),
        fit_shift_reference(
            looks[::2], features[::2], looks[1::2], features[1::2], trust.shift.false_alarms
        ),
        Evaluation(
            patients=8,
            scans=8,
            resamples=100,
            level=0.95,
            metrics={"auc": Score(value=0.75, low=0.5, high=0.9)},
        ),
    )
