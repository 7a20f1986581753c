"""The whole chain in one command, ending in words: what was found, and where to look."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.cohort import MedMnistSource, PhantomSource
from data_prep.files import read_table
from data_prep.ingest import raw_root
from data_prep.manifest import load_manifest
from data_prep.phantom import write_inbox
from data_prep.readers.medmnist import find_npz, open_npz
from data_prep.splits import SPLIT_TABLE, SplitRow
from data_prep.stage import new_stage
from pipeline import engines, model_stages, stages, study_stages
from pipeline.console import heading, say
from pipeline.workspace import Workspace, open_workspace

STUDY = "demo"
_INBOX_IMAGES = 20


def run_demo(
    data: str,
    runs: Path,
    workers: int | None,
    tracking_uri: str | None,
    *,
    study: str | None = None,
    prep: str | None = None,
) -> None:
    """Run every stage on one cohort, then predict an inbox of new scans.

    Args:
        data: The cohort.
        runs: Folder of all results.
        workers: Processes; None: one for each core.
        tracking_uri: Tracking URI; None: that of ``runs``.
        study: Which study is run, as it stands; None: ``demo``, made to fit a small cohort.
        prep: Prep config in place of the cohort's own.

    Raises:
        MedcurveError: As the stages do.
    """
    started = time.monotonic()
    workspace = open_workspace(runs, data, prep)
    name = study or STUDY
    study_stages.read_study(name)  # what is wrong with it is said before scans are read
    count = engines.workers(workers)
    heading("1 of 5  scans → store")
    stages.scans_to_store(workspace, count)
    heading("2 of 5  store → study")
    found = study_stages.study_stage(workspace, name, count, tracking_uri, to_fit=study is None)
    heading("3 of 5  study → model")
    model = model_stages.release_stage(workspace, name, tracking_uri)
    heading("4 of 5  model → predictions")
    predictions = workspace.folder / "predictions"
    unseen = find_unseen(workspace)
    options = model_stages.BatchOptions(processes=count)
    model_stages.predict_stage(str(model), unseen, predictions, options, runs, tracking_uri)
    heading("5 of 5  what was found")
    for sentence in found.sentences:
        say(f"• {sentence}")
    say("")
    say(f"report:       {workspace.study(name) / 'report.html'}")
    say(f"predictions:  {predictions / 'predictions.csv'}")
    say(f"model:        {model}")
    say(f"evaluation:   {workspace.evaluation(model.name)}")
    say(f"compare runs: make ui{'' if runs == Path('runs') else f' RUNS={runs}'}")
    say(f"done in {time.monotonic() - started:.0f} s")


def find_unseen(workspace: Workspace) -> list[Path]:
    """Scans that the model has not been trained on.

    A phantom cohort gets an inbox of new patients (DICOM and NIfTI mixed), a MedMNIST cohort one
    of test images as PNG or NIfTI files; one file in each is cut off. For a folder of one's own,
    the files of its test scans.
    """
    source = workspace.cohort.source
    folder = workspace.folder / "inbox"
    if isinstance(source, PhantomSource):
        with new_stage(folder, "inbox", {}, source.phantom.model_dump(mode="json")) as partial:
            write_inbox(source.phantom, partial)
        return [folder]
    if isinstance(source, MedMnistSource):
        path = find_npz(source.dataset, source.size)
        assert path is not None
        images = open_npz(path, source.dataset).images["test"]
        with new_stage(folder, "inbox", {}, source.model_dump(mode="json")) as partial:
            _write_images(partial, images[:_INBOX_IMAGES])
        return [folder]
    root = raw_root(workspace.cohort, workspace.runs)
    records, _ = load_manifest(workspace.manifest)
    rows = read_table(workspace.splits / SPLIT_TABLE, SplitRow)
    test = {row.scan_id for row in rows if row.split == "test"}
    return [root / path for r in records if r.scan_id in test for path in r.paths]


def _write_images(folder: Path, images: NDArray[np.uint8]) -> None:
    """(N, H, W[, 3]) as PNG, (N, D, H, W) as NIfTI, and a copy of the first that is cut off."""
    volumes = images.ndim == 4 and images.shape[-1] != 3
    suffix = ".nii.gz" if volumes else ".png"
    for number, image in enumerate(images):
        path = folder / f"test-{number:03d}{suffix}"
        if volumes:
            nib.Nifti1Image(image, np.eye(4)).to_filename(path)  # type: ignore[no-untyped-call]
        else:
            Image.fromarray(image).save(path)
    whole = (folder / f"test-000{suffix}").read_bytes()
    (folder / f"truncated{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
