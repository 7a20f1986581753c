"""A package that computes other answers than it did when it was made is refused."""

from __future__ import annotations

import json

import pytest

from data_prep.files import digest
from pipeline.serving.package import MODEL, WEIGHTS, PackageError
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
