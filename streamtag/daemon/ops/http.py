"""Metrics and health, on a small HTTP server of their own.

`/metrics` is the text that Prometheus reads, `/healthz` says whether the engine makes progress,
`/readyz` whether models are warm and audio has come.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from streamtag.daemon.ops.metrics import Metrics
from streamtag.daemon.ops.monitor import Monitor
from streamtag.errors import ConfigError

log = logging.getLogger(__name__)

CONTENT = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """The HTTP server.

    Args:
        bind: `HOST:PORT`; a port of 0 takes a free one.
        metrics: of the daemon.
        monitor: of the daemon.

    Raises:
        ConfigError: the address cannot be used.
    """

    def __init__(self, bind: str, metrics: Metrics, monitor: Monitor) -> None:
        host, port = split_address(bind)
        answer = {
            "/metrics": lambda: (200, metrics.text()),
            "/healthz": lambda: _verdict(monitor.alive(time.monotonic()), "the engine is stuck"),
            "/readyz": lambda: _verdict(monitor.heard, "no audio has come yet"),
        }
        try:
            self._server = _MetricsHttpServer((host, port), _handler(answer))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"metrics.bind: expected an address to listen on, such as 127.0.0.1:9464, "
                f"got {bind!r}: {error}; is another daemon running there?"
            ) from None
        self.address = f"{host}:{self._server.server_address[1]}"
        """`HOST:PORT`, with the port that was taken."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()
        log.info("metrics on http://%s/metrics", self.address)

    def close(self) -> None:
        """Answers nobody any more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _MetricsHttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    """Somebody who connects and says nothing does not hold up the end."""


Answer = Callable[[], tuple[int, bytes]]


def split_address(bind: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`.

    Raises:
        ConfigError: it is none.
    """
    host, _, port = bind.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"metrics.bind: expected HOST:PORT, such as 127.0.0.1:9464, got {bind!r}")
    return host.strip("[]"), int(port)


def _handler(answers: Mapping[str, Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0
        server_version = "streamtag"

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            status, body = answer() if answer else (404, b"/metrics /healthz /readyz\n")
            self.send_response(status)
            self.send_header("Content-Type", CONTENT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    return Handler


def _verdict(fine: bool, otherwise: str) -> tuple[int, bytes]:
    return (200, b"ok\n") if fine else (503, f"{otherwise}\n".encode())
