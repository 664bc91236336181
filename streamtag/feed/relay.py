"""The public sockets of a feed, for a process of their own: XPUB for messages, ROUTER for the past.

libzmq 4.3.5 can be ended by a client (docs/limitations.md). It must not end the daemon with it, so
the daemon publishes to a socket that only its own processes reach. The relay subscribes there and
passes messages on as they are. It keeps no state: the daemon answers for the present, the journal's
file for the past.

Keys with limited rights have an XPUB socket of their own, a view, where nothing else is ever sent.
(One socket for all would need XPUB_MANUAL, which takes one subscriber for another when a pipe's
memory is used again, and after a message that is no subscription.) States and beats of a view name
only what it shows.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import zmq
from msgspec.structs import replace

from streamtag.errors import FeedError
from streamtag.feed.access import AccessRules
from streamtag.feed.authentication import DOMAIN, Authenticator, CurveKeys
from streamtag.feed.codec import Encoding, decode, encode, is_msgpack
from streamtag.feed.messages import DERIVED_TOPICS, Beat, FeedState, parse, parse_head
from streamtag.feed.replay import ReplayServer
from streamtag.feed.rights import EVERYTHING, Rights, ViewPlan
from streamtag.feed.sockets import (
    Context,
    PublisherSocket,
    Socket,
    bind_socket,
    bound_and_probe,
    next_to,
    quick_receive,
    quick_send,
    replay_socket,
)

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
"""How often the relay looks after its sockets while nothing happens."""
AT_ONCE = 1000
"""Messages that are passed on before subscriptions are looked at again."""
BIND_SECONDS = 3.0
"""How long to wait for an earlier relay to release an address."""
STATE_SECONDS = 2.0
"""How long to wait for a state before it is requested again."""
INWARD_HIGH_WATER = 50_000
"""Messages that may wait for the relay."""
ALWAYS = (
    *(b"event/", b"stats/", b"journal/", b"goodbye/", b"beat/"),
    *(topic.encode() for topic in DERIVED_TOPICS),
)
"""What the relay receives once anybody has subscribed to anything."""
ON_REQUEST = (b"scores/", b"mood/", b"level/")
"""What it receives only while somebody has subscribed to it. These messages are many."""
REQUESTS_DOMAIN = f"{DOMAIN} requests"
_MORE, _LAST, _NOW = int(zmq.DONTWAIT | zmq.SNDMORE), int(zmq.DONTWAIT), int(zmq.DONTWAIT)
_SPECIAL = b"bgh"
"""First letters of the topics that are for every view: beats, goodbyes and states."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """What a relay has to know."""

    inward: str
    """Address where the daemon publishes."""
    journal: Path
    """Of the daemon."""
    views: tuple[ViewPlan, ...]
    """The first is that of the feed's own address."""
    replay: str = ""
    """Public address for requests; empty for the port after that of the first view."""
    high_water: int = 10_000
    """Messages that are kept for one slow subscriber."""
    curve: CurveKeys | None = None
    """Keys, if only the owners of authorised keys may subscribe."""

    def rules(self) -> dict[str, Rights]:
        """The rights of each key; empty if all may see everything."""
        return {key: view.rights for view in self.views for key in view.keys or ()}

    def domains(self) -> dict[str, frozenset[str] | None]:
        """Whom each socket lets in."""
        rules = self.rules()
        views = {_domain(number): view.keys for number, view in enumerate(self.views)}
        return {**views, REQUESTS_DOMAIN: frozenset(rules) if rules else None}


class Relay:
    """The sockets of a relay, bound when constructed. For one thread, which calls `step`.

    Raises:
        FeedError: an address or the keys cannot be used.
    """

    def __init__(self, plan: RelayPlan) -> None:
        self._context: Context = zmq.Context()
        self.authenticator: Authenticator | None = None
        """Checks the keys of connections; None without keys."""
        try:
            if plan.curve:
                self.authenticator = Authenticator(self._context, plan.curve, plan.domains())
            self.access = AccessRules(self.authenticator, plan.rules())
            self._views = [self._bind_view(plan, i) for i in range(len(plan.views))]
            self._replay = self._bind_replay(plan)
        except BaseException:
            self._destroy(0)
            raise
        self._inward = self._context.socket(zmq.SUB)
        bound_and_probe(self._inward, INWARD_HIGH_WATER)
        self._inward.connect(plan.inward)
        self._received: set[bytes] = set()  # what is subscribed to at the daemon
        self._states, self._said_goodbye = _StateRequests(), False
        self._look_at_sockets()

    @property
    def addresses(self) -> list[str]:
        """Where the views are, the feed's own first."""
        return [view.feed.address for view in self._views]

    @property
    def refused(self) -> int:
        """Connections, subscriptions and requests that were refused."""
        connections = self.authenticator.refused if self.authenticator else 0
        return connections + self.access.refused

    def wait(self, *others: int) -> list[int]:
        """Waits until there is something to do; returns which other descriptors can be read."""
        for one in others:
            self._poller.register(one, zmq.POLLIN)
        ready = dict(self._poller.poll(round(1000 * POLL_SECONDS)))
        return [one for one in others if one in ready]

    def step(self) -> None:
        """Does what is due. It never waits."""
        if any([view.take_subscriptions(self._states) for view in self._views]):
            self._look_at_sockets()
        self._subscribe()
        self._request_state()
        self._pass_on()

    def drain(self, seconds: float) -> None:
        """Passes on messages up to the daemon's goodbye, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        while self._received and not self._said_goodbye and time.monotonic() < deadline:
            self._inward.poll(round(1000 * POLL_SECONDS))
            self._pass_on()

    def reload_keys(self) -> dict[str, list[str]]:
        """Reads the folder of authorised keys again; returns what changed.

        Raises:
            FeedError: it cannot be read; then nothing changes.
        """
        return self.authenticator.reload() if self.authenticator else {}

    def close(self, linger: float) -> None:
        """Gives subscribers `seconds` to receive the last messages, and closes the sockets."""
        self._replay.close()
        self._destroy(round(1000 * linger))

    def _destroy(self, linger: int) -> None:
        if self.authenticator:
            self.authenticator.close()
        self._context.destroy(linger)

    def _bind_view(self, plan: RelayPlan, number: int) -> "_View":
        view = plan.views[number]

        def look(frame: zmq.Frame) -> None:
            if not view.rights.meets(topic := frame.bytes[1:]):
                text = topic.decode(errors="replace")
                self.access.refuse(self.access.peer(frame), f"subscription to {text!r:.200}")

        def bind() -> PublisherSocket:
            high, guard = plan.high_water, self.authenticator
            limited = None if view.rights == EVERYTHING else look
            return PublisherSocket(self._context, view.bind, high, guard, _domain(number), limited)

        return _View(view.rights, _when_free(bind))

    def _bind_replay(self, plan: RelayPlan) -> ReplayServer:
        bind = plan.views[0].bind
        beside = bind if bind.endswith(":0") else next_to(self._views[0].feed.address)
        socket = replay_socket(self._context, self.authenticator, REQUESTS_DOMAIN)
        address, guard = plan.replay or beside, self.authenticator
        self.replay_address = _when_free(lambda: bind_socket(socket, address, guard))
        """Where requests are answered."""
        return ReplayServer(socket, plan.journal, self.access)

    def _look_at_sockets(self) -> None:
        """Takes account of sockets that are new."""
        self._poller = zmq.Poller()
        for socket in (self._inward, *(view.feed.socket for view in self._views)):
            self._poller.register(socket, zmq.POLLIN)
        self._receivers: dict[bytes, list[Socket]] = {}  # by topic
        self._changes = -1

    def _subscribe(self) -> None:
        """Receives from the daemon what somebody has subscribed to."""
        if self._changes == (changes := sum(view.feed.changes for view in self._views)):
            return
        self._changes = changes
        topics = [topic for view in self._views for topic in view.feed.topics]
        wanted = {one for one in ON_REQUEST if _any_meets(topics, one)}
        wanted |= set(ALWAYS) if topics else self._received & set(ALWAYS)
        for topic in wanted - self._received:
            self._inward.subscribe(topic)
        for topic in self._received - wanted:
            self._inward.unsubscribe(topic)
        self._received = wanted

    def _request_state(self) -> None:
        """One state at a time is requested at the daemon, for all who wait for one."""
        old, new = self._states.next_request(time.monotonic())
        if old == new:
            return
        self._inward.subscribe(new)
        if old:
            self._inward.unsubscribe(old)

    def _pass_on(self) -> None:
        """Passes on what has come."""
        inward, receive, send, receivers = self._inward, quick_receive, quick_send, self._receivers
        with suppress(zmq.Again):
            for _ in range(AT_ONCE):
                topic = receive(inward, _NOW)
                if topic[0] in _SPECIAL:
                    self._pass_on_special(topic, inward.recv_multipart(_NOW))
                    continue
                body = receive(inward, _NOW)
                if (sockets := receivers.get(topic)) is None:
                    sockets = receivers[topic] = self._receivers_of(topic.decode())
                for socket in sockets:
                    send(socket, topic, _MORE)
                    send(socket, body, _LAST)

    def _receivers_of(self, topic: str) -> list[Socket]:
        return [view.feed.socket for view in self._views if view.rights.sees(topic)]

    def _pass_on_special(self, topic: bytes, parts: list[bytes]) -> None:
        if not topic.startswith(b"hello/"):
            self._said_goodbye |= (is_goodbye := topic == b"goodbye/")
            for view in self._views:
                view.send(topic, parts if is_goodbye else [beat_for(parts[0], view.rights)])
            return
        head = replace(parse_head(parts[0], FeedState), replay=self.replay_address)
        encoding, coming = _encoding(parts[0]), self._states.receivers(topic)
        for view in self._views:
            if words := coming & view.feed.topics:
                state = state_for(head, parts[1:], view.rights, encoding)
                for word in words:
                    view.send(word, state)


class _View:
    """A public socket for messages."""

    def __init__(self, rights: Rights, feed: PublisherSocket) -> None:
        self.rights, self.feed = rights, feed

    def take_subscriptions(self, states: "_StateRequests") -> bool:
        """Notes who waits for a state. Returns whether the socket is another one now."""
        socket = self.feed.socket
        topics = self.feed.subscriptions()
        states.waiting += [topic for topic in topics if topic.startswith(b"hello/")]
        return self.feed.socket is not socket

    def send(self, topic: bytes, parts: list[bytes]) -> None:
        """Sends a message to all who have subscribed to it."""
        with suppress(zmq.Again):
            self.feed.socket.send_multipart([topic, *parts], zmq.DONTWAIT)


class _StateRequests:
    """The subscribers that wait for the state, and the request that was sent."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        """Topics whose subscribers wait, and for whom nothing is on its way."""
        self._coming: set[bytes] = set()
        self._request, self._since = b"", 0.0

    def next_request(self, now: float) -> tuple[bytes, bytes]:
        """The topic of the last request, and of the next one; the same if none is due."""
        old = self._request
        if self._coming and now - self._since >= STATE_SECONDS:
            self.waiting += self._coming
            self._coming = set()
        if self.waiting and not self._coming:
            self._coming, self.waiting = set(self.waiting), []
            self._request, self._since = f"hello/{secrets.token_hex(8)}/".encode(), now
        return old, self._request

    def receivers(self, topic: bytes) -> set[bytes]:
        """For whom the state is that has come."""
        if topic != self._request:
            return set()
        coming, self._coming = self._coming, set()
        return coming


def state_for(
    head: FeedState, bodies: list[bytes], rights: Rights, encoding: Encoding
) -> list[bytes]:
    """A state as a view shows it."""
    if rights != EVERYTHING:
        kept = {t: number for t, number in head.last.items() if rights.sees(t) or t == "beat/"}
        head = replace(head, last=kept)
        bodies = [body for body in bodies if rights.sees(parse(body).topic)]
    return [encode(head, encoding), *bodies]


def beat_for(body: bytes, rights: Rights) -> bytes:
    """A beat as a view shows it."""
    if rights == EVERYTHING:
        return body
    beat = decode(body, Beat)
    seen = {topic: number for topic, number in beat.last.items() if rights.sees(topic)}
    return encode(replace(beat, last=seen), _encoding(body))


def _domain(number: int) -> str:
    """The authenticator's name for the socket of a view."""
    return f"{DOMAIN} {number}"


def _encoding(body: bytes) -> Encoding:
    return "msgpack" if is_msgpack(body) else "json"


def _any_meets(topics: Iterable[bytes], start: bytes) -> bool:
    """Whether one of the subscriptions has to do with topics that begin like this."""
    return any(topic.startswith(start) or start.startswith(topic) for topic in topics)


def _when_free(bind: Callable[[], T]) -> T:
    """Binds an address that the relay before this one may still have."""
    deadline = time.monotonic() + BIND_SECONDS
    while True:
        try:
            return bind()
        except FeedError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)
