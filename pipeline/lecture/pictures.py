"""What probes see in a claim's networks, drawn for its page.

A study keeps what its networks answer and not the networks: the one that is shown, of the first
subset and seed, is fitted again, to the same bits.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from PIL import Image

from data_prep.files import write_bytes
from pipeline.study.cell import Splits
from pipeline.study.claim import Picture
from pipeline.study.config import StudyConfig
from pipeline.study.journal import CELLS, Journal
from pipeline.study.plan import fit_again, open_plan
from pipeline.study.report import FIGURES
from pipeline.workspace import Workspace

_DOTS_PER_INCH: Final = 80
_COLOURS: Final = 256


@dataclass(frozen=True)
class Drawn:
    """A picture as a PNG file.

    Attributes:
        of: What it shows: a probe of the study, on a family.
        png: The file's bytes.
    """

    of: Picture
    png: bytes

    @property
    def name(self) -> str:
        """Of the file, without its ending."""
        return f"{self.of.probe}-{self.of.family}"


def draw_pictures(config: StudyConfig, workspace: Workspace, name: str) -> list[Drawn]:
    """Draw the pictures of a finished study's claim.

    Args:
        config: The study as it was run.
        workspace: Its cohort.
        name: Of the study.

    Raises:
        StudyError, ProbeError: As fitting and probing do.
    """
    return list(_drawn(config, workspace.store, workspace.study(name)))


def keep_pictures(pictures: Sequence[Drawn], out: Path) -> None:
    """Put pictures of synthetic scans among a study's figures, which MLflow has too."""
    for one in pictures:
        write_bytes(out / FIGURES / f"{one.name}.png", one.png)


def _drawn(config: StudyConfig, store_folder: Path, out: Path) -> Iterator[Drawn]:
    pictures = config.claim.pictures if config.claim else ()
    if not pictures:
        return
    plan, store = open_plan(config, store_folder)
    journal, scans = Journal(out / CELLS), Splits.load(store).test
    for family in dict.fromkeys(one.family for one in pictures):
        own = [planned for planned in plan.cells if planned.cell.family == family]
        largest = max(planned.cell.size for planned in own)
        shown = next(planned for planned in own if planned.cell.size == largest)
        entry = journal.read(shown.key)
        if entry is None or entry.failure is not None:
            continue  # the study has said what became of this cell
        again = fit_again(plan, store, shown, journal.probabilities(entry))
        for picture in pictures:
            for probe in config.probes[family]:
                if (picture.family, picture.probe) == (family, probe.probe):
                    yield Drawn(picture, _png(probe.draw(again.family, scans, shown.cell.seed)))


def _png(figure: Figure) -> bytes:
    """In 256 colours, which halve the file; without anything that differs from run to run."""
    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png", dpi=_DOTS_PER_INCH)
    with Image.open(whole) as image:
        image.convert("RGB").quantize(_COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()
