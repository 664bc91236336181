"""AsyncSubscriber, and what both subscribers do while nobody answers a request."""

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from streamtag import AsyncSubscriber, Subscriber
from streamtag.engine import events
from streamtag.errors import FeedError
from streamtag.feed.client import connection
from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.event_encoder import EventEncoder, SequenceNumbers
from streamtag.feed.journal.journal import Journal
from streamtag.feed.messages import Message
from streamtag.feed.publisher import Publisher

SECONDS = 60
UP = events.StreamOpened("a", 0, 1000, 0, ())


class Feed:
    """A feed with a journal, and the messages sent on it."""

    def __init__(self) -> None:
        journal = Journal(None)
        self.publisher = Publisher(
            "tcp://127.0.0.1:0", journal=journal, beat_seconds=0.1, high_water=10
        )
        self.wire = EventEncoder({}, 10**18, SequenceNumbers(journal.epoch))
        self.sent = [self.send(UP)]

    @property
    def address(self) -> str:
        return self.publisher.address

    def send(self, event: events.Event) -> Message:
        self.publisher.publish(message := self.wire.message(event))
        return message

    def send_some(self, n: int, title: str = "") -> None:
        for i in range(n):
            event = events.TitleChanged("a", i, title) if title else events.GapFound("a", i, i + 1)
            self.sent.append(self.send(event))

    def wait_until_sent(self, n: int) -> None:
        """Until so many messages are out: who comes then finds them in the state."""
        deadline = time.monotonic() + SECONDS
        while self.publisher.counters["sent"] < n:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def lose(self, n: int) -> None:
        """Numbers that nobody is ever sent."""
        for i in range(n):
            self.wire.message(events.GapFound("a", i, i + 1))


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed()
    yield feed
    feed.publisher.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where requests are taken and never answered."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind("tcp://127.0.0.1:*")
        yield socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def test_the_current_state_comes_first(feed: Feed) -> None:
    on = feed.send(events.TagStarted("a", "m", "tag", 1, 2, 0.5, False))
    feed.send_some(5)
    feed.wait_until_sent(7)

    async def collect() -> list[Message | MissedMessages | None]:
        async with AsyncSubscriber(feed.address, timeout=SECONDS) as messages:
            received = [await messages.receive(SECONDS) for _ in range(2)]
            feed.send_some(3)
            async for message in messages:
                received.append(message)
                if len(received) == 5:
                    break
            return received

    assert asyncio.run(collect()) == [feed.sent[0], on, *feed.sent[-3:]]


def test_missed_messages_are_fetched(feed: Feed) -> None:
    """The subscriber reads nothing while far more comes than its queue holds."""

    async def collect() -> list[Message | MissedMessages | None]:
        async with AsyncSubscriber(feed.address, high_water=1) as messages:
            received = [await messages.receive(SECONDS)]
            feed.send_some(10_000, "long " * 400)  # 20 MB: more than the system's buffers hold
            while feed.publisher.counters["sent"] < 10_001:
                await asyncio.sleep(0.01)
            while received[-1] != feed.sent[-1]:
                received.append(await messages.receive(SECONDS))
            assert messages._requests is not None  # it had to ask
            return received

    assert asyncio.run(collect()) == feed.sent


def test_a_waiting_subscriber_does_not_block_another(feed: Feed) -> None:
    async def collect() -> list[Message | MissedMessages | None]:
        async with (
            AsyncSubscriber(feed.address, streams=["nobody"]) as slow,
            AsyncSubscriber(feed.address) as messages,
        ):
            waiting = asyncio.create_task(slow.receive())
            received = [await messages.receive(SECONDS)]
            feed.send_some(50)
            received += [await messages.receive(SECONDS) for _ in range(50)]
            assert not waiting.done()
            waiting.cancel()
            return received

    assert asyncio.run(collect()) == feed.sent


def test_a_receive_that_is_cancelled_loses_nothing(feed: Feed) -> None:
    async def collect() -> list[Message | MissedMessages | None]:
        async with AsyncSubscriber(feed.address) as messages:
            received = [await messages.receive(SECONDS)]
            for _ in range(20):
                waiting = asyncio.create_task(messages.receive())
                for _ in range(3):
                    await asyncio.sleep(0)
                feed.send_some(1)
                waiting.cancel()
                try:
                    received.append(await waiting)
                except asyncio.CancelledError:
                    continue
            while received[-1] != feed.sent[-1]:
                received.append(await messages.receive(SECONDS))
            return received

    assert asyncio.run(collect()) == feed.sent


def test_a_receive_may_be_cancelled_during_a_request(feed: Feed, silent: str) -> None:
    async def collect() -> list[Message | MissedMessages | None]:
        async with AsyncSubscriber(feed.address, replay=silent) as messages:
            received = [await messages.receive(SECONDS)]
            feed.lose(2)
            feed.send_some(1)
            waiting = asyncio.create_task(messages.receive())
            while messages._request is None:
                await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            messages._replay = None  # from now on it asks where there is an answer
            messages._drop_requests()
            return [*received, *[await messages.receive(SECONDS) for _ in range(2)]]

    missed = MissedMessages("event/a/", 2, reason="not_kept")
    assert asyncio.run(collect()) == [feed.sent[0], missed, feed.sent[1]]


def test_timeout_and_close(feed: Feed) -> None:
    async def collect() -> None:
        messages = AsyncSubscriber(feed.address, streams=["b"], timeout=0.05)
        assert await messages.receive(0) is None
        with pytest.raises(FeedError, match=r"expected a message within 0\.05 s"):
            async for _ in messages:
                pass
        await messages.close()
        await messages.close()
        assert messages._context.closed

    before = threading.active_count()
    asyncio.run(collect())
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_a_timeout_is_kept_while_nobody_answers(
    feed: Feed, silent: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request goes on in the next calls, is sent again, and is given up at last."""
    monkeypatch.setattr(connection, "RESEND_SECONDS", 0.05)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 3600.0)

    async def collect() -> list[Message | MissedMessages | None]:
        messages = (Subscriber if kind == "blocking" else AsyncSubscriber)(
            feed.address, replay=silent
        )

        async def receive(timeout: float) -> Message | MissedMessages | None:
            found = messages.receive(timeout)
            return await found if inspect.isawaitable(found) else found

        received = [await receive(SECONDS)]
        feed.lose(2)
        feed.send_some(1)
        while messages._request is None or messages._request.number < 3:
            assert await receive(0.1) is None  # within its time: the answer has an hour
        messages._request.give_up = 0.0
        received += [await receive(SECONDS) for _ in range(2)]
        messages._close()
        return received

    missed = MissedMessages("event/a/", 2, reason="unanswered")
    assert asyncio.run(collect()) == [feed.sent[0], missed, feed.sent[1]]
