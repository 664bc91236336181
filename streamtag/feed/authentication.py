"""Who may use the feed's sockets: CURVE with the public keys in a folder, which may change.

pyzmq's authenticator answers ZeroMQ's question about each handshake (ZAP, rfc.zeromq.org/spec/27).
A thread of ours looks at the folder once a second and logs handshakes that failed. ZeroMQ asks only
when a connection begins, so the owner of a socket has to bind it again when a key was removed: see
`removals`.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from streamtag.errors import FeedError
from streamtag.feed.keys import PUBLIC, KeyPair, read_authorised

log = logging.getLogger(__name__)

Socket = zmq.Socket[bytes]

DOMAIN = "streamtag"
"""ZeroMQ asks the authenticator only about sockets with a domain."""
LOOK_SECONDS = 1.0
"""The folder is looked at this often; a change counts when two looks in a row see the same."""
POLL_SECONDS = 0.1
"""A closing, and a socket that is new, are noticed after so long."""
DAEMON = "the daemon itself"
_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_MONITOR_STOPPED
)


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """How a feed is to be protected."""

    pair: KeyPair
    """The daemon's own; its public half may always subscribe."""
    authorised: Path
    """The folder of public keys."""


class Authenticator(ThreadAuthenticator):
    """Lets in the owners of authorised keys, on every CURVE socket of a context.

    Args:
        context: of the sockets; the authenticator must be there before they are bound.
        keys: the daemon's, and the folder.
        admits: the names of the keys that each domain lets in; None for all authorised ones.

    Raises:
        FeedError: the folder cannot be read.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        keys: CurveKeys,
        admits: Mapping[str, AbstractSet[str] | None] = {DOMAIN: None},
    ) -> None:
        super().__init__(context)
        self._keys, self._admits = keys, admits
        self._names: Mapping[str, str] = {}  # by public key
        self._reading = threading.Lock()
        self._client = ""  # address of the one that ZeroMQ asks about
        self.removals = 0
        """How often a key was removed: connections made with it go on until they are closed."""
        self.refused = 0
        """Connections that were turned away."""
        self.reload()
        self._monitors: list[tuple[Socket, Socket, str]] = []  # of each socket, and its address
        self._closing = threading.Event()
        for domain in admits:
            self.configure_curve_callback(domain, self)
        self.start()
        self._watcher = threading.Thread(target=self._watch, name="authenticator", daemon=True)
        self._watcher.start()

    def protect(self, socket: Socket, domain: str = DOMAIN) -> None:
        """Demands keys of a socket; before it is bound."""
        socket.curve_server = True
        socket.curve_secretkey = self._keys.pair.secret.encode()
        socket.zap_domain = domain.encode()

    def watch(self, socket: Socket, address: str) -> None:
        """Has failed handshakes of a socket logged; for the thread that owns it."""
        monitor = socket.get_monitor_socket(_FAILURES)
        monitor.linger = 0
        self._monitors.append((monitor, socket, address))

    def knows(self, key: str) -> bool:
        """Whether the owner of this public key may be served."""
        return key in self._names

    def name_of(self, key: str) -> str | None:
        """The name of a public key; None if its owner may not be served."""
        return self._names.get(key)

    def reload(self) -> dict[str, list[str]]:
        """Reads the folder again; names of the keys that came and went, and complaints.

        Raises:
            FeedError: it cannot be read; then nothing changes.
        """
        with self._reading:
            read, complaints = read_authorised(self._keys.authorised)
            names = {**read, self._keys.pair.public: DAEMON}
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
        """Ends the threads; nobody is let in any more. For the thread that owns the sockets."""
        for _, socket, _ in self._monitors:
            if not socket.closed:
                socket.disable_monitor()
        self._closing.set()
        self._watcher.join()
        for monitor, _, _ in self._monitors:
            monitor.close()
        self.stop()

    async def handle_zap_message(self, msg: list[bytes]) -> None:
        """Answers [version, request, domain, address, …], and remembers the address for the log."""
        self._client = msg[3].decode(errors="replace") if len(msg) > 3 else ""
        await super().handle_zap_message(msg)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether somebody with this public key is let in: pyzmq's thread asks."""
        text = key.decode()
        name, admitted = self._names.get(text), self._admits.get(domain)
        if name is None:
            log.warning("feed: refused %s, whose key %s is not authorised", self._client, text)
        elif admitted is not None and name != DAEMON and name not in admitted:
            log.warning("feed: refused key %s at %s: no right to this address", name, self._client)
            name = None
        else:
            log.debug("feed: %s came in from %s", name, self._client)
        self.refused += name is None
        return name is not None

    def _watch(self) -> None:
        seen = settled = self._look()
        next_look = time.monotonic() + LOOK_SECONDS
        while not self._closing.is_set():
            self._read_monitors()
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + LOOK_SECONDS
            before, seen = seen, self._look()
            if seen == before and seen != settled:
                settled = seen
                try:
                    self.reload()
                except FeedError as error:
                    log.error("feed: %s; the keys stay as they were", error)

    def _read_monitors(self) -> None:
        """Logs the handshakes that fail within a tenth of a second."""
        poller = zmq.Poller()
        for monitor, _, _ in self._monitors:
            poller.register(monitor, zmq.POLLIN)
        ready = dict(poller.poll(round(1000 * POLL_SECONDS)))
        for entry in [entry for entry in self._monitors if entry[0] in ready]:
            event = recv_monitor_message(entry[0])["event"]
            if event == zmq.EVENT_MONITOR_STOPPED:
                self._monitors.remove(entry)
                entry[0].close()
            else:
                self._log_failure(event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, entry[2])

    def _log_failure(self, protocol: bool, address: str) -> None:
        self.refused += 1
        why = "it has no key, or broke off"
        if protocol:
            why = "wrong server key, or a replayed or spoilt handshake"
        log.warning("feed %s: refused a client: %s", address, why)

    def _look(self) -> dict[str, tuple[int, int, int]]:
        """What tells whether the folder has changed."""
        found = {}
        with suppress(OSError), os.scandir(self._keys.authorised) as entries:
            for entry in entries:
                if entry.name.endswith(PUBLIC):
                    with suppress(OSError):
                        state = entry.stat()
                        found[entry.name] = (state.st_mtime_ns, state.st_size, state.st_ino)
        return found
