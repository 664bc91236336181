"""Missed messages, from the journal, on a ROUTER socket with a thread of its own."""

import logging
import threading
from pathlib import Path

import msgspec
import zmq

from streamtag.errors import FeedError
from streamtag.feed.access import AccessRules, Peer
from streamtag.feed.codec import Encoding, decode, encode, is_msgpack
from streamtag.feed.journal.reader import JournalReader
from streamtag.feed.messages import Refusal, ReplayAnswer, ReplayRequest, parse_head

log = logging.getLogger(__name__)

MAX_MESSAGES = 1000
"""The most messages in one answer."""
MAX_BYTES = 4096
"""The most bytes of a request."""
POLL_SECONDS = 0.1
"""How long it takes to notice a closing."""


class _Numbered(msgspec.Struct):
    id: int = 0


class ReplayServer:
    """Answers requests until it is closed.

    Args:
        socket: bound, ROUTER; it belongs to this server from now on.
        journal: path of the journal.
        access: what the senders of requests may see; None for everything.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        journal: Path,
        access: AccessRules | None = None,
    ) -> None:
        self._socket, self._access = socket, access or AccessRules(None, {})
        self._reader = JournalReader(journal)
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
            if self._socket.poll(round(POLL_SECONDS * 1000)):
                frames = self._socket.recv_multipart(copy=False)
                peer = self._access.peer(frames[-1])
                if peer.rights is None:
                    self.refused += 1
                    log.warning("replay: a client asks whose key was removed; not answered")
                else:
                    self._serve([frame.bytes for frame in frames], peer)
        self._socket.close(linger=0)

    def _serve(self, parts: list[bytes], peer: Peer) -> None:
        """One request: [who, "", request] as REQ sends it, or [who, request] as DEALER does."""
        envelope = parts[:2] if len(parts) > 2 and not parts[1] else parts[:1]
        rest = parts[len(envelope) :]
        try:
            answer = self._answer(rest, peer)
            self.answered += 1
        except Exception as error:  # whatever somebody sends, the others go on
            self.refused += 1
            log.debug("replay: refused a request: %s", error)
            text = f"request: {error}" if isinstance(error, FeedError) else "internal error"
            answer = [encode(Refusal(id=_number(rest), error=text))]  # in JSON always
        try:
            self._socket.send_multipart([*envelope, *answer], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            log.debug("replay: an answer found nobody: %s", error)

    def _answer(self, parts: list[bytes], peer: Peer) -> list[bytes]:
        if len(parts) != 1 or len(parts[0]) > MAX_BYTES:
            raise FeedError(f"expected one part of at most {MAX_BYTES} bytes, got others")
        request = parse_head(parts[0], ReplayRequest)
        if not (request.topic + request.epoch).isprintable():
            raise FeedError("expected printable text in topic and epoch, got something else")
        if request.last < request.first:
            raise FeedError(f"expected from <= to, got {request.first} and {request.last}")
        seen = self._access.may_read(peer, request.topic)  # if not, it is as if there were none
        found = self._reader.read(
            request.topic if seen else "", request.epoch, request.first, request.last, MAX_MESSAGES
        )
        head = ReplayAnswer(
            id=request.id,
            topic=request.topic,
            epoch=request.epoch,
            first=request.first,
            last=found.next - 1 if found.next else request.last,
            next=found.next,
            missed=[(gone.first, gone.last, gone.reason) for gone in found.missing],
        )
        encoding: Encoding = "msgpack" if is_msgpack(parts[0]) else "json"
        return [encode(head, encoding), *found.bodies]


def _number(parts: list[bytes]) -> int:
    """The `id` of a request, as far as it can be read."""
    try:
        return decode(parts[0], _Numbered).id
    except (FeedError, IndexError):
        return 0
