"""Model packages in MLflow's registry: plain files under a name and an alias, nothing pickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from data_prep.files import digest, sha256_file
from data_prep.stage import PROVENANCE
from pipeline.model_address import MODEL_ADDRESS, check_address
from pipeline.tracking.client import TrackingError, advising, answering, connect, experiment
from pipeline.tracking.records import CELL, KEY, KIND
from pipeline.tracking.served import SERVED, write_served

if TYPE_CHECKING:
    from mlflow import MlflowClient

PACKAGE: Final = "medcurve.package"
_FOLDER: Final = "model"
_EVALUATION: Final = "evaluation"
_STANDS: Final = (
    "the model package stands whole in its folder; run the command again once the store is back, "
    "and it is registered"
)
_PLAIN: Final = frozenset({".json", ".safetensors"})


@dataclass(frozen=True)
class Registered:
    """A registered model version; ``uri`` is what ``medcurve predict`` takes."""

    name: str
    version: str
    alias: str
    run_id: str

    @property
    def uri(self) -> str:
        """``models:/name@alias``."""
        return f"models:/{self.name}@{self.alias}"


@advising(_STANDS)
def register_package(
    folder: Path, name: str, alias: str, uri: str, run_key: str = ""
) -> Registered:
    """Log a model package's files and register them as a version of ``name`` under ``alias``.

    Beside them lies what ``mlflow models serve`` needs (``write_served``).

    The same package registered again, from its folder or as MLflow handed it out, is the same
    version; the alias is moved to it.

    Args:
        folder: The package: ``model.json``, ``weights.safetensors`` and other plain files.
        name: Of the registered model.
        alias: ``champion``, say.
        uri: Any tracking URI.
        run_key: Key of the study's cell that the model comes from; its run then shows the files.

    Raises:
        TrackingError: ``tracking.not_a_package``, or MLflow does not answer.
    """
    files = _plain_files(folder)
    # The provenance tells when and by which commit it was written: not what the model is.
    package = digest({path.name: sha256_file(path) for path in files if path.name != PROVENANCE})
    client = connect(uri)
    with answering(uri):
        _ensure_model(client, name)
        found = [
            version
            for version in client.search_model_versions(f"name='{name}'")
            if version.tags.get(PACKAGE) == package
        ]
        if found:
            version, run_id = str(found[0].version), str(found[0].run_id)
        else:
            run_id = _run_for(client, uri, name, run_key, package)
            with TemporaryDirectory() as served:
                for path in (*files, *write_served(Path(served))):
                    client.log_artifact(run_id, str(path), _FOLDER)
            source = f"{client.get_run(run_id).info.artifact_uri}/{_FOLDER}"
            made = client.create_model_version(name, source, run_id, tags={PACKAGE: package})
            version = str(made.version)
        client.set_registered_model_alias(name, alias, version)
    return Registered(name=name, version=version, alias=alias, run_id=run_id)


@advising(_STANDS)
def log_evaluation(files: Sequence[Path], run_id: str, uri: str) -> None:
    """Show a model's evaluation with the run that it is registered from.

    Args:
        files: Pages and numbers without scans and without a row for each of them.
        run_id: Of ``Registered``.
        uri: Any tracking URI.

    Raises:
        TrackingError: MLflow does not answer.
    """
    client = connect(uri)
    with answering(uri):
        for path in files:
            client.log_artifact(run_id, str(path), _EVALUATION)


def pin_model(model_uri: str, uri: str) -> str:
    """The version that an address stands for now: ``models:/NAME/VERSION`` for an alias.

    Other addresses are given back as they are.

    Raises:
        TrackingError: As ``download_model``.
    """
    match = MODEL_ADDRESS.fullmatch(model_uri)
    if match is None or match["version"] is not None:
        return model_uri
    client = connect(uri)
    with _known(model_uri, uri):
        version = client.get_model_version_by_alias(match["name"], match["alias"]).version
    return f"models:/{match['name']}/{version}"


def download_model(model_uri: str, uri: str, into: Path | None = None) -> Path:
    """The local folder of a model package.

    Args:
        model_uri: ``models:/name@alias``, ``models:/name/version`` or ``runs:/run_id/path``.
        uri: Tracking URI of the store that knows it.
        into: Where to put it; by default a store on this machine gives its own folder and a
            server's files go to a new temporary one.

    Raises:
        ConfigError: ``tracking.bad_model_uri``.
        TrackingError: ``tracking.no_model``, or MLflow does not answer.
    """
    client = connect(uri)
    from mlflow.artifacts import download_artifacts

    with _known(model_uri, uri):
        source = _source(client, model_uri)
        where = download_artifacts(
            artifact_uri=source,
            dst_path=str(into) if into else None,
            tracking_uri=uri,
            registry_uri=uri,
        )
    return Path(where)


@contextmanager
def _known(model_uri: str, uri: str) -> Iterator[None]:
    """Name an address that the store does not know."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            with answering(uri):
                raise
        raise TrackingError(
            "tracking.no_model",
            f"{model_uri}: not in this store ({error.message})",
            fix="`medcurve ui` shows the registered models; give --tracking-uri if it is another "
            "store's",
        ) from error


def _source(client: MlflowClient, model_uri: str) -> str:
    """Where the files lie that a model URI stands for."""
    check_address(model_uri)
    match = MODEL_ADDRESS.fullmatch(model_uri)
    if match is None:
        return model_uri
    version = match["version"]
    if version is None:
        version = client.get_model_version_by_alias(match["name"], match["alias"]).version
    return str(client.get_model_version_download_uri(match["name"], str(version)))


def _plain_files(folder: Path) -> Sequence[Path]:
    """The package's own files; what MLflow needs beside them is written anew, never passed on."""
    entries = folder.iterdir() if folder.is_dir() else []
    files = sorted(path for path in entries if path.is_file() and path.name not in SERVED)
    foreign = [path.name for path in files if path.suffix not in _PLAIN]
    if foreign or not any(path.name == "model.json" for path in files):
        what = f"holds '{foreign[0]}'" if foreign else "has no model.json"
        raise TrackingError(
            "tracking.not_a_package",
            f"{folder} {what}; only model packages (JSON and safetensors) are registered",
            fix="give the folder that `medcurve release` wrote",
        )
    return files


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _run_for(client: MlflowClient, uri: str, name: str, run_key: str, package: str) -> str:
    """The run of the cell that the model comes from; else a run of its own."""
    if run_key:
        experiments = [str(found.experiment_id) for found in client.search_experiments()]
        runs = client.search_runs(experiments, f"tags.`{CELL}` = '{run_key}'", max_results=1)
        if runs:
            return str(runs[0].info.run_id)
    run = client.create_run(
        experiment(client, uri, name), tags={KEY: package, KIND: "model"}, run_name=name
    )
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)
