"""Looking at networks: ``inspect`` and ``screen`` before any is trained, ``probe`` at any time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from data_prep.config import is_path
from data_prep.errors import ConfigError
from data_prep.files import write_bytes, write_csv
from data_prep.task import Task
from pipeline.console import progress, say, table
from pipeline.stages import refuse_stale
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from data_prep.store import Store
    from pipeline.families.base import Family
    from pipeline.inspection import Inspection, Layer

_DRAWINGS: Final = (".svg", ".png", ".pdf")


def inspect_stage(family: str, shape: str, classes: int, out: Path | None, runs: Path) -> None:
    """Print what a family holds; draw its network, where it has one.

    Raises:
        ConfigError: ``inspect.unknown_drawing`` if ``out`` ends in what no picture does.
    """
    scan_shape = parse_shape(shape)
    out = out or runs / f"inspect-{Path(family).stem}.svg"
    if out.suffix not in _DRAWINGS:
        raise ConfigError(
            "inspect.unknown_drawing",
            f"--out {out}: cannot draw a '{out.suffix}'",
            fix=f"end it with one of {', '.join(_DRAWINGS)}",
        )
    from pipeline.families import build_family, load_family_config

    names = tuple(f"class {number}" for number in range(classes))
    task = Task(kind="binary" if classes == 2 else "multi-class", class_names=names)
    held = build_family(load_family_config(family), task, scan_shape, seed=0).inspect()
    if not held.layers:
        table(
            ("array", "shape", "numbers"),
            [(n, _by(s), f"{math.prod(s):,}") for n, s in held.arrays.items()],
        )
        say(f"{family} has no network; where a length is 0, it is that of the training scans")
        return
    shown = [layer for layer in held.layers if layer.kind != "norm"]
    table(
        ("layer", "kind", "output", "parameters", "multiply-adds", "memory", "field", "measured"),
        [_row(layer) for layer in shown],
    )
    if held.reading:
        say(
            f"the layers, and fields in pixels, are of one image of {_by(held.reading.image_shape)}"
        )
    say(_totals(held))
    _draw(family, held, scan_shape, out)
    say(f"drawing: {out}")


def parse_shape(text: str) -> tuple[int, ...]:
    """``1,28,28`` -> (1, 28, 28).

    Raises:
        ConfigError: ``inspect.bad_shape``.
    """
    parts = text.split(",")
    if len(parts) not in (3, 4) or not all(part.strip().isdecimal() for part in parts):
        bad = True
    else:
        bad = min(map(int, parts)) < 1
    if bad:
        raise ConfigError(
            "inspect.bad_shape",
            f"--shape {text}: not the shape of a scan",
            fix="give channels and two or three edges, all above 0: 1,28,28 or 1,28,28,28",
        )
    return tuple(int(part) for part in parts)


def _draw(family: str, held: Inspection, scan_shape: tuple[int, ...], out: Path) -> None:
    import io

    from pipeline.network_figure import draw_network

    shown = held.reading.image_shape if held.reading else scan_shape
    what = "an image" if held.reading else "a scan"
    title = f"{Path(family).stem} on {what} of {_by(shown)}"
    buffer = io.BytesIO()
    draw_network(title, held.layers, shown).savefig(buffer, format=out.suffix[1:], dpi=150)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, buffer.getvalue())


def _row(layer: Layer) -> tuple[str, ...]:
    measured = "" if layer.measured_field is None else f"{layer.measured_field:.1f}"
    field = max(layer.receptive_field)
    return (
        layer.name,
        layer.kind,
        _by(layer.shape),
        f"{layer.parameters:,}",
        f"{layer.multiply_adds:,}",
        memory(layer.activation_bytes),
        f"{field:.0f}" if math.isfinite(field) else "whole scan",
        measured,
    )


def memory(size: int) -> str:
    """Bytes in the largest unit that leaves a digit before the point: ``12.2 KiB``."""
    if size < 2**10:
        return f"{size} B"
    return f"{size / 2**10:,.1f} KiB" if size < 2**20 else f"{size / 2**20:,.1f} MiB"


def _totals(held: Inspection) -> str:
    norms = sum(layer.parameters for layer in held.layers if layer.kind == "norm")
    a_scan = "a scan"
    if held.reading:
        a_scan += f", of which it makes {held.reading.images} image" + "s" * (
            held.reading.images > 1
        )
    return (
        f"in all {held.parameters:,} parameters ({norms:,} of them in norms), "
        f"{held.multiply_adds:,} multiply-adds and {memory(held.activation_bytes)} of activations "
        f"(float32, norms included) {a_scan}"
    )


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def screen_stage(workspace: Workspace, families: Sequence[str], seeds: int, verify: bool) -> None:
    """Rank architectures by their random-weight score; with ``verify``, train them as well."""
    from pipeline.study.screening import screen_store

    refuse_stale(workspace)
    with progress("screen", "networks") as report:
        found = screen_store(workspace.store, families, seeds, verify=verify, progress=report)
    table(found.header, found.rows)
    for sentence in found.sentences:
        say(sentence)


def probe_stage(
    workspace: Workspace, name: str, model: str, seed: int, split: str, out: Path | None
) -> None:
    """Measure and draw a probe of a model package, or of a family with first weights, on scans."""
    import io

    from data_prep.store import Store
    from pipeline.dataset import load_split
    from pipeline.probes import load_probe

    probe = load_probe(name)
    refuse_stale(workspace)
    store = Store.open(workspace.store)
    scans = load_split(store, split)
    family = _probed(model, store, scans.scan_shape, seed)
    values = probe.measure(family, scans, seed)
    stem = f"{Path(name).stem}-{Path(model).stem}"
    out = out or workspace.folder / f"probe-{stem}"
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / f"{stem}.csv", ("quantity", "value"), values.items())
    buffer = io.BytesIO()
    probe.draw(family, scans, seed).savefig(buffer, format="png", dpi=150)
    write_bytes(out / f"{stem}.png", buffer.getvalue())
    table(("quantity", "value"), [(quantity, f"{value:.4g}") for quantity, value in values.items()])
    say(f"table and picture: {out / stem}.csv, .png")


def _probed(model: str, store: Store, scan_shape: tuple[int, ...], seed: int) -> Family[Any]:
    """The family of a model package, which must fit the store, or a new one with first weights.

    Raises:
        ConfigError: ``probe.foreign_model``.
    """
    from data_prep.files import read_json
    from data_prep.prep import RECIPE
    from data_prep.preprocess import PrepRecipe
    from pipeline.families import build_family, load_family_config
    from pipeline.serving.package import load_package

    folder = Path(model)
    if not folder.is_dir() and (is_path(model) or "/" not in model):
        say(f"{model}: a family, with first weights drawn by --seed {seed}")
        return build_family(load_family_config(model), store.task, scan_shape, seed)
    package = load_package(folder)
    recipe = PrepRecipe.from_json(read_json(store.folder / RECIPE))
    for what, ours, theirs in (
        ("recipe", recipe, package.recipe),
        ("task", store.task, package.task),
    ):
        if ours != theirs:
            raise ConfigError(
                "probe.foreign_model",
                f"{model}: its {what} is not that of the scans in {store.folder}",
                fix="name the cohort and the prep config that the model was trained with "
                "(--data, --prep)",
            )
    return package.family
