"""A feed shown on a terminal: a live board of all streams, or plain lines in a pipe."""

import time
from collections import deque
from collections.abc import Callable, Iterable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamtag.feed.client.stream_state import StreamState, StreamStates
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
"""A character per eighth of a cell, for bars."""
REFRESH_SECONDS = 0.1
"""Time between two pictures of the board."""


def bar(value: float, width: int) -> str:
    """A bar for a value in [0, 1], in eighths of a character; 1 is `width` characters."""
    filled, rest = divmod(round(min(max(value, 0.0), 1.0) * width * 8), 8)
    return ("█" * filled + EIGHTHS[rest] * (rest > 0)).ljust(width)


def event_line(message: Message | MissedMessages) -> Text:
    """One event as a coloured line."""
    if isinstance(message, MissedMessages):
        return Text(str(message), style="bold red")
    head = f"{clock(message.t):>9}  {message.stream:<12.12}  "
    if isinstance(message, TagOn):
        return Text(f"{head}▶ ").append(message.details(), "bold green")
    if isinstance(message, TagOff):
        return Text(f"{head}■ ").append(message.details(), "dim")
    style = "red" if isinstance(message, Gap | StreamDown) else "cyan"
    return Text(f"{head}· ").append(f"{message.type} {message.details()}", style)


class TerminalBoard:
    """The state of all streams, and its rendering: `top` tags of each, and `recent` events."""

    def __init__(self, top: int = 8, recent: int = 10) -> None:
        self._top = top
        self._states = StreamStates()
        self._times: dict[str, float] = {}  # of the last message of each stream, in seconds
        self._recent: deque[Message | MissedMessages] = deque(maxlen=recent)

    def update(self, message: Message | MissedMessages) -> None:
        """Updates the state from one message."""
        if not isinstance(message, Scores | Stats):
            self._recent.append(message)
        if (stream := self._states.update(message)) and isinstance(message, Message):
            before = 0.0 if isinstance(message, StreamUp) else self._times.get(stream, 0.0)
            self._times[stream] = max(before, message.t)

    def render(self, address: str = "") -> RenderableType:
        """The board; `address` is shown while nothing has been received."""
        if not list(self._states) and not self._recent:
            return Text(f"Waiting for {address} … (Ctrl-C to stop)", style="dim")
        parts: list[RenderableType] = [
            self._panel(name, self._states[name]) for name in sorted(self._states)
        ]
        if self._recent:
            lines = Text("\n").join(event_line(message) for message in self._recent)
            parts.append(Panel(lines, title="events", title_align="left", border_style="dim"))
        return Group(*parts)

    def _panel(self, name: str, state: StreamState) -> Panel:
        on = {(tagger, tag): m for tag, by in state.on.items() for tagger, m in by.items()}
        values = {key: message.probability for key, message in on.items()}
        for tagger, scores in state.scores.items():
            keys = [(tagger, tag) for tag in scores.tags]
            values |= zip(keys, scores.smoothed, strict=True)
        several = len({tagger for tagger, _ in values}) > 1
        # Tags that are on come first, then the likeliest.
        order = sorted(values, key=lambda key: (key not in on, -values[key]))
        table = Table.grid(padding=(0, 1))
        for key in order[: self._top]:
            tagger, tag = key
            since = on[key].t if key in on else None
            style = "dim" if since is None else "bold green"
            label = f"{tagger}: {tag}" if several else tag
            table.add_row(
                Text("●" if since is not None else " ", style),
                Text(label, style),
                Text(bar(values[key], 30), style),
                Text(f"{values[key]:.2f}", style),
                Text("" if since is None else f"since {clock(since)}", "dim"),
            )
        ended = state.status == "down"
        provisional = any(scores.provisional for scores in state.scores.values())
        note = "  (ended)" if ended else "  (first window not full yet)" if provisional else ""
        title = f"[b]{name}[/b]  {clock(self._times.get(name, 0.0))}{note}"
        return Panel(table, title=title, title_align="left", border_style="dim" if ended else "")


def show(feed: Subscriber, console: Console, *, top: int = 8) -> None:
    """Shows a feed until Ctrl-C: a live board on a terminal, else one line per event."""
    if not console.is_terminal:
        for message in feed:
            if not isinstance(message, Scores):
                console.out(str(message), highlight=False)
        return
    board = TerminalBoard(top)
    with Live(board.render(feed.address), console=console, auto_refresh=False) as live:
        while True:
            for message in _received_within(REFRESH_SECONDS, feed.receive):
                board.update(message)
            live.update(board.render(feed.address), refresh=True)


def _received_within(
    seconds: float, receive: Callable[[float], Message | MissedMessages | None]
) -> Iterable[Message | MissedMessages]:
    """The messages received within some seconds from now."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if (message := receive(left)) is not None:
            yield message
