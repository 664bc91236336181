"""Sign-in: a signed cookie in place of the token, and a limit for wrong tokens.

The server keeps no list of sessions, so they outlive its restarts. A cookie is signed with the
token that it stands for: another token in the configuration ends all its sessions.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from streamtag.feed.rights import EVERYTHING, Rights

LIFETIME_SECONDS = 90 * 86_400
"""After it one signs in again."""
LONGEST_NAME = 40
"""Characters of the name that somebody gives at the sign-in."""
LONGEST_COOKIE = 600
WINDOW_SECONDS = 60.0
"""How long a wrong token is counted."""
WRONG_PER_ADDRESS = 10
"""Different wrong tokens of one address in this time; then it must wait."""
WRONG_IN_ALL = 300
"""The same of all addresses."""


class Role(StrEnum):
    """What somebody may do."""

    READER = "reader"
    CONTROLLER = "controller"
    """May also change what the daemon does."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has signed in."""

    role: Role
    name: str
    """What the person wrote, for the log; empty for nothing."""
    rights: Rights = EVERYTHING
    """What may be seen."""
    token: str = ""
    """The name of the token; empty for the two that see everything."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and what it allows."""

    role: Role
    secret: str
    """The token itself; an empty one allows nothing."""
    name: str = ""
    rights: Rights = EVERYTHING

    def session(self, name: str) -> Session:
        """The session of a person who has given it."""
        return Session(self.role, name, self.rights, self.name)


class Sessions:
    """Makes and reads the cookies. An empty token is none, and gives no session."""

    def __init__(self, token: str, control_token: str, limited: Iterable[Token] = ()) -> None:
        every = (Token(Role.CONTROLLER, control_token), Token(Role.READER, token), *limited)
        self._tokens = {(one.role, one.name): one for one in every if one.secret}

    def find(self, secret: str) -> Token | None:
        """The token with this secret; None for a wrong one."""
        for token in self._tokens.values():
            if hmac.compare_digest(token.secret.encode(), secret.encode()):
                return token
        return None

    def cookie(self, session: Session, now: float) -> str:
        """The cookie's value for somebody who has given the token. `now` is in seconds."""
        body = {"role": session.role, "name": session.name, "until": int(now) + LIFETIME_SECONDS}
        text = base64.urlsafe_b64encode(json.dumps(body).encode()).decode()
        return f"{text}.{_signature(self._tokens[session.role, session.token], text)}"

    def read(self, cookie: str, now: float) -> Session | None:
        """The session of a cookie; None if it is not valid, or not valid any more."""
        text, _, signature = cookie.partition(".")
        if len(cookie) > LONGEST_COOKIE or not cookie.isascii():
            return None
        for token in self._tokens.values():
            if hmac.compare_digest(signature, _signature(token, text)):
                body: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text))
                return token.session(body["name"]) if now < body["until"] else None
        return None


def _signature(token: Token, text: str) -> str:
    what = f"streamtag session {token.role} {text}"
    return hmac.new(token.secret.encode(), what.encode(), "sha256").hexdigest()


class WrongTokens:
    """Counts wrong tokens. The same one counts once, so a forgotten screen locks nobody out."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[bytes, float]] = defaultdict(dict)

    def wait_seconds(self, address: str, now: float) -> float:
        """How long an address must wait before its next token is looked at; 0 for not at all."""
        self._forget(now)
        here = self._seen.get(_network(address), {})
        everywhere = [moment for moments in self._seen.values() for moment in moments.values()]
        waits = [
            sorted(moments)[-limit] + WINDOW_SECONDS - now
            for moments, limit in (
                (list(here.values()), WRONG_PER_ADDRESS),
                (everywhere, WRONG_IN_ALL),
            )
            if len(moments) >= limit
        ]
        return max(waits, default=0.0)

    def add(self, address: str, token: str, now: float) -> None:
        """Counts a wrong token."""
        digest = hashlib.sha256(token.encode()).digest()
        self._seen[_network(address)].setdefault(digest, now)

    def _forget(self, now: float) -> None:
        for address, moments in list(self._seen.items()):
            for digest, moment in list(moments.items()):
                if moment <= now - WINDOW_SECONDS:
                    del moments[digest]
            if not moments:
                del self._seen[address]


def _network(address: str) -> str:
    """An address; of IPv6 the network of 64 bits, which one customer has for himself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network(f"{parsed.compressed.partition('%')[0]}/64", strict=False))
