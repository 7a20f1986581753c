"""The listener as its senders and its operator see it: pynetdicom on both sides, on loopback."""

from __future__ import annotations

import csv
import os
import signal
import socket
import sys
import threading
import time

import pytest
from command_line import medcurve
from sent import slices

pytest.importorskip("pynetdicom", reason="the extra 'pacs' is not installed")
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from sending import SERIES, STUDY, Scored, association, held, running, send, wait_for

from data_prep.errors import ConfigError, StageError
from pipeline import hospital_stages
from pipeline.pacs import listen as listen_module
from pipeline.pacs import receiver as receiver_module
from pipeline.pacs import settings as settings_module
from pipeline.pacs.listen import listen
from pipeline.pacs.settings import Address, ListenConfig, check_titles


def test_a_study_is_scored_once_it_is_quiet_and_its_objects_go(tmp_path):
    scored = Scored()
    with running(tmp_path, scored) as listener:
        with association(listener.port) as to:
            assert to.send_c_echo().Status == 0
        assert send(listener.port, slices(STUDY, SERIES)) == [0] * 4
        wait_for(lambda: scored.studies)
        assert send(listener.port, slices(STUDY, SERIES, 2)) == [0, 0]
        wait_for(lambda: len(scored.studies) == 2)
        wait_for(lambda: held(tmp_path) == 0)
        last = listener.end()
    assert scored.studies == [(STUDY, 4), (f"{STUDY}.2", 2)]
    assert "received: 6 ok; 0 studies left" in last
    assert "Secret" not in "".join(listener.said)
    assert STUDY not in "".join(listener.said)
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


def test_told_to_end_it_scores_what_it_holds_and_takes_no_more(tmp_path):
    scored = Scored()
    with running(tmp_path, scored, quiet_s=3600) as listener:
        send(listener.port, slices("1.1", SERIES) + slices("1.2", SERIES, 2))
        assert scored.studies == []
        listener.end()
        assert sorted(scored.studies) == [("1.1", 4), ("1.2", 2)]
        with association(listener.port) as to:
            assert not to.is_established


def test_a_connection_that_says_nothing_does_not_keep_it_from_ending(tmp_path):
    scored = Scored()
    with (
        running(tmp_path, scored, quiet_s=3600) as listener,
        socket.create_connection(("127.0.0.1", listener.port)),
    ):
        assert send(listener.port, slices(STUDY, SERIES, 1)) == [0]
        assert "0 studies left" in listener.end()
    assert scored.studies == [(STUDY, 1)]


def test_what_a_sender_did_not_finish_stays_for_the_next_start(tmp_path):
    scored = Scored()
    with running(tmp_path, scored, quiet_s=3600) as listener, association(listener.port) as to:
        assert to.send_c_store(slices(STUDY, SERIES)[0]).Status == 0
        assert "1 study left" in listener.end()  # the sender is still there after the grace
    assert scored.studies == []
    with running(tmp_path, scored, quiet_s=3600) as listener:
        assert "left by an earlier run: 1 study" in listener.said[0]
    assert scored.studies == [(STUDY, 1)]


@pytest.mark.parametrize(
    ("caller", "called", "accepted"),
    [
        ("SCANNER", "MEDCURVE", True),
        ("STRANGER", "MEDCURVE", False),
        ("SCANNER", "OTHER", False),
    ],
)
def test_only_those_who_are_allowed_may_send(tmp_path, caller, called, accepted):
    with (
        running(tmp_path, Scored(), callers=("SCANNER", "MR2")) as listener,
        association(listener.port, caller, called) as to,
    ):
        assert to.is_established == accepted


def test_bad_objects_cost_nothing_but_themselves(tmp_path):
    good = slices(STUDY, SERIES, 2)
    bad = slices("9", "../..", 1)[0]
    with running(tmp_path, Scored(), quiet_s=3600) as listener:
        with association(listener.port) as to:
            raw = Dataset()
            raw.SOPClassUID, raw.SOPInstanceUID = good[0].SOPClassUID, "1.5"
            raw.file_meta = good[0].file_meta
            assert to.send_c_store(good[0]).Status == 0
            assert to.send_c_store(raw).Status == 0xC000  # no study
            assert to.send_c_store(bad).Status == 0xC000
            assert to.send_c_store(good[1]).Status == 0
        (left,) = (tmp_path / "spool" / "incoming").iterdir()
        assert left.name == STUDY
        with socket.create_connection(("127.0.0.1", listener.port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert send(listener.port, good) == [0, 0]
        assert "2 pacs.bad_uid" in listener.end()


def test_an_object_that_is_too_large_breaks_off_and_others_do_not(tmp_path):
    small, large = slices(STUDY, SERIES, 2)
    large.PixelData = b"\0" * 400_000
    with running(tmp_path, Scored(), quiet_s=3600, most_object_bytes=100_000) as listener:
        with association(listener.port) as to:
            assert "Status" not in to.send_c_store(large)
        # each counts by itself
        assert send(listener.port, [small] * 30) == [0] * 30
        assert "1 pacs.too_large" in listener.end()


def test_a_full_spool_or_disk_says_that_there_is_no_room(tmp_path, monkeypatch):
    for number, limit in enumerate(({"most_bytes": 7000}, {"most_objects": 2})):
        with running(tmp_path / str(number), Scored(), quiet_s=3600, **limit) as listener:
            assert send(listener.port, slices(STUDY, SERIES)) == [0, 0, 0xA700, 0xA700]

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with running(tmp_path / "other", Scored(), quiet_s=3600) as listener:
        monkeypatch.setattr("pipeline.pacs.arrival._write_private", fail)
        assert send(listener.port, slices(STUDY, SERIES, 1)) == [0xA700]


def test_a_study_that_cannot_be_scored_does_not_end_the_listener(tmp_path):
    scored = Scored(raises=[ValueError("a patient's name"), StageError("stage.x", "a path")])
    with running(tmp_path, scored) as listener:
        for number in range(3):
            send(listener.port, slices(f"1.{number}", SERIES, 1))
            wait_for(lambda: held(tmp_path) == 0)
        wait_for(lambda: scored.studies)
        listener.end()
    assert scored.studies == [("1.2", 1)]
    text = "".join(listener.said)
    assert "stage.x" in text
    assert "ValueError" in text
    assert "patient's name" not in text


def test_a_disk_that_is_full_while_scoring_keeps_the_study(tmp_path):
    full = OSError(28, "No space left on device")
    scored = Scored(raises=[full])
    with running(tmp_path, scored) as listener:
        send(listener.port, slices(STUDY, SERIES, 2))
        wait_for(lambda: scored.studies)
        assert any("a study waits" in line for line in listener.said)
    assert scored.studies == [(STUDY, 2)]
    scored = Scored(raises=[full])
    with running(tmp_path / "end", scored, quiet_s=3600) as listener:
        send(listener.port, slices(STUDY, SERIES, 2))
        assert "1 study left" in listener.end()
    assert held(tmp_path / "end") == 2


def test_two_listeners_do_not_share_a_folder_or_a_port(tmp_path):
    with running(tmp_path, Scored()) as listener:
        with pytest.raises(ConfigError) as caught:
            listen(tmp_path, ListenConfig(), Scored(), threading.Event(), print)
        assert caught.value.code == "config.out_in_use"
        config = ListenConfig(Address(port=listener.port))
        with pytest.raises(ConfigError, match="maybe another `medcurve listen`") as caught:
            listen(tmp_path / "other", config, Scored(), threading.Event(), print)
        assert caught.value.code == "config.cannot_listen"
        assert "--port" in caught.value.fix
        with pytest.raises(ConfigError, match="maybe another `medcurve listen`"):
            receiver_module.refuse_taken(Address(port=listener.port))
    receiver_module.refuse_taken(Address(port=listener.port))
    with pytest.raises(ConfigError) as caught:
        elsewhere = ListenConfig(Address(host="203.0.113.1", port=0))
        listen(tmp_path / "other", elsewhere, Scored(), threading.Event(), print)
    assert "--host" in caught.value.fix


@pytest.mark.parametrize("title", ["", "  ", "a" * 17, "a\\b", "ä", "a\n"])
def test_what_is_no_ae_title_is_refused(title):
    with pytest.raises(ConfigError) as caught:
        check_titles(["GOOD", title])
    assert caught.value.code == "config.ae_title"


def test_the_command_scores_what_is_sent_and_ends_on_sigterm(
    make_package, write, tmp_path, capsys, monkeypatch, free_port
):
    make_package()
    port, out = free_port(), tmp_path / "out"
    write.dicom_series(tmp_path / "in", 5)

    def act() -> None:
        def listens() -> bool:
            with association(port) as to:
                return to.is_established

        try:
            wait_for(listens)
            entity = AE()
            entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4", ExplicitVRLittleEndian)
            to = entity.associate("127.0.0.1", port, ae_title="MEDCURVE")
            for path in sorted((tmp_path / "in").iterdir()):
                assert to.send_c_store(dcmread(path)).Status == 0
            to.release()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    sender = threading.Thread(target=act)
    sender.start()
    arguments = ("--out", out, "--port", port, "--quiet", 60, "--runs", tmp_path, "--workers", 1)
    more = ("--dicom", "--explain", "occlusion")
    assert medcurve("listen", tmp_path / "model", *arguments, *more) == 0
    sender.join()
    assert signal.getsignal(signal.SIGTERM) is before
    (study,) = out.glob("1.*")
    assert study.name == "1.2.826.0.2.5"
    with (study / "predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["scan"], row["status"]) == ("1.2.826.0.3.5", "ok")
    assert len(list((study / "dicom").iterdir())) == 2
    (shown,) = (study / "dicom").glob("*-picture.dcm")
    assert "(Occlusion)" in dcmread(shown).DerivationDescription
    assert len(list((study / "explanations").glob("*.nii.gz"))) == 1
    assert (study / "gallery.html").exists()
    assert held(out) == 0
    printed = capsys.readouterr().out
    assert "1 scored + 0 quarantined" in printed
    assert "WARNING" not in printed


def test_other_machines_are_let_in_only_where_that_is_asked_for(
    make_package, tmp_path, capsys, monkeypatch
):
    make_package()
    monkeypatch.setattr(listen_module, "listen", lambda *_: None)
    monkeypatch.setattr(receiver_module, "refuse_taken", lambda _: None)
    monkeypatch.setattr(settings_module, "tls_context", lambda _: None)
    common = ("listen", tmp_path / "model", "--out", tmp_path / "out", "--runs", tmp_path)
    assert medcurve(*common, "--host", "0.0.0.0") == 2
    assert "[config.not_encrypted]" in capsys.readouterr().err
    for more, said in (
        (("--plain-dicom",), ("listening on 0.0.0.0", "NOT ENCRYPTED", "ANYONE")),
        (("--plain-dicom", "--allow", "CT1"), ("the callers of --allow",)),
        (("--tls-cert", "c.pem"), ("encrypted, from senders that show no certificate",)),
    ):
        assert medcurve(*common, "--host", "0.0.0.0", *more) == 0
        printed = capsys.readouterr().out
        assert all(text in printed for text in ("WARNING", *said))
    assert medcurve(*common) == 0
    assert medcurve(*common, "--host", "::", "--tls-cert", "c.pem", "--tls-ca", "ca.pem") == 0
    assert "WARNING" not in capsys.readouterr().out
    assert medcurve(*common, "--allow", "an AE title that is too long") == 2
    assert medcurve(*common, "--tls-ca", "ca.pem") == 2
    assert "[config.tls_without_cert]" in capsys.readouterr().err


def test_without_pynetdicom_the_extra_is_named(make_package, tmp_path, capsys, monkeypatch):
    make_package()
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    for name in ("listen", "receiver"):
        monkeypatch.delitem(sys.modules, f"pipeline.pacs.{name}", raising=False)
    assert medcurve("listen", tmp_path / "model", "--out", tmp_path / "out") == 2
    assert "[config.no_pynetdicom]" in (said := capsys.readouterr().err)
    assert "'.[pacs]'" in said


def test_a_folder_that_no_listener_made_is_refused_and_left_as_it_is(tmp_path):
    config = ListenConfig(Address(port=0))
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o755)
    (mine / "letter.txt").write_text("dear")
    for out, said in ((mine, "was not made by `medcurve listen`"), (mine / "letter.txt", "a file")):
        with pytest.raises(StageError, match=said) as caught:
            listen(out, config, Scored(), threading.Event(), print)
        assert caught.value.code == "stage.not_ours"
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]
    assert mine.stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_that_stood_open_is_closed_to_others_and_taken_again(tmp_path):
    out = tmp_path / "inbox"
    out.mkdir(mode=0o755)
    for _ in range(2):
        with running(out, Scored()):
            assert out.stat().st_mode & 0o777 == 0o700


def test_told_twice_it_ends_at_once():
    with hospital_stages._told_to_stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    assert caught.value.code == 128 + signal.SIGTERM
