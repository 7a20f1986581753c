"""The gallery that ``predict`` writes: of all scans, the same bytes however the work was cut."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from command_line import medcurve

from data_prep.files import sha256_file
from pipeline.gallery.beside import MAPS_PACK, PAGE, Gallery
from pipeline.gallery.explained import FOLDER
from pipeline.serving.inference import predict


@pytest.fixture
def inbox(write, tmp_path) -> Path:
    root = tmp_path / "inbox"
    for seed in range(5):
        write.nifti(root / f"{seed}.nii.gz", seed)
    write.dicom_series(root / "series", 20)
    write.nifti(root / "broken.nii.gz", 22)
    write.truncate(root / "broken.nii.gz")
    return root


def test_bytes_do_not_depend_on_how_the_work_was_cut(make_package, inbox, tmp_path):
    package = make_package()
    pages = set()
    for batch_size, workers in ((64, 1), (1, 2)):
        out = tmp_path / f"out-{workers}"
        predict(
            package,
            [inbox],
            out,
            batch_size=batch_size,
            workers=workers,
            beside=[Gallery(package.recipe)],
        )
        pages.add(sha256_file(out / PAGE))
        assert not (out / "gallery.pack").exists()
        assert stat.S_IMODE((out / PAGE).stat().st_mode) == 0o600
    assert len(pages) == 1


def test_the_command_writes_what_it_is_told_to(make_package, inbox, tmp_path, capsys):
    make_package()
    command = ["predict", tmp_path / "model", inbox, "--runs", tmp_path / "runs", "--workers", 1]
    assert medcurve(*command, "--out", tmp_path / "out") == 0
    assert "gallery.html" in capsys.readouterr().out
    source = (tmp_path / "out" / PAGE).read_text()
    found = re.search(r'id="rows">(.*?)</script>', source, re.DOTALL)
    assert found
    rows = json.loads(found[1])
    assert [row[0] for row in rows] == [
        *(f"{n}.nii.gz" for n in range(5)),
        *("broken.nii.gz", "series"),
    ]
    assert [row[-1] for row in rows] == [0, 1, 2, 3, 4, -1, 5]
    maps = ["--no-gallery", "--explain", "occlusion", "--explain-only", "all"]
    assert medcurve(*command, "--out", tmp_path / "bare", *maps) == 0
    assert "explained: 6 scans by occlusion" in capsys.readouterr().out
    assert not (tmp_path / "bare" / PAGE).exists()
    assert not (tmp_path / "bare" / MAPS_PACK).exists()
    assert len(list((tmp_path / "bare" / FOLDER).glob("*.nii.gz"))) == 6


def test_a_batch_without_a_scored_scan_has_one(make_package, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.nii").touch()
    package = make_package()
    predict(package, [tmp_path / "in"], tmp_path / "out", beside=[Gallery(package.recipe)])
    assert "file.empty" in (tmp_path / "out" / PAGE).read_text()
