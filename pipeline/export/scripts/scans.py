"""From files to a table of probabilities, by MONAI's loading and medcurve's preprocessing.

MONAI has no transforms that are equal to a medcurve recipe: its ``Spacing`` does not smooth where
voxels grow. So ``Prepare`` is the recipe itself, and needs medcurve, but none of its models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image, ImageOps

from data_prep.errors import ScanError
from data_prep.files import write_csv
from data_prep.preprocess import PrepRecipe
from data_prep.volume import Volume

_SUFFIXES: Final = (".nii", ".nii.gz", ".png", ".jpg", ".jpeg")
_PLAIN_MODES: Final = ("L", "I;16", "I", "F", "RGB")
# xyzt_units of a NIfTI file, low three bits: millimetres in a metre and in a micrometre.
_MM_PER_UNIT: Final = {1: 1000.0, 3: 0.001}


def scans_under(folder: str) -> list[dict[str, str]]:
    """The images below a folder, sorted: ``image`` is the path, ``scan`` its name in the table.

    Raises:
        FileNotFoundError: Where there are none.
    """
    root = Path(folder)
    paths = sorted(path for path in root.rglob("*") if path.name.lower().endswith(_SUFFIXES))
    if not paths:
        raise FileNotFoundError(
            f"no scan under {folder} ({', '.join(_SUFFIXES)}); give the folder of scans as "
            "dataset_dir"
        )
    return [{"image": str(path), "scan": path.relative_to(root).as_posix()} for path in paths]


def upright(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF data say: Pillow leaves that to the one who reads.

    Raises:
        ScanError: ``raster.unsupported_mode`` where its numbers are not grey or red, green, blue.
    """
    if image.mode not in _PLAIN_MODES:
        raise ScanError(
            "raster.unsupported_mode",
            f"colour mode {image.mode}; allowed: {', '.join(_PLAIN_MODES)}",
            fix="convert it, or answer it with `medcurve predict`, which reads more kinds",
        )
    return ImageOps.exif_transpose(image)


class Prepare:
    """A loaded scan -> what the network takes, as ``medcurve predict`` prepares it.

    Args:
        recipe: Path of ``recipe.json``.
        without_geometry: Whether NIfTI files that state no orientation are taken, as
            ``ReadPolicy.nifti_without_geometry``.
    """

    def __init__(self, recipe: str, without_geometry: str) -> None:
        self._recipe = PrepRecipe.from_json(json.loads(Path(recipe).read_text()))
        self._accepts = without_geometry == "accept"

    def __call__(self, scan: Mapping[str, Any]) -> dict[str, Any]:
        """Replace ``image`` by a (C, I, J[, K]) float32 tensor.

        Raises:
            ScanError: Naming the file, where the recipe does not take it.
        """
        try:
            volume = volume_of(scan["image"])
            if not (volume.has_geometry or self._accepts or volume.spatial_ndim == 2):
                raise ScanError("nifti.no_geometry", "qform_code and sform_code are both 0")
            return {**scan, "image": torch.from_numpy(self._recipe.apply(volume))}
        except ScanError as error:
            raise ScanError(
                error.code, f"{scan['scan']}: {error.message}", fix=error.fix
            ) from error


def volume_of(image: Any) -> Volume:
    """A ``MetaTensor`` (C, I, J[, K]), as MONAI's readers give it, as medcurve's scan.

    Raises:
        ScanError: ``volume.*``.
    """
    array, meta = image.numpy(), image.meta
    if array.ndim == 4 and array.shape[3] == 1:  # a NIfTI file of one slice is an image
        array = array[..., 0]
    affine = image.affine.numpy().copy()
    affine[:3] *= _MM_PER_UNIT.get(int(meta.get("xyzt_units", 0)) & 7, 1.0)
    codes = [int(meta.get(name, 0)) for name in ("sform_code", "qform_code")]
    return Volume(array, affine, has_geometry=max(codes) > 0)


class Evaluator:
    """Answers every scan and writes the table, what MONAI's evaluators need pytorch-ignite for.

    Args:
        loader: Batches of ``image`` and ``scan``.
        network: Takes ``image``.
        inferer: MONAI's.
        device: Of ``network``.
        classes: Their names.
        out: The CSV file: ``scan`` and ``p_CLASS`` of each.
    """

    def __init__(
        self,
        loader: Iterable[Mapping[str, Any]],
        network: Callable[[Any], torch.Tensor],
        inferer: Callable[..., torch.Tensor],
        device: torch.device,
        classes: Sequence[str],
        out: str,
    ) -> None:
        self._loader, self._network, self._inferer = loader, network, inferer
        self._device, self._classes, self._out = device, classes, Path(out)

    def run(self) -> None:
        """Answer all scans, then write."""
        rows: list[list[str]] = []
        with torch.no_grad():
            for batch in self._loader:
                found = self._inferer(batch["image"].to(self._device), self._network)
                for scan, probability in zip(batch["scan"], found.tolist(), strict=True):
                    rows.append([scan, *(f"{p:.6f}" for p in probability)])
        self._out.parent.mkdir(parents=True, exist_ok=True)
        write_csv(self._out, ["scan", *(f"p_{name}" for name in self._classes)], rows)
