"""The stage that writes a model in another program's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import ConfigError, MedcurveError
from pipeline.console import say, warn
from pipeline.model_address import is_address
from pipeline.model_stages import check_model, open_package
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.export.write import Format


def export_stage(
    model: str, to: Format, out: Path | None, scans: Sequence[Path], runs: Path, uri: str | None
) -> None:
    """Export a model package, by folder or MLflow address; without ``out`` into its own folder.

    Raises:
        ConfigError: ``config.no_out`` where the model has no folder of its own, and for a MONAI
            bundle, whose runs would leave files in it.
    """
    check_model(model)
    if out is None and is_address(model):
        raise ConfigError(
            "config.no_out",
            f"{model} lies in MLflow's store, whose files are not changed",
            fix="say with --out where the export is to stand",
        )
    if out is None and to == "monai-bundle":
        raise ConfigError(
            "config.no_out",
            "a MONAI bundle writes into its own folder when it runs, and a model package holds "
            "nothing that it does not name",
            fix="say with --out where the bundle is to stand",
        )
    from pipeline.export.write import export
    from pipeline.serving.twin import TWIN

    out = out or Path(model) / to
    record = export(open_package(model, runs, uri), to, out, scans)
    found = record.compared
    kind = "made-up" if found.made_up else "given"
    say(f"export: {', '.join(record.files)} → {out}")
    say(
        f"export: on {counted(found.scans, f'{kind} scan')} its probabilities are the model's to "
        f"{max(found.probability, found.raw):.1e} (allowed: {found.tolerance:g})"
    )
    if timed := record.timed:
        taken = "`predict` runs by the twin in a model's own folder, not by this one"
        if not is_address(model) and out.resolve() == (Path(model) / TWIN).resolve():
            taken = f"`predict --runtime auto` will use {record.runtime}"
        say(
            f"export: {counted(timed.scans, 'scan')} by torch {timed.torch * 1000:.1f} ms, by "
            f"onnxruntime {timed.onnx * 1000:.1f} ms: {taken}"
        )


def twin_stage(folder: Path) -> None:
    """Give a model just released its ONNX twin where it can have one; say what runs it from now on.

    The release stands whatever comes of this: what goes wrong is a warning.

    Args:
        folder: The model package.
    """
    from pipeline.export.write import write_twin
    from pipeline.serving.package import load_package

    try:
        record = write_twin(load_package(folder), folder)
    except MedcurveError as error:
        warn(error)
        return
    if record is not None and record.timed is not None:
        runs = "onnxruntime" if record.runtime == "onnx" else "torch, as without it"
        say(
            f"release: ONNX twin, {record.timed.torch / record.timed.onnx:.1f} times as fast as "
            f"torch: `predict` runs by {runs}"
        )
