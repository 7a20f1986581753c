"""HTTP to an archive: encrypted, with credentials that nobody sees, tried again, never for ever."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util import Retry

from pipeline.pacs.arrival import PacsError
from pipeline.pacs.settings import is_loopback

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


class _Bearer(AuthBase):
    """As an object, so that no .netrc takes its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Transport:
    """Requests to one DICOMweb service.

    Args:
        url: That under which ``/studies`` lies.
        plain_http: Accept a URL without TLS on another machine.

    Raises:
        PacsError: ``pacs.bad_url``, ``pacs.credentials_in_url`` or ``pacs.not_encrypted``.
    """

    def __init__(self, url: str, *, plain_http: bool) -> None:
        loopback = _check_url(url, plain_http)
        self._url = url.rstrip("/")
        # Where the archive is this machine, no proxy of the environment is asked.
        self._proxies = {"http": "", "https": ""} if loopback else None
        self._session = requests.Session()
        self._session.auth = _credentials()
        retry = Retry(
            total=ATTEMPTS - 1,
            backoff_factor=BACKOFF_S,
            status_forcelist=_BUSY,
            # storing again is harmless: the same answer has the same UIDs
            allowed_methods=frozenset(("GET", "POST")),
            respect_retry_after_header=False,  # it could say a year
            raise_on_status=False,
        )
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    @contextmanager
    def get(self, path: str, keys: dict[str, str], accept: str) -> Iterator[requests.Response]:
        """A good answer to GET.

        Raises:
            PacsError: ``pacs.unreachable`` or ``pacs.refused``.
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

        Raises:
            PacsError: ``pacs.unreachable``.
        """
        try:
            answer = self._session.request(
                method,
                self._url + path,
                # wildcards stay as they are: Orthanc 1.10 takes an escaped one for a letter
                params=urlencode(keys or {}, safe="*?"),
                data=data,
                headers=headers,
                timeout=(_CONNECT_S, _SILENT_S),
                stream=True,
                allow_redirects=False,
                proxies=self._proxies,
            )
        except requests.RequestException as error:
            raise self.unreachable(error) from None
        with answer:
            yield answer

    def json(self, answer: requests.Response) -> Any:
        """An answer's body as JSON.

        Raises:
            PacsError: ``pacs.bad_answer`` or ``pacs.unreachable``.
        """
        data = bytearray()
        try:
            for block in answer.iter_content(BLOCK):
                data += block
                if len(data) > _MOST_JSON_BYTES:
                    raise bad_answer(f"a list has more than {_MOST_JSON_BYTES} bytes")
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
            why = "its certificate is not valid"
            fix = "for a site's own certificates set REQUESTS_CA_BUNDLE to their file"
        else:
            why = f"no answer ({type(error).__name__})"
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
    if parsed.scheme not in ("http", "https") or not host or parsed.query or parsed.fragment:
        raise PacsError(
            "pacs.bad_url",
            f"'{url}' is not the URL of an archive",
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


def _credentials() -> AuthBase | None:
    """From the environment; None leaves it to .netrc."""
    if token := os.environ.get(TOKEN):
        return _Bearer(token)
    if user := os.environ.get(USER):
        return HTTPBasicAuth(user.encode(), os.environ.get(PASSWORD, "").encode())
    return None


def bad_answer(what: str) -> PacsError:
    """What is said of an answer that is not DICOMweb's."""
    return PacsError(
        "pacs.bad_answer",
        f"the archive does not answer as DICOMweb has it: {what}",
        fix="check the URL: that under which /studies lies",
    )
