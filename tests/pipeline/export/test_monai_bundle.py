"""MONAI itself runs the bundle of a model, and gives the answers of ``medcurve predict``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.errors import ConfigError, ScanError
from data_prep.files import sha256_file
from pipeline.export.monai_bundle import INFERENCE, METADATA, RECIPE
from pipeline.export.scripts import scans
from pipeline.export.write import export
from pipeline.export_stage import export_stage
from pipeline.serving.inference import predict
from pipeline.serving.package import ModelPackage
from pipeline.serving.package_files import MODEL, WEIGHTS

# What MONAI's schema of 2024-07-25 asks of a bundle's metadata, and of each tensor.
REQUIRED = {
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version"),
    *("required_packages_version", "task", "description", "authors", "copyright"),
    "network_data_format",
}
OF_A_TENSOR = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}


@pytest.fixture
def exported(tmp_path: Path, monkeypatch) -> Iterator[Callable[[ModelPackage], Path]]:
    """Export a model and stand in the bundle's folder; its ``scripts`` are forgotten afterwards."""
    bundle = tmp_path / "bundle"

    def build(package: ModelPackage) -> Path:
        record = export(package, "monai-bundle", bundle)
        assert record.files == {name: sha256_file(bundle / name) for name in record.files}
        monkeypatch.chdir(bundle)
        monkeypatch.syspath_prepend(str(bundle))
        return bundle

    yield build
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]


def table(path: Path) -> dict[str, list[float]]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {row["scan"]: [float(v) for k, v in row.items() if k[:2] == "p_"] for row in rows}


def same_by_monai(package, bundle: Path, given: Path) -> None:
    import monai.bundle

    monai.bundle.run(config_file=INFERENCE, meta_file=METADATA, dataset_dir=str(given))
    found = table(bundle / "eval" / "predictions.csv")
    predict(package, [given], given.parent / "expected")
    expected = table(given.parent / "expected" / "predictions.csv")
    assert len(expected) > 1
    assert found.keys() == expected.keys()
    for scan, probability in expected.items():
        assert found[scan] == pytest.approx(probability, abs=2e-6)


def test_volumes_by_monai(make_package, write, exported, tmp_path: Path) -> None:
    package = make_package((6, 5, 4))
    for seed in range(5):  # more than a batch
        write.nifti(tmp_path / "in" / "some" / f"{seed}.nii.gz", seed, (9 + seed, 7, 6))
    turned = np.array([[0, 0, -2, 9], [1.2, 0.1, 0, 3], [0, 3, 0, 0], [0, 0, 0, 1]])
    voxels = np.random.default_rng(8).integers(0, 90, (6, 9, 8)).astype(np.int16)
    image = nib.Nifti1Image(voxels, turned)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "in" / "turned.nii")
    same_by_monai(package, exported(package), tmp_path / "in")


def test_images_by_monai(make_package, write, exported, tmp_path: Path) -> None:
    package = make_package((9, 8))
    write.png(tmp_path / "in" / "grey.png", 1, (12, 8))
    colour = np.random.default_rng(0).integers(0, 255, (9, 14, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(colour).save(tmp_path / "in" / "turned.png", exif=exif)
    nib.save(nib.Nifti1Image(colour[:, :, :1], np.eye(4)), tmp_path / "in" / "slice.nii")
    same_by_monai(package, exported(package), tmp_path / "in")


def test_monai_finds_what_a_bundle_has_to_say(make_package, exported, tmp_path: Path) -> None:
    from monai.bundle import ConfigWorkflow, verify_net_in_out

    package = make_package((6, 5, 4))
    bundle = exported(package)
    said = json.loads((bundle / METADATA).read_text())
    assert set(said) >= REQUIRED
    for tensor in ("inputs", "outputs"):
        for part in said["network_data_format"][tensor].values():
            assert set(part) >= OF_A_TENSOR
    assert "medcurve" in said["required_packages_version"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    workflow = ConfigWorkflow(INFERENCE, METADATA, workflow_type="infer", dataset_dir="../in")
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.network_def(torch.zeros(2, 1, 6, 5, 4)).sum(1).tolist() == pytest.approx([1, 1])
    verify_net_in_out("network", METADATA, INFERENCE, device="cpu")
    text = "".join(path.read_text() for path in bundle.rglob("*.json"))
    assert str(tmp_path) not in text  # no path of this machine


def test_a_scan_that_the_model_does_not_take_is_named(make_package, tmp_path: Path) -> None:
    from monai.data import MetaTensor

    package = make_package((6, 5, 4))
    recipe = tmp_path / Path(RECIPE).name
    recipe.write_text(json.dumps(package.recipe.to_json()))
    image = MetaTensor(torch.rand(1, 6, 5, 4), meta={"sform_code": 0, "qform_code": 0})
    scan = {"image": image, "scan": "a.nii"}
    with pytest.raises(ScanError, match=r"a\.nii: qform_code") as told:
        scans.Prepare(str(recipe), "refuse")(scan)
    assert told.value.code == "nifti.no_geometry"
    prepared = scans.Prepare(str(recipe), "accept")(scan)["image"]
    assert prepared.shape == (1, 6, 5, 4)
    with pytest.raises(ScanError, match=r"b\.nii: the scan is 2D"):
        scans.Prepare(str(recipe), "refuse")({"image": image[..., :1], "scan": "b.nii"})
    metres = MetaTensor(torch.rand(1, 6, 5, 4), np.eye(4), meta={"xyzt_units": 1, "sform_code": 2})
    assert scans.volume_of(metres).spacing_mm == (1000.0, 1000.0, 1000.0)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no scan under"):
        scans.scans_under(str(tmp_path))
    with pytest.raises(ScanError, match="colour mode P"):
        scans.upright(Image.new("P", (3, 3)))


def test_a_bundle_does_not_lie_in_the_package(tmp_path: Path) -> None:
    for name in (MODEL, WEIGHTS):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match="writes into its own folder") as told:
        export_stage(str(tmp_path), "monai-bundle", None, [], tmp_path, None)
    assert told.value.code == "config.no_out"
