"""Every parser of the daemon and the client, with valid inputs and what must hold of any input."""

import io
import json
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import zmq
from feed.test_event_encoder import GOLDEN

from streamtag.config.config import parse_config
from streamtag.config.fields import merge
from streamtag.daemon.check import complaints_about
from streamtag.daemon.control import SetCommand, parse_request, reply
from streamtag.engine.engine import Engine
from streamtag.engine.events import StreamClosed, WindowScored
from streamtag.errors import ConfigError, FeedError
from streamtag.feed import messages
from streamtag.feed.client.tracker import FeedTracker, read_answer
from streamtag.feed.codec import encode
from streamtag.feed.journal.journal import Journal
from streamtag.feed.replay import ReplayServer
from streamtag.model.bundle import golden_window, read_card
from streamtag.model.card import Golden
from streamtag.sources.ffmpeg import MAX_TITLE, FfmpegLog
from streamtag.sources.pcm import PcmFormat, PcmSource
from streamtag.sources.playlist import entries
from support.malformed import Parser, as_json, as_toml
from support.toy import card, tagger

TABLE = tomllib.loads("""
exit_when_done = true
[feed]
bind = "tcp://127.0.0.1:5757"
scores = true
stats_seconds = 10.0
high_water = 10000
journal = "events.db"
[engine]
device = "cpu"
max_batch = 32
batch_sizes = [1, 8]
[metrics]
bind = "127.0.0.1:9464"
[control]
socket = "c.sock"
[defaults]
pace = true
language = "de"
tuning.deny = ["high"]
[languages.de]
low = "tief"
[taggers.toy]
bundle = "toy.pt"
tuning.smoothing_seconds = 1.5
tuning.on_thresholds = { low = 0.6 }
tuning.tag.low.min_on_seconds = 2
[level]
threshold_dbfs = -60.0
[streams.file]
source = "file:a.wav"
taggers = ["toy"]
[streams.radio]
source = "http://127.0.0.1:8000/a"
rate = 16000
retry_seconds = 1.5
tuning.toy.tags = ["low", "high"]
[streams.raw]
source = "tcp://127.0.0.1:9000"
rate = 44100
channels = 2
format = "s16le"
""")
CARD = card(
    golden=Golden((0.5, 0.5, 0.5)), display={"low": "bass"}, scores={"roc_auc": 0.9}
).to_dict()
COMMANDS = [
    {"command": "add", "name": "a", "stream": {"source": "file:x", "pace": True}, "id": 1},
    {"command": "set", "table": {"taggers": {"toy": {"tuning": {"deny": ["low"]}}}}},
    {"command": "swap", "tagger": "toy", "bundle": "x.pt", "id": "one"},
    {"command": "pause", "name": "a"},
    {"command": "list", "id": 7},
]
STATE = {
    "v": 1, "type": "state", "epoch": "18e9ee7562274622", "replay": "tcp://127.0.0.1:5758",
    "last": {"event/radio1/": ["18e9ee7562274622", 3], "scores/radio1/": ["17e9ee7562274622", 12]},
}  # fmt: skip
ANSWER = {
    "v": 1, "type": "replay", "id": 1, "topic": "event/radio1/", "epoch": "18e9ee7562274622",
    "from": 1, "to": 9, "next": 0, "missed": [[1, 2, "retention"], [4, 4, "not_kept"]],
}  # fmt: skip
REQUEST = {
    "v": 1, "type": "replay", "id": 1, "topic": "event/radio1/", "epoch": "18e9", "from": 1,
    "to": 9,
}  # fmt: skip
STREAM_EVENTS = [body.encode() for _, topic, body in GOLDEN if topic == "event/radio1/"]
PLAYLISTS = [
    b"[playlist]\r\nNumberOfEntries=1\r\nFile1=http://a:8000/;x.mp3\r\nTitle1=x\r\n",
    b"#EXTM3U\n#EXTINF:-1,x\nhttps://a/1\n../b.ogg\n",
    b"<playlist><trackList><track><location>http://a/1?x=1&amp;y</location></track></playlist>",
    b"<ASX><Entry><Ref href = 'http://[::1]:80/1'/></Entry></ASX>",
]
LATER = [b"event/radio1/", as_json(json.loads(GOLDEN[0][2]) | {"epoch": STATE["epoch"], "seq": 9})]
"""A message after a hole."""


def bundled(text: bytes) -> bytes:
    """A bundle, its model left away."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("toy/data.pkl", b"\x80\x02}q\x00." * 20)
        archive.writestr("toy/extra/card.json", text)
    return out.getvalue()


def check(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    if lines := complaints_about(path):
        assert all(line.startswith(str(path)) for line in lines)
        raise ConfigError("\n".join(lines))


def lay_over(data: bytes) -> None:
    """As `ctl set` does it."""
    request = parse_request(data)
    if isinstance(request, SetCommand):
        config = parse_config(TABLE, Path("/"))
        parse_config(merge(config.model_dump(exclude_unset=True), request.table), Path("/"))


def see(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    card = read_card(path)
    if card.window_frames * card.features.frame_hop < 2**20:  # larger ones take their time
        assert golden_window(card).shape == (1, card.window_frames, card.features.width)
    assert card.window_seconds > 0
    assert card.hop_seconds > 0
    json.dumps(card.to_dict(), ensure_ascii=False).encode()


def understand(line: bytes) -> None:
    request = parse_request(line)
    assert reply(request, None).count(b"\n") == 1


def hear(line: bytes) -> None:
    """What ffmpeg says of a station."""
    words = FfmpegLog()
    words.add(
        "[in#0/mp3 @ 0x5] [verbose] Metadata update for StreamTitle: "
        + line.decode(errors="replace")
    )
    words.format = "ogg"
    for start in ("", "[info]     title           : ", "[Parsed_ametadata_1 @ 0x5] [info] artist="):
        words.add(start + line.decode(errors="replace"))
        words.finish_title(0.0)
    assert all(len(text) <= MAX_TITLE for text in (*words.titles, *words.lines))
    assert all(title.isprintable() for title in words.titles)


def choose(data: bytes) -> None:
    """The stations of a playlist."""
    for place in entries(data.decode(errors="replace"), "http://x/list.pls"):
        assert place.isprintable()
        assert urlsplit(place).scheme in ("http", "https")
        assert urlsplit(place).port != 0


def take(data: bytes) -> None:
    message = messages.parse(data)
    assert str(message).isprintable()
    if not isinstance(message, messages.Other):
        assert messages.parse(messages.dump(message)).topic == message.topic


def follow(parts: list[bytes], answer: list[bytes]) -> None:
    """What a subscriber makes of a message, after a sound state."""
    following = FeedTracker(("event/", "scores/"))
    first = [b"hello/00/", as_json(STATE), *STREAM_EVENTS]
    for message in (first, parts):
        work, heard = following.accept(message), None
        try:
            ask = next(work)
            for _ in range(50):
                assert json.loads(ask.body(1))["topic"] == ask.topic
                ask = work.send(read_answer(answer))
            raise AssertionError("it asks without end")
        except StopIteration as done:
            heard = done.value
        assert all(str(h) for h in heard)


class Replay:
    """A server of what was missed, and a client that asks."""

    def __init__(self, folder: Path) -> None:
        self._context = zmq.Context()
        router, self._client = self._context.socket(zmq.ROUTER), self._context.socket(zmq.DEALER)
        router.bind("inproc://replay")
        self._client.connect("inproc://replay")
        self._journal = Journal(folder / "events.db")
        self._server = ReplayServer(router, self._journal.path)

    def ask(self, data: bytes) -> None:
        self._client.send(data)
        head = json.loads(self._client.recv_multipart()[0])
        if head["type"] == "error":
            raise FeedError(head["error"])

    def close(self) -> None:
        self._server.close()
        self._journal.close()
        self._client.close(linger=0)
        self._context.term()


def listen(engine: Engine, path: Path, format: PcmFormat, data: bytes) -> None:
    """Raw samples into the engine."""
    path.write_bytes(data)
    with path.open("rb") as pipe:
        events = engine.open("a", 8000)
        for block in PcmSource(format, 8000, 2, pipe=pipe):
            events += engine.feed("a", block)
    events += engine.close("a")
    assert isinstance(events[-1], StreamClosed)
    assert events[-1].at == len(data) // (2 * format.dtype.itemsize)
    for event in events:
        assert not isinstance(event, WindowScored) or np.isfinite(event.values).all()


@contextmanager
def parsers_in(folder: Path) -> Iterator[dict[str, Parser]]:
    """All of them by name; their files go into a folder."""
    (folder / "toy.pt").write_bytes(bundled(as_json(CARD)))
    (folder / "a.wav").touch()
    engine, replay = Engine({"toy": tagger(folder, name="e")}), Replay(folder)
    raw = partial(listen, engine, folder / "raw")
    tone = np.sin(np.arange(6_000) / 5).astype("<f4")
    yield {
        "configuration": Parser([TABLE], partial(check, folder / "c.toml"), r"c\.toml: ", as_toml),
        "ctl set": Parser(COMMANDS[:2], lay_over, ""),
        "control socket": Parser(COMMANDS, understand, "^request: "),
        "bundle": Parser([bundled(as_json(CARD))], partial(see, folder / "b.pt"), r"b\.pt: "),
        "card": Parser([CARD], lambda d: see(folder / "b.pt", bundled(d)), r"b\.pt: "),
        "title (ICY, Ogg)": Parser([b"Artist - Song  Duration: 00:01:02.5 [in @ 0x1]"], hear, ""),
        "playlist": Parser(PLAYLISTS, choose, ""),
        "message": Parser([json.loads(body) for _, _, body in GOLDEN], take, "^message"),
        "message, MessagePack": Parser(
            [encode(json.loads(body), "msgpack") for _, _, body in GOLDEN],
            take,
            "^message",
        ),
        "state": Parser(
            [STATE], lambda d: follow([b"hello/00/", d, *STREAM_EVENTS], []), "^(feed|message)"
        ),
        "replay answer": Parser(
            [ANSWER], lambda d: follow(LATER, [d, *STREAM_EVENTS]), "^(feed|message)"
        ),
        "replay request": Parser([REQUEST], replay.ask, "^request: "),
        "raw samples, s16le": Parser(
            [(tone * 9999).astype("<i2").tobytes()], partial(raw, PcmFormat.S16LE), ""
        ),
        "raw samples, f32le": Parser([tone.tobytes()], partial(raw, PcmFormat.F32LE), ""),
    }
    replay.close()
