"""`streamtag demo`: the real daemon in another process, a piece of music, and what comes out."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from streamtag.cli.watch import bar
from streamtag.errors import StreamtagError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Message, Scores, StreamDown, TagOff, TagOn, clock
from streamtag.feed.publisher import READY
from streamtag.history.taggram import TagSpan
from streamtag.model.assets import default_bundle, demo_piece, demo_timeline

STREAM = "demo"
WIDTH = 60
"""Characters of the time line."""
FAREWELL = """\
Your turn:
  a file     streamtag demo song.mp3
             streamtag tag song.mp3 --plot
  a device   streamtag run mic.toml        where mic.toml says
                 streams.mic.source = "device:"
  a stream   streamtag run radio.toml      where radio.toml says
                 streams.radio.source = "https://…"
  watch it   streamtag watch               in another terminal
"""


class _Daemon:
    """A daemon in a process of its own, and what it says on standard error."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "streamtag", "run", str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.address = ""
        self.words: list[str] = []
        self._heard = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait_until_ready(self) -> None:
        """Returns when it publishes.

        Raises:
            StreamtagError: it ended instead.
        """
        self._heard.wait()
        if not self.address:
            raise self.failure()

    def failure(self) -> StreamtagError:
        """Why it ended, in its own words."""
        self._listener.join()
        return StreamtagError("the daemon ended:\n" + "\n".join(self.words[-10:]))

    def end(self) -> None:
        """Ends it, gently first."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.wait()
        self._listener.join()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.words.append(line.rstrip())
                if READY in line:
                    self.address = line.rpartition(READY)[2].strip()
                    self._heard.set()
        self._heard.set()


def run_demo(console: Console, file: Path | None, model: Path | None, *, pace: bool) -> int:
    """Plays a file through a daemon and shows what it says; returns the exit code.

    Raises:
        StreamtagError: the file or the model cannot be used, or the daemon fails.
    """
    piece, bundle = file or demo_piece(), model or default_bundle()
    console.print(f"Starting the daemon: [b]{bundle.name}[/b] listens to [b]{piece.name}[/b] …")
    with _running(_config(piece, bundle, pace=pace)) as daemon:
        with Subscriber(daemon.address, scores=True) as feed:
            begun = time.monotonic()
            messages = list(_shown(console, _until_down(feed, daemon)))
        took = time.monotonic() - begun
    last = messages[-1]
    if isinstance(last, StreamDown) and last.reason != "stream_closed":
        raise StreamtagError(last.detail or f"{piece}: {last.reason}")
    console.print(
        f"\nThat was {last.t:.0f} s of music in {took:.1f} s: decoded, tagged and switched in "
        "one process,\npublished over ZeroMQ, and received in this one.\n"
    )
    console.print(summary(messages, _truth() if file is None else NOTHING))
    console.print(FAREWELL, markup=False, highlight=False, soft_wrap=True)
    return 0


@contextmanager
def _running(config: str) -> Iterator[_Daemon]:
    """A daemon that is ready, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="streamtag-") as folder:
        path = Path(folder) / "demo.toml"
        path.write_text(config)
        daemon = _Daemon(path)
        try:
            daemon.wait_until_ready()
            yield daemon
        finally:
            daemon.end()


def _config(piece: Path, bundle: Path, *, pace: bool) -> str:
    """The daemon's configuration; JSON strings are TOML strings too."""
    return (
        'feed.bind = "tcp://127.0.0.1:0"\n'
        "feed.wait_for_subscriber_seconds = 30\n"
        f"taggers.default.bundle = {json.dumps(str(bundle.resolve()))}\n"
        f"streams.{STREAM}.source = {json.dumps(f'file:{piece.resolve()}')}\n"
        f"streams.{STREAM}.pace = {json.dumps(pace)}\n"
    )


def _until_down(feed: Subscriber, daemon: _Daemon) -> Iterator[Message]:
    """The messages of the stream, its end included."""
    while True:
        message = feed.receive(0.5)
        if message is None and daemon.process.poll() is not None:
            raise daemon.failure()
        if isinstance(message, Message):
            yield message
            if isinstance(message, StreamDown):
                return


def _shown(console: Console, messages: Iterator[Message]) -> Iterator[Message]:
    """The same messages; the events among them are printed on the way."""
    for message in messages:
        if isinstance(message, TagOn):
            line = Text(f"{clock(message.decided):>8}  ▶ ").append(
                f"{message.tag:<16} {bar(message.probability, 20)} {message.probability:.2f}",
                "bold green",
            )
            console.print(line.append(f"  since {clock(message.t)}", "dim"))
        elif isinstance(message, TagOff):
            line = Text(f"{clock(message.decided):>8}  ■ ").append(f"{message.tag:<16}", "dim")
            length = f"{message.t - message.since:.1f} s, peak {message.peak:.2f}"
            console.print(line.append(f" {length}", "dim"))
        elif not isinstance(message, Scores):
            console.print(Text(f"{clock(message.t):>8}  · {message.type} {message.details()}"))
        yield message


@dataclass(frozen=True, slots=True)
class _Row:
    """One tag of the time line."""

    tag: str
    heard: list[TagSpan]
    true: list[TagSpan]


@dataclass(frozen=True, slots=True)
class Truth:
    """What really plays in a piece."""

    spans: tuple[TagSpan, ...]
    known: frozenset[str]
    """Tags of which `spans` says everything; of others nobody knows."""


NOTHING = Truth((), frozenset())


def _truth() -> Truth:
    """Of the demo piece, if that is known."""
    path = demo_timeline()
    if path is None:
        return NOTHING
    table = json.loads(path.read_text())
    spans = tuple(TagSpan(e["tag"], e["on"], e["off"]) for e in table["tags"])
    return Truth(spans, frozenset(table["known"]))


def summary(messages: Sequence[Message], about: Truth) -> Text:
    """Which tags came when, as a picture of characters, beside the truth where it is known."""
    heard = [TagSpan(m.tag, m.since, m.t) for m in messages if isinstance(m, TagOff)]
    known = {tag for m in messages if isinstance(m, Scores) for tag in m.tags}
    truth = [span for span in about.spans if span.tag in known]
    seconds = max(messages[-1].t, 0.1)
    order = dict.fromkeys(s.tag for s in sorted([*truth, *heard], key=lambda s: s.on))
    if not order:
        return Text("No tag reached its threshold.\n")
    width = max(map(len, order))
    text = Text("Which tags came when:\n\n")
    for tag in order:
        row = _Row(tag, [s for s in heard if s.tag == tag], [s for s in truth if s.tag == tag])
        text.append(f"  {tag:>{width}} ", "bold").append(_line(row, seconds, tag in about.known))
        text.append("\n")
    text.append(f"  {'':>{width}} 0:00{clock(seconds):>{WIDTH - 4}}\n\n", "dim")
    if truth:
        text.append(f"  {'':>{width}} ").append("█ heard and true  ", "green")
        text.append("░ true, not heard  ", "yellow").append("▒ heard, not true", "red")
        judged = [span for span in heard if span.tag in about.known]
        text.append(f"\n  {'':>{width}} {_agreement(judged, truth)}\n")
        if len(judged) < len(heard):
            text.append(f"  {'':>{width}} Of the other tags nobody has written down the truth.\n")
    return text


def _line(row: _Row, seconds: float, judged: bool) -> Text:
    """A tag's time line: one character per `seconds / WIDTH`."""
    marks = {
        (True, True): ("█", "green"),
        (True, False): ("▒", "red") if judged else ("█", "green"),
        (False, True): ("░", "yellow"),
        (False, False): ("·", "dim"),
    }
    text = Text()
    for i in range(WIDTH):
        at = (i + 0.5) * seconds / WIDTH
        text.append(*marks[_on(row.heard, at), _on(row.true, at)])
    return text


def _on(spans: Sequence[TagSpan], at: float) -> bool:
    return any(span.on <= at < span.off for span in spans)


def _agreement(heard: Sequence[TagSpan], truth: Sequence[TagSpan]) -> str:
    """How well it was heard, in seconds of tags."""
    both = sum(
        max(0.0, min(a.off, b.off) - max(a.on, b.on))
        for a in heard
        for b in truth
        if a.tag == b.tag
    )
    of_truth = both / sum(s.off - s.on for s in truth)
    of_heard = both / max(sum(s.off - s.on for s in heard), 1e-9)
    return f"{of_truth:.0%} of what plays was heard; {of_heard:.0%} of what was heard plays."
