"""Derived messages: observers of the feed make further messages, such as alerts and sections.

Every message is passed to the observers in the order of publication. The messages that they return
are numbered, published and journalled like any other, after their cause and in the same batch.
Derived messages are passed to the observers, too.

An observer is a state machine without threads, files or clocks. After a restart it restores its
state from the journal. So it remembers exactly what it has published: a message that is not in the
journal was not published.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import structs

from streamtag.errors import FeedError
from streamtag.feed.journal.journal import Journal
from streamtag.feed.messages import DERIVED_TOPICS, Message, parse

log = logging.getLogger(__name__)

KEPT = ("event/", *DERIVED_TOPICS)
"""Prefixes of the topics whose messages observers get for restoring their state."""


@dataclass(frozen=True, slots=True)
class JournalPast:
    """The contents of the journal at the start, from earlier runs."""

    in_force: Sequence[Message] = ()
    """Messages in force at the end of the last run, the oldest first. A crash has left them so."""
    messages: Iterable[tuple[Message, int]] = ()
    """The messages since `horizon_seconds` before the end of the last run, in the order in which
    they were published, each with the UTC of its writing in nanoseconds since 1970."""

    def of(self, types: Collection[type[Message]]) -> Iterable[Message]:
        """The messages of some types. Others are not parsed."""
        rows = self.messages
        found = rows.of(types) if isinstance(rows, JournalRows) else rows
        return (message for message, _ in found if type(message) in types)


@dataclass(frozen=True, slots=True)
class JournalRows:
    """The newest messages of a journal, read again at each iteration."""

    journal: Journal
    seconds: float

    def __iter__(self) -> Iterator[tuple[Message, int]]:
        return self.of(())

    def of(self, types: Iterable[type[Message]]) -> Iterator[tuple[Message, int]]:
        """At least the messages of some types; all if none are given."""
        names = [str(structs.fields(kind)[0].default) for kind in types]
        for body, ns in self.journal.newest_rows(KEPT, self.seconds, names):
            for message in _parsed([body]):
                yield message, ns


class Observer(Protocol):
    """Derives messages from messages. It is called by one thread at a time.

    Returned messages have an empty `epoch` and a `seq` of 0. Both are filled in later.
    """

    types: frozenset[type[Message]]
    """The types of the messages to observe. There are many scores: include them only if needed."""
    horizon_seconds: float
    """Length of journal that it needs for restoring its state; 0 for only the messages in force."""

    def restore(self, past: JournalPast) -> None:
        """Restores the state of the last run. It is called once, before anything else. `past` can
        be read only during the call."""

    def observe(self, message: Message, now_ns: int) -> Sequence[Message]:
        """Handles a message that is published now.

        Args:
            message: with its number.
            now_ns: UTC in nanoseconds since 1970.
        """

    def tick(self, now_ns: int) -> Sequence[Message]:
        """Handles the passing of time, about ten times a second."""

    def close(self, now_ns: int) -> Sequence[Message]:
        """Handles the end of the daemon, after all streams are down."""


@dataclass(slots=True)
class Derivation:
    """The observers of a feed.

    Args:
        observers: in the order in which they get each message.
    """

    observers: Sequence[Observer] = ()
    number: Callable[[Message], Message] = field(default=lambda message: message)
    """Gives a message the next number of its topic."""

    def restore(self, journal: Journal) -> None:
        """Restores the state of all observers from a journal that is not written to yet."""
        if not self.observers:
            return
        in_force = sorted(_parsed(journal.current_state()), key=lambda message: message.utc)
        for observer in self.observers:
            rows = JournalRows(journal, observer.horizon_seconds)
            observer.restore(JournalPast(in_force, rows))

    def extend(self, messages: Iterable[Message], now_ns: int) -> list[Message]:
        """The messages, each followed by those that are derived from it. All have numbers."""
        if not self.observers:
            return list(messages)
        extended: list[Message] = []
        wanted = frozenset[type[Message]]().union(*(one.types for one in self.observers))
        for message in messages:
            if type(message) not in wanted:
                extended.append(message)
                continue
            waiting = deque([message])
            while waiting:
                extended.append(one := waiting.popleft())
                for observer in self.observers:
                    if type(one) in observer.types:
                        waiting += self._ask(observer, observer.observe, one, now_ns)
        return extended

    def tick(self, now_ns: int) -> list[Message]:
        """The messages that are derived from the passing of time."""
        made = [m for one in self.observers for m in self._ask(one, one.tick, now_ns)]
        return self.extend(made, now_ns)

    def close(self, now_ns: int) -> list[Message]:
        """The messages that are derived from the end of the daemon."""
        made = [m for one in self.observers for m in self._ask(one, one.close, now_ns)]
        return self.extend(made, now_ns)

    def _ask(
        self, observer: Observer, call: Callable[..., Sequence[Message]], *arguments: object
    ) -> list[Message]:
        """An observer's messages with numbers. An observer that fails is removed."""
        try:
            return [self.number(message) for message in call(*arguments)]
        except Exception:  # the feed must go on
            log.critical("%s failed; it ends", type(observer).__name__, exc_info=True)
            self.observers = [other for other in self.observers if other is not observer]
            return []


def _parsed(bodies: Iterable[bytes]) -> Iterable[Message]:
    """Parses messages, and leaves out damaged ones."""
    for body in bodies:
        try:
            yield parse(body)
        except FeedError:
            continue
