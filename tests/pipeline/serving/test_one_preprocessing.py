"""One preprocessing: the model is given, bit for bit, what it was trained on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_prep.cohort import CohortConfig, SplitConfig
from data_prep.files import read_json, read_table
from data_prep.ingest import ingest
from data_prep.manifest import ScanReader, load_manifest
from data_prep.prep import AS_READ, prepare_store
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.scan_look import AsRead, look_back
from data_prep.splits import split_cohort
from data_prep.store import Store
from pipeline.serving.inference import predict
from pipeline.serving.package import ModelPackage
from pipeline.serving.prepared import PrepareScan
from pipeline.serving.seen import NONE_SEEN

N = 24
VOLUMES = {
    "orientation": "RAS",
    "spacing_mm": 1.7,
    "shape": (7, 6, 5),
    "fit": "crop_or_pad",
    "intensity": {"kind": "nyul"},
}
IMAGES = {"shape": (6, 5), "intensity": {"kind": "training_z_score"}, "channels": 1}


@dataclass(frozen=True, eq=False)
class Recording(ModelPackage):
    """A model that keeps what it is given."""

    seen: list[np.ndarray] = field(default_factory=list)

    def look(self, x):
        self.seen.extend(x.numpy())
        return super().look(x)


def turn(path: Path, number: int) -> None:
    """Store a NIfTI volume in another of the 48 orientations."""
    image = nib.load(path)
    codes = [("R", "A", "S"), ("S", "L", "P"), ("A", "I", "R"), ("P", "R", "I")][number % 4]
    wanted = nib.orientations.axcodes2ornt(codes)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), wanted)
    )
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)


def write_volumes(write, root: Path) -> list[str]:
    names = []
    for number in range(N):
        if number % 2:
            names.append(f"series/{number:02}")
            write.dicom_series(root / names[-1], number)
        else:
            names.append(f"nifti/{number:02}.nii.gz")
            write.nifti(root / names[-1], number)
            turn(root / names[-1], number // 2)
    return names


def write_images(write, root: Path) -> list[str]:
    names = []
    for number in range(N):
        if number % 2:
            write.dicom_series(root / f"image/{number:02}", number, (9, 8, 1))
            names.append(f"image/{number:02}/0.dcm")
        else:
            names.append(f"png/{number:02}.png")
            write.png(root / names[-1], number)
    return names


@pytest.mark.parametrize(
    ("write_scans", "prep"), [(write_volumes, VOLUMES), (write_images, IMAGES)], ids=["3d", "2d"]
)
def test_predict_makes_the_tensors_that_are_in_the_store(
    make_package, write, tmp_path: Path, write_scans: Callable[..., list[str]], prep
) -> None:
    names = write_scans(write, tmp_path / "scans")
    with (tmp_path / "scans" / "labels.csv").open("w", newline="") as file:
        rows = [(name, f"p{n}", "yes" if n % 4 > 1 else "no") for n, name in enumerate(names)]
        csv.writer(file).writerows([("scan", "patient_id", "label"), *rows])
    source = {"kind": "folder", "root": str(tmp_path / "scans")}
    config = CohortConfig.model_validate({"name": "made", "source": source, "prep": "x"})
    assert ingest(config, tmp_path, tmp_path / "manifest").scans == N
    split_cohort(tmp_path / "manifest", SplitConfig(), tmp_path / "splits")
    prepare_store(
        ScanReader(tmp_path / "scans"),
        tmp_path / "manifest",
        tmp_path / "splits",
        PrepConfig.model_validate(prep),
        tmp_path / "store",
    )
    store = Store.open(tmp_path / "store")
    recipe = PrepRecipe.from_json(read_json(tmp_path / "store" / "recipe.json"))
    assert recipe.statistics  # fitted, so that a recipe fitted elsewhere would give other bits

    package = make_package(prep["shape"])
    # through JSON, as a package on disk has it
    travelled = PrepRecipe.from_json(json.loads(json.dumps(recipe.to_json())))
    card = package.card.model_copy(update={"recipe": travelled})
    model = Recording(card, package.family, None, package.digest)
    summary = predict(model, [tmp_path / "scans"], tmp_path / "out", workers=2)
    assert (summary.ok, summary.quarantined) == (N, 0)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        predicted = [row["scan"] for row in csv.DictReader(file)]
    assert sorted(predicted) == sorted(names)

    records, _ = load_manifest(tmp_path / "manifest")
    first_file = {record.scan_id: record.paths[0] for record in records}
    prepared = ScanReader(tmp_path / "scans").read(records, PrepareScan(travelled, NONE_SEEN))
    read = {record.scan_id: scan for record, scan in zip(records, prepared, strict=True)}
    by_id = {row.scan_id: row for row in read_table(store.folder / AS_READ, AsRead)}
    compared = 0
    for row in store.index:
        path = first_file[row.scan_id]
        (at,) = [n for n, name in enumerate(predicted) if path == name or f"{name}/" in path]
        stored = store.read([row])[0]
        assert stored.tobytes() == model.seen[at].tobytes()
        assert stored.std() > 0
        then = look_back(by_id[row.scan_id], stored)
        now = read[row.scan_id].look
        assert {k: repr(v) for k, v in asdict(then).items()} == {
            k: repr(v) for k, v in asdict(now).items()
        }
        compared += 1
    assert compared == N
