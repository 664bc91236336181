"""Derived messages: what observers make of the messages that are published.

Every message is shown to the observers in the order in which it is published. What they return is
numbered, published and journalled like any other message, after its cause and in the same batch.
Derived messages are shown to the observers, too.

An observer is a state machine without threads, files or clocks. After a restart it gets back its
state from the journal. So what it has published is what it remembers: a message that is not in the
journal was not published to anybody.
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
"""How the topics begin whose messages an observer gets back."""


@dataclass(frozen=True, slots=True)
class JournalPast:
    """What a journal knows of the time before a start."""

    in_force: Sequence[Message] = ()
    """Messages in force at the end of the last run, the oldest first. A crash left them so."""
    messages: Iterable[tuple[Message, int]] = ()
    """The messages since `horizon_seconds` before the end of the last run, in the order in which
    they were published, each with the UTC of its writing in nanoseconds since 1970."""

    def of(self, types: Collection[type[Message]]) -> Iterable[Message]:
        """Those of `messages` that are of some types; the others are not even parsed."""
        rows = self.messages
        found = rows.of(types) if isinstance(rows, JournalRows) else rows
        return (message for message, _ in found if type(message) in types)


@dataclass(frozen=True, slots=True)
class JournalRows:
    """The newest messages of a journal, read anew each time."""

    journal: Journal
    seconds: float

    def __iter__(self) -> Iterator[tuple[Message, int]]:
        return self.of(())

    def of(self, types: Iterable[type[Message]]) -> Iterator[tuple[Message, int]]:
        """Those of some types, at least; all if none are given."""
        names = [str(structs.fields(kind)[0].default) for kind in types]
        for body, ns in self.journal.newest_rows(KEPT, self.seconds, names):
            for message in _parsed([body]):
                yield message, ns


class Observer(Protocol):
    """Makes messages of messages. One thread at a time calls it.

    Returned messages have an empty `epoch` and a `seq` of 0; both are filled in.
    """

    types: frozenset[type[Message]]
    """The types of the messages that it wants to see. Scores are many: name them only if needed."""
    horizon_seconds: float
    """How much of the journal it needs to get its state back; 0 for the messages in force alone."""

    def restore(self, past: JournalPast) -> None:
        """Takes back the state of the last run. It is called once, before anything else. The past
        can be read as long as this lasts."""

    def observe(self, message: Message, now_ns: int) -> Sequence[Message]:
        """Takes a message that is published now.

        Args:
            message: with its number.
            now_ns: UTC in nanoseconds since 1970.
        """

    def tick(self, now_ns: int) -> Sequence[Message]:
        """Takes the time, about ten times a second."""

    def close(self, now_ns: int) -> Sequence[Message]:
        """The daemon ends, and all its streams are down."""


@dataclass(slots=True)
class Derivation:
    """The observers of a feed.

    Args:
        observers: in the order in which they see each message.
    """

    observers: Sequence[Observer] = ()
    number: Callable[[Message], Message] = field(default=lambda message: message)
    """Gives a message the next number of its topic."""

    def restore(self, journal: Journal) -> None:
        """Gives all observers their state back, from a journal that nobody writes yet."""
        if not self.observers:
            return
        in_force = sorted(_parsed(journal.current_state()), key=lambda message: message.utc)
        for observer in self.observers:
            rows = JournalRows(journal, observer.horizon_seconds)
            observer.restore(JournalPast(in_force, rows))

    def extend(self, messages: Iterable[Message], now_ns: int) -> list[Message]:
        """The messages, which have their numbers, with what is derived from each after it."""
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
        """What is derived from the time."""
        made = [m for one in self.observers for m in self._ask(one, one.tick, now_ns)]
        return self.extend(made, now_ns)

    def close(self, now_ns: int) -> list[Message]:
        """What is derived from the end of the daemon."""
        made = [m for one in self.observers for m in self._ask(one, one.close, now_ns)]
        return self.extend(made, now_ns)

    def _ask(
        self, observer: Observer, call: Callable[..., Sequence[Message]], *arguments: object
    ) -> list[Message]:
        """What an observer makes, with numbers. One that fails is not asked again."""
        try:
            return [self.number(message) for message in call(*arguments)]
        except Exception:  # the feed must go on
            log.critical("%s failed; it ends", type(observer).__name__, exc_info=True)
            self.observers = [other for other in self.observers if other is not observer]
            return []


def _parsed(bodies: Iterable[bytes]) -> Iterable[Message]:
    """Messages; damaged ones are left out."""
    for body in bodies:
        try:
            yield parse(body)
        except FeedError:
            continue
