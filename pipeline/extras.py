"""What a batch of predictions writes beside its tables, as the command line asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import ConfigError
from pipeline.console import say
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.dicom_out.beside import DicomOut
    from pipeline.gallery.explained import Explained, Only
    from pipeline.serving.beside import Beside
    from pipeline.serving.package import ModelPackage
    from pipeline.trust.explain_methods import Method


@dataclass(frozen=True)
class ExtraOptions:
    """What is asked for.

    Attributes:
        dicom: A structured report and a picture of each scan that came from DICOM.
        gallery: The page to look through the batch.
        explain: Maps of what answers rest on, by this method; None: none. Pictures show them.
        explain_only: Of which scans.
    """

    dicom: bool = False
    gallery: bool = True
    explain: Method | None = None
    explain_only: Only = "all"


@dataclass(frozen=True)
class Extras:
    """What writes it, for one batch.

    Attributes:
        options: As asked.
        beside: All that is written, in the order that it needs.
        explained: Of these, the maps.
        objects: Of these, the DICOM objects.
    """

    options: ExtraOptions
    beside: list[Beside]
    explained: Explained | None
    objects: DicomOut | None

    def tell(self, out: Path) -> None:
        """Say what was written into ``out``."""
        if self.options.gallery:
            from pipeline.gallery.beside import PAGE

            say(f"  to look through them: {out / PAGE}")
        if self.explained:
            say(
                f"  explained: {counted(self.explained.written, 'scan')} by "
                f"{self.options.explain}, {self.explained.empty} without evidence for the class → "
                f"{out / 'explanations'}"
            )
        if self.objects:
            say(
                f"  dicom: a report and a picture of {counted(self.objects.written, 'scan')}, "
                f"none of {self.objects.without} → {out / 'dicom'}"
            )


@contextmanager
def extras(package: ModelPackage, options: ExtraOptions) -> Iterator[Extras]:
    """What writes the extras of one batch.

    Raises:
        ConfigError: ``config.no_highdicom``.
        ExplainError: ``explain.no_such_map``.
    """
    with ExitStack() as opened:
        explained = opened.enter_context(_explained(package, options)) if options.explain else None
        # maps are made first: pictures show them
        beside: list[Beside] = [explained] if explained else []
        objects = _dicom_out(package, explained) if options.dicom else None
        beside += [objects] if objects else []
        if options.gallery:
            from pipeline.gallery.beside import Gallery

            beside.append(Gallery(package.recipe, options.explain))
        yield Extras(options, beside, explained, objects)


def _explained(package: ModelPackage, options: ExtraOptions) -> Explained:
    from pipeline.gallery.explained import Explained, Wanted

    assert options.explain is not None
    several = package.task.is_multi_label
    wanted = Wanted(options.explain, options.explain_only, options.gallery, several)
    return Explained(package, wanted)


def _dicom_out(package: ModelPackage, explained: Explained | None) -> DicomOut:
    try:
        from pipeline.dicom_out.beside import DicomOut
    except ModuleNotFoundError as error:
        raise ConfigError(
            "config.no_highdicom",
            f"--dicom needs the Python package highdicom, which is not installed ({error})",
            fix="install it with: pip install -c constraints.txt -e '.[dicom]'",
        ) from error
    return DicomOut(package, explained.explanation if explained else None)
