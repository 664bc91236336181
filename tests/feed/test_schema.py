"""The JSON Schema of the feed allows what the daemon sends, and nothing that is spoilt."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema
import numpy as np
import pytest
import zmq
from daemon.test_daemon import SECONDS, configuration, running
from feed.test_event_encoder import GOLDEN, OF_THE_PUBLISHER, START, new_wire
from support.sounds import tone, write_wav
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.feed.messages import TYPES, dump
from streamtag.feed.schema import messages_schema

Validate = Callable[[object], object]
BODIES: dict[str, dict[str, Any]] = {}
for text in (*(text for *_, text in GOLDEN), *(text for _, text in OF_THE_PUBLISHER)):
    BODIES[json.loads(text)["type"]] = json.loads(text)
for message in (new_wire().stats({"x": 1.5}, START), new_wire().notice("cuda is lost", START)):
    BODIES[message.type] = json.loads(dump(message))


@pytest.fixture(scope="module")
def valid() -> Validate:
    return fastjsonschema.compile(messages_schema())  # type: ignore[no-any-return]


def events_of(name: str) -> Validate:
    """The schema of one thing alone."""
    schema = messages_schema()
    return fastjsonschema.compile(schema["$defs"][name] | {"$defs": schema["$defs"]})  # type: ignore[no-any-return]


def test_every_type_is_allowed(valid: Validate) -> None:
    assert set(BODIES) == set(TYPES)
    for name, body in BODIES.items():
        valid(body)
        valid(body | {"news": [1]})  # readers ignore what they do not know
        events_of(name)(body)


def spoilt(value: object) -> object:
    """Something of another type."""
    return {"a": []} if isinstance(value, str | list) else "x"


@pytest.mark.parametrize("name", sorted(TYPES))
def test_what_is_spoilt_is_refused(valid: Validate, name: str) -> None:
    body = BODIES[name]
    for field, value in body.items():
        without = {key: kept for key, kept in body.items() if key != field}
        for wrong in (without, body | {field: spoilt(value)}, body | {field: None}):
            with pytest.raises(fastjsonschema.JsonSchemaException):
                valid(wrong)
    for field, value in {
        "v": 2,
        "type": "tag_maybe",
        "epoch": "17979CFE362A0000",
        "seq": 0,
        "stream": "a/b",
        "t": "1",
        "utc": "2026-01-01 00:00:00",
        "reason": "because",
        "state": "asleep",
        "probability": 1.5,
        "valence": -2,
        "tags": [1],
        "values": ["x"],
        "counters": {"x": "y"},
        "last": {"event/a/": []},
        "provisional": 0,
    }.items():
        if field in body:
            with pytest.raises(fastjsonschema.JsonSchemaException):
                valid(body | {field: value})


def test_all_that_a_real_daemon_sends(valid: Validate, tmp_path: Path, toy_bundle: Path) -> None:
    """Messages, the state and the answers to requests, read without the library."""
    (tmp_path / "folder").mkdir()
    sound = np.concatenate([tone(1.5, 22050, 200, 0.4), tone(1.5, 22050, 3000, 0.4)])
    write_wav(tmp_path / "folder" / "one.wav", sound, 22050)
    streams = 'a.source = "folder:folder"\na.pace = true\nb.source = "file:none.wav"\n'
    path = configuration(tmp_path, toy_bundle, streams, "beat_seconds = 0.2\nstats_seconds = 0.5")
    path.write_text("exit_when_done = false\n" + path.read_text())
    heard: list[dict[str, Any]] = []
    with (
        zmq.Context() as context,
        running(path) as daemon,
        context.socket(zmq.SUB) as feed,
        context.socket(zmq.REQ) as asks,
    ):
        for socket in (feed, asks):
            socket.linger, socket.rcvtimeo = 0, SECONDS * 1000
        for topic in ("", "hello/test/"):
            feed.subscribe(topic)
        feed.connect(daemon.address)
        while not heard or heard[-1]["type"] != "goodbye":
            topic, first, *rest = feed.recv_multipart()
            if topic == b"hello/test/":
                head = json.loads(first)
                events_of("state")(head)
                heard += map(json.loads, rest)
            else:
                assert not rest
                heard.append(json.loads(first))
            if heard and heard[-1]["type"] == "stream_down" and heard[-1]["stream"] == "a":
                asks.connect(head["replay"])
                request = {"v": 1, "type": "replay", "topic": "event/a/", "from": 1, "to": 99}
                request |= {"epoch": heard[-1]["epoch"], "id": 7}
                events_of("replay_request")(request)
                asks.send_json(request)
                answer, *messages = map(json.loads, asks.recv_multipart())
                events_of("replay_answer")(answer)
                asks.send(b"what?")
                events_of("replay_error")(asks.recv_json())
                daemon.popen.send_signal(signal.SIGTERM)
    for body in [*heard, *messages]:
        valid(body)
    assert [m for m in heard if m in messages] == messages
    assert {m["type"] for m in heard} > {"stream_up", "title", "tag_on", "tag_off", "scores"}
    assert {m["type"] for m in heard} > {"stats", "beat", "goodbye", "stream_down"}


def test_the_command(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["schema", "messages", "-o", str(tmp_path / "s")]).exit_code == 0
    assert json.loads((tmp_path / "s").read_text()) == messages_schema()
