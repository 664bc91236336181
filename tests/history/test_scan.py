"""The quick ways through a journal find exactly what reading all of it finds."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.feeds import topic_events

from streamtag.engine import events
from streamtag.feed.codec import Encoding
from streamtag.feed.current_state import CurrentState, JournalRow
from streamtag.feed.event_encoder import EventEncoder, SequenceNumbers
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.retention import Retention
from streamtag.feed.messages import TagOff, dump
from streamtag.feed.timestamps import ns_of
from streamtag.history.history import History
from streamtag.history.intervals import (
    HOUR,
    StreamIntervals,
    shares,
    stream_intervals,
    within,
)
from streamtag.history.query import Query

NOON = 1_795_262_400_000_000_000  # 2026-11-21T12:00:00Z
RATE = 1000
MINUTE = 60 * 10**9
TAGS = ("calm", "loud", 'said "so"')


class Writer:
    """Writes a journal as daemons do, whatever their clocks say.

    Args:
        path: of the file.
        dice: what happens.
        encoding: of the payloads.
        jumps: how likely it is that somebody sets the clock back before a message.
    """

    def __init__(
        self, path: Path, dice: random.Random, encoding: Encoding, jumps: float = 0.02
    ) -> None:
        self._jumps = jumps
        self._dice, self._encoding = dice, encoding
        self._journal = Journal(path, now_ns=NOON)
        keeps = ("event/", "scores/")
        numbering = SequenceNumbers(self._journal.epoch, self._journal.last(), keeps)
        self._wire, self._state = EventEncoder({"m": TAGS}, NOON, numbering), CurrentState()
        self._rows: list[JournalRow] = []
        self._last: dict[str, int] = {}
        self._lost = False
        self.now = NOON
        self._up: dict[str, int] = {}  # stream -> samples heard
        self._on: dict[str, dict[str, int]] = {}
        self._silent: dict[str, int] = {}

    def hour(self, streams: tuple[str, ...]) -> None:
        """About an hour of everything, most of it in order."""
        dice = self._dice
        for _ in range(80):
            self.now += dice.randrange(MINUTE)
            if dice.random() < self._jumps:
                self.now -= dice.randrange(40 * MINUTE)  # somebody set the clock
            self._step(dice.choice(streams))
        self._write()

    def close(self) -> None:
        self._journal.close()

    def _step(self, stream: str) -> None:
        dice = self._dice
        if stream not in self._up:
            self._begin(stream)
        on = self._on[stream]
        at = self._up[stream] = self._up[stream] + dice.randrange(60 * RATE)
        kind = dice.random()
        if kind < 0.06:
            for tag in list(on):
                self._off(stream, tag, at)
            if stream in self._silent:
                self._silence(stream, at)
            self._emit(events.StreamClosed(stream, at, events.Reason.STREAM_LOST, ""))
            del self._up[stream]
            state = dice.choice((events.SourceState.RETRYING, events.SourceState.PAUSED))
            cause = events.Cause.REFUSED
            self._emit(events.SourceStatusChanged(stream, at, state, cause, "", 8.0))
        elif kind < 0.12:
            lost = dice.randrange(1, 900 * RATE)
            self._emit(events.GapFound(stream, at, at + lost))
            self._up[stream] += lost
        elif kind < 0.3:
            self._emit(events.TitleChanged(stream, at, dice.choice(("a title", "another", ""))))
        elif kind < 0.36:
            self._silence(stream, at)
        elif kind < 0.45:
            self._emit(
                events.WindowScored(stream, "m", at, at + RATE, (0.5,) * 3, (0.5,) * 3, False)
            )
        elif (tag := dice.choice(TAGS)) in on:
            self._off(stream, tag, at)
        else:
            on[tag] = at
            self._emit(events.TagStarted(stream, "m", tag, at, at, 0.75, False))

    def _silence(self, stream: str, at: int) -> None:
        """A silence begins, or ends."""
        if (since := self._silent.pop(stream, None)) is not None:
            self._emit(events.SilenceEnded(stream, at, at, since))
        else:
            self._silent[stream] = at
            self._emit(events.SilenceStarted(stream, at, at))

    def _begin(self, stream: str) -> None:
        far = {"archive": -30 * 24 * HOUR, "ahead": 5 * HOUR}.get(stream, 0)
        self._emit(events.StreamOpened(stream, 0, RATE, self.now + far, ("m",)))
        self._up[stream], self._on[stream] = 0, {}

    def _off(self, stream: str, tag: str, at: int) -> None:
        since, why = self._on[stream].pop(tag), events.Reason.BELOW_THRESHOLD
        self._emit(events.TagEnded(stream, "m", tag, at, at, since, 0.9, why))

    def _emit(self, *happened: events.Event) -> None:
        for message in map(self._wire.message, happened):
            row = self._state.update(message, dump(message, self._encoding))
            self._rows.append(row)
            self._last[row.topic] = row.seq
        if len(self._rows) > 5:
            self._write()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        if self._dice.random() < 0.05:
            self._lost = True  # the disk is full
            return
        if self._lost:
            self._journal._reconcile(self._state, self._last)
        self._lost = False
        self._journal.append(rows, self.now)
        if self._jumps and self._dice.random() < 0.1:
            self._journal.retention = Retention(seconds=3 * 3600.0)
            self._journal.prune(self.now)


def damage(path: Path, dice: random.Random) -> None:
    """A few payloads are no longer what they were."""
    with sqlite3.connect(path) as db:
        (last,) = db.execute("SELECT max(rowid) FROM event").fetchone()
        for _ in range(3):
            db.execute(
                "UPDATE event SET body=substr(body, 1, 150) WHERE rowid=?", (dice.randrange(last),)
            )
    db.close()


@pytest.fixture(params=range(8))
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    """The journal of a few bad days."""
    dice = random.Random(request.param)
    encoding: Encoding = "msgpack" if request.param == 7 else "json"
    writer = Writer(tmp_path / "j.db", dice, encoding)
    for _ in range(6):
        writer.hour(("radio", "other", "third", "archive", "ahead"))
    writer.close()
    if request.param in (5, 6):
        damage(tmp_path / "j.db", dice)
    history = History(tmp_path / "j.db")
    yield history
    history.close()


def ranges(history: History, dice: random.Random) -> Iterator[tuple[int, int]]:
    """Where to look: in the middle, at the edges, at nothing, far away, and from one message to
    another."""
    yield NOON - 30 * 24 * HOUR, NOON - 30 * 24 * HOUR + HOUR
    yield 0, 2**62
    yield NOON + 40 * HOUR, NOON + 41 * HOUR
    for _ in range(12):
        since = NOON + dice.randrange(-HOUR, 10 * HOUR) // 1000 * 1000
        yield since, since + dice.choice((0, MINUTE, HOUR, 3 * HOUR))
    moments = sorted(ns_of(entry.message.utc) for entry in history.entries(Query()))
    for _ in range(4):
        since, until = sorted(dice.sample(moments, 2))
        yield since, until


def test_a_query_finds_what_a_full_scan_finds(written: History) -> None:
    found = 0
    for since, until in ranges(written, random.Random(1)):
        for query in (
            Query(since=since, until=until),
            Query(since=since),
            Query(until=until, tags=frozenset(['said "so"'])),
            Query(frozenset(["radio"]), types=frozenset(["tag_off", "gap"]), since=since),
            Query(types=frozenset(["scores"]), until=until),
        ):
            everything = [e for e in written.entries(Query()) if query.wants(e.message)]
            assert list(written.entries(query)) == everything
            found += len(everything)
    assert found > 1000


def clipped(intervals: StreamIntervals, since: int, until: int) -> tuple[object, ...]:
    spans = {("received", ""): intervals.received, ("silent", ""): intervals.silent}
    spans |= intervals.on
    for kind, labelled in (("title", intervals.titles), ("state", intervals.states)):
        for begin, end, text in labelled:
            spans.setdefault((kind, text), []).append((begin, end))
    cut = {key: within(some, since, until) for key, some in spans.items()}
    return cut["received", ""], {key: some for key, some in cut.items() if some}


def test_intervals_of_a_range_are_those_of_a_full_scan(written: History) -> None:
    passed = counted = 0
    names = written.streams()
    for since, until in ranges(written, random.Random(2)):
        found = written.events_between(names, since, until)
        assert found.keys() == set(names)
        for name in names:
            for end in (None, NOON + 12 * HOUR):
                whole = stream_intervals(topic_events(written, f"event/{name}/"), end)
                part = stream_intervals(found[name], end)
                assert clipped(part, since, until) == clipped(whole, since, until)
                same = shares(name, whole, since, until)
                assert shares(name, part, since, until) == same
                counted += len(same)
            passed += found[name].prior is not None
        alone = written.events_between(["radio"], since, until)  # looked up by its topic
        assert alone == {name: one for name, one in found.items() if name == "radio"}
    assert counted > 50
    assert passed > 10


def without(path: Path, seq: int) -> None:
    """Removes a message."""
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM event WHERE seq=?", (seq,))
    db.close()


def test_a_tag_off_after_the_range_counts_if_its_tag_on_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    writer = Writer(path, random.Random(0), "json")
    writer._begin("a")
    writer._emit(events.TagStarted("a", "m", "calm", 600 * RATE, 600 * RATE, 0.75, False))
    for at in (1200, 4000, 4200):
        writer._emit(events.TitleChanged("a", at * RATE, "a title"))
    why = events.Reason.BELOW_THRESHOLD
    writer._emit(
        events.TagEnded("a", "m", "calm", 4300 * RATE, 4300 * RATE, 600 * RATE, 0.9, why),
        events.StreamClosed("a", 4400 * RATE, events.Reason.STREAM_CLOSED, ""),
    )
    writer._write()
    writer.close()
    without(path, 2)
    history = History(path)
    found = history.events_between(["a"], NOON, NOON + HOUR)["a"]
    assert found.rows[-1][2].type == "tag_off"
    (one,) = shares("a", stream_intervals(found, None), NOON, NOON + HOUR)
    assert (one.on, one.received) == (2400, 2400)  # known from 1200 s on
    without(path, 5)  # and nothing is known of how it went on until it ended
    found = history.events_between(["a"], NOON, NOON + HOUR)["a"]
    assert not shares("a", stream_intervals(found, None), NOON, NOON + HOUR)
    assert not shares(
        "a", stream_intervals(topic_events(history, "event/a/"), None), NOON, NOON + HOUR
    )
    history.close()


def test_few_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path / "j.db", random.Random(20), "json", jumps=0)
    for _ in range(12):
        writer.hour(("radio", "other"))
    writer.close()
    history = History(tmp_path / "j.db")
    found = history.events_between(["radio"], NOON + 2 * HOUR, NOON + 3 * HOUR)["radio"]
    everything = len(topic_events(history, "event/radio/").rows)
    assert found.prior is not None
    assert 0 < len(found.rows) + len(found.prior.in_force) < everything / 2
    looked_at: list[bytes] = []
    decompress = history._decompressor.decompress

    def seen(body: bytes, limit: int = 0) -> bytes:
        looked_at.append(body)
        return decompress(body, limit)

    monkeypatch.setattr(history._decompressor, "decompress", seen)
    query = Query(since=NOON + 2 * HOUR, until=NOON + 3 * HOUR, types=frozenset(["tag_off"]))
    entries = list(history.entries(query))
    assert all(isinstance(entry.message, TagOff) for entry in entries)
    assert 0 < len(looked_at) <= len(entries) + 1
    history.close()
