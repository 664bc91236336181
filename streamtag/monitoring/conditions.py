"""The conditions of alert rules: whether one holds for a stream, judged by the stream's facts."""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from streamtag.config.alerts import TAG_CONDITIONS, WITHOUT_DURATION, AlertConfig
from streamtag.feed.messages import (
    Channels,
    Clipping,
    Gap,
    Message,
    SilenceOff,
    SilenceOn,
    Stats,
    StreamDown,
    StreamStatus,
    StreamUp,
    TaggersChanged,
    TagOff,
    TagOn,
    Title,
)
from streamtag.feed.timestamps import SECOND
from streamtag.monitoring.facts import LOST_STATES, DaemonFacts, ShareWindow, StreamFacts

RESUME_SECONDS = 30.0
"""How long after a stream has come back a condition of its audio can count as over: the models
need some audio first."""
COVERED = 0.9
"""A share is judged if the stream was up for this part of its window of time."""
SHARE_STEPS = 120
"""How often a share is judged within its window of time if there are no messages."""
STATE_TYPES = (StreamUp, StreamDown, StreamStatus, TaggersChanged)
"""Types of messages that every condition needs."""
OWN_TYPES: Mapping[str, tuple[type[Message], ...]] = {
    "tag_on": (TagOn, TagOff),
    "tag_off": (TagOn, TagOff),
    "share_below": (TagOn, TagOff),
    "share_above": (TagOn, TagOff),
    "silence": (SilenceOn, SilenceOff),
    "one_sided": (Channels,),
    "clipping": (Clipping,),
    "stream_lost": (),
    "gaps": (Gap,),
    "no_title": (Title,),
    "title": (Title,),
    "health": (Stats,),
}
"""Further types of messages that each condition needs."""


class Verdict(NamedTuple):
    """Whether a condition holds."""

    holds: bool | None
    """None if it is not known."""
    since: int = 0
    """When it began to hold."""
    again: int = 0
    """When to judge it again even without a message; 0 for never."""
    detail: str = ""
    """An explanation for people."""


UNKNOWN = Verdict(None)


class Condition:
    """The condition of a rule.

    Args:
        config: of the rule.
        categories: of the models' tags.
    """

    def __init__(self, config: AlertConfig, categories: Mapping[str, str]) -> None:
        self.config, self._categories = config, categories
        self.types: frozenset[type[Message]] = frozenset((*STATE_TYPES, *OWN_TYPES[config.when]))
        """Types of messages after which it must be judged again."""
        self._title = re.compile(config.title, re.IGNORECASE)
        self._known: dict[str, bool] = {}  # tags
        self._looks: Mapping[str, Callable[[StreamFacts, int], Verdict]] = {
            "tag_on": self._tag_on,
            "tag_off": self._tag_off,
            "silence": self._silence,
            "one_sided": self._one_sided,
            "clipping": self._clipping,
            "gaps": self._gaps,
            "no_title": self._no_title,
            "title": self._title_matches,
        }

    @property
    def of_daemon(self) -> bool:
        """Whether it judges the daemon, not streams."""
        return self.config.when == "health"

    @property
    def hold(self) -> int:
        """How long it must hold, in nanoseconds; 0 if the condition itself contains the time."""
        return 0 if self.config.when == "no_title" else round(self.config.for_seconds * SECOND)

    @property
    def horizon_seconds(self) -> float:
        """How many seconds of the journal it needs, besides the messages in force."""
        if self.config.when in WITHOUT_DURATION:
            return self.config.within_seconds
        return self.config.for_seconds if self.config.when == "stream_lost" else 0.0

    @property
    def past_types(self) -> frozenset[type[Message]]:
        """The types of the messages that it needs of the journal."""
        own = OWN_TYPES[self.config.when] if self.config.when in WITHOUT_DURATION else ()
        return frozenset((*STATE_TYPES, *own))

    def share_window(self) -> ShareWindow | None:
        """A new sliding window for a stream; None if the condition needs none."""
        is_share = self.config.when.startswith("share_")
        return ShareWindow(round(self.config.within_seconds * SECOND)) if is_share else None

    def wants(self, message: Message) -> bool:
        """Whether a message of one of its types can change it."""
        if isinstance(message, TagOn | TagOff):
            return self.matches_tag(message.tag)
        return True

    def matches_stream(self, stream: str) -> bool:
        """Whether it applies to a stream."""
        return any(fnmatchcase(stream, pattern) for pattern in self.config.streams)

    def matches_tag(self, tag: str) -> bool:
        """Whether it applies to a tag."""
        if tag not in self._known:
            category = self._categories.get(tag, tag.rpartition("---")[0])
            self._known[tag] = category in self.config.categories or any(
                fnmatchcase(tag.lower(), pattern.lower()) for pattern in self.config.tags
            )
        return self._known[tag]

    def look(self, facts: StreamFacts, now: int, share: ShareWindow | None) -> Verdict:
        """Judges a stream.

        Args:
            facts: of the stream.
            now: the moment.
            share: the stream's sliding window, if the condition has one.
        """
        if self.config.when == "stream_lost":
            return self._lost(facts)
        if share is not None:
            share.set(now, up=facts.up, on=any(map(self.matches_tag, facts.on)))
        if not facts.up:
            return UNKNOWN
        return self._share(share, now) if share else self._looks[self.config.when](facts, now)

    def look_at_daemon(self, facts: DaemonFacts, now: int) -> Verdict:
        """Judges the daemon."""
        if not facts.known:
            return UNKNOWN
        found = facts.of(self.config.parts)
        return Verdict(bool(found), now, 0, "; ".join(found))

    def resumes(self, facts: StreamFacts) -> int:
        """Until when a verdict of False means that it is not known yet; 0 for never."""
        if self.config.when in ("tag_on", "silence", "one_sided"):
            return facts.steady_since + round(RESUME_SECONDS * SECOND)
        return 0

    def _lost(self, facts: StreamFacts) -> Verdict:
        if facts.state == "unknown":
            return UNKNOWN
        all_states = set(self.config.states) == set(LOST_STATES)
        since = facts.lost_since if all_states else facts.state_since
        text = f"{facts.state}{f' ({facts.cause})' * bool(facts.cause)}"
        return Verdict(facts.state in self.config.states, since, 0, text)

    def _tag_on(self, facts: StreamFacts, _: int) -> Verdict:
        begun = {tag: min(by.values()) for tag, by in facts.on.items() if self.matches_tag(tag)}
        if not begun:
            return Verdict(False)
        return Verdict(True, min(begun.values()), 0, ", ".join(sorted(begun)))

    def _tag_off(self, facts: StreamFacts, _: int) -> Verdict:
        if any(map(self.matches_tag, facts.on)):
            return Verdict(False)
        ended = [at for tag, at in facts.ended.items() if self.matches_tag(tag)]
        return Verdict(True, max([facts.steady_since, *ended]), 0, f"no {self.subject()}")

    def _silence(self, facts: StreamFacts, _: int) -> Verdict:
        return Verdict(facts.silent_since > 0, facts.silent_since, 0, "silent")

    def _one_sided(self, facts: StreamFacts, _: int) -> Verdict:
        text = facts.balance.replace("_", " ")
        return Verdict(facts.balance in self.config.balances, facts.balance_since, 0, text)

    def _clipping(self, facts: StreamFacts, now: int) -> Verdict:
        begin = now - round(self.config.within_seconds * SECOND)
        recent = [(at, n) for at, n in facts.clipped if at > begin]
        total = sum(n for _, n in recent)
        return self._count([at for at, _ in recent], total, now, "clipped samples")

    def _gaps(self, facts: StreamFacts, now: int) -> Verdict:
        begin = now - round(self.config.within_seconds * SECOND)
        recent = [at for at in facts.gaps if at > begin]
        return self._count(recent, len(recent), now, "gaps")

    def _count(self, recent: list[int], total: int, now: int, what: str) -> Verdict:
        within = self.config.within_seconds
        again = recent[0] + round(within * SECOND) if recent else 0
        text = f"{total} {what} in {duration(within)}"
        return Verdict(total >= self.config.at_least, now, again, text)

    def _no_title(self, facts: StreamFacts, now: int) -> Verdict:
        since = max(facts.title_since, facts.steady_since)
        due = since + round(self.config.for_seconds * SECOND)
        text = f"no new title since {facts.title!r}" if facts.title else "no title"
        return Verdict(now >= due, since, 0 if now >= due else due, text)

    def _title_matches(self, facts: StreamFacts, _: int) -> Verdict:
        found = bool(facts.title) and self._title.search(facts.title) is not None
        return Verdict(found, facts.title_since, 0, f"title {facts.title!r:.200}")

    def _share(self, share: ShareWindow, now: int) -> Verdict:
        on, up = share.look(now)
        again = now + max(SECOND, share.length // SHARE_STEPS)
        if up < COVERED * share.length:
            return Verdict(None, 0, again)
        part, limit = on / up, self.config.share
        holds = part < limit if self.config.when == "share_below" else part > limit
        words = f"{self.subject()} {part:.0%} of {duration(share.length / SECOND)}"
        relation = "below" if self.config.when == "share_below" else "above"
        return Verdict(holds, now, again, f"{words}, {relation} {limit:.0%}")

    def subject(self) -> str:
        """The tags that it applies to, for people."""
        if self.config.when not in TAG_CONDITIONS:
            return self.config.when
        return " or ".join((*self.config.tags, *self.config.categories))


def duration(seconds: float) -> str:
    """A length of time for people: `90 s`, `5 min`, `2 h`."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"
