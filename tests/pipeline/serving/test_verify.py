"""A package that computes other answers than it did when it was made is refused."""

from __future__ import annotations

import json

import pytest

from data_prep.files import digest, sha256_file, write_json
from pipeline.serving.package_files import MODEL, WEIGHTS, PackageError
from pipeline.serving.twin import RECORD, Compared, ExportRecord, TwinError
from pipeline.serving.verify import TOLERANCE, verify


def record_other_answers(folder, change: float) -> None:
    """As if the package came from a machine whose first probability differs by ``change``."""
    content = json.loads((folder / MODEL).read_text())
    content.pop("sha256")
    content["self_test"][0][0] += change
    (folder / MODEL).write_text(json.dumps({**content, "sha256": digest(content)}, indent=2) + "\n")


def test_a_package_verifies_where_it_was_made(make_package, tmp_path):
    package = make_package()
    found = verify(tmp_path / "model")
    assert found.bit_identical
    assert found.package.digest == package.digest


def test_last_bits_may_differ(make_package, tmp_path):
    make_package()
    record_other_answers(tmp_path / "model", TOLERANCE / 2)
    found = verify(tmp_path / "model")
    assert not found.bit_identical
    assert found.difference == pytest.approx(TOLERANCE / 2)


@pytest.mark.parametrize("change", [2 * TOLERANCE, -0.3])
def test_other_answers_are_refused(make_package, tmp_path, change):
    make_package()
    record_other_answers(tmp_path / "model", change)
    with pytest.raises(PackageError) as caught:
        verify(tmp_path / "model")
    assert caught.value.code == "package.self_test"
    assert "numpy" in caught.value.fix


def test_damage_is_named(make_package, tmp_path):
    make_package()
    data = bytearray((tmp_path / "model" / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (tmp_path / "model" / WEIGHTS).write_bytes(data)
    with pytest.raises(PackageError) as caught:
        verify(tmp_path / "model")
    assert caught.value.code == "package.damaged"


def export_into(folder, model: str) -> None:
    """As if a torch program had been exported into a package."""
    out = folder / "torch-export"
    (out / "weights").mkdir(parents=True)
    (out / "weights" / "all.pt2").write_bytes(b"a program")
    record = ExportRecord(
        to="torch-export",
        model=model,
        files={"weights/all.pt2": sha256_file(out / "weights" / "all.pt2")},
        compared=Compared(
            scans=1, made_up=True, probability=0, raw=0, features=0, tolerance=TOLERANCE
        ),
        versions={},
    )
    write_json(out / RECORD, record.sealed())


def unnamed(folder) -> PackageError:
    with pytest.raises(PackageError) as caught:
        verify(folder, ("MLmodel",))
    assert caught.value.code == "package.unnamed_files"
    return caught.value


def test_what_belongs_to_a_package_is_known(make_package, tmp_path):
    package, folder = make_package(), tmp_path / "model"
    export_into(folder, package.digest)
    (folder / "MODEL_CARD.md").write_text("# it\n")
    (folder / "MLmodel").write_text("flavors: {}\n")
    assert (folder / "provenance.json").is_file()
    assert verify(folder, ("MLmodel",)).bit_identical
    with pytest.raises(PackageError, match="MLmodel"):
        verify(folder)


def test_files_that_a_package_does_not_name_are_refused_by_name(make_package, tmp_path):
    package, folder = make_package(), tmp_path / "model"
    export_into(folder, package.digest)
    (folder / "notes.txt").write_text("mine")
    (folder / "old").mkdir()
    (folder / "link.json").symlink_to(folder / MODEL)
    (folder / "torch-export" / "weights" / "more.bin").write_bytes(b"?")
    error = unnamed(folder)
    assert "link.json, notes.txt, old, torch-export/weights/more.bin" in error.message
    assert error.fix == (
        "delete link.json: a link leads out of the folder; move notes.txt out of model; move the "
        "folder old out of model; move torch-export/weights/more.bin out of model"
    )


def test_a_reference_that_the_model_does_not_have_is_refused(make_package, tmp_path):
    package, folder = make_package(), tmp_path / "model"
    assert package.reference is None
    (folder / "reference.safetensors").write_bytes(b"of another model")
    assert "delete reference.safetensors" in unnamed(folder).fix


@pytest.mark.parametrize("harm", ["damaged", "missing", "foreign"])
def test_what_was_exported_into_a_package_is_checked(make_package, tmp_path, harm):
    package, folder = make_package(), tmp_path / "model"
    export_into(folder, "0" * 64 if harm == "foreign" else package.digest)
    program = folder / "torch-export" / "weights" / "all.pt2"
    if harm == "damaged":
        program.write_bytes(b"another")
    elif harm == "missing":
        program.unlink()
    with pytest.raises(TwinError) as caught:
        verify(folder)
    assert caught.value.code == f"runtime.{'foreign' if harm == 'foreign' else 'damaged'}_twin"
    assert "--to torch-export" in caught.value.fix
