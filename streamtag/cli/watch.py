"""What a feed says, for the eyes: a live board on a terminal, plain lines elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.messages import (
    Gap,
    Message,
    Scores,
    Stats,
    StreamDown,
    StreamUp,
    TagOff,
    TagOn,
    clock,
)

EIGHTHS = " ▏▎▍▌▋▊▉█"
REFRESH_SECONDS = 0.1


def bar(value: float, width: int) -> str:
    """A bar of `width` characters for a value in [0, 1], in eighths of a character."""
    filled, rest = divmod(round(min(max(value, 0.0), 1.0) * width * 8), 8)
    return ("█" * filled + EIGHTHS[rest] * (rest > 0)).ljust(width)


def event_line(message: Message | MissedMessages) -> Text:
    """One event in colour."""
    if isinstance(message, MissedMessages):
        return Text(str(message), style="bold red")
    head = f"{clock(message.t):>9}  {message.stream:<12.12}  "
    if isinstance(message, TagOn):
        return Text(f"{head}▶ ").append(message.details(), "bold green")
    if isinstance(message, TagOff):
        return Text(f"{head}■ ").append(message.details(), "dim")
    style = "red" if isinstance(message, Gap | StreamDown) else "cyan"
    return Text(f"{head}· ").append(f"{message.type} {message.details()}", style)


@dataclass
class _StreamRow:
    """What is known of one stream."""

    t: float = 0.0
    up: bool = True
    provisional: bool = False
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    """(tagger, tag) -> newest smoothed probability."""
    on: dict[tuple[str, str], float] = field(default_factory=dict)
    """(tagger, tag) -> since when."""


class TerminalBoard:
    """The state of all streams as the feed tells it, and its picture.

    Args:
        top: tags shown per stream.
        recent: events shown below.
    """

    def __init__(self, top: int = 8, recent: int = 10) -> None:
        self._top = top
        self._lanes: dict[str, _StreamRow] = {}
        self._recent: deque[Message | MissedMessages] = deque(maxlen=recent)

    def take(self, message: Message | MissedMessages) -> None:
        """Learns from one message."""
        if not isinstance(message, Scores | Stats):
            self._recent.append(message)
        if isinstance(message, MissedMessages):
            if message.topic.startswith("event/"):  # what is in force there follows
                self._lanes.pop(message.topic.split("/")[1], None)
            return
        if not message.stream:
            return
        lane = self._lanes.setdefault(message.stream, _StreamRow())
        if isinstance(message, StreamUp):
            lane = self._lanes[message.stream] = _StreamRow()
        lane.t = max(lane.t, message.t)
        match message:
            case Scores():
                names = ((message.tagger, tag) for tag in message.tags)
                lane.values |= dict(zip(names, message.smoothed, strict=True))
                lane.provisional = message.provisional
            case TagOn():
                lane.on[message.tagger, message.tag] = message.t
                lane.values.setdefault((message.tagger, message.tag), message.probability)
            case TagOff():
                lane.on.pop((message.tagger, message.tag), None)
            case StreamDown():
                lane.up = False

    def render(self, waiting_for: str = "") -> RenderableType:
        """The board as it stands; `waiting_for` is shown while nothing has come."""
        if not self._lanes and not self._recent:
            return Text(f"Waiting for {waiting_for} … (Ctrl-C ends)", style="dim")
        parts: list[RenderableType] = [
            self._panel(name, lane) for name, lane in sorted(self._lanes.items())
        ]
        if self._recent:
            lines = Text("\n").join(event_line(message) for message in self._recent)
            parts.append(Panel(lines, title="events", title_align="left", border_style="dim"))
        return Group(*parts)

    def _panel(self, name: str, lane: _StreamRow) -> Panel:
        several = len({tagger for tagger, _ in lane.values}) > 1
        # What is on comes first, then what is likely.
        order = sorted(lane.values, key=lambda key: (key not in lane.on, -lane.values[key]))
        table = Table.grid(padding=(0, 1))
        for key in order[: self._top]:
            tagger, tag = key
            since = lane.on.get(key)
            style = "dim" if since is None else "bold green"
            label = f"{tagger}: {tag}" if several else tag
            table.add_row(
                Text("●" if since is not None else " ", style),
                Text(label, style),
                Text(bar(lane.values[key], 30), style),
                Text(f"{lane.values[key]:.2f}", style),
                Text("" if since is None else f"since {clock(since)}", "dim"),
            )
        state = "" if lane.up else "  (ended)"
        warming = "  (first window not full yet)" if lane.provisional and lane.up else ""
        title = f"[b]{name}[/b]  {clock(lane.t)}{state}{warming}"
        return Panel(table, title=title, title_align="left", border_style="" if lane.up else "dim")


def watch(feed: Subscriber, console: Console, *, top: int = 8) -> None:
    """Shows a feed until Ctrl-C: a live board on a terminal, else one line per event."""
    if not console.is_terminal:
        for message in feed:
            if not isinstance(message, Scores):
                console.out(str(message), highlight=False)
        return
    board = TerminalBoard(top)
    with Live(board.render(feed.address), console=console, auto_refresh=False) as live:
        while True:
            for message in _arrived(feed.receive, REFRESH_SECONDS):
                board.take(message)
            live.update(board.render(feed.address), refresh=True)


def _arrived(
    receive: Callable[[float], Message | MissedMessages | None], seconds: float
) -> Iterable[Message | MissedMessages]:
    """What arrives within so many seconds."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if (message := receive(left)) is not None:
            yield message
