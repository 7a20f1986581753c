"""What came in is on disk under safe names, bounded, and there again after a kill."""

from __future__ import annotations

import shutil
import stat
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sent import encoded, slices

from pipeline.dicom_out.source import is_uid
from pipeline.pacs import spool as spool_module
from pipeline.pacs.arrival import ArrivalError, take_in
from pipeline.pacs.spool import Spool

STUDY, SERIES = "1.2.3", "1.2.3.4"
MOST = 1 << 20


def fill(spool: Spool, study: str = STUDY, count: int = 3) -> None:
    for ds in slices(study, SERIES, count):
        spool.add(encoded(ds), ds.SOPClassUID)


def files(spool: Spool) -> list[str]:
    return sorted(p.relative_to(spool.root).as_posix() for p in spool.root.rglob("*.dcm"))


@given(st.text(max_size=70) | st.from_regex(r"[0-9./]{1,70}", fullmatch=True))
def test_a_uid_is_harmless_as_a_name(text):
    if is_uid(text):
        assert set(text) <= set("0123456789.")
        assert not text.startswith(".")
        assert ".." not in text
        assert len(text) <= 64


def test_objects_lie_by_study_and_series_for_nobody_else(tmp_path):
    spool = Spool(tmp_path / "spool", MOST)
    fill(spool)
    assert len(files(spool)) == 3
    assert all(name.startswith(f"incoming/{STUDY}/{SERIES}/") for name in files(spool))
    assert {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in spool.root.rglob("*")} == {0}


def test_an_object_sent_twice_is_one_and_another_of_its_uid_a_second(tmp_path):
    (ds,) = slices(STUDY, SERIES, 1)
    first, same = take_in(tmp_path, encoded(ds)), take_in(tmp_path, encoded(ds))
    assert (first.size > 0, same.size) == (True, 0)
    ds.PatientAge = "001Y"
    assert take_in(tmp_path, encoded(ds)).size > 0
    assert len(list(tmp_path.rglob("*.dcm"))) == 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "pacs.not_dicom"),
        (b"\x7fELF" * 100, "pacs.not_dicom"),
        (encoded(slices(STUDY, SERIES, 1)[0])[:300], "pacs.bad_uid"),
        (encoded(slices("", SERIES, 1)[0]), "pacs.bad_uid"),
        (encoded(slices(STUDY, "../../../etc", 1)[0]), "pacs.bad_uid"),
        (encoded(slices(STUDY, SERIES, 1, SOPInstanceUID="1.2\\3")[0]), "pacs.bad_uid"),
        (encoded(slices("1." + "2" * 64, SERIES, 1)[0]), "pacs.bad_uid"),
    ],
)
def test_what_is_no_object_is_not_kept(tmp_path, data, code):
    spool = Spool(tmp_path / "spool", MOST)
    with pytest.raises(ArrivalError) as caught:
        spool.add(data, "1.2.840.10008.5.1.4.1.1.2")
    assert caught.value.code == code
    assert [p for p in spool.root.rglob("*") if p.is_file()] == []
    assert spool.take(0) is None


def test_an_object_of_another_class_than_announced_is_not_kept(tmp_path):
    spool = Spool(tmp_path / "spool", MOST)
    (ds,) = slices(STUDY, SERIES, 1)
    with pytest.raises(ArrivalError) as caught:
        spool.add(encoded(ds), "1.2.840.10008.5.1.4.1.1.4")
    assert caught.value.code == "pacs.other_class"
    assert files(spool) == []


def test_what_medcurve_made_is_taken_and_not_kept(tmp_path):
    spool = Spool(tmp_path / "spool", MOST)
    (ds,) = slices(STUDY, SERIES, 1, Manufacturer="medcurve")
    spool.add(encoded(ds), ds.SOPClassUID)
    assert files(spool) == []
    assert spool.take(0) is None


def test_the_spool_is_never_larger_than_it_may_be(tmp_path, monkeypatch):
    size = len(encoded(slices(STUDY, SERIES, 1)[0]))
    spool = Spool(tmp_path / "spool", int(2.5 * size))
    with pytest.raises(ArrivalError) as caught:
        fill(spool)
    assert caught.value.code == "pacs.full"
    assert len(files(spool)) == 2
    spool.done(spool.take(0))
    fill(spool, count=2)  # there is room again
    with pytest.raises(ArrivalError):
        fill(Spool(spool.root, int(2.5 * size)), "1.9", 1)  # also after another start
    usage = namedtuple("usage", "total used free")(0, 0, spool_module.LEAST_FREE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArrivalError) as caught:
        fill(Spool(tmp_path / "other", MOST), count=1)
    assert caught.value.code == "pacs.full"


def test_a_study_is_handed_out_when_it_is_quiet_the_quietest_first(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(spool_module.time, "monotonic", lambda: now[0])
    spool = Spool(tmp_path / "spool", MOST)
    fill(spool, "1.1")
    now[0] = 105.0
    fill(spool, "1.2")
    now[0] = 109.0
    assert spool.take(10) is None
    now[0] = 110.0
    assert spool.take(10).uid == "1.1"
    assert spool.take(10) is None
    now[0] = 115.0
    assert spool.take(10).uid == "1.2"


def test_what_comes_after_a_study_was_handed_out_is_another_batch(tmp_path):
    spool = Spool(tmp_path / "spool", MOST)
    fill(spool, count=3)
    taken = spool.take(0)
    fill(spool, count=2)
    assert len(list(taken.folder.rglob("*.dcm"))) == 3
    spool.done(taken)
    assert len(files(spool)) == 2
    assert spool.take(0).uid == STUDY


def test_a_study_that_is_put_back_is_whole_again(tmp_path):
    spool = Spool(tmp_path / "spool", MOST)
    fill(spool, count=2)
    taken = spool.take(0)
    fill(spool, count=4)  # two of them again
    spool.put_back(taken)
    assert len(files(spool)) == 4
    again = spool.take(0)
    assert len(list(again.folder.rglob("*.dcm"))) == 4


def test_what_a_killed_process_left_is_there_again(tmp_path):
    spool = Spool(tmp_path / "spool", MOST)
    fill(spool, "1.1")
    fill(spool, "1.2")
    assert spool.take(0)
    (spool.root / "incoming" / ".ab.part").write_bytes(b"half")
    again = Spool(spool.root, MOST)
    assert again.studies == 2
    assert {again.take(0).uid for _ in range(2)} == {"1.1", "1.2"}
    assert not list(again.root.rglob("*.part"))
