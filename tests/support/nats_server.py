"""Real NATS servers with JetStream on loopback, alone or as a cluster."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from support.peers import SECONDS, Processes, free_port, start_on_free_port


def require_nats() -> None:
    """Skips a test where Debian's nats-server or the client library is not installed."""
    pytest.importorskip("nats", reason="the extra nats is not installed")
    if server_program() is None:
        pytest.skip(
            "nats-server is not installed; `.ci/peers` lists the packages", allow_module_level=True
        )


def server_program() -> str | None:
    return shutil.which("nats-server") or shutil.which("/usr/sbin/nats-server")


PANIC = 2
"""The status of a program in Go that ends by a panic."""


class NatsServer:
    """One server; its store survives `kill` and `start`.

    Args:
        folder: for its configuration, its log and its store; made.
        more: further lines of its configuration, such as users or TLS.
        jetstream: the lines of its block `jetstream`; None for none.
        port: None for a free one.
        routes: ports of the cluster's routes, its own first; empty for no cluster.
        scheme: of its address.
    """

    def __init__(
        self,
        folder: Path,
        *more: str,
        jetstream: str | None = "",
        port: int | None = None,
        routes: tuple[int, ...] = (),
        scheme: str = "nats",
    ) -> None:
        require_nats()
        folder.mkdir()
        self.folder, self._more, self._scheme = folder, more, scheme
        self._jetstream, self._routes = jetstream, routes
        self.processes = Processes(folder)
        self.process: subprocess.Popen[bytes] | None = None
        if port is None:
            self.port = start_on_free_port(self._start_on)
        else:
            assert self._start_on(port), self.processes.logs()

    @property
    def address(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, and waits until it accepts connections."""
        assert self._start_on(self.port), self.processes.logs()

    def kill(self) -> None:
        """Kills it by SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def configure(self, *more: str, jetstream: str | None = "") -> None:
        """Other lines of the configuration, from the next start on."""
        self._more, self._jetstream = more, jetstream

    def close(self) -> None:
        self.processes.close()

    def _start_on(self, port: int) -> bool:
        self.port = port
        lines = [f'host: "127.0.0.1"\nport: {port}\nserver_name: "n{port}"', *self._more]
        if self._jetstream is not None:
            lines.append(f'jetstream {{ store_dir: "{self.folder}/store"\n{self._jetstream} }}')
        if self._routes:
            routes = ", ".join(f'"nats://127.0.0.1:{one}"' for one in self._routes)
            own = f'listen: "127.0.0.1:{self._routes[0]}"'
            lines.append(f'cluster {{ name: "tests"\n{own}\nroutes: [{routes}]')
            lines.append("no_advertise: true }")  # so that a proxy cannot be gone around
        config = self.folder / "nats.conf"
        config.write_text("\n".join(lines) + "\n")
        program = server_program()
        assert program is not None
        self.process = self.processes.start(program, "-c", str(config))
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._accepts(port):
                threading.Thread(target=self._restart, args=(self.process,), daemon=True).start()
                return True
            time.sleep(0.01)
        return False

    def _restart(self, process: subprocess.Popen[bytes]) -> None:
        """Starts the server again if it panics, as a service manager does.

        2.9.10 does when a message is read while it is replaced (jsMsgGetRequest).
        """
        if process.wait() == PANIC and process is self.process:
            self._start_on(self.port)

    def _accepts(self, port: int) -> bool:
        """Whether the server that was started, and no other, greets a client."""
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.settimeout(5)
                greeting = client.recv(4096)
        except OSError:
            return False
        return f'"server_name":"n{port}"'.encode() in greeting


class NatsCluster:
    """Three servers that are a cluster."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        routes = [free_port() for _ in range(3)]
        self.servers = [
            NatsServer(folder / f"n{i}", routes=(*routes[i:], *routes[:i])) for i in range(3)
        ]

        deadline = time.monotonic() + SECONDS
        logs = [one.folder / "0.log" for one in self.servers]
        while not any("new metadata leader" in log.read_text() for log in logs):
            assert time.monotonic() < deadline, "the servers are no cluster"
            time.sleep(0.05)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(server.address for server in self.servers)

    def close(self) -> None:
        for server in self.servers:
            server.close()
