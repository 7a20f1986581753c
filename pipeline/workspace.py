"""Where each stage's folder lies: ``runs/<cohort>/<stage>``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.cohort import CohortConfig
from data_prep.config import find_config, read_config
from data_prep.errors import StageError
from data_prep.preprocess import PrepConfig


@dataclass(frozen=True)
class Workspace:
    """The folders of one cohort under one ``runs`` folder.

    Attributes:
        runs: Folder of all cohorts and of MLflow's database.
        cohort: The cohort's config.
        prep: Name or path of the prep config in use.
    """

    runs: Path
    cohort: CohortConfig
    prep: str

    @property
    def folder(self) -> Path:
        """Everything of this cohort."""
        return self.runs / self.cohort.name

    @property
    def manifest(self) -> Path:
        """What ingest writes."""
        return self.folder / "manifest"

    @property
    def survey(self) -> Path:
        """The cohort's fingerprint, and the sample of scans that it rests on."""
        return self.folder / "fingerprint"

    @property
    def splits(self) -> Path:
        """What split writes."""
        return self.folder / "splits"

    @property
    def leaks(self) -> Path:
        """Page of the images that stand twice."""
        return self.folder / "leaks.html"

    @property
    def store(self) -> Path:
        """What prep writes."""
        return self.folder / f"store-{Path(self.prep).stem}"

    def study(self, name: str) -> Path:
        """Journal, results and report of a study."""
        return self.folder / f"study-{Path(name).stem}{self._other_prep}"

    def model(self, name: str) -> Path:
        """Model package that a study released."""
        return self.folder / f"model-{Path(name).stem}{self._other_prep}"

    def evaluation(self, model: str) -> Path:
        """What the test scans say of a model, by the name of its folder."""
        return self.folder / f"evaluation-{model.removeprefix('model-')}"

    @property
    def _other_prep(self) -> str:
        """What sets studies on another prep config than the cohort's own apart."""
        other = Path(self.prep).stem
        return "" if other == Path(self.cohort.prep).stem else f"-{other}"


def open_workspace(runs: Path, data: str, prep: str | None = None) -> Workspace:
    """Read a cohort's config; ``prep`` replaces the prep config that it names.

    Raises:
        ConfigError: A config is missing or wrong.
        StageError: ``stage.not_a_folder`` if ``runs`` is a file.
    """
    if runs.exists() and not runs.is_dir():
        raise StageError(
            "stage.not_a_folder", f"--runs {runs} is a file", fix="give a folder, or a new name"
        )
    cohort = read_config(find_config("data", data), CohortConfig)
    if prep:
        read_config(find_config("prep", prep), PrepConfig)
    return Workspace(runs=runs, cohort=cohort, prep=prep or cohort.prep)
