"""Who may use the feed's sockets: CURVE with the public keys in a folder, which may change.

A thread answers ZeroMQ's question about each handshake (ZAP, rfc.zeromq.org/spec/27), looks at the
folder once a second, and logs who was turned away. ZeroMQ asks only when a connection begins, so
whoever owns a socket has to open it anew when a key was removed: see `removals`.
"""

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from streamtag.errors import FeedError
from streamtag.feed.keys import PUBLIC, KeyPair, read_authorised

log = logging.getLogger(__name__)

Socket = zmq.Socket[bytes]

DOMAIN = b"streamtag"
"""With a domain ZeroMQ refuses everybody while nobody answers for it."""
ZAP = "inproc://zeromq.zap.01"
LOOK_SECONDS = 1.0
"""How often the folder is looked at; a change counts when it has stood for two looks."""
MYSELF = "the daemon itself"
_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_MONITOR_STOPPED
)


@dataclass(frozen=True, slots=True)
class Curve:
    """How a feed is to be protected."""

    pair: KeyPair
    """The daemon's own; its public half may always subscribe."""
    authorised: Path
    """The folder of public keys."""


class Authenticator:
    """Answers for every CURVE socket of a context.

    Args:
        context: of the sockets; the guard must be there before they are bound.
        curve: keys.

    Raises:
        FeedError: the folder cannot be read.
    """

    def __init__(self, context: zmq.Context[Socket], curve: Curve) -> None:
        self._context, self._curve = context, curve
        self._names: Mapping[str, str] = {}
        self._reading = threading.Lock()
        self.removals = 0
        """How often a key was removed: connections made with it go on until they are closed."""
        self.refused = 0
        """Connections that were turned away."""
        self.reload()
        self._seen = self._settled = self._look()
        self._zap = context.socket(zmq.ROUTER)
        self._zap.linger = 0
        self._zap.bind(ZAP)
        self._to_watch: queue.SimpleQueue[tuple[Socket, str]] = queue.SimpleQueue()
        self._watched: list[Socket] = []
        self._monitors: dict[Socket, str] = {}  # address by socket; the thread's own
        self._poller = zmq.Poller()
        self._poller.register(self._zap, zmq.POLLIN)
        self._numbers = itertools.count(1)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)
        self._thread.start()

    def protect(self, socket: Socket) -> None:
        """Demands keys of a socket; before it is bound."""
        socket.curve_server = True
        socket.curve_secretkey = self._curve.pair.secret.encode()
        socket.zap_domain = DOMAIN

    def watch(self, socket: Socket, address: str) -> None:
        """Has failed handshakes of a socket logged; for the thread that owns it."""
        where = f"inproc://monitor-{next(self._numbers)}"
        socket.monitor(where, _FAILURES)
        monitor = self._context.socket(zmq.PAIR)  # at once: ZeroMQ waits for whoever listens
        monitor.linger = 0
        monitor.connect(where)
        self._to_watch.put((monitor, address))
        self._watched = [*(open_ for open_ in self._watched if not open_.closed), socket]

    def knows(self, key: str) -> bool:
        """Whether somebody with this public key may be served."""
        return key in self._names

    def reload(self) -> dict[str, list[str]]:
        """Reads the folder anew; names of the keys that came and went, and complaints.

        Raises:
            FeedError: it cannot be read; then nothing changes.
        """
        with self._reading:
            read, complaints = read_authorised(self._curve.authorised)
            names = {**read, self._curve.pair.public: MYSELF}
            before, self._names = self._names, names
            removed = sorted(name for key, name in before.items() if key not in names)
            added = sorted(name for key, name in names.items() if key not in before)
            self.removals += bool(removed)
        for line in complaints:
            log.warning("feed: %s; it opens nothing", line)
        if added or removed:
            log.info("feed: keys added: %s; removed: %s", added or "none", removed or "none")
        return {"added": added, "removed": removed, "complaints": complaints}

    def close(self) -> None:
        """Ends the thread; nobody is let in any more. For the thread that owns the sockets."""
        for socket in self._watched:
            if not socket.closed:
                socket.disable_monitor()
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        next_look = time.monotonic() + LOOK_SECONDS
        while not self._closing.is_set():
            try:
                self._serve()
            except Exception:  # without this thread nobody would be let in any more
                log.exception("feed: a question about a client failed in an unexpected way")
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK_SECONDS
                self._follow_folder()
        self._take_monitors()
        for socket in (self._zap, *self._monitors):
            socket.close(linger=0)

    def _take_monitors(self) -> None:
        while not self._to_watch.empty():
            monitor, address = self._to_watch.get()
            self._poller.register(monitor, zmq.POLLIN)
            self._monitors[monitor] = address

    def _serve(self) -> None:
        """Answers and hears what there is, or waits a little."""
        self._take_monitors()
        for socket, _ in self._poller.poll(100):
            if socket is self._zap:
                self._answer(self._zap.recv_multipart())
            elif not self._hear(self._monitors[socket], socket.recv_multipart()):
                self._poller.unregister(socket)
                del self._monitors[socket]
                socket.close()

    def _answer(self, parts: list[bytes]) -> None:
        """ZeroMQ asks about a client: [who, "", version, request, domain, address, …]."""
        if len(parts) < 8 or parts[2] != b"1.0":
            log.error("feed: a question about a client was not understood, and not answered")
            return
        envelope, (version, request, _, address, _, mechanism), proof = (
            parts[:2],
            parts[2:8],
            parts[8:],
        )
        key = z85.encode(proof[0]).decode() if mechanism == b"CURVE" and len(proof) == 1 else ""
        name = self._names.get(key)
        if name is None:
            self.refused += 1
            who = address.decode(errors="replace")
            log.warning("feed: refused %s, whose key %s is not authorised", who, key or "is none")
            answer = [b"400", b"key not authorised", b"", b""]
        else:
            log.debug("feed: %s came in from %s", name, address.decode(errors="replace"))
            answer = [b"200", b"OK", key.encode(), b""]
        self._zap.send_multipart([*envelope, version, request, *answer])

    def _hear(self, address: str, parts: list[bytes]) -> bool:
        """Takes note of what a socket says of itself; False when it has ended."""
        event = parse_monitor_message(parts)["event"]
        if event == zmq.EVENT_MONITOR_STOPPED:
            return False
        self.refused += 1
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            log.warning(
                "feed %s: refused a client: wrong server key, or a replayed or spoilt handshake",
                address,
            )
        else:
            log.warning("feed %s: refused a client: it has no key, or broke off", address)
        return True

    def _follow_folder(self) -> None:
        now = self._look()
        if now == self._seen and now != self._settled:
            self._settled = now
            try:
                self.reload()
            except FeedError as error:
                log.error("feed: %s; the keys stay as they were", error)
        self._seen = now

    def _look(self) -> dict[str, tuple[int, int, int]]:
        """What tells whether the folder has changed."""
        found = {}
        with suppress(OSError), os.scandir(self._curve.authorised) as entries:
            for entry in entries:
                if entry.name.endswith(PUBLIC):
                    with suppress(OSError):
                        state = entry.stat()
                        found[entry.name] = (state.st_mtime_ns, state.st_size, state.st_ino)
        return found
