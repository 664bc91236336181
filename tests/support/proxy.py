"""A TCP proxy that can interrupt its connections."""

import selectors
import socket
import threading


class Proxy:
    """Forwards connections on a port of its own, except between `cut` and `mend`.

    Args:
        to: the port on loopback to forward to.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.forwarded = 0
        """The number of bytes forwarded."""
        self._lock = threading.Lock()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._cut = self._closing = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self) -> None:
        """Closes all connections and refuses new ones."""
        with self._lock:
            self._cut = True
            for one in list(self._pairs):
                self._end(one)

    @property
    def is_cut(self) -> bool:
        """Whether connections are refused."""
        return self._cut

    def mend(self) -> None:
        """Accepts connections again."""
        with self._lock:
            self._cut = False

    def close(self) -> None:
        self.cut()
        self._closing = True
        self._thread.join()
        self._listening.close()

    def _run(self) -> None:
        while not self._closing:
            with selectors.DefaultSelector() as selector:
                with self._lock:
                    for one in [self._listening, *self._pairs]:
                        selector.register(one, selectors.EVENT_READ)
                ready = [key.fileobj for key, _ in selector.select(0.02)]
            with self._lock:
                for one in ready:
                    assert isinstance(one, socket.socket)
                    self._serve(one)

    def _serve(self, one: socket.socket) -> None:
        if one is self._listening:
            self._let_in(one.accept()[0])
        elif one in self._pairs:
            try:
                data = one.recv(65_536)
                self._pairs[one].sendall(data)
            except OSError:
                data = b""
            self.forwarded += len(data)
            if not data:
                self._end(one)

    def _let_in(self, client: socket.socket) -> None:
        try:
            if self._cut:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            client.close()
            return
        self._pairs[client], self._pairs[server] = server, client

    def _end(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is not None:
            self._pairs.pop(other, None)
            one.close()
            other.close()
