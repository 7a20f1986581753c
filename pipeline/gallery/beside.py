"""The gallery as something that is written beside the tables of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from data_prep.preprocess import PrepRecipe
from pipeline.gallery.pack import Pack, Pictures, append
from pipeline.gallery.picture import Upright, picture, planes
from pipeline.serving.beside import ScoredScan
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import PredictionSummary

PAGE: Final = "gallery.html"
TABLE: Final = "predictions.parquet"
# Pictures until the page is written; the folder is private to the batch, and the file goes with it.
_PACK: Final = "gallery.pack"


class Gallery:
    """Keeps a picture of each scored scan on disk, and writes them and all rows as one page.

    A ``Beside``. It holds no scan in memory; the page's bytes depend on the tables and the scans
    only.
    """

    def __init__(self, recipe: PrepRecipe) -> None:
        self._upright = Upright.of(recipe.config, recipe.spatial_ndim)

    def scan(self, folder: Path, scored: ScoredScan) -> None:
        """Append the scan's picture to the pack."""
        shown = picture(planes(self._upright.turn(scored.array)))
        append(folder / _PACK, scored.row.scan, scored.row.files, Pictures(shown))

    def finish(self, folder: Path, package: ModelPackage, summary: PredictionSummary) -> None:
        """Write ``gallery.html`` and remove the pack."""
        # Pages need matplotlib and Jinja, which the first prediction must not wait for.
        from pipeline.gallery.page import Batch, write_page

        pack = folder / _PACK
        pack.touch()  # where no scan was scored there is none
        coverage = package.card.trust.conformal.coverage
        with Pack(pack) as pictures:
            batch = Batch(folder / TABLE, package.task, coverage, summary, [pictures])
            write_page(batch, folder / PAGE)
        pack.unlink()
