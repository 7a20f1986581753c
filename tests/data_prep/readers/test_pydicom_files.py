"""Every file that pydicom brings along is read right or refused with a code."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
import pytest

from data_prep.errors import SCAN_CODES, ScanError
from data_prep.readers import discover
from data_prep.readers.sandbox import DecodePool
from data_prep.volume import Volume

FOLDER = Path(pydicom.data.__file__).parent
NO_DICOM = (".py", ".pyc", ".json", ".txt", ".dump", ".md", ".icc", ".gz")
FILES = sorted(
    path
    for path in FOLDER.rglob("*")
    if path.is_file() and path.suffix not in NO_DICOM and not path.name.startswith("README")
)
TABLE = Path(__file__).parents[3] / "docs" / "pydicom-test-files.md"
MEANT = ("monochrome1_inverted", "padding_filled")  # differ from pydicom's pixels, on purpose


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """File -> volumes, errors, rejections and skips; each file alone in a folder."""
    root = tmp_path_factory.mktemp("pydicom")
    found: dict[str, list[Any]] = {}
    sources = []
    for number, path in enumerate(FILES):
        folder = root / f"{number:03d}"
        folder.mkdir()
        shutil.copy(path, folder / path.name)
        # one folder at a time: many of these files share their UIDs
        one = discover(root, [Path(folder.name)])
        found[path.relative_to(FOLDER).as_posix()] = [*one.rejected, *one.skipped]
        sources += [(path.relative_to(FOLDER).as_posix(), source) for source in one.sources]
    with DecodePool(root, workers=2) as pool:
        read = pool.read([source for _, source in sources])
        for (name, _), (_, result) in zip(sources, read, strict=True):
            found[name].append(result)
    return found


def test_no_file_goes_unanswered(results: dict[str, list[Any]]) -> None:
    assert len(results) == len(FILES) > 150
    for name, answers in results.items():
        assert answers, name
        for answer in answers:
            code = getattr(answer, "code", None)
            assert code is None or code in SCAN_CODES, name
            assert code not in ("file.crashed", "file.timeout"), name


def reference(path: Path) -> np.ndarray:
    """pydicom's own pixels as (C, rows, columns), with the rescale applied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array
    if pixels.ndim == 3:
        return np.moveaxis(pixels, -1, 0)
    slope = float(dataset.get("RescaleSlope") or 1)
    return (pixels * slope + float(dataset.get("RescaleIntercept") or 0))[np.newaxis]


def test_what_is_read_is_what_pydicom_reads(results: dict[str, list[Any]]) -> None:
    compared = 0
    for name, answers in results.items():
        for volume in answers:
            if not isinstance(volume, Volume) or set(MEANT) & set(volume.flags):
                continue
            if "examples_palette" in name or "JPGExtended" in name or "JPEG-lossy" in name:
                continue  # pydicom returns indices, or has no decoder: both tested elsewhere
            np.testing.assert_array_equal(volume.array, reference(FOLDER / name), err_msg=name)
            compared += 1
    assert compared >= 80


def test_12_bit_jpeg_agrees_with_a_decoder_written_from_the_standard(
    results: dict[str, list[Any]],
) -> None:
    """Sums of what a plain decoder after ITU T.81 (float IDCT) gives for this file."""
    (volume,) = results["test_files/JPGExtended.dcm"]
    assert volume.array.shape == (1, 1024, 256)
    assert (volume.array.min(), volume.array.max()) == (0, 264)
    assert volume.array.mean() == pytest.approx(14.369148, abs=0.005)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("test_files/MR_truncated.dcm", "dicom.pixel_data_length"),
        ("test_files/MR_small_padded.dcm", "dicom.pixel_data_length"),
        ("test_files/meta_missing_tsyntax.dcm", "dicom.no_transfer_syntax"),
        ("test_files/ExplVR_LitEndNoMeta.dcm", "dicom.no_transfer_syntax"),
        ("test_files/JPEG2000-embedded-sequence-delimiter.dcm", "dicom.header_mismatch"),
        ("test_files/SC_rgb_rle_2frame.dcm", "dicom.multi_frame"),
        ("test_files/examples_ybr_color.dcm", "dicom.multi_frame"),
        ("test_files/rtplan_truncated.dcm", None),
        ("test_files/rtdose.dcm", None),
        ("test_files/liver_1frame.dcm", None),
    ],
)
def test_what_is_refused_or_skipped(
    results: dict[str, list[Any]], name: str, code: str | None
) -> None:
    (answer,) = results[name]
    assert getattr(answer, "code", None) == code
    assert not isinstance(answer, Volume)


def test_the_documented_table_is_current(results: dict[str, list[Any]]) -> None:
    rows = re.findall(r"^\| (\S+) \| (\w+) \| (\S*) \|", TABLE.read_text("utf-8"), re.MULTILINE)
    documented = {name: (status, code) for name, status, code in rows if name != "file"}
    found = {}
    for name, answers in results.items():
        answer = answers[0]
        if isinstance(answer, Volume):
            found[name] = ("read", "")
        elif isinstance(answer, ScanError) or hasattr(answer, "code"):
            found[name] = ("refused", answer.code)
        else:
            found[name] = ("skipped", "")
    assert documented == found
