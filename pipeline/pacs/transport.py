"""HTTP to an archive: encrypted, with credentials that nobody sees, tried again, never for ever."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import NameResolutionError, NewConnectionError
from urllib3.util.ssl_match_hostname import CertificateError

from pipeline.pacs.arrival import PacsError
from pipeline.pacs.settings import is_loopback
from pipeline.pacs.tls import reason

TOKEN: Final = "MEDCURVE_DICOMWEB_TOKEN"  # noqa: S105 - a name in the environment
USER: Final = "MEDCURVE_DICOMWEB_USER"
PASSWORD: Final = "MEDCURVE_DICOMWEB_PASSWORD"  # noqa: S105 - a name in the environment

ATTEMPTS: Final = 4
BACKOFF_S: Final = 0.3  # before the second attempt; doubled with each
BLOCK: Final = 1 << 18
_CONNECT_S: Final = 10
_SILENT_S: Final = 60  # without a byte
_BUSY: Final = (429, 502, 503, 504)
_MOST_JSON_BYTES: Final = 64 << 20
_JSON_S: Final = 300.0  # that a list may take
# What OpenSSL says of an answer that is not of TLS.
_NO_TLS: Final = frozenset(
    ("wrong version number", "http request", "packet length too long", "record layer failure")
)


class _Bearer(AuthBase):
    """As an object, so that no .netrc takes its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Straight(requests.Session):
    """A session that follows no redirection, nor reads the body of one, which has no bound."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class Transport:
    """Requests to one DICOMweb service.

    Args:
        url: That under which ``/studies`` lies.
        plain_http: Accept a URL without TLS on another machine.

    Attributes:
        is_safe: Whether what travels is encrypted, or stays on this machine.

    Raises:
        PacsError: ``pacs.bad_url``, ``pacs.credentials_in_url``, ``pacs.not_encrypted`` or
            ``pacs.bad_token``.
    """

    def __init__(self, url: str, *, plain_http: bool) -> None:
        loopback = _check_url(url, plain_http)
        self._url = url.rstrip("/")
        self.is_safe = loopback or urlsplit(url).scheme == "https"
        # Where the archive is this machine, no proxy of the environment is asked.
        self._proxies = {"http": "", "https": ""} if loopback else None
        self._session = _Straight()
        self._session.auth = _credentials()
        # A few bytes can inflate to any number.
        self._session.headers["Accept-Encoding"] = "identity"

    @contextmanager
    def get(self, path: str, keys: dict[str, str], accept: str) -> Iterator[requests.Response]:
        """A good answer to GET.

        Raises:
            PacsError: ``pacs.unreachable``, ``pacs.refused``, or ``pacs.bad_answer``.
        """
        with self.answer("GET", path, {"Accept": accept}, keys=keys) as answer:
            if answer.status_code not in (200, 204):
                raise self.refused(answer)
            yield answer

    @contextmanager
    def answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        keys: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> Iterator[requests.Response]:
        """One answer, its body not yet read; a redirection is not followed.

        Where the archive is busy or does not answer it is asked again: storing again is harmless,
        for the same answer has the same UIDs.

        Raises:
            PacsError: ``pacs.unreachable``, or ``pacs.bad_answer`` for one that is compressed.
        """
        # wildcards stay as they are: Orthanc 1.10 takes an escaped one for a letter
        query = urlencode(keys or {}, safe="*?")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._request(method, path, headers, query, data)
            except requests.RequestException as error:
                encryption = isinstance(error, requests.exceptions.SSLError)
                if attempt == ATTEMPTS or encryption:
                    raise self.unreachable(error) from None
            else:
                if attempt == ATTEMPTS or answer.status_code not in _BUSY:
                    break
                answer.close()  # unread: it has no bound
            time.sleep(BACKOFF_S * 2**attempt)
        with answer:
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise bad_answer("its answer is compressed, which it was asked not to be")
            yield answer

    def _request(
        self, method: str, path: str, headers: dict[str, str], query: str, data: bytes | None
    ) -> requests.Response:
        return self._session.request(
            method,
            self._url + path,
            params=query,
            data=data,
            headers=headers,
            timeout=(_CONNECT_S, _SILENT_S),
            stream=True,
            allow_redirects=False,
            proxies=self._proxies,
        )

    def json(self, answer: requests.Response) -> Any:
        """An answer's body as JSON.

        Raises:
            PacsError: ``pacs.bad_answer``, ``pacs.too_slow`` or ``pacs.unreachable``.
        """
        data = bytearray()
        end = time.monotonic() + _JSON_S
        try:
            for block in answer.iter_content(BLOCK):
                data += block
                if len(data) > _MOST_JSON_BYTES:
                    raise bad_answer(f"a list has more than {_MOST_JSON_BYTES} bytes")
                if time.monotonic() > end:
                    raise too_slow(f"a list takes more than {_JSON_S:.0f} s")
            return json.loads(bytes(data) or b"[]")
        except requests.RequestException as error:
            raise self.unreachable(error) from None
        except (ValueError, RecursionError):
            raise bad_answer("it is not JSON") from None

    def refused(self, answer: requests.Response) -> PacsError:
        """What is said of an answer of another status."""
        status = answer.status_code
        fix = "check the URL and the archive's log"
        if status in (401, 403):
            fix = f"give credentials in {TOKEN}, in {USER} and {PASSWORD}, or in ~/.netrc"
        elif 300 <= status < 400:
            fix = "give the URL that the archive redirects to; medcurve follows no redirection"
        return PacsError("pacs.refused", f"{self._url}: the archive answers {status}", fix=fix)

    def unreachable(self, error: requests.RequestException) -> PacsError:
        """What is said where no answer came, or half of one."""
        if isinstance(error, requests.exceptions.SSLError):
            why, fix = _why_no_tls(error)
        else:
            why = _why(error)
            fix = "check the URL and whether the archive runs"
        return PacsError("pacs.unreachable", f"{self._url}: {why}", fix=fix)


def _check_url(url: str, plain_http: bool) -> bool:
    """Refuse a URL that cannot be used safely; whether it is this machine's."""
    try:
        parsed = urlsplit(url)
        host = parsed.hostname or ""
        _ = parsed.port
    except ValueError:
        parsed, host = urlsplit(""), ""
    if parsed.username is not None or parsed.password is not None:
        raise PacsError(
            "pacs.credentials_in_url",
            "the URL of --dicomweb holds a user name or password, which other users can see",
            fix=f"give them in {USER} and {PASSWORD}, or in ~/.netrc",
        )
    if parsed.query or parsed.fragment:
        raise PacsError(
            "pacs.bad_url",
            f"the URL of --dicomweb goes on after '{_harmless(url)}'",
            fix="give that alone, under which /studies lies",
        )
    if parsed.scheme not in ("http", "https") or not host:
        raise PacsError(
            "pacs.bad_url",
            f"'{_harmless(url)}' is not the URL of an archive",
            fix="give one such as https://pacs.example.org/dicom-web",
        )
    loopback = is_loopback(host)
    if parsed.scheme == "http" and not (loopback or plain_http):
        raise PacsError(
            "pacs.not_encrypted",
            f"{url}: scans of patients and credentials would travel unencrypted",
            fix="use https://, or add --plain-http where the network is protected otherwise",
        )
    return loopback


def _why(error: requests.RequestException) -> str:
    """Why no answer came, in words of ours: an error's own may quote what was sent."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {_CONNECT_S} s"
    if isinstance(error, requests.Timeout):
        return f"not a byte within {_SILENT_S} s"
    if isinstance(reason, NameResolutionError):
        return "no machine of this name is known"
    if isinstance(reason, NewConnectionError):
        return "nothing listens there"
    return f"the connection broke off ({type(error).__name__})"


def _why_no_tls(error: requests.exceptions.SSLError) -> tuple[str, str]:
    """What is wrong with the encryption, and what to do about it."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError | CertificateError):
        return (
            "its certificate is not valid",
            "for a site's own certificates set REQUESTS_CA_BUNDLE to their file",
        )
    said = reason(cause) if isinstance(cause, ssl.SSLError) else ""
    if said in _NO_TLS:
        return (
            "it does not speak TLS there",
            "give the port that does, or http:// with --plain-http where the network is "
            "protected otherwise",
        )
    return (
        f"no encrypted connection comes about ({said or type(cause).__name__})",
        "check the URL, and which TLS and certificates the archive asks for",
    )


def _cause(error: BaseException) -> BaseException:
    """The innermost of errors that requests and urllib3 wrap into each other."""
    while True:
        held = getattr(error, "reason", None), *error.args
        inner = next((one for one in held if isinstance(one, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _harmless(url: str) -> str:
    """A URL without what could be a password or a token in it."""
    return url.partition("?")[0].partition("#")[0].rpartition("@")[2]


def _credentials() -> AuthBase | None:
    """From the environment; None leaves it to .netrc.

    Raises:
        PacsError: ``pacs.bad_token``.
    """
    if token := os.environ.get(TOKEN, "").strip():
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise PacsError(
                "pacs.bad_token",
                f"what {TOKEN} holds is no token: it has blanks, or letters beyond ASCII",
                fix="give the token alone, without 'Bearer' before it",
            )
        return _Bearer(token)
    if user := os.environ.get(USER):
        return HTTPBasicAuth(user.encode(), os.environ.get(PASSWORD, "").encode())
    return None


def too_slow(what: str) -> PacsError:
    """What is said of an archive that takes too long."""
    return PacsError("pacs.too_slow", what, fix="try again when the archive is less busy")


def bad_answer(what: str) -> PacsError:
    """What is said of an answer that is not DICOMweb's."""
    return PacsError(
        "pacs.bad_answer",
        f"the archive does not answer as DICOMweb has it: {what}",
        fix="check the URL: that under which /studies lies",
    )
