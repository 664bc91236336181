"""Tokens that show only some streams: what is not for them is in no answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.web_server import Feed, Server, serving, wait_for
from websockets.sync.client import connect

from streamtag.config.bridges import WebConfig, WebTokenConfig
from streamtag.config.config import parse_config
from streamtag.engine import events
from streamtag.errors import ConfigError
from streamtag.feed.rights import EVERYTHING

TABLE = """
token = "all"
[web.tokens.guest]
token = "some"
streams = ["own*"]
[web.tokens.quiet]
token = "less"
streams = ["own1"]
topics = ["event"]
"""
DAY_NS = 86_400 * 10**9
EVERY = "from=2026-11-21T09:00:00Z&to=2026-11-22T09:00:00Z"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feed]:
    feed = Feed(tmp_path_factory.mktemp("web") / "j.db", keeps=("event/", "scores/", "mood/"))
    for name in ("own1", "own2", "secret"):
        feed.up(name)
        feed.publish(events.TitleChanged(name, 0, f"title of {name}"))
        feed.on(name, "calm", 1)
    yield feed
    feed.close()


@pytest.fixture(scope="module")
def server(feed: Feed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), feed, feed.journal, TABLE) as server:
        wait_for(lambda: len(get(server, "/api/state", "all").json()["streams"]) == 3)
        for name in ("own1", "own2", "secret"):
            feed.scores(name, 2, 0.9, 0.1)
        wait_for(lambda: get(server, "/api/state", "all").json()["streams"]["secret"]["scores"])
        yield server


def get(server: Server, path: str, token: str) -> httpx.Response:
    return server.get(path, headers={"Authorization": f"Bearer {token}"})


PATHS = [
    "/api/state",
    "/api/overview",
    "/api/clips?stream=STREAM",
    f"/api/history?{EVERY}",
    f"/api/timeline?stream=STREAM&{EVERY}",
    f"/api/curve?stream=STREAM&tagger=m&tag=calm&{EVERY}",
    "/api/mood?stream=STREAM",
    "/api/tags?stream=STREAM",
    "/api/streams/STREAM",
    f"/part/span?stream=STREAM&tagger=m&tag=calm&{EVERY}",
    f"/part/timeline?stream=STREAM&{EVERY}",
    "/part/clips?stream=STREAM",
    "/clip/STREAM-1",
    "/report/STREAM?day=2026-11-21",
    f"/api/history?stream=STREAM&{EVERY}",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_answer_names_other_streams(server: Server, path: str) -> None:
    hidden, own = path.replace("STREAM", "secret"), path.replace("STREAM", "own1")
    none = path.replace("STREAM", "nosuch")
    assert get(server, own, "some").status_code == get(server, own, "all").status_code
    answer, unknown = get(server, hidden, "some"), get(server, none, "some")
    assert answer.status_code == unknown.status_code
    assert "title of secret" not in answer.text
    if hidden != path:
        assert answer.text.replace("secret", "") == unknown.text.replace("nosuch", "")
    else:
        assert "secret" not in answer.text
        assert "own2" in answer.text
        assert "secret" in get(server, path, "all").text


def test_live_events_are_limited(server: Server, feed: Feed) -> None:
    address = f"ws://{server.address}"
    with connect(f"{address}/ws?token=some&type=title&type=scores") as socket:
        assert set(json.loads(socket.recv(30))["streams"]) == {"own1", "own2"}
        for i in range(5):
            for name in ("secret", "own1"):
                feed.publish(events.TitleChanged(name, 1000 * i, f"{name} {i}"))
                feed.scores(name, 3 + i, 0.5, 0.5)
        streams: list[str] = []
        while streams.count("own1") < 10:
            streams.append(json.loads(socket.recv(30))["stream"])
    assert set(streams) <= {"own1", "own2"}  # the last of what came before may be of own2
    with connect(f"{address}/ws?token=less&type=title&type=scores") as socket:
        state = json.loads(socket.recv(30))["streams"]
        assert set(state) == {"own1"}
        assert state["own1"]["scores"] == {}
        feed.scores("own1", 20, 0.5, 0.5)
        feed.publish(events.TitleChanged("own1", 9000, "last"))
        assert json.loads(socket.recv(30))["title"] == "last"


def test_score_packets_are_limited(server: Server) -> None:
    address = f"ws://{server.address}/ws/scores"
    with connect(f"{address}?token=some&stream=own1") as socket:
        assert json.loads(socket.recv(30))["type"] == "tags"
    for token, stream in (("some", "secret"), ("less", "own1")):
        hidden = connect(f"{address}?token={token}&stream={stream}")
        with hidden as socket, pytest.raises(TimeoutError):
            socket.recv(0.3)


def test_refusals_are_logged_with_token_and_address(server: Server) -> None:
    get(server, "/api/mood?stream=secret", "some")
    wait_for(
        lambda: any(
            "web: refused token guest at 127.0.0.1: mood of stream 'secret'" in line
            for line in server.log
        )
    )


def test_a_session_keeps_the_rights_of_its_token(server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False, verify=False, timeout=30) as client:
        body = {"token": "some", "name": "Ana"}
        signed = client.post("/api/session", json=body, headers={"Streamtag-Request": "1"})
        assert signed.json()["role"] == "reader"
        assert set(client.get("/api/state").json()["streams"]) == {"own1", "own2"}
    assert server.get("/api/state").status_code == 401
    assert get(server, "/api/state", "other").status_code == 401


def test_tables_are_checked(tmp_path: Path) -> None:
    def parse(**web: object) -> WebConfig | None:
        table = {"streams": {}, "exit_when_done": False, "web": web}
        return parse_config(table, tmp_path).web

    web = parse(bind="0.0.0.0:80", tokens={"a": {"token": "x", "streams": ["*"]}})
    assert web is not None
    assert web.tokens["a"].rights == EVERYTHING
    with pytest.raises(ConfigError, match=r"expected one of token, token_file, token_env"):
        parse(tokens={"a": {"streams": ["*"]}})
    missing = WebTokenConfig(streams=("*",), token_file="/nowhere/token")
    assert missing.missing_files("web.tokens.a")
