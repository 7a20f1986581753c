"""An archive that is slow, wrong, hostile or just says no: a local server that plays it."""

from __future__ import annotations

import base64
import errno
import gzip
import json
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from command_line import medcurve
from sent import encoded, slices
from urllib3.exceptions import (
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)

from pipeline.pacs import dicomweb, transport
from pipeline.pacs.arrival import PacsError
from pipeline.pacs.dicomweb import Archive, fetched
from pipeline.pacs.limits import Fetched, Limits, SeriesKey
from pipeline.pacs.multipart import joined
from pipeline.pacs.query import parse_query

STUDY, SERIES = "1.2.3", "1.2.3.4"
QUERY = parse_query(["PatientID=7"])
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'
Answer = tuple[int, str, bytes]


def found(tag: str, *values: str, also: dict[str, str] | None = None) -> Answer:
    """A list of studies or series as QIDO-RS has it."""
    items = [
        {key: {"vr": "UI", "Value": [v]} for key, v in {tag: value, **(also or {})}.items()}
        for value in values
    ]
    return 200, "application/dicom+json", json.dumps(items).encode()


@dataclass
class Played:
    """Answers by path, and what was asked.

    Attributes:
        answers: Path -> answers, the last of which is repeated.
        asked: (method, path with query, Authorization).
    """

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    cut: int = 0  # answers that break off
    endless: bool = False  # bodies never end
    encoding: str = ""  # of bodies
    encodings: list[str] = field(default_factory=list)  # that were asked for

    def holds(self, *objects: bytes) -> None:
        """One series with these objects."""
        self.answers["/studies"] = [found("0020000D", STUDY)]
        self.answers[f"/studies/{STUDY}/series"] = [found("0020000E", SERIES)]
        self.answers[f"/studies/{STUDY}/series/{SERIES}"] = [
            (200, MULTIPART, joined(objects, b"b"))
        ]

    def count(self, path: str) -> int:
        return sum(urlsplit(asked).path == path for _, asked, _ in self.asked)


@pytest.fixture
def played(monkeypatch) -> Iterator[Played]:
    """A server on loopback; nothing waits between attempts."""
    for module in (transport, dicomweb):
        monkeypatch.setattr(module, "BACKOFF_S", 0.0)
    for name in (transport.TOKEN, transport.USER, transport.PASSWORD):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # must not be asked
    play = Played()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parsed = urlsplit(self.path)
            play.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
            if length := int(self.headers.get("Content-Length", 0)):
                play.bodies.append(self.rfile.read(length))
            several = play.answers.get(parsed.path, [(404, "text/plain", b"")])
            status, kind, body = several.pop(0) if len(several) > 1 else several[0]
            play.encodings.append(self.headers.get("Accept-Encoding", ""))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if play.encoding:
                self.send_header("Content-Encoding", play.encoding)
            if 300 <= status < 400:
                self.send_header("Location", body.decode())
            self.send_header("Content-Length", str((1 << 40) if play.endless else len(body)))
            self.end_headers()
            with suppress(OSError):  # the other side has gone
                while play.endless:
                    self.wfile.write(bytes(1 << 16))
            if play.cut and kind.startswith("multipart"):
                play.cut -= 1
                body = body[: len(body) // 2]
                self.close_connection = True
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    play.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield play
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(played: Played, folder: Path, **limits: object) -> Fetched:
    counts = Fetched()
    archive = Archive(played.url, Limits(**limits))
    archive.fetch(SeriesKey(STUDY, SERIES), folder, counts)
    return counts


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(PacsError) as caught:
        call()
    assert caught.value.fix
    return caught.value.code


def test_objects_of_a_series_lie_in_a_private_folder_that_goes_away(played):
    played.holds(*map(encoded, slices(STUDY, SERIES)))
    with fetched(Archive(played.url), QUERY) as (folder, counts):
        files = sorted(folder.rglob("*.dcm"))
        assert {path.parent for path in files} == {folder / STUDY / SERIES}
        assert (counts.objects, counts.series, len(files)) == (4, 1, 4)
        assert {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))} == {0}
    assert not folder.exists()
    asked = [parse_qs(urlsplit(path).query) for _, path, _ in played.asked]
    assert asked[0]["PatientID"] == ["7"]


def test_series_without_images_and_what_medcurve_stored_are_left_out(played):
    played.holds(
        *map(encoded, slices(STUDY, SERIES, 2)),
        *map(encoded, slices(STUDY, SERIES, 1, Manufacturer="medcurve", SOPInstanceUID="1.9")),
    )
    listed = [found("0020000E", SERIES), found("0020000E", "1.5", also={"00080060": "SR"})]
    both = json.dumps([item for _, _, body in listed for item in json.loads(body)]).encode()
    played.answers[f"/studies/{STUDY}/series"] = [(200, "application/dicom+json", both)]
    with fetched(Archive(played.url), QUERY) as (_, counts):
        assert (counts.objects, counts.ours, counts.series) == (2, 1, 1)


def test_pages_are_read_to_the_end_each_study_once(played):
    uids = [f"1.2.{n}" for n in range(130)]
    first, rest = found("0020000D", *uids[:100]), found("0020000D", *uids[95:])
    played.answers["/studies"] = [first, rest]
    archive = Archive(played.url, Limits(studies=200))
    assert archive._studies(QUERY) == uids
    offsets = [parse_qs(urlsplit(path).query)["offset"] for _, path, _ in played.asked]
    assert offsets == [["0"], ["100"]]
    played.answers["/studies"] = [first]  # an archive that knows no offset
    assert len(archive._studies(QUERY)) == 100


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_archive_is_asked_again(played, status):
    played.holds(b"")
    played.answers["/studies"].insert(0, (status, "text/plain", b""))
    assert Archive(played.url).find(QUERY) == [SeriesKey(STUDY, SERIES)]
    assert played.count("/studies") == 2
    played.answers["/studies"] = [(status, "text/plain", b"")]
    assert code_of(lambda: Archive(played.url).find(QUERY)) == "pacs.refused"


def test_a_transfer_that_breaks_off_is_begun_again(played, tmp_path):
    played.holds(*map(encoded, slices(STUDY, SERIES)))
    played.cut = 2
    assert fetch(played, tmp_path).objects == 4
    played.cut = 99
    assert code_of(lambda: fetch(played, tmp_path)) == "pacs.unreachable"
    assert not list(tmp_path.rglob("*.dcm"))


def test_objects_that_are_none_or_not_asked_for_are_counted_and_left(played, tmp_path):
    good = slices(STUDY, SERIES, 1)
    played.holds(
        *map(encoded, good),
        b"<html>",
        *map(encoded, slices("9.9", SERIES, 1)),
        *map(encoded, slices(STUDY, SERIES, 1, SOPInstanceUID="../../x")),
        *map(encoded, slices(STUDY, "../../../tmp", 1)),
    )
    counts = fetch(played, tmp_path / "in")
    assert counts.refused == {"pacs.not_dicom": 1, "pacs.other_series": 1, "pacs.bad_uid": 2}
    assert [path.name[:12] for path in tmp_path.rglob("*.dcm")] == [good[0].SOPInstanceUID[:12]]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"total_bytes": 5000}, "pacs.too_large"),
        ({"object_bytes": 100}, "pacs.too_large"),
        ({"series_s": -1.0}, "pacs.too_slow"),
        ({"objects": 3}, "pacs.too_many"),
    ],
)
def test_what_is_too_much_is_refused(played, tmp_path, limits, code):
    played.holds(*(encoded(ds) * 40 for ds in slices(STUDY, SERIES)))
    assert code_of(lambda: fetch(played, tmp_path, **limits)) == code


@pytest.mark.parametrize(
    ("path", "answer", "code"),
    [
        ("/studies", (302, "text/plain", b"http://evil.example/"), "pacs.refused"),
        ("/studies", (401, "text/plain", b""), "pacs.refused"),
        ("/studies", (200, "text/html", b"<html>"), "pacs.bad_answer"),
        ("/studies", (200, "application/json", b"[1]"), "pacs.bad_answer"),
        ("/studies", (200, "application/json", b"[" * 100_000), "pacs.bad_answer"),
        ("/studies", found("0020000D", "1.2/../../admin"), "pacs.bad_answer"),
        ("/studies", found("0020000D"), "pacs.nothing_found"),
        ("/studies", (204, "text/plain", b""), "pacs.nothing_found"),
        ("/studies", found("0020000D", *[f"1.{n}" for n in range(9)]), "pacs.too_many"),
        (f"/studies/{STUDY}/series", found("0020000E", "?a=b"), "pacs.bad_answer"),
        (f"/studies/{STUDY}/series/{SERIES}", (200, "application/zip", b""), "pacs.bad_answer"),
        (f"/studies/{STUDY}/series/{SERIES}", (200, MULTIPART, b"--b--"), "pacs.nothing_found"),
    ],
)
def test_answers_that_cannot_be_used(played, path, answer, code):
    played.holds(*map(encoded, slices(STUDY, SERIES, 1)))
    played.answers[path] = [answer]

    def ask() -> None:
        with fetched(Archive(played.url, Limits(studies=5)), QUERY):
            pytest.fail("it was taken")

    assert code_of(ask) == code


def test_lists_are_bounded(played, monkeypatch):
    played.answers["/studies"] = [found("0020000D", STUDY)]
    played.answers[f"/studies/{STUDY}/series"] = [found("0020000E", "1.1", "1.2", "1.3")]
    few = Archive(played.url, Limits(series=2))
    assert code_of(lambda: few.find(QUERY)) == "pacs.too_many"
    monkeypatch.setattr(transport, "_JSON_S", -1.0)
    assert code_of(lambda: Archive(played.url).find(QUERY)) == "pacs.too_slow"
    monkeypatch.setattr(transport, "_MOST_JSON_BYTES", 10)
    assert code_of(lambda: Archive(played.url).find(QUERY)) == "pacs.bad_answer"


def test_a_compressed_answer_is_not_inflated(played):
    played.holds(b"")
    Archive(played.url).find(QUERY)
    assert set(played.encodings) == {"identity"}
    played.encoding = "gzip"
    status, kind, body = played.answers["/studies"][0]
    played.answers["/studies"] = [(status, kind, gzip.compress(body))]
    assert code_of(lambda: Archive(played.url).find(QUERY)) == "pacs.bad_answer"


@pytest.mark.parametrize("status", [302, 500, 503])
def test_the_body_of_an_answer_that_is_none_is_not_read(played, status):
    played.answers["/studies"] = [(status, "text/plain", b"http://a.example")]
    played.endless = True
    assert code_of(lambda: Archive(played.url).find(QUERY)) == "pacs.refused"


def stored(count: int, status: int = 200) -> Answer:
    said = {"00081199": {"vr": "SQ", "Value": [{}] * count}} if count else {}
    return status, "application/dicom+json", json.dumps(said).encode()


def test_objects_are_stored_in_requests_of_bounded_size(played, tmp_path, monkeypatch):
    paths = []
    for number, ds in enumerate(slices(STUDY, SERIES)):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(encoded(ds))
    monkeypatch.setattr(dicomweb, "_STORE_BYTES", 2 * paths[0].stat().st_size + 9)
    played.answers["/studies"] = [stored(2)]
    Archive(played.url).store(paths)
    assert len(played.bodies) == 2
    assert all(paths[n].read_bytes() in played.bodies[n // 2] for n in range(4))
    played.answers["/studies"] = [stored(1, 202)]
    with pytest.raises(PacsError, match="refused 2 of 4") as caught:
        Archive(played.url).store(paths)
    assert caught.value.code == "pacs.not_stored"
    for answer, code in (
        (stored(0, 409), "pacs.not_stored"),
        ((500, "text/plain", b""), "pacs.refused"),
        ((200, "text/plain", b'{"00081199": 5}'), "pacs.bad_answer"),
        ((200, "text/plain", b'{"00081199": {"Value": 5}}'), "pacs.bad_answer"),
        ((200, "text/plain", b"1"), "pacs.bad_answer"),
    ):
        played.answers["/studies"] = [answer]
        assert code_of(lambda: Archive(played.url).store(paths)) == code


def test_credentials_come_from_the_environment_or_netrc(played, tmp_path, monkeypatch):
    played.holds(b"")

    def sent() -> str:
        Archive(played.url).find(QUERY)
        return played.asked[-1][2]

    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert sent() == ""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    assert sent() == "Basic YTpi"
    monkeypatch.setenv(transport.USER, "jé")
    monkeypatch.setenv(transport.PASSWORD, "c")
    assert sent() == "Basic asOpOmM="
    monkeypatch.setenv(transport.TOKEN, "secret")
    assert sent() == "Bearer secret"


def test_a_token_that_is_none_is_refused_and_not_repeated(monkeypatch):
    for token in ("Bearer secret", "sécret", "secret\nX-Other: 1"):
        monkeypatch.setenv(transport.TOKEN, token)
        with pytest.raises(PacsError) as caught:
            Archive("https://pacs.example")
        assert caught.value.code == "pacs.bad_token"
        assert transport.TOKEN in str(caught.value)
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize(("url", "is_safe"), [("http://10.0.0.1", False), ("https://a", True)])
def test_an_archive_without_tls_is_warned_of(url, is_safe, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Archive, "find", lambda *_: [])
    arguments = ("--out", tmp_path, "--dicomweb", url, "--query", "PatientID=1", "--plain-http")
    assert medcurve("predict", "models:/chest@champion", *arguments) == 2
    printed = capsys.readouterr()
    assert "[pacs.nothing_found]" in printed.err
    assert ("WARNING" not in printed.out) == is_safe


@pytest.mark.parametrize("name", ["TOKEN", "PASSWORD"])
def test_credentials_are_in_nothing_that_is_written(
    played, make_package, write, tmp_path, monkeypatch, capsys, name
):
    make_package()
    secret = "s3cret-of-the-archive"
    monkeypatch.setenv(transport.USER, "research")
    monkeypatch.setenv(getattr(transport, name), secret)
    logged = []
    monkeypatch.setattr("pipeline.tracking.log_predictions", lambda *a, **b: logged.append((a, b)))
    write.dicom_series(tmp_path / "in", 5)
    played.holds(*(path.read_bytes() for path in sorted((tmp_path / "in").iterdir())))
    played.answers["/studies"] = [found("0020000D", "1.2.826.0.2.5"), stored(2)]
    listed = played.answers.pop(f"/studies/{STUDY}/series/{SERIES}")
    played.answers["/studies/1.2.826.0.2.5/series"] = [found("0020000E", "1.2.826.0.3.5")]
    played.answers["/studies/1.2.826.0.2.5/series/1.2.826.0.3.5"] = listed
    out, runs = tmp_path / "out", tmp_path / "runs"
    arguments = ("--out", out, "--dicomweb", played.url, "--query", "PatientID=1", "--store")
    assert medcurve("predict", tmp_path / "model", *arguments, "--runs", runs, "--workers", 1) == 0
    assert any(secret in sent or "Basic" in sent for _, _, sent in played.asked)
    printed = capsys.readouterr()
    assert "store: 2 objects" in printed.out
    files = [path for folder in (out, runs) for path in folder.rglob("*") if path.is_file()]
    assert files
    written = b"".join(path.read_bytes() for path in files)
    coded = base64.b64encode(f"research:{secret}".encode())
    for text in (printed.out, printed.err, repr(logged), written.decode("latin-1")):
        assert secret not in text
        assert coded.decode() not in text
    assert len(logged) == 1


def test_a_redirection_is_not_followed_with_the_credentials(played, monkeypatch):
    monkeypatch.setenv(transport.TOKEN, "secret")
    played.answers["/studies"] = [(307, "text/plain", f"{played.url}/elsewhere".encode())]
    assert code_of(lambda: Archive(played.url).find(QUERY)) == "pacs.refused"
    assert played.count("/elsewhere") == 0


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://user:secret@pacs.example/dicom-web", "pacs.credentials_in_url"),
        ("https://secret@pacs.example", "pacs.credentials_in_url"),
        ("http://pacs.example/dicom-web", "pacs.not_encrypted"),
        ("http://10.0.0.1", "pacs.not_encrypted"),
        ("ftp://pacs.example", "pacs.bad_url"),
        ("file:///etc/passwd", "pacs.bad_url"),
        ("https://pacs.example/x?token=secret", "pacs.bad_url"),
        ("https://pacs.example/x#secret", "pacs.bad_url"),
        ("https://user:secret@[", "pacs.bad_url"),
        ("https://pacs.example:port", "pacs.bad_url"),
        ("https://[", "pacs.bad_url"),
        ("pacs.example", "pacs.bad_url"),
    ],
)
def test_urls_that_are_not_safe_are_refused_and_not_repeated(url, code):
    with pytest.raises(PacsError) as caught:
        Archive(url)
    assert caught.value.code == code
    assert "secret" not in str(caught.value)


def test_plain_http_is_accepted_where_it_is_asked_for():
    Archive("http://10.0.0.1/dicom-web", plain_http=True)
    Archive("http://[::1]:80")
    Archive("http://localhost")


def test_nobody_there_is_said(free_port, monkeypatch):
    monkeypatch.setattr(transport, "BACKOFF_S", 0.0)
    archive = Archive(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(PacsError, match="nothing listens there") as caught:
        archive.find(QUERY)
    assert caught.value.code == "pacs.unreachable"
    new, unknown = NewConnectionError(None, "quoted"), NameResolutionError("a", None, OSError())
    for error, said in (
        (requests.ConnectTimeout(), "no connection within"),
        (requests.ReadTimeout(), "not a byte within"),
        (requests.ConnectionError(MaxRetryError(None, "/", new)), "nothing listens there"),
        (requests.ConnectionError(MaxRetryError(None, "/", unknown)), "no machine of this name"),
        (requests.exceptions.ChunkedEncodingError("quoted"), "broke off"),
    ):
        text = str(archive._transport.unreachable(error))
        assert said in text
        assert "quoted" not in text


def test_a_certificate_that_is_not_valid_is_not_accepted(tmp_path, monkeypatch):
    # what requests raises where the certificate does not hold
    def fail(*_: object, **__: object) -> None:
        inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
        raise requests.exceptions.SSLError(MaxRetryError(None, "/", SSLError(inner)))

    archive = Archive("https://pacs.example")
    monkeypatch.setattr(archive._transport._session, "request", fail)
    with pytest.raises(PacsError, match="its certificate is not valid") as caught:
        archive.find(QUERY)
    assert "REQUESTS_CA_BUNDLE" in caught.value.fix
    assert archive._transport._session.verify is True


def test_a_port_without_tls_is_not_called_a_bad_certificate(played):
    archive = Archive(played.url.replace("http:", "https:"))
    with pytest.raises(PacsError, match="it does not speak TLS there") as caught:
        archive.find(QUERY)
    assert "REQUESTS_CA_BUNDLE" not in caught.value.fix
    asked = requests.exceptions.SSLError(SSLError(ssl.SSLError(1, "asks for a certificate")))
    assert "no encrypted connection" in str(archive._transport.unreachable(asked))


def test_a_folder_without_room_is_named_with_what_chooses_it(played, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    played.holds(*map(encoded, slices(STUDY, SERIES)))
    monkeypatch.setattr(dicomweb, "take_in", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="TMPDIR") as caught, fetched(Archive(played.url), QUERY):
        pytest.fail("it was taken")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename.startswith(f"{tmp_path}/medcurve-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        ([], "pacs.no_query"),
        (["Modality=CT"], "pacs.no_query"),
        (["PatientID"], "pacs.bad_query"),
        (["PatientID="], "pacs.bad_query"),
        (["PatientID=1", "PatientID=2"], "pacs.bad_query"),
        (["PatientId=1"], "pacs.bad_query"),
        (["limit=100000"], "pacs.bad_query"),
        (["StudyDate=yesterday"], "pacs.bad_query"),
        (["StudyDate=20240230"], "pacs.bad_query"),
        (["StudyDate=2024-01-31"], "pacs.bad_query"),
        (["StudyDate=-"], "pacs.bad_query"),
    ],
)
def test_queries_that_are_none_are_refused(texts, code):
    assert code_of(lambda: parse_query(texts)) == code


@pytest.mark.parametrize("date", ["20240229", "20240101-20240131", "-20240131", "20240101-", "*"])
def test_dates_are_days_ranges_or_any(date):
    assert parse_query([f"StudyDate={date}"]).studies == {"StudyDate": date}


def test_a_key_of_series_alone_is_answered_with_one_of_studies():
    with pytest.raises(PacsError, match="Modality chooses among the series") as caught:
        parse_query(["Modality=CT"])
    assert "ModalitiesInStudy=CT" in caught.value.fix


def test_a_misspelt_key_is_answered_with_the_nearest():
    with pytest.raises(PacsError, match="did you mean 'PatientID'"):
        parse_query(["PatientId=1"])
    query = parse_query(["StudyDescription=a=b", "Modality=MR"])
    assert (query.studies, query.series) == ({"StudyDescription": "a=b"}, {"Modality": "MR"})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("models:/chest@champion", "--out", "o"), "config.no_inputs"),
        (("models:/chest@champion", "in", "--out", "o", "--store"), "config.archive_without_url"),
        (
            ("models:/chest@champion", "in", "--out", "o", "--dicomweb", "http://127.0.0.1"),
            "config.two_inputs",
        ),
        (("models:/chest@champion", "--out", "o", "--dicomweb", "http://a@b"), "pacs.no_query"),
        (
            (
                "models:/chest@champion",
                "--out",
                "o",
                "--dicomweb",
                "http://a:b@c",
                "--query",
                "PatientID=1",
            ),
            "pacs.credentials_in_url",
        ),
    ],
)
def test_the_command_refuses_what_does_not_fit_together(arguments, code, capsys):
    assert medcurve("predict", *arguments) == 2
    assert f"[{code}]" in capsys.readouterr().err


def test_a_full_disk_while_fetching_leaves_nothing(played, monkeypatch):
    played.holds(*map(encoded, slices(STUDY, SERIES, 1)))
    made = []

    def full(folder: Path, *_: object) -> None:
        made.append(folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dicomweb, "take_in", full)
    with pytest.raises(OSError, match="No space"), fetched(Archive(played.url), QUERY):
        pytest.fail("it went on")
    assert made
    assert not made[0].exists()
