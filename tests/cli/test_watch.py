"""The live board: what it has learnt from the feed is what it shows."""

import io
import time

import pytest
from rich.console import Console

from streamtag.cli import feed
from streamtag.cli.watch import TerminalBoard, bar, show
from streamtag.engine import events
from streamtag.engine.events import Reason
from streamtag.errors import FeedError
from streamtag.feed.client import subscriber
from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.messages import Message
from streamtag.feed.publisher import Publisher

SECONDS = 60
TAGS = ("strings", "brass", "voice")


def messages(*sent: events.Event) -> list[Message]:
    wire = EventEncoder({"m": TAGS, "n": ("dark",)}, 10**18)
    return [wire.message(e) for e in (events.StreamOpened("radio", 0, 1000, 0, ("m", "n")), *sent)]


def scores(
    end: int, *values: float, tagger: str = "m", provisional: bool = False
) -> events.WindowScored:
    return events.WindowScored("radio", tagger, 0, end, (0.0,) * len(values), values, provisional)


def on(tag: str, at: int) -> events.TagStarted:
    return events.TagStarted("radio", "m", tag, at, at + 500, 0.75, False)


def off(tag: str, at: int, since: int) -> events.TagEnded:
    return events.TagEnded("radio", "m", tag, at, at, since, 0.9, Reason.BELOW_THRESHOLD)


def shown(board: TerminalBoard) -> list[str]:
    """The board as lines of text."""
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(board.render())
    assert isinstance(console.file, io.StringIO)
    return [line.strip("│ ") for line in console.file.getvalue().splitlines()]


def board_of(*sent: events.Event, top: int = 8) -> list[str]:
    board = TerminalBoard(top)
    for message in messages(*sent):
        board.update(message)
    return shown(board)


def test_the_default_address_is_that_of_a_subscriber() -> None:
    assert feed.DEFAULT_ADDRESS == subscriber.DEFAULT_ADDRESS


def test_bars() -> None:
    assert [bar(v, 4) for v in (0, 0.5, 1, 0.28, -1, 2)] == [
        "    ",
        "██  ",
        "████",
        "█▏  ",
        "    ",
        "████",
    ]


def test_active_tags_come_first_then_the_likeliest() -> None:
    lines = board_of(scores(4000, 0.1, 0.3, 0.2), on("voice", 2500))
    assert "radio  0:04.0" in lines[0]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["●", "voice"],
        ["brass", "█████████"],
        ["strings", "███"],
    ]
    assert lines[1].endswith("0.20 since 0:02.5")
    assert any(line.endswith("radio         ▶ voice 0.75") for line in lines)


def test_a_tag_that_ended_is_no_longer_marked() -> None:
    lines = board_of(scores(4000, 0.1, 0.3, 0.2), on("voice", 2500), off("voice", 3500, 2500))
    assert not any("●" in line for line in lines)
    assert any("■ voice after 1.0 s, peak 0.90, below_threshold" in line for line in lines)


def test_the_number_of_tags_is_limited() -> None:
    lines = board_of(scores(4000, 0.1, 0.3, 0.2), top=2)
    assert not any("strings" in line for line in lines)


def test_tags_of_two_taggers_are_labelled() -> None:
    lines = board_of(scores(4000, 0.1, 0.3, 0.2), scores(4000, 0.9, tagger="n"))
    assert lines[1].startswith("n: dark")


def test_provisional_scores_and_the_end_are_marked() -> None:
    assert "(first window not full yet)" in board_of(scores(1, 0, 0, 0, provisional=True))[0]
    lines = board_of(events.StreamClosed("radio", 9000, Reason.STREAM_LOST, "unplugged"))
    assert "radio  0:09.0  (ended)" in lines[0]
    assert any("stream_down stream_lost: unplugged" in line for line in lines)


def test_a_restart_of_the_daemon_clears_the_board() -> None:
    board = TerminalBoard()
    for message in messages(scores(4000, 0.1, 0.3, 0.2)):
        board.update(message)
    board.update(MissedMessages("event/radio/", 1, restarted=True))
    lines = shown(board)
    assert not any("brass" in line for line in lines)
    assert any("the daemon was restarted" in line for line in lines)


def test_an_empty_board_shows_the_address() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(TerminalBoard().render("tcp://there"))
    assert isinstance(console.file, io.StringIO)
    assert "Waiting for tcp://there" in console.file.getvalue()


def test_a_pipe_gets_one_line_per_event() -> None:
    publisher, text = Publisher("tcp://127.0.0.1:0"), io.StringIO()
    with Subscriber(publisher.address, scores=True, timeout=0.5) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        for message in messages(scores(4000, 0.1, 0.3, 0.2), on("voice", 2500)):
            publisher.publish(message)
        publisher.close()
        with pytest.raises(FeedError, match=r"expected a message within 0.5 s"):
            show(feed, Console(file=text))
    assert text.getvalue().splitlines() == [
        "radio 0:00.0 stream_up 1000 Hz, tagged by m, n",
        "radio 0:02.5 tag_on voice 0.75",
        "goodbye",
    ]


class Feed:
    """Messages, then Ctrl-C as soon as the last one is on the screen."""

    address = "tcp://there"

    def __init__(self, sent: list[Message], screen: io.StringIO, last: str) -> None:
        self.sent, self.screen, self.last = sent, screen, last
        self.deadline = time.monotonic() + SECONDS

    def receive(self, timeout: float) -> Message | None:
        if self.sent:
            return self.sent.pop(0)
        if self.last in self.screen.getvalue() or time.monotonic() > self.deadline:
            raise KeyboardInterrupt
        return None


def test_a_terminal_gets_a_board() -> None:
    text = io.StringIO()
    sent = messages(scores(4000, 0.1, 0.3, 0.2), on("voice", 2500))
    with pytest.raises(KeyboardInterrupt):
        show(Feed(sent, text, "since 0:02.5"), Console(file=text, width=80, force_terminal=True))
    assert "Waiting for tcp://there" in text.getvalue()
    assert "brass" in text.getvalue()
    assert "█" in text.getvalue()
