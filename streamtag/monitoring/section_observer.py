"""Publishes the sections of a programme while it runs, as an observer (see `derivation`)."""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from streamtag.feed.messages import (
    Gap,
    Message,
    Section,
    SilenceOff,
    SilenceOn,
    StreamDown,
    StreamStatus,
    StreamUp,
    TagOff,
    TagOn,
    Title,
)
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.model.card import Card
from streamtag.monitoring.derivation import JournalPast
from streamtag.monitoring.sections import (
    BOTH,
    LOST,
    MUSIC,
    OTHER,
    SILENCE,
    SPEECH,
    Piece,
    merge,
)

DELAY_SECONDS = 60.0
"""How long after its end a section is published: by then all tags that matter are known."""
ONSET_SHARE = 0.22
"""How much too early a model dates the beginning of speech or music, as a share of its window.
Measured on programmes of seed 1 of benchmarks/programme_log.py (median; 80 % within 1.2 s of
it)."""
LEAST_SHARE = 0.3
"""A section names a tag that was on for at least this share of it."""
MOST_TAGS = 3
"""The most tags of a category that a section names."""
HORIZON_SECONDS = 6 * 3600.0
"""The longest section. If the same goes on, another section begins."""
SHORTEST_TITLE = 20.0
"""The least length of a title that gets a section of its own, in seconds."""
UP = "up"


@dataclass(slots=True)
class Spans:
    """When something was on, in seconds of one clock; the last span may still be open."""

    closed: list[tuple[float, float]] = field(default_factory=list)
    since: float | None = None

    def begin(self, at: float) -> None:
        """Begins a span, unless one is open."""
        if self.since is None:
            self.since = at

    def end(self, at: float) -> None:
        """Ends the open span."""
        if self.since is not None and at > self.since:
            insort(self.closed, (self.since, at))
        self.since = None

    def until(self, now: float) -> list[tuple[float, float]]:
        """All spans; the open one ends now."""
        more = [(self.since, now)] if self.since is not None and self.since < now else []
        return [*self.closed, *more]

    def forget(self, before: float) -> None:
        """Removes the spans that ended before a moment."""
        self.closed = [span for span in self.closed if span[1] > before]


@dataclass(slots=True)
class StreamSections:
    """Computes the sections of one stream. All moments are seconds of UTC since 1970.

    Args:
        stream: its name.
        categories: category of each tag.
        onset: how much too early the model dates beginnings, in seconds.
    """

    stream: str
    categories: Mapping[str, str]
    onset: float
    _begin: float | None = None
    _kind: str = ""
    _kinds: dict[str, Spans] = field(default_factory=lambda: defaultdict(Spans))
    _tags: dict[str, Spans] = field(default_factory=lambda: defaultdict(Spans))
    _titles: list[tuple[float, str]] = field(default_factory=list)
    _status: str = ""
    _zero: float = 0.0
    _up: bool = False
    _due: float | None = None
    _last: float = 0.0

    def add(self, message: Message) -> list[Section]:
        """Handles a message; returns the sections that are complete."""
        at = ns_of(message.utc) / 1e9
        found = self.advance(at)
        self._last = max(self._last, at)
        match message:
            case StreamUp():
                self._zero = at - message.t
                found += self.finish(at)
                self._start(at)
            case StreamDown():
                found += self.finish(at)
            case Title() if message.title:
                self._titles.append((at, message.title))
                self._schedule(at)
            case TagOn():
                self._begin_tag(message.tag, at)
            case TagOff():
                self._end_tag(message.tag, at)
            case SilenceOn():
                self._change(SILENCE, at, on=True)
            case SilenceOff():
                self._change(SILENCE, at, on=False)
            case StreamStatus():
                self._status = message.state
                self._change(LOST, at, on=message.state != UP)
            case Gap() if message.end - message.t >= 1:
                self._change(LOST, at, on=True)
                self._change(LOST, at + message.end - message.t, on=False)
        return found

    def advance(self, now: float) -> list[Section]:
        """Handles the passing of time; returns the sections that are complete by now."""
        if self._begin is None or self._due is None or now < self._due:
            return []
        self._due = None
        found = self._sections(now)
        certain = [p for p in found[:-1] if p.end <= now - DELAY_SECONDS]
        if not certain and now - self._begin > HORIZON_SECONDS:
            certain = [Piece(self._begin, now - DELAY_SECONDS, found[0].kind)]
        said = [one for piece in certain for one in self._describe(piece)]
        if certain:
            self._keep_from(certain[-1].end, found[len(certain)].kind if len(found) > 1 else "")
        later = [p.end for p in found[:-1] if p.end > now - DELAY_SECONDS]
        horizon = self._begin + HORIZON_SECONDS + 1
        self._due = min([*(end + DELAY_SECONDS for end in later[:1]), max(horizon, now + 1)])
        return said

    def skip_to(self, moment: float) -> None:
        """Skips everything before a moment, because it was published already."""
        if self._begin is not None and moment > self._begin:
            self._keep_from(moment, self._kind)

    def _start(self, at: float) -> None:
        self._kinds.clear()
        self._tags.clear()
        self._titles = self._titles[-1:]
        self._begin, self._kind, self._up, self._due = at, "", True, at + DELAY_SECONDS

    def finish(self, at: float) -> list[Section]:
        """Ends the stream; returns the sections that were not published yet."""
        if not self._up:
            return []
        pieces = [p for p in self._sections(at) if p.begin < p.end]
        said = [one for piece in pieces for one in self._describe(piece)]
        self._begin, self._up, self._due, self._titles = None, False, None, []
        return said

    def _change(self, kind: str, at: float, *, on: bool) -> None:
        spans = self._kinds[kind]
        spans.begin(at) if on else spans.end(at)
        self._schedule(at)

    def _schedule(self, at: float) -> None:
        due = max(at, self._last) + DELAY_SECONDS
        self._due = due if self._due is None else min(self._due, due)

    def _begin_tag(self, tag: str, at: float) -> None:
        name = bare(tag)
        if name in (SPEECH, MUSIC):
            # At the start of a stream there is nothing before it that the window could hold.
            early = self._begin is not None and at - self._begin < 2 * self.onset
            self._change(name, at if early else at + self.onset, on=True)
        elif name != SILENCE:
            self._tags[tag].begin(at)

    def _end_tag(self, tag: str, at: float) -> None:
        if (name := bare(tag)) in (SPEECH, MUSIC):
            self._change(name, at, on=False)
        else:
            self._tags[tag].end(at)

    def _sections(self, now: float) -> list[Piece]:
        """All sections since the last published one; the last may go on."""
        assert self._begin is not None
        spans = {kind: some.until(now) for kind, some in self._kinds.items()}
        edges = {self._begin, now}
        edges |= {t for some in spans.values() for span in some for t in span}
        inside = sorted(t for t in edges if self._begin <= t <= now)
        pieces = [Piece(a, b, kind_at((a + b) / 2, spans)) for a, b in pairwise(inside)]
        return merge(pieces, self._kind)

    def _keep_from(self, moment: float, kind: str) -> None:
        self._begin, self._kind = moment, kind
        for spans in (*self._kinds.values(), *self._tags.values()):
            spans.forget(moment)
        before = [title for title in self._titles if title[0] <= moment]
        self._titles = [*before[-1:], *(t for t in self._titles if t[0] > moment)]

    def _describe(self, piece: Piece) -> list[Section]:
        """The messages for a section. Music with several titles is split into several."""
        cuts = [piece.begin, piece.end]
        if piece.kind == MUSIC:
            for at, _ in self._titles:
                if at - cuts[-2] >= SHORTEST_TITLE and piece.end - at >= SHORTEST_TITLE:
                    cuts.insert(-1, at)
        return [self._message(Piece(a, b, piece.kind)) for a, b in pairwise(cuts)]

    def _message(self, piece: Piece) -> Section:
        length = piece.end - piece.begin
        by_category: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for tag, spans in self._tags.items():
            share = overlap(spans.until(piece.end), piece) / length
            if share >= LEAST_SHARE and piece.kind in (MUSIC, OTHER):
                by_category[self._category(tag)].append((share, bare(tag)))
        named = {
            name: tuple(tag for _, tag in sorted(some, key=lambda s: (-s[0], s[1]))[:MOST_TAGS])
            for name, some in by_category.items()
        }
        agreeing = self._kinds[piece.kind].until(piece.end) if piece.kind != OTHER else [piece[:2]]
        return Section(
            epoch="",
            seq=0,
            stream=self.stream,
            t=round(piece.begin - self._zero, 3),
            utc=rfc3339(round(piece.begin * 1e9)),
            end=round(piece.end - self._zero, 3),
            end_utc=rfc3339(round(piece.end * 1e9)),
            kind=piece.kind,
            certainty=round(min(1.0, overlap(agreeing, piece) / length), 3),
            title=self._title(piece),
            genre=(named.get("genre") or ("",))[0],
            moods=(*named.get("mood", ()), *named.get("mood/theme", ()), *named.get("theme", ())),
            instruments=named.get("instrument", ()),
        )

    def _category(self, tag: str) -> str:
        return (self.categories.get(tag) or tag.rpartition("---")[0]).lower()

    def _title(self, piece: Piece) -> str:
        """The title that lasted longest in a section. In speech only titles that began in it
        count."""
        lasted: dict[str, float] = defaultdict(float)
        ends = [*(at for at, _ in self._titles[1:]), piece.end][: len(self._titles)]
        for (at, title), end in zip(self._titles, ends, strict=True):
            if piece.kind == SPEECH and at < piece.begin:
                continue
            lasted[title] += max(0.0, min(end, piece.end) - max(at, piece.begin))
        best = max(lasted, key=lambda title: lasted[title], default="")
        return best if best and lasted[best] > 0 and piece.kind in (MUSIC, SPEECH, OTHER) else ""


class SectionObserver:
    """Publishes the sections of all streams.

    Args:
        cards: cards of the taggers by name.
    """

    types: frozenset[type[Message]] = frozenset(
        {StreamUp, StreamDown, StreamStatus, Title, TagOn, TagOff, SilenceOn, SilenceOff, Gap}
    )
    horizon_seconds = HORIZON_SECONDS

    def __init__(self, cards: Mapping[str, Card]) -> None:
        self._categories = {t: name for c in cards.values() for t, name in c.categories.items()}
        telling = [c.window_seconds for c in cards.values() if MUSIC in map(bare, c.tags)]
        self._onset = ONSET_SHARE * max(telling, default=0.0)
        self._streams: dict[str, StreamSections] = {}

    def restore(self, past: JournalPast) -> None:
        """Restores the sections that were not published yet."""
        said: dict[str, float] = {}
        for message, _ in past.messages:
            if isinstance(message, Section):
                said[message.stream] = ns_of(message.end_utc) / 1e9
            elif type(message) in self.types and message.stream:
                self._of(message.stream).add(message)
        for stream, moment in said.items():
            self._of(stream).skip_to(moment)

    def observe(self, message: Message, now_ns: int) -> Sequence[Section]:
        """Handles a message that is published now."""
        return self._of(message.stream).add(message) if message.stream else []

    def tick(self, now_ns: int) -> Sequence[Section]:
        """Handles the passing of time."""
        return [one for some in self._streams.values() for one in some.advance(now_ns / 1e9)]

    def close(self, now_ns: int) -> Sequence[Section]:
        """Returns nothing: the sections have ended with their streams."""
        return []

    def finish(self, now_ns: int) -> list[Section]:
        """Ends the sections of all streams that are up."""
        return [one for some in self._streams.values() for one in some.finish(now_ns / 1e9)]

    def _of(self, stream: str) -> StreamSections:
        if stream not in self._streams:
            self._streams[stream] = StreamSections(stream, self._categories, self._onset)
        return self._streams[stream]


def sections_of(messages: Iterable[Message], cards: Mapping[str, Card]) -> list[Section]:
    """The sections of messages that are in the order of their publication, as if live.

    The sections of streams that are still up end with the last message.
    """
    observer, found, last = SectionObserver(cards), list[Section](), ""
    for message in messages:
        if isinstance(message, Section):
            continue
        last = max(last, message.utc)
        found += observer.observe(message, 0) if type(message) in observer.types else []
    found += observer.finish(ns_of(last)) if last else []
    return sorted(found, key=lambda one: (one.utc, one.stream))


def kind_at(moment: float, spans: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The kind of piece at a moment."""
    on = {kind for kind, some in spans.items() if any(a <= moment < b for a, b in some)}
    for kind in (LOST, SILENCE):
        if kind in on:
            return kind
    if {SPEECH, MUSIC} <= on:
        return BOTH
    return SPEECH if SPEECH in on else MUSIC if MUSIC in on else OTHER


def overlap(spans: Iterable[tuple[float, float]], piece: Piece) -> float:
    """How many seconds of a section lie within some spans."""
    return sum(max(0.0, min(b, piece.end) - max(a, piece.begin)) for a, b in spans)


def bare(tag: str) -> str:
    """A tag without the category before dashes (`genre---rock`), in lower case."""
    return tag.rpartition("---")[2].lower()
