"""The gallery as something that is written beside the tables of a batch."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final

from data_prep.preprocess import PrepRecipe
from pipeline.gallery.pack import Pack, Pictures, append
from pipeline.gallery.picture import picture
from pipeline.serving.beside import ScoredScan
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import PredictionSummary
from pipeline.serving.upright import Upright, planes
from pipeline.trust.explain_methods import Method

PAGE: Final = "gallery.html"
# Pictures until the page is written; the folder is private to the batch, and the files go with it.
# Those of scans with a map are cut through the map's peak, and go before the others.
MAPS_PACK: Final = "maps.pack"
_PACKS: Final = (MAPS_PACK, "gallery.pack")


class Gallery:
    """Keeps a picture of each scored scan on disk, and writes them and all rows as one page.

    A ``Beside``. It holds no scan in memory; the page's bytes depend on the tables and the scans
    only.

    Args:
        recipe: Of the model, which decides how its scans lie.
        method: By which another ``Beside`` explains scans into ``MAPS_PACK``; None: none does.
    """

    def __init__(self, recipe: PrepRecipe, method: Method | None = None) -> None:
        self._upright = Upright.of(recipe.config, recipe.spatial_ndim)
        self._method = method

    def scan(self, folder: Path, scored: ScoredScan) -> None:
        """Append the scan's picture to the pack."""
        shown = picture(planes(self._upright.turn(scored.array)))
        append(folder / _PACKS[-1], scored.row.scan, scored.row.files, Pictures(shown))

    def finish(self, folder: Path, package: ModelPackage, summary: PredictionSummary) -> None:
        """Write ``gallery.html`` and remove the packs."""
        # Pages need matplotlib and Jinja, which the first prediction must not wait for.
        from pipeline.gallery.page import Batch, write_page

        trust = package.card.trust
        with ExitStack() as opened:
            there = [folder / name for name in _PACKS if (folder / name).exists()]
            batch = Batch(
                folder / "predictions.parquet",
                package.task,
                trust.conformal.coverage,
                summary,
                [opened.enter_context(Pack(path)) for path in there],
                self._method,
                trust.notes,
            )
            write_page(batch, folder / PAGE)
        for path in there:
            path.unlink()
