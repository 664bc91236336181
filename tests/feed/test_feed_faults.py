"""A feed whose disk is full, whose clock is set back, whose journal is damaged: what a subscriber
hears is what was emitted, and what cannot be had is said."""

import time
from pathlib import Path

import pytest
from feed.test_feed_network import local
from feed.test_journal import full_disk
from support.peers import free_ports

from streamtag.config.config import FeedConfig
from streamtag.daemon.output import open_feed
from streamtag.engine import events
from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.messages import JournalStatus, Message, StreamDown, StreamStatus
from streamtag.feed.publisher import Publisher

SECONDS = 60
HOUR = 3600 * 10**9
UP = events.StreamOpened("s", 0, 1000, 10**18, ("m",))


class Feed:
    """A feed on the same address again and again, and all that was emitted on it."""

    def __init__(self, folder: Path) -> None:
        bind, replay = local(free_ports())
        self.config = FeedConfig(
            bind=bind, replay=replay, journal=str(folder / "journal.db"), beat_seconds=0.05
        )
        self.emitted: list[Message] = []
        self._at = 0
        self.begin()

    def begin(self) -> None:
        self.publisher: Publisher
        self._wire: EventEncoder
        self.publisher, self._wire = open_feed(self.config)
        self._say(UP)

    def emit(self, n: int) -> None:
        for _ in range(n):
            self._at += 10
            self._say(events.TitleChanged("s", self._at, "x" * 100))

    def status(self) -> None:
        self._say(events.SourceStatusChanged("s", self._at, events.SourceState.UP))

    def _say(self, event: events.Event) -> None:
        self.emitted.append(self._wire.message(event))
        self.publisher.publish(self.emitted[-1])

    def die(self) -> None:
        """As by kill -9, once all is out."""
        deadline = time.monotonic() + SECONDS
        while self.publisher._queue:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        publisher, journal = self.publisher, self.publisher._journal
        assert journal is not None
        publisher._queue.close()
        publisher._thread.join()
        assert publisher._replay is not None
        publisher._replay.close()
        journal._db.close()
        journal._lock.release()
        publisher._context.destroy(100)


def hear(feed: Subscriber, seq: int) -> list[Message | MissedMessages]:
    """Until number `seq` of the stream has come."""
    heard: list[Message | MissedMessages] = []
    while not (heard and getattr(heard[-1], "seq", 0) == seq):
        message = feed.receive(SECONDS)
        assert message is not None, heard[-3:]
        if isinstance(message, MissedMessages | JournalStatus) or message.topic == "event/s/":
            heard.append(message)
    return heard


def of_stream(heard: list[Message | MissedMessages]) -> list[Message]:
    return [m for m in heard if isinstance(m, Message) and m.topic == "event/s/"]


@pytest.fixture
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamtag.feed.journal.journal.RETRY_SECONDS", 0)


@pytest.mark.usefixtures("quick_retry")
def test_a_full_disk_takes_nothing_from_who_listens(tmp_path: Path) -> None:
    """Who comes later is told which messages there are no more."""
    feed = Feed(tmp_path)
    feed.emit(100)
    with Subscriber(feed.config.bind) as subscriber:
        heard = hear(subscriber, feed.emitted[-1].seq)
        with full_disk(60_000):
            feed.emit(3000)
            heard += hear(subscriber, feed.emitted[-1].seq)
        feed.emit(10)
        heard += hear(subscriber, feed.emitted[-1].seq)
        assert not [m for m in heard if isinstance(m, MissedMessages)]
        # the state comes first: the stream is up, its newest title
        assert of_stream(heard)[-3010:] == feed.emitted[-3010:]
        working = [m.working for m in heard if isinstance(m, JournalStatus)]
        assert working == [False, True]
    with Subscriber(feed.config.bind, since={"event/s/": (feed.emitted[0].epoch, 1)}) as late:
        again = hear(late, feed.emitted[-1].seq)
    feed.publisher.close()
    missed = sum(m.count for m in again if isinstance(m, MissedMessages))
    assert {m.reason for m in again if isinstance(m, MissedMessages)} == {"not_kept"}
    got = of_stream(again)
    assert 0 < missed <= 3000
    assert missed + len(got) == len(feed.emitted) - 1
    by_number = {m.seq: m for m in feed.emitted}
    assert all(by_number[m.seq] == m for m in got)


@pytest.mark.usefixtures("quick_retry")
def test_a_daemon_that_dies_on_a_full_disk_gives_no_number_twice(tmp_path: Path) -> None:
    feed = Feed(tmp_path)
    feed.emit(100)
    with Subscriber(feed.config.bind) as subscriber:
        heard = hear(subscriber, feed.emitted[-1].seq)
        with full_disk(60_000):
            feed.emit(1500)
            heard += hear(subscriber, feed.emitted[-1].seq)
            feed.die()
        newest = feed.emitted[-1].seq
        feed.begin()
        feed.emit(10)
        after = hear(subscriber, feed.emitted[-1].seq)
    feed.publisher.close()
    hole, ending, *rest = after
    assert isinstance(hole, MissedMessages)
    assert (hole.topic, hole.reason) == ("event/s/", "not_kept")
    assert hole.count <= 1000  # there may have been more; none has been heard
    assert isinstance(ending, StreamDown)
    assert ending.seq == newest + hole.count + 1
    assert rest == feed.emitted[-11:]
    assert not list(tmp_path.glob("*damaged*"))


def test_a_clock_that_is_set_back_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an hour while it runs, by another while it is down."""
    now, real = [1_800_000_000 * 10**9], time.monotonic_ns
    started = real()
    monkeypatch.setattr(time, "time_ns", lambda: now[0] + real() - started)
    feed = Feed(tmp_path)
    with Subscriber(feed.config.bind) as subscriber:
        heard = hear(subscriber, 1)
        feed.emit(50)
        feed.status()
        now[0] -= HOUR
        feed.publisher._next_prune = 0.0  # at once
        feed.emit(50)
        feed.status()
        heard += hear(subscriber, feed.emitted[-1].seq)
        run = feed.publisher._run_epoch
        feed.die()
        now[0] -= HOUR
        feed.begin()
        feed.emit(50)
        heard += hear(subscriber, feed.emitted[-1].seq)
        assert feed.publisher._run_epoch > run
    feed.publisher.close()
    messages = of_stream(heard)
    assert messages == heard  # nothing missed
    assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
    assert [m for m in messages if not isinstance(m, StreamDown)] == feed.emitted
    audio = [m.utc for m in messages if not isinstance(m, StreamStatus | StreamDown)]
    lives = audio[:101], audio[101:]
    assert all(list(life) == sorted(life) for life in lives)  # by the audio's clock, not the wall's


def test_a_damaged_journal_is_begun_anew_and_its_readers_are_told(tmp_path: Path) -> None:
    feed = Feed(tmp_path)
    feed.emit(2000)
    with Subscriber(feed.config.bind) as subscriber:
        hear(subscriber, feed.emitted[-1].seq)
        feed.publisher.close()
        path = Path(feed.config.journal)
        whole = bytearray(path.read_bytes())
        for at in range(10_000, len(whole), 50_000):
            whole[at : at + 100] = b"\x00" * 100
        path.write_bytes(whole)
        feed.begin()
        feed.emit(2)
        told, *rest = hear(subscriber, feed.emitted[-1].seq)
    feed.publisher.close()
    assert isinstance(told, MissedMessages)
    assert told.restarted
    new = feed.emitted[-3:]
    assert rest in (new, [new[0], new[2]])  # the state holds the newest title only
    assert list(tmp_path.glob("journal.db.damaged-*"))
