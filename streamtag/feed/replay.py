"""What was missed, from the journal, on a ROUTER socket with a thread of its own."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

import zmq

from streamtag.errors import FeedError
from streamtag.feed.authentication import Authenticator
from streamtag.feed.codec import Encoding, decode, encode, is_msgpack
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.reader import JournalReader
from streamtag.feed.message import VERSION
from streamtag.feed.protocol import Refusal, ReplayAnswer

log = logging.getLogger(__name__)

LIMIT = 1000
"""Messages in one answer."""
LONGEST = 4096
"""Bytes of a request."""
LOOK_SECONDS = 0.1
"""How soon a closing is noticed."""


class ReplayServer:
    """Answers requests until it is closed.

    Args:
        socket: bound, ROUTER; it belongs to this server from now on.
        journal: where messages are.
        guard: knows whose key was removed after it was let in.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], journal: Journal, guard: Authenticator | None = None
    ) -> None:
        self._socket, self._guard = socket, guard
        self._reader = JournalReader(journal.path)
        self.answered = 0
        self.refused = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread and its socket."""
        self._closing.set()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._socket.poll(round(LOOK_SECONDS * 1000)):
                frames = self._socket.recv_multipart(copy=False)
                if self._lets_in(frames):
                    self._serve([frame.bytes for frame in frames])
        self._socket.close(linger=0)

    def _lets_in(self, frames: Sequence[zmq.Frame]) -> bool:
        if self._guard is None or self._guard.knows(str(frames[-1].get("User-Id"))):
            return True
        self.refused += 1
        log.warning("replay: a client asks whose key was removed; not answered")
        return False

    def _serve(self, parts: list[bytes]) -> None:
        """One request: [who, "", request] as REQ sends it, or [who, request] as DEALER does."""
        envelope = parts[:2] if len(parts) > 2 and not parts[1] else parts[:1]
        rest = parts[len(envelope) :]
        number: object = 0
        encoding: Encoding = "msgpack" if rest and is_msgpack(rest[0]) else "json"
        try:
            request = _read(rest)
            number = request.get("id", 0)
            head, bodies = self._answer(request)
            answer = [encode(head, encoding), *bodies]
            self.answered += 1
        except Exception as error:  # whatever somebody sends, the others go on
            self.refused += 1
            log.debug("replay: refused a request: %s", error)
            text = str(error) if isinstance(error, FeedError) else "internal error"
            answer = [_refusal(number, text)]
        try:
            self._socket.send_multipart([*envelope, *answer], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            log.debug("replay: an answer found nobody: %s", error)

    def _answer(self, request: dict[str, Any]) -> tuple[ReplayAnswer, list[bytes]]:
        topic, epoch = _text(request, "topic"), _text(request, "epoch")
        first, last = _whole(request, "from"), _whole(request, "to")
        if last < first:
            raise FeedError(f"request: expected from <= to, got {first} and {last}")
        found = self._reader.read(topic, epoch, first, last, LIMIT)
        head: ReplayAnswer = {
            "v": VERSION,
            "type": "replay",
            "id": _number(request.get("id", 0)),
            "topic": topic,
            "epoch": epoch,
            "from": first,
            "to": found.next - 1 if found.next else last,
            "next": found.next,
            "missed": [(gone.first, gone.last, gone.reason) for gone in found.missing],
        }
        return head, found.bodies


def _refusal(number: object, text: str) -> bytes:
    """In JSON always: there may be nothing else."""
    refusal: Refusal = {"v": VERSION, "type": "error", "id": _number(number), "error": text}
    return encode(refusal)


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return value
    return 0


def _read(parts: list[bytes]) -> dict[str, Any]:
    if len(parts) != 1 or len(parts[0]) > LONGEST:
        raise FeedError(f"request: expected one part of at most {LONGEST} bytes, got others")
    try:
        request = decode(parts[0])
    except FeedError:
        raise FeedError("request: expected a JSON object, got something else") from None
    if request.get("v") != VERSION or request.get("type") != "replay":
        raise FeedError(f"request: expected v {VERSION} and type replay, got others")
    return request


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value.isprintable():
        raise FeedError(f"request: expected printable text in {name!r}, got something else")
    return value


def _whole(request: dict[str, Any], name: str) -> int:
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**62:
        raise FeedError(f"request: expected a whole number from 1 in {name!r}, got something else")
    return value
