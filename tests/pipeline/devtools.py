"""A page in headless Chromium that a test can click and type in: the DevTools protocol on a pipe.

Messages are JSON, each ended by a zero byte, on the browser's file descriptors 3 and 4, so that no
port is opened (chromium's ``--remote-debugging-pipe``). The methods are those of
chromedevtools.github.io/devtools-protocol.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browser import BROWSER

_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
# key -> (code, virtual key code): what a browser wants to be told of a key that types nothing
_KEYS = {
    "Enter": 13,
    "Escape": 27,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Tab": 9,
}


class Page:
    """One page; what it says on its console, and what it asks of the network, is kept."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == number:
                assert "error" not in found, f"{method}: {found['error']}"
                return dict(found["result"])
            self.events.append(found)

    def open(self, path: Path, width: int = 1400, height: int = 900, *, dark: bool = False) -> None:
        """Load a page and wait until it stands."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> None:
        """Wait until an expression in the page is true."""
        end = time.monotonic() + seconds
        while not self.run(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def click(self, selector: str, number: int = 0) -> None:
        """Click into the middle of an element, as a mouse does."""
        box = f"document.querySelectorAll({json.dumps(selector)})[{number}]"
        x, y = self.run(
            f"(() => {{ const b = {box}.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key: one of ``_KEYS``, or a character."""
        code: dict[str, Any] = (
            {"windowsVirtualKeyCode": _KEYS[key], "code": key} if key in _KEYS else {"text": key}
        )
        if key == "Enter":
            code["text"] = "\r"
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **code)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select, as its list does when one is clicked."""
        field = f"document.querySelector({json.dumps(selector)})"
        told = self.run(
            f"(() => {{ const f = {field}; f.value = {json.dumps(value)};"
            " f.dispatchEvent(new Event('input', {bubbles: true})); return f.value; })()"
        )
        assert told == value, f"{selector} has no option {value!r}"

    def complaints(self) -> list[str]:
        """What the console said, and every address that the page asked for beyond itself."""
        self.run("0")
        logged = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        found = [json.dumps(e["params"]) for e in self.events if e["method"] in logged]
        asked = [
            e["params"]["request"]["url"]
            for e in self.events
            if e["method"] == "Network.requestWillBeSent"
        ]
        return found + [url[:200] for url in asked if not url.startswith(("data:", "file:"))]

    def picture(self, path: Path) -> None:
        """Save what is seen as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._receive, 1 << 16)
            assert data, "the browser went away"
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))


@contextmanager
def browser_page(profile: Path) -> Iterator[Page]:
    """Start a browser with a page of its own, and stop it at the end."""
    assert BROWSER is not None
    told, send = os.pipe()
    receive, tell = os.pipe()
    # The browser reads descriptor 3 and writes 4, whatever numbers the pipes have here.
    places = (
        "import fcntl, os, sys; told, tell = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in"
        " sys.argv[1:3]); os.dup2(told, 3); os.dup2(tell, 4); os.execv(sys.argv[3], sys.argv[3:])"
    )
    options = [*_OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    with subprocess.Popen(
        [sys.executable, "-c", places, str(told), str(tell), BROWSER, *options],
        pass_fds=(told, tell),
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    ) as process:
        os.close(told)
        os.close(tell)
        try:
            page = Page(send, receive)
            yield page
            page._session = None
            page.call("Browser.close")
        finally:
            os.close(send)
            os.close(receive)
            process.terminate()
