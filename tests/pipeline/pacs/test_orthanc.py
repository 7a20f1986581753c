"""Against a real archive: Orthanc with its DICOMweb plugin, started here on loopback."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from command_line import medcurve
from PIL import Image

from pipeline.pacs.transport import PASSWORD, USER

ORTHANC = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SECRET = "s3cret-of-the-archive"

if not (ORTHANC and PLUGIN.exists()):
    if os.environ.get("MEDCURVE_NEED_ORTHANC"):
        pytest.fail("Orthanc is not installed", pytrace=False)
    reason = "Orthanc is not installed: make test-pacs installs it (orthanc, orthanc-dicomweb)"
    pytest.skip(reason, allow_module_level=True)


@dataclass(frozen=True)
class Orthanc:
    """A running archive.

    Attributes:
        url: Of its REST interface.
        listener: Port to which it sends what it is told to send to ``medcurve``.
    """

    url: str
    listener: int

    def call(self, method: str, path: str, **arguments: object) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method, self.url + path, auth=("medcurve", SECRET), timeout=20, **arguments
            )
        answer.raise_for_status()
        return answer

    def add(self, folder: Path) -> None:
        for path in sorted(folder.rglob("*.dcm")):
            self.call("POST", "/instances", data=path.read_bytes())

    def count(self) -> dict[str, int]:
        return {
            name: len(self.call("GET", f"/{name}").json())
            for name in ("studies", "series", "instances")
        }

    def runs(self) -> bool:
        try:
            return self.call("GET", "/system").ok
        except requests.RequestException:
            return False


@pytest.fixture
def orthanc(tmp_path, free_port, monkeypatch) -> Iterator[Orthanc]:
    """An empty archive that is gone after the test."""
    http, dicom, listener = free_port(), free_port(), free_port()
    folder = tmp_path / "orthanc"
    folder.mkdir()
    config = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": http,
        "DicomPort": dicom,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"medcurve": SECRET},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomModalities": {"medcurve": ["MEDCURVE", "127.0.0.1", listener]},
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    log = (folder / "log").open("w")
    process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
    found = Orthanc(f"http://127.0.0.1:{http}", listener)
    monkeypatch.setenv(USER, "medcurve")
    monkeypatch.setenv(PASSWORD, SECRET)
    try:
        end = time.monotonic() + 30
        while not found.runs():
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"Orthanc does not start: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_scans_come_from_the_archive_and_answers_go_back(
    orthanc, make_package, write, tmp_path, capsys, monkeypatch
):
    make_package()
    monkeypatch.setattr("pipeline.tracking.log_predictions", lambda *_, **__: None)
    for seed in (5, 6):
        write.dicom_series(tmp_path / "in" / str(seed), seed)
    orthanc.add(tmp_path / "in")
    assert orthanc.count() == {"studies": 2, "series": 2, "instances": 12}

    model, runs = tmp_path / "model", tmp_path / "runs"
    archive = ("--dicomweb", f"{orthanc.url}/dicom-web", "--runs", runs, "--workers", 1)
    query = ("--query", "PatientID=P*", "--query", "Modality=MR", "--store")
    assert medcurve("predict", model, "--out", tmp_path / "out", *archive, *query) == 0
    printed = capsys.readouterr()
    assert "fetch: 12 objects of 2 series" in printed.out
    assert "store: 4 objects" in printed.out
    assert SECRET not in printed.out + printed.err
    assert orthanc.count() == {"studies": 2, "series": 6, "instances": 16}

    # what Orthanc shows of a picture is what was drawn
    path = sorted((tmp_path / "out" / "dicom").glob("*-picture.dcm"))[0]
    drawn = pydicom.dcmread(path)
    (found,) = orthanc.call("POST", "/tools/lookup", data=drawn.SOPInstanceUID).json()
    png = orthanc.call("GET", f"{found['Path']}/preview", headers={"Accept": "image/png"})
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png.content))), drawn.pixel_array)

    # the same as from the disk, under the names that the archive knows
    assert (
        medcurve("predict", model, tmp_path / "in", "--out", tmp_path / "local", "--runs", runs)
        == 0
    )
    fetched, local = rows(tmp_path / "out"), rows(tmp_path / "local")
    assert [row["scan"] for row in fetched] == [f"1.2.826.0.2.{n}/1.2.826.0.3.{n}" for n in (5, 6)]
    assert [row["p_lesion"] for row in fetched] == [row["p_lesion"] for row in local]

    # once more: what was stored is no scan, and is stored only once
    capsys.readouterr()
    query = ("--query", "StudyInstanceUID=1.2.826.0.2.5", "--store")
    assert medcurve("predict", model, "--out", tmp_path / "again", *archive, *query) == 0
    assert "left out: 1 report or picture of earlier predictions" in capsys.readouterr().out
    assert len(rows(tmp_path / "again")) == 1
    assert orthanc.count() == {"studies": 2, "series": 6, "instances": 16}

    monkeypatch.setenv(PASSWORD, "wrong")
    assert medcurve("predict", model, "--out", tmp_path / "no", *archive, *query) == 2
    said = capsys.readouterr().err
    assert "[pacs.refused]" in said
    assert "401" in said
    assert not (tmp_path / "no").exists()


def test_what_the_archive_sends_is_scored(orthanc, make_package, write, tmp_path, capsys):
    make_package()
    write.dicom_series(tmp_path / "in", 5)
    orthanc.add(tmp_path / "in")
    (study,) = orthanc.call("GET", "/studies").json()
    failed = []

    def act() -> None:
        try:
            end = time.monotonic() + 30
            while orthanc.call("POST", "/modalities/medcurve/echo", data="{}").status_code != 200:
                assert time.monotonic() < end
        except requests.HTTPError:
            time.sleep(0.1)
            if time.monotonic() < failed_after:
                return act()
            failed.append("no listener")
        else:
            orthanc.call("POST", "/modalities/medcurve/store", data=study)
        os.kill(os.getpid(), signal.SIGTERM)
        return None

    failed_after = time.monotonic() + 30
    sender = threading.Thread(target=act)
    sender.start()
    out = tmp_path / "out"
    arguments = ("--port", orthanc.listener, "--runs", tmp_path, "--allow", "ORTHANC")
    assert medcurve("listen", tmp_path / "model", "--out", out, *arguments, "--workers", 1) == 0
    sender.join()
    assert failed == []
    (row,) = rows(out / "1.2.826.0.2.5")
    assert row["status"] == "ok"
    assert "received: 6 ok" in capsys.readouterr().out
