"""A registered model answers through MLflow's own scoring server, without a pickle."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from serving.conftest import make_package

from pipeline.serving.package import load_package
from pipeline.serving.rows import ROOT_VARIABLE
from pipeline.serving.verify import verify
from pipeline.tracking import SERVED, default_uri, download_model, register_package

__all__ = ["make_package"]


@contextmanager
def scoring_server(model: Path) -> Iterator[str]:
    """MLflow's scoring server of a model's files, on a free port of loopback."""
    import uvicorn
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import init

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(init(load_model(str(model))), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{free.getsockname()[1]}/invocations"
        finally:
            server.should_exit = True
            thread.join()


def ask(url: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    body = json.dumps({"dataframe_records": records}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: list[dict[str, Any]] = json.load(answer)["predictions"]
    return found


def test_mlflow_serves_what_was_registered(make_package, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    package = make_package((6, 5, 4))
    uri = default_uri(tmp_path / "runs")
    registered = register_package(tmp_path / "model", "liver", "champion", uri)
    files = download_model(registered.uri, uri, tmp_path / "got")
    assert load_package(files).digest == package.digest  # what serves does not disturb it
    assert {path.suffix for path in files.iterdir()} <= {"", ".json", ".safetensors", ".py", ".txt"}
    written = yaml.safe_load((files / "MLmodel").read_text())
    assert str(tmp_path) not in json.dumps(written, default=str)  # no path of this machine
    array = np.random.default_rng(0).integers(0, 200, (1, 6, 5, 4))
    with scoring_server(files) as url:
        good, no_path, nothing = ask(
            url,
            [
                {"array": array.tolist(), "affine": np.eye(4).tolist()},
                {"path": "/etc/passwd"},
                {"affine": [[1.0]]},
            ],
        )
        (alone,) = ask(url, [{"path": "scan.nii.gz"}])
        (unknown,) = ask(url, [{"foo": 1}])
    from data_prep.volume import Volume

    prepared = package.recipe.apply(Volume(array.astype(np.float32), np.eye(4)))
    expected = package.predict(torch.from_numpy(prepared[None]))[0]
    assert list(good["probability"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
    assert good["predicted"] in package.task.class_names
    assert no_path["code"] == alone["code"] == "serve.paths_off"
    assert nothing["code"] == unknown["code"] == "serve.no_scan"


def test_a_model_that_mlflow_has_loaded_is_still_whole(
    make_package, tmp_path: Path, monkeypatch
) -> None:
    from mlflow.pyfunc import load_model

    make_package((6, 5, 4))
    uri = default_uri(tmp_path / "runs")
    register_package(tmp_path / "model", "liver", "champion", uri)
    files = download_model("models:/liver@champion", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        served = load_model("models:/liver@champion")
    assert not [each for each in told if "type hints" in str(each.message)]
    for neither_path_nor_array in ("scan.nii.gz", np.array([[1, 2]]), [{"foo": 1}]):
        (row,) = served.predict(neither_path_nor_array)
        assert row["code"] == "serve.no_scan"
    assert (files / "registered_model_meta").is_file()
    assert verify(files, SERVED).package.digest == load_package(files).digest
