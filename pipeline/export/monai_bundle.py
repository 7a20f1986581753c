"""A model as a MONAI bundle: the folder that ``monai.bundle`` reads, with nothing pickled in it.

MONAI's own bundles hold ``models/model.pt``, a pickled state of a network that a config builds by
name. Here ``models/model.pt2`` is the network and its weights in one (``torch_file``): families are
no networks of MONAI's, and a second definition of one could differ from the first.

The layout: https://docs.monai.io/en/stable/mb_specification.html
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from data_prep.stage import medcurve_version
from pipeline.export.torch_file import TORCH_FILE
from pipeline.serving.package import ModelPackage

METADATA: Final = "configs/metadata.json"
INFERENCE: Final = "configs/inference.json"
RECIPE: Final = "configs/recipe.json"
README: Final = "docs/README.md"
_SCHEMA: Final = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_USE: Final = "Research; not for diagnosis."


def bundle_files(package: ModelPackage, program: bytes) -> dict[str, bytes]:
    """Path in the bundle -> content.

    Args:
        package: The model.
        program: It as ``torch_bytes`` gives it.
    """
    scripts = sorted(Path(__file__).with_name("scripts").glob("*.py"))
    return {
        METADATA: _encoded(metadata(package)),
        INFERENCE: _encoded(inference(package)),
        RECIPE: _encoded(package.recipe.to_json()),
        f"models/{TORCH_FILE}": program,
        README: _readme(package).encode(),
        **{f"scripts/{path.name}": path.read_bytes() for path in scripts},
    }


def metadata(package: ModelPackage) -> dict[str, Any]:
    """What ``metadata.json`` says, by MONAI's schema of 2024-07-25."""
    import monai

    channels, *edges = package.card.scan_shape
    classes = package.task.class_names
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": channels,
        "spatial_shape": edges,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(at): f"channel {at}" for at in range(channels)},
    }
    answer = {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(classes),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(at): name for at, name in enumerate(classes)},
    }
    return {
        "schema": _SCHEMA,
        "version": f"1.0.0+{package.digest[:12]}",
        "changelog": {"1.0.0": "exported by medcurve"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {
            "medcurve": medcurve_version(),
            **{name: _version(name) for name in ("nibabel", "pillow")},
        },
        "name": f"medcurve {package.card.family.family}",
        "task": f"{package.task.kind} classification of {len(edges)}D scans: {', '.join(classes)}",
        "description": f"Model {package.digest}, fitted on the cohort "
        f"'{package.card.training.data}'. Prepared scan to calibrated probabilities.",
        "authors": "not stated by the model package",
        "copyright": "not stated by the model package",
        "data_source": f"cohort '{package.card.training.data}'",
        "eval_metrics": {name: score.value for name, score in package.card.test.metrics.items()},
        "intended_use": _USE,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": answer}},
    }


def inference(package: ModelPackage) -> dict[str, Any]:
    """The workflow ``monai.bundle run`` follows: a folder of scans to a table."""
    keys = {"keys": "image"}
    return {
        "imports": ["$import torch", "$import scripts.scans as scans"],
        "bundle_root": ".",
        "dataset_dir": "./scans",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cpu')",
        "classes": list(package.task.class_names),
        "network_def": {
            "_target_": "scripts.network.Network",
            "path": f"$@bundle_root + '/models/{TORCH_FILE}'",
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **keys, "reader": ["NibabelReader", "@pictures"]},
                {"_target_": "EnsureChannelFirstd", **keys},
                {
                    "_target_": "scripts.scans.Prepare",
                    "recipe": f"$@bundle_root + '/{RECIPE}'",
                    "without_geometry": package.card.read.nifti_without_geometry,
                },
            ],
        },
        "pictures": {
            "_target_": "PILReader",
            "converter": "$scans.upright",
            "reverse_indexing": False,
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$scans.scans_under(@dataset_dir)",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 4,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {"_target_": "SimpleInferer"},
        "evaluator": {
            "_target_": "scripts.scans.Evaluator",
            "loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "device": "@device",
            "classes": "@classes",
            "out": "$@output_dir + '/predictions.csv'",
        },
        "run": ["$@evaluator.run()"],
    }


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=4, ensure_ascii=False).encode() + b"\n"


def _readme(package: ModelPackage) -> str:
    channels, *edges = package.card.scan_shape
    shape = " x ".join(map(str, edges))
    return f"""# A medcurve model for MONAI

`{package.card.family.family}`, model `{package.digest}`. {_USE}

    cd THIS_FOLDER
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir SCANS

writes `eval/predictions.csv`: for each NIfTI, PNG or JPEG file below SCANS the calibrated
probability of {", ".join(package.task.class_names)}. MONAI's command line needs `pip install fire`;
`monai.bundle.run(config_file=..., dataset_dir=...)` does not.

* **Network**: `models/{TORCH_FILE}`, read by `torch.export.load`: prepared scans, float32, N x
  {channels} x {shape}, to probabilities. It needs torch alone, is for the CPU, and holds no pickle;
  there is no `models/model.pt`, so `monai.bundle.load` and `ckpt_export` do not apply.
* **Loading** is MONAI's (`LoadImaged`). A file that the model cannot take ends the run, by name.
* **Preprocessing** is medcurve's recipe (`configs/recipe.json`) and needs medcurve
  {medcurve_version()}, but not the package of the model.
* Prediction sets and the test for unfamiliar scans are not here: `medcurve predict` has them.
* No licence comes with the weights; who passes the bundle on states one.
"""
