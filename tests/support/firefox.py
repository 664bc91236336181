"""Debian's Firefox, driven by WebDriver BiDi over a socket of its own."""

import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from support.logged_process import SECONDS

BROWSER = "firefox-esr"
READY = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
PREFERENCES = {
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.auto": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "extensions.getAddons.cache.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "intl.accept_languages": "en",
}
EVENTS = ("log.entryAdded", "network.beforeRequestSent")
OWN = ("resource:", "chrome:", "about:", "data:", "blob:", "moz-extension:")
"""Addresses of the browser itself."""


class Firefox:
    """One window; `errors` and `requests` have what its pages wrote and asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.errors: deque[str] = deque()
        self.requests: deque[str] = deque()
        self._send("session.new", capabilities={})
        self._send("session.subscribe", events=EVENTS)
        self._context = self._send("browsingContext.getTree")["contexts"][0]["context"]

    def open(self, url: str) -> None:
        """Opens a page, and waits until it is loaded."""
        self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression: a text, a number or a truth."""
        answer = self._send(
            "script.evaluate",
            expression=expression,
            target={"context": self._context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return answer["result"].get("value")

    def wait_until(self, expression: str) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + SECONDS
        while not self._is_true(expression):
            assert time.monotonic() < deadline, (
                f"{expression}; there is {self.evaluate('document.body.innerText')!r}"
            )
            time.sleep(0.05)

    def _is_true(self, expression: str) -> bool:
        try:
            return bool(self.evaluate(expression))
        except AssertionError:
            return False  # another page is just loading

    def _send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(SECONDS))
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                return answer["result"]
            self._note(answer.get("method"), answer.get("params"))

    def _note(self, method: str, event: Any) -> None:
        if method == "log.entryAdded" and event["level"] in ("error", "warn"):
            self.errors.append(event["text"])
        if method == "network.beforeRequestSent":
            url = event["request"]["url"]
            if not url.startswith(OWN):
                self.requests.append(url)


@contextmanager
def firefox() -> Iterator[Firefox]:
    """Starts it; skips a test where it is missing."""
    path = shutil.which(BROWSER)
    if path is None:
        pytest.skip(f"{BROWSER} is not installed; `.ci/peers` installs it")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in PREFERENCES.items()]
        (Path(profile) / "user.js").write_text("\n".join(lines))
        log = Path(profile) / "log"
        command = [path, "--headless", "--no-remote", "--profile", profile]
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, "--remote-debugging-port", "0"],
                stderr=file,
                stdout=subprocess.DEVNULL,
                env={"HOME": profile, "PATH": "/usr/bin:/bin", "MOZ_CRASHREPORTER_DISABLE": "1"},
            )
        try:
            with connect(_address(process, log), proxy=None, max_size=None) as socket:
                yield Firefox(socket)
        finally:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it listens, from its log."""
    deadline = time.monotonic() + SECONDS
    while (found := READY.search(log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return f"{found[1]}/session"
