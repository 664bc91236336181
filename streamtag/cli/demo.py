"""The command `streamtag demo`: plays a piece through a daemon and shows the events."""

import json
import re
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from streamtag.cli.watch import bar
from streamtag.config.bridge_kinds import KINDS
from streamtag.errors import StreamtagError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Message, Scores, StreamDown, TagOff, TagOn, clock
from streamtag.feed.publisher import READY
from streamtag.history.taggram import TagSpan
from streamtag.model.shipped import default_bundle, demo_piece, demo_timeline

STREAM = "demo"
"""Name of the stream."""
WIDTH = 60
"""Length of a time line in characters."""
LOOK_SECONDS = 0.05
"""How often the log of the daemon is read until it is ready."""
WEB = next(kind for kind in KINDS if kind.name == "web")
WEB_READY = "web: listening on http://"
"""Start of the log line with the address of the web pages."""
NEXT_STEPS = """\
What to try next:
  a file     streamtag demo song.mp3
             streamtag tag song.mp3 --plot
  a device   streamtag run mic.toml        with this in mic.toml:
                 streams.mic.source = "device:"
  a stream   streamtag run radio.toml      with this in radio.toml:
                 streams.radio.source = "https://…"
  watch it   streamtag watch               in another terminal
  a wall     streamtag demo --web          the mood of the room, in a browser
"""


class _Daemon:
    """A daemon in a process of its own, which logs to a file beside its configuration."""

    def __init__(self, config: Path) -> None:
        self.log = config.with_suffix(".log")
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "streamtag", "run", str(config)]
            self.process = subprocess.Popen(command, stderr=log)

    def wait_for_address(self, ready: str = READY) -> str:
        """Waits until it publishes; returns where. `ready` stands before the address in its log.

        Raises:
            StreamtagError: it has ended.
        """
        while (found := re.search(f"{ready}(\\S+)\\n", self.log.read_text())) is None:
            if self.process.poll() is not None:
                raise self.failure()
            time.sleep(LOOK_SECONDS)
        return found[1]

    def failure(self) -> StreamtagError:
        """Why it has ended: the last lines of its log."""
        lines = self.log.read_text().splitlines()
        return StreamtagError("the daemon ended:\n" + "\n".join(lines[-10:]))

    def stop(self) -> None:
        """Ends it with SIGTERM, and kills it if that is not enough."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_demo(
    console: Console, file: Path | None, model: Path | None, *, pace: bool, web: bool = False
) -> int:
    """Plays a file through a daemon and shows its events; returns the exit code.

    With `web` it then plays on in real time, in a terminal, and opens wall and desk.

    Raises:
        StreamtagError: the file or the model cannot be used, or the daemon fails.
    """
    piece, bundle = file or demo_piece(), model or default_bundle()
    console.print(f"Starting the daemon: [b]{bundle.name}[/b] tags [b]{piece.name}[/b] …")
    with _running(_config(piece, bundle, pace=pace)) as daemon:
        with Subscriber(daemon.wait_for_address(), scores=True) as feed:
            begun = time.monotonic()
            messages = list(_print_events(console, _until_down(feed, daemon)))
        elapsed = time.monotonic() - begun
    last = messages[-1]
    if isinstance(last, StreamDown) and last.reason != "stream_closed":
        raise StreamtagError(last.detail or f"{piece}: {last.reason}")
    console.print(
        f"\nThat was {last.t:.0f} s of music in {elapsed:.1f} s: decoded and tagged in one "
        "process,\npublished over ZeroMQ, and received in this one.\n"
    )
    console.print(summary(messages, _demo_truth() if file is None else NOTHING))
    console.print(NEXT_STEPS, markup=False, highlight=False, soft_wrap=True)
    if web:
        _show_wall(console, piece, bundle)
    return 0


def _show_wall(console: Console, piece: Path, bundle: Path) -> None:
    """Plays the piece again and again beside the web pages until Ctrl-C.

    Raises:
        StreamtagError: the libraries are missing, or the daemon fails.
    """
    if fault := WEB.missing():
        raise StreamtagError(fault)
    if not console.is_terminal:
        console.print("In a terminal, `streamtag demo --web` now plays it beside the wall.")
        return
    config = _config(piece, bundle, pace=True).replace("seconds = 30", "seconds = 0")
    with _running(f'{config}streams.{STREAM}.loop = true\nweb.bind = "127.0.0.1:0"\n') as daemon:
        address = f"http://{daemon.wait_for_address(WEB_READY)}"
        pages = {"wall": f"{address}/wall", "desk": f"{address}/"}
        with suppress(KeyboardInterrupt):
            console.print(f"{piece.name} now plays in real time, without sound. Ctrl-C ends it.\n")
            for name, url in pages.items():
                console.print(f"  {name:8} [b]{url}[/b]", highlight=False, soft_wrap=True)
            for url in pages.values():
                webbrowser.open(url)
            if daemon.process.wait():
                raise daemon.failure()


@contextmanager
def _running(config: str) -> Iterator[_Daemon]:
    """A daemon; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="streamtag-") as folder:
        path = Path(folder) / "demo.toml"
        path.write_text(config)
        daemon = _Daemon(path)
        try:
            yield daemon
        finally:
            daemon.stop()


def _config(piece: Path, bundle: Path, *, pace: bool) -> str:
    """The daemon's configuration. A JSON string is a TOML string, too."""
    return (
        'feed.bind = "tcp://127.0.0.1:0"\n'
        "feed.wait_for_subscriber_seconds = 30\n"
        f"taggers.default.bundle = {json.dumps(str(bundle.resolve()))}\n"
        f"streams.{STREAM}.source = {json.dumps(f'file:{piece.resolve()}')}\n"
        f"streams.{STREAM}.pace = {json.dumps(pace)}\n"
    )


def _until_down(feed: Subscriber, daemon: _Daemon) -> Iterator[Message]:
    """The messages of the stream up to its end."""
    while True:
        message = feed.receive(0.5)
        if message is None and daemon.process.poll() is not None:
            raise daemon.failure()
        if isinstance(message, Message):
            yield message
            if isinstance(message, StreamDown):
                return


def _print_events(console: Console, messages: Iterator[Message]) -> Iterator[Message]:
    """Passes the messages on and prints the events among them."""
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
class Truth:
    """What plays in a piece according to its score."""

    spans: tuple[TagSpan, ...]
    known: frozenset[str]
    """Tags about which `spans` is complete; nothing is known about others."""


NOTHING = Truth((), frozenset())
"""The truth about a piece of which nothing is known."""


def _demo_truth() -> Truth:
    """What plays in the demo piece, if its time line is installed."""
    path = demo_timeline()
    if path is None:
        return NOTHING
    table = json.loads(path.read_text())
    spans = tuple(TagSpan(e["tag"], e["on"], e["off"]) for e in table["tags"])
    return Truth(spans, frozenset(table["known"]))


def summary(messages: Sequence[Message], about: Truth) -> Text:
    """When each tag was on, as a picture of characters, compared with the truth if it is known."""
    detected = [TagSpan(m.tag, m.since, m.t) for m in messages if isinstance(m, TagOff)]
    known = {tag for m in messages if isinstance(m, Scores) for tag in m.tags}
    truth = [span for span in about.spans if span.tag in known]
    seconds = max(messages[-1].t, 0.1)
    order = dict.fromkeys(s.tag for s in sorted([*truth, *detected], key=lambda s: s.on))
    if not order:
        return Text("No tag reached its threshold.\n")
    width = max(map(len, order))
    text = Text("When each tag was on:\n\n")
    for tag in order:
        line = _line(tag, detected, truth, seconds, judged=tag in about.known)
        text.append(f"  {tag:>{width}} ", "bold").append(line).append("\n")
    text.append(f"  {'':>{width}} 0:00{clock(seconds):>{WIDTH - 4}}\n\n", "dim")
    if truth:
        text.append("  █ detected and true  ", "green").append("░ true, not detected  ", "yellow")
        text.append("▒ detected, not true\n", "red")
        judged = [span for span in detected if span.tag in about.known]
        text.append(f"  {_agreement(judged, truth)}\n")
        if len(judged) < len(detected):
            text.append("  The truth about the other tags is not known.\n")
    return text


def _line(
    tag: str,
    detected: Sequence[TagSpan],
    true: Sequence[TagSpan],
    seconds: float,
    *,
    judged: bool,
) -> Text:
    """A tag's time line: one character per `seconds / WIDTH`."""

    def is_on(spans: Sequence[TagSpan], at: float) -> bool:
        return any(span.tag == tag and span.on <= at < span.off for span in spans)

    marks = {
        (True, True): ("█", "green"),
        (True, False): ("▒", "red") if judged else ("█", "green"),
        (False, True): ("░", "yellow"),
        (False, False): ("·", "dim"),
    }
    text = Text()
    for i in range(WIDTH):
        at = (i + 0.5) * seconds / WIDTH
        text.append(*marks[is_on(detected, at), is_on(true, at)])
    return text


def _agreement(detected: Sequence[TagSpan], truth: Sequence[TagSpan]) -> str:
    """How well the tags were detected, in seconds."""
    both = sum(
        max(0.0, min(a.off, b.off) - max(a.on, b.on))
        for a in detected
        for b in truth
        if a.tag == b.tag
    )
    of_truth = both / sum(s.off - s.on for s in truth)
    of_detected = both / max(sum(s.off - s.on for s in detected), 1e-9)
    return (
        f"{of_truth:.0%} of what plays was detected; {of_detected:.0%} of what was detected plays."
    )
