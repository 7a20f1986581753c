"""Files for other programs give the model's answers, or are not written."""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.files import sha256_file
from pipeline.export import write as write_module
from pipeline.export.check import TOLERANCE, check, scans_to_check
from pipeline.export.errors import ExportError
from pipeline.export.program import traced
from pipeline.export.torch_file import TORCH_FILE, pickles, torch_bytes
from pipeline.export.write import ONNX_FILE, RECORD, export
from pipeline.export_stage import twin_stage
from pipeline.serving.inference import predict
from pipeline.serving.package import load_package
from pipeline.serving.twin import OnnxSession, TwinError, read_twin, with_runtime
from pipeline.serving.verify import verify

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

SHAPE = (9, 8, 7)
CNN: dict[str, Any] = {"widths": (4, 8), "train": {"epochs": 1, "min_steps": 3}}


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where the first test leaves its model: an export takes a second or two."""
    return tmp_path_factory.mktemp("kept") / "model"


@pytest.fixture
def onnx_model(make_package, kept: Path, tmp_path: Path) -> Path:
    """A network of 3D scans with its ONNX twin."""
    if not kept.exists():
        package = make_package(SHAPE, family="cnn_scratch", params=CNN)
        export(package, "onnx", tmp_path / "model" / "onnx")
        shutil.move(tmp_path / "model", kept)
    shutil.copytree(kept, tmp_path / "model")
    return tmp_path / "model"


def test_onnx_is_the_model_and_says_what_it_is(onnx_model: Path) -> None:
    package = load_package(onnx_model)
    record, data = read_twin(onnx_model / "onnx", package.digest)
    assert record.compared.made_up
    assert record.compared.probability <= TOLERANCE
    assert record.timed is not None
    said = {item.key: item.value for item in onnx.load_from_string(data).metadata_props}
    assert json.loads(said["medcurve.classes"]) == list(package.task.class_names)
    assert said["medcurve.model"] == package.digest
    assert json.loads(said["medcurve.scan_shape"]) == [1, *SHAPE]
    assert str(Path(__file__).parents[3]).encode() not in data  # no path of this machine
    assert b"site-packages" not in data
    by_onnx = with_runtime(package, onnx_model, "onnx")
    assert (by_onnx.runtime, package.runtime) == ("onnx", "torch")
    for count in (1, 2, 20):  # whatever the number of scans that it was traced with
        x = torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(count))
        assert np.allclose(by_onnx.predict(x), package.predict(x), rtol=0, atol=1e-6)


def test_predict_says_by_what_it_ran_and_agrees(onnx_model: Path, write, tmp_path: Path) -> None:
    for number in range(3):
        write.nifti(tmp_path / "in" / f"{number}.nii.gz", number)
    probabilities = {}
    for runtime in ("torch", "onnx"):
        package = with_runtime(load_package(onnx_model), onnx_model, runtime)
        predict(package, [tmp_path / "in"], tmp_path / runtime)
        summary = json.loads((tmp_path / runtime / "summary.json").read_text())
        assert summary["model"]["runtime"] == runtime
        rows = (tmp_path / runtime / "predictions.csv").read_text().splitlines()
        column = rows[0].split(",").index("p_lesion")
        probabilities[runtime] = [float(row.split(",")[column]) for row in rows[1:]]
    assert np.allclose(probabilities["onnx"], probabilities["torch"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("faster", ["torch", "onnx"])
def test_auto_is_what_the_export_wrote_down(onnx_model: Path, faster: str) -> None:
    package = load_package(onnx_model)
    record, _ = read_twin(onnx_model / "onnx", package.digest)
    chosen = record.model_copy(update={"runtime": faster})
    (onnx_model / "onnx" / RECORD).write_text(json.dumps(chosen.sealed()))
    assert with_runtime(package, onnx_model, "auto").runtime == faster


def test_a_package_without_a_twin_runs_by_torch(make_package, tmp_path: Path) -> None:
    package = make_package(SHAPE)
    assert with_runtime(package, tmp_path / "model", "auto") is package
    with pytest.raises(TwinError, match="has no ONNX twin") as told:
        with_runtime(package, tmp_path / "model", "onnx")
    assert told.value.code == "runtime.no_twin"


def test_a_damaged_or_foreign_twin_is_refused_by_name(onnx_model: Path) -> None:
    package, twin = load_package(onnx_model), onnx_model / "onnx"
    with pytest.raises(TwinError) as told:
        with_runtime(replace(package, digest="b" * 64), onnx_model, "onnx")
    assert told.value.code == "runtime.foreign_twin"
    data = bytearray((twin / ONNX_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (twin / ONNX_FILE).write_bytes(data)
    with pytest.raises(TwinError, match=ONNX_FILE) as told:
        with_runtime(package, onnx_model, "onnx")
    assert told.value.code == "runtime.damaged_twin"
    text = (twin / RECORD).read_text()
    for broken in (text.replace('"made_up": true', '"made_up": false'), "{", "[]", "{}"):
        (twin / RECORD).write_text(broken)
        with pytest.raises(TwinError, match=RECORD) as told:
            with_runtime(package, onnx_model, "onnx")
        assert told.value.code == "runtime.damaged_twin"


def test_verify_runs_the_twin(onnx_model: Path, monkeypatch) -> None:
    found = verify(onnx_model)
    assert found.twin is not None
    assert found.twin <= 1e-6
    monkeypatch.setattr(OnnxSession, "of", classmethod(no_onnxruntime))
    assert verify(onnx_model).twin is None


@pytest.mark.parametrize("wrong", [2 * TOLERANCE, np.nan])
def test_a_twin_with_other_answers_is_refused(onnx_model: Path, monkeypatch, wrong: float) -> None:
    right = OnnxSession.look

    def look(session: OnnxSession, x: torch.Tensor):
        probability, features = right(session, x)
        return probability + wrong, features

    monkeypatch.setattr(OnnxSession, "look", look)
    with pytest.raises(TwinError, match="its self-test gives") as told:
        verify(onnx_model)
    assert told.value.code == "runtime.twin_differs"


def test_a_release_has_a_twin_where_it_can(
    make_package, monkeypatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = make_package(SHAPE, family="prior", params={})
    folder = tmp_path / "model"
    twin_stage(folder)
    assert "ONNX twin, " in capsys.readouterr().out
    assert with_runtime(package, folder, "onnx").runtime == "onnx"

    def failing(code: str):
        def fail(*_: object) -> None:
            raise ExportError(code, "no")

        return fail

    for code, told in (
        ("export.not_expressible", ""),
        ("export.differs", "warning [export.differs] no"),
    ):
        monkeypatch.setattr(write_module, "export", failing(code))
        twin_stage(folder)
        out, err = capsys.readouterr()
        assert (out, err.strip()) == ("", told)
    for name in ("onnx", "onnxruntime", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            twin_stage(folder)
        assert capsys.readouterr() == ("", "")


def no_onnxruntime(cls: type[OnnxSession], data: bytes) -> OnnxSession:
    raise TwinError("runtime.no_onnxruntime", "onnxruntime is not installed")


def test_a_torch_program_holds_nothing_pickled(make_package, tmp_path: Path) -> None:
    package = make_package(SHAPE, family="cnn_scratch", params=CNN)
    record = export(package, "torch-export", tmp_path / "out")
    file = tmp_path / "out" / TORCH_FILE
    assert record.files == {TORCH_FILE: sha256_file(file)}
    assert pickles(file.read_bytes()) == []
    with zipfile.ZipFile(file) as archive:  # neither torch.save's zips nor bare pickles
        heads = [archive.read(name)[:2] for name in archive.namelist() if name.endswith(".pt")]
    assert not any(head in (b"PK", b"\x80\x02") for head in heads)
    module = torch.export.load(file).module()
    x = torch.randn(5, 1, *SHAPE)
    with torch.no_grad():
        assert np.allclose(module(x)[0].numpy(), package.predict(x), rtol=0, atol=1e-6)


def test_a_pickle_in_a_torch_program_is_found(make_package) -> None:
    program = traced(make_package((6, 5, 4)))
    plain = torch_bytes(program)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)  # with its example inputs, which torch pickles
    assert pickles(plain) == []
    assert pickles(buffer.getvalue())[0].endswith("sample_inputs/model.pt")


@pytest.mark.parametrize("family", ["prior", "linear", "knn", "mlp", "random_features"])
def test_every_kind_of_family_can_be_traced(make_package, family: str) -> None:
    params = {"mlp": CNN | {"widths": (4,)}, "random_features": {"filters": 6, "sizes": [3]}}
    package = make_package((12, 11), family=family, params=params.get(family))
    module = traced(package).module()
    x = torch.randn(5, 1, 12, 11)
    with torch.no_grad():
        probability, raw, features = module(x)
    expected_raw, expected_features = package.look(x)
    assert np.allclose(probability.numpy(), package.calibrate(expected_raw), rtol=0, atol=1e-6)
    assert np.allclose(raw.numpy(), expected_raw, rtol=0, atol=1e-6)
    assert np.allclose(features.numpy(), expected_features, rtol=1e-4, atol=1e-4)


def test_answers_that_differ_are_not_written(make_package) -> None:
    package = make_package((6, 5, 4))
    scans = scans_to_check(package, [], Path("unused"))
    raw, features = package.look(torch.from_numpy(scans))
    right = package.calibrate(raw), raw, features
    assert check(package, scans, True, lambda _: right, "m").probability == 0
    wrong = (right[0] + 2 * TOLERANCE, raw, features)
    with pytest.raises(ExportError, match=r"m: its answers to 17 scans differ") as told:
        check(package, scans, True, lambda _: wrong, "m")
    assert told.value.code == "export.differs"
    with pytest.raises(ExportError):
        check(package, scans, True, lambda _: (right[0] * np.nan, raw, features), "m")
    with pytest.raises(ExportError):
        check(package, scans, True, lambda _: (right[0], raw, features[:, :-1]), "m")


def test_given_scans_are_prepared_as_predict_does_it(make_package, write, tmp_path: Path) -> None:
    package = make_package((6, 5, 4))
    write.nifti(tmp_path / "in" / "a.nii.gz", 1)
    write.nifti(tmp_path / "in" / "b.nii.gz", 2)
    write.truncate(tmp_path / "in" / "b.nii.gz")
    assert scans_to_check(package, [tmp_path / "in"], tmp_path / "out").shape == (1, 1, 6, 5, 4)
    (tmp_path / "in" / "a.nii.gz").unlink()
    with pytest.raises(ExportError) as told:
        scans_to_check(package, [tmp_path / "in"], tmp_path / "out")
    assert told.value.code == "export.no_scan"
