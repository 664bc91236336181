"""A receiver of webhooks that simulates the faults of real ones."""

import http.server
import json
import socketserver
import threading
from collections.abc import Callable

Reply = Callable[[http.server.BaseHTTPRequestHandler], None]


def status(code: int, **headers: str) -> Reply:
    def reply(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in ({"Content-Length": "0"} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return reply


class Receiver:
    """Answers each request with the next of its replies; the last one is repeated."""

    def __init__(self, *replies: Reply, port: int = 0) -> None:
        self.replies = list(replies) or [status(204)]
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.closing = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                if len(body := self.rfile.read(size)) < size:
                    self.close_connection = True  # the sender was killed while it sent
                    return
                receiver.requests.append((dict(self.headers), body))
                turn = min(len(receiver.requests), len(receiver.replies)) - 1
                receiver.replies[turn](self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            allow_reuse_address, block_on_close = True, False
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def received(self) -> list[tuple[str, int]]:
        """Type and sequence number of each message received."""
        bodies = [json.loads(body) for _, body in self.requests]
        return [(b["type"], b.get("seq", 0)) for b in bodies]

    def hang(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.closing.wait()
