"""Who may see what on the feed's public sockets: the views, and the keys that each is for."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import zmq

from streamtag.feed.authentication import DAEMON, Authenticator
from streamtag.feed.rights import EVERYTHING, Rights

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a frame."""

    name: str
    """Of the key, as its file is called; empty without keys."""
    address: str
    rights: Rights | None
    """None if the key was removed since, or has no rights."""


class AccessRules:
    """Rights by the name of a key. Any thread may ask.

    Args:
        authenticator: knows the names of the keys; None for a feed without keys.
        rules: rights by name. Without any, everybody who is let in sees everything.
    """

    def __init__(self, authenticator: Authenticator | None, rules: Mapping[str, Rights]) -> None:
        self._authenticator, self._rules = authenticator, rules
        self.refused = 0
        """Subscriptions and requests for what their sender may not see."""

    def peer(self, frame: zmq.Frame) -> Peer:
        """Who sent a frame."""
        address = _property(frame, "Peer-Address")
        if self._authenticator is None:
            return Peer("", address, EVERYTHING)
        name = self._authenticator.name_of(_property(frame, "User-Id"))
        if name is None:
            return Peer("", address, None)
        full = not self._rules or name == DAEMON
        return Peer(name, address, EVERYTHING if full else self._rules.get(name))

    def may_read(self, peer: Peer, topic: str) -> bool:
        """Whether a topic's past may be read; if not, this is logged."""
        if peer.rights is not None and (peer.rights == EVERYTHING or peer.rights.sees(topic)):
            return True
        self.refuse(peer, f"request for {topic!r:.200}")
        return False

    def refuse(self, peer: Peer, what: str) -> None:
        """Counts and logs a refusal."""
        self.refused += 1
        log.warning("feed: refused key %s at %s: %s", peer.name or "none", peer.address, what)


def _property(frame: zmq.Frame, name: str) -> str:
    """A property of the connection that a frame came from; empty if it has none."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""
