"""The web server: state, history, access, and wrong requests."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from pydantic import ValidationError
from support.web_server import EventSource, Feed, Server, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from streamtag.bridges.web.hub import MoodTrail
from streamtag.bridges.web.pages import Pages
from streamtag.config.bridges import WebConfig
from streamtag.config.config import load_config
from streamtag.daemon.check import complaints_about
from streamtag.engine import events
from streamtag.errors import ConfigError
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.messages import Mood


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def feed(folder: Path) -> Iterator[Feed]:
    """`radio` is up with `calm` on since 10:00:05; `loud` was on from 10:00:10 to 10:00:20."""
    feed = Feed(folder / "j.db")
    feed.up("radio")
    feed.on("radio", "calm", 5)
    feed.on("radio", "loud", 10)
    feed.off("radio", "loud", 10, 20)
    feed.up("other")
    feed.on("other", "calm", 30)
    feed.off("other", "calm", 30, 40)
    feed.scores("radio", 41, 0.5, 0.25)
    yield feed
    feed.close()


@pytest.fixture(scope="module")
def server(folder: Path, feed: Feed) -> Iterator[Server]:
    with serving(folder, feed, folder / "j.db") as server:
        yield server


def test_the_state_has_active_tags_and_last_scores(server: Server) -> None:
    state = server.state_with(lambda state: state["streams"]["radio"]["scores"])
    assert list(state["streams"]) == ["other", "radio"]
    radio = state["streams"]["radio"]
    (tag,) = radio["tags"]
    assert (tag["tag"], tag["since"], tag["probability"]) == (
        "calm",
        "2026-11-21T10:00:05.000000Z",
        0.75,
    )
    assert radio["status"] == "up"
    assert radio["scores"]["m"]["tags"] == {"calm": 0.5, "loud": 0.25}
    assert state["streams"]["other"]["tags"] == []
    one = server.get("/api/streams/radio").json()
    assert one == {"stream": "radio", **radio}
    missing = server.get("/api/streams/nobody")
    assert missing.status_code == 404
    assert missing.json()["error"] == {
        "parameter": "stream",
        "expected": "one of the streams other, radio",
        "got": "nobody",
    }


def test_history_filters_by_stream_tag_type_and_time(server: Server) -> None:
    def search(**wanted: object) -> list[tuple[str, str, str]]:
        got = server.get("/api/history", params=wanted).json()
        assert got["next"] is None
        return [(m["stream"], m["type"], m.get("tag", "")) for m in got["events"]]

    assert len(search()) == 7
    assert search(tag="loud") == [("radio", "tag_on", "loud"), ("radio", "tag_off", "loud")]
    assert search(stream="other", type="tag_off") == [("other", "tag_off", "calm")]
    assert search(type=["stream_up", "tag_off"], stream=["radio", "other"]) == [
        ("radio", "stream_up", ""),
        ("radio", "tag_off", "loud"),
        ("other", "stream_up", ""),
        ("other", "tag_off", "calm"),
    ]
    between = {"from": "2026-11-21T10:00:10", "to": "2026-11-21T10:00:30Z"}  # half open
    assert search(**between) == [("radio", "tag_on", "loud"), ("radio", "tag_off", "loud")]
    assert search(stream="nobody") == []


def test_history_has_pages(server: Server) -> None:
    all_at_once = server.get("/api/history").json()["events"]
    pieces, after = [], {}
    while True:
        page = server.get("/api/history", params={"limit": 3, **after}).json()
        pieces.append(page["events"])
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    assert [event for piece in pieces for event in piece] == all_at_once
    assert page["damaged"] == 0
    assert "missed" not in page


@pytest.mark.parametrize(
    ("query", "parameter", "expected"),
    [
        ("limit=0", "limit", "a number from 1 to 1000"),
        ("limit=x", "limit", "a number from 1 to 1000"),
        ("limit=3&limit=4", "limit", "one value"),
        ("limit=٣", "limit", "a number from 1 to 1000"),
        ("from=yesterday", "from", "a UTC time such as"),
        ("from=-1h&to=-2h", "to", "a moment not before `from`"),
        ("type=tag_in", "type", "one of alert_acknowledged, "),
        ("streams=a", "streams", "one of the parameters stream, tag, type"),
        ("after=7", "after", "an event's id, such as"),
    ],
)
def test_bad_parameters_are_named(
    server: Server, query: str, parameter: str, expected: str
) -> None:
    answer = server.get(f"/api/history?{query}")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error.keys() == {"parameter", "expected", "got"}
    assert error["parameter"] == parameter
    assert error["expected"].startswith(expected)


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/api/state?x=1", "x"),
        ("/events?type=nothing", "type"),
        ("/events?last_event_id=nonsense", "last_event_id"),
        ("/events?limit=3", "limit"),
    ],
)
def test_other_addresses_check_their_parameters(server: Server, path: str, parameter: str) -> None:
    answer = server.get(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["parameter"] == parameter
    header = server.get("/events", headers={"Last-Event-ID": "0-0"})
    assert (header.status_code, header.json()["error"]["got"]) == (400, "0-0")


def test_unknown_paths_and_methods_are_errors(server: Server) -> None:
    assert server.get("/nothing").status_code == 404
    assert "/api/state" in server.get("/nothing").json()["error"]["expected"]
    import httpx

    assert httpx.post(server.url + "/api/state", trust_env=False, verify=False).status_code == 405


def test_a_websocket_is_refused_with_the_error(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{server.address}/ws?type=nothing", proxy=None)
    assert refused.value.response.status_code == 400
    assert b'"parameter":"type"' in refused.value.response.body


@pytest.mark.parametrize("path", ["/", "/wall", "/wall/radio"])
def test_the_pages_load_their_own_files_only(server: Server, path: str) -> None:
    answer = server.get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in answer.text
    assert not re.search(r"<script>|<style|style=|\son\w+=", answer.text)
    files = re.findall(r'(?:src|href)="([^"]*static/[^"]*)"', answer.text)
    assert len(files) == 3
    for file in files:
        got = server.get(urljoin(path, file))
        assert got.status_code == 200
        assert got.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert server.get("/healthz").json() == {"status": "ok", "daemon": "up"}


def test_files_of_another_version_or_folder_are_not_served(server: Server) -> None:
    version = Pages(WebConfig()).version
    assert server.get(f"/static/{version}/languages/de.json").json()["ui"]["silence"] == "Stille"
    assert server.get(f"/static/{'0' * len(version)}/wall.js").status_code == 404
    for path in ("%2e%2e/app.py", "..%2fapp.py", "languages", ""):
        assert server.get(f"/static/{version}/{path}").status_code == 404


def test_what_is_known_of_tags_and_moods(server: Server, feed: Feed) -> None:
    tags = server.get("/api/tags?stream=unknown").json()["tags"]  # those of the default model
    assert tags["piano"]["category"] == "instrument"
    assert 0 < tags["piano"]["threshold"] < 1
    assert tags["energetic"]["position"] == [0.4, 0.9]
    assert tags["choir"]["position"] is None
    assert tags["calm"]["position"] == [0.4, -0.8]
    assert server.get("/api/tags?stream=radio").json()["tags"] == {}  # tagger m is not configured
    for k in range(8):
        feed.publish(events.MoodUpdated("radio", "m", (60 + k) * 1000, 0.5, -k / 8, 0.5))
    server.state_with(
        lambda state: (state["streams"]["radio"]["mood"] or {}).get("arousal") == -0.875
    )
    found = server.get("/api/mood?stream=radio").json()
    assert found["moods"] == [0.5, 0.0, 0.5, -0.25, 0.5, -0.5, 0.5, -0.75]
    assert found["seconds"] == 2
    assert server.get("/api/mood?stream=nobody").json()["moods"] == []


def test_the_state_is_of_what_was_asked_for(server: Server) -> None:
    with EventSource(server, "?stream=radio&type=tag_on") as source:
        state = source.until("state")
    assert list(state["streams"]) == ["radio"]
    assert state["streams"]["radio"]["scores"] == {}
    last = state["streams"]["radio"]["last"]
    assert (last["type"], last["what"]) == ("tag_off", "loud")


def test_the_past_of_streams(server: Server) -> None:
    hours = server.get("/api/overview").json()["streams"]
    assert len(hours["radio"][0]) == 60
    begin = "from=2026-11-21T10:00"
    found = server.get(f"/api/timeline?stream=other&{begin}&to=2026-11-21T11:00").json()
    (calm,) = found["tags"]
    assert (calm["tagger"], calm["tag"]) == ("m", "calm")
    assert [b - a for a, b in calm["spans"]] == [10_000]
    for query, parameter in [
        ("", "stream"),
        (f"stream=other&{begin}&to=2026-11-30", "from"),
        ("stream=other&step=3", "step"),
    ]:
        answer = server.get(f"/api/timeline?{query}")
        assert (answer.status_code, answer.json()["error"]["parameter"]) == (400, parameter)
    query = f"stream=radio&tagger=m&tag=calm&{begin}&to=2026-11-21T11:00"
    points = server.get(f"/api/curve?{query}").json()["points"]  # of the last ten minutes
    assert [round(p, 2) for _, p in points] == [0.5]


def test_the_trail_of_moods_has_an_end() -> None:
    trail = MoodTrail()
    wire = EventEncoder({"m": ("calm",)}, 0)
    wire.message(events.StreamOpened("a", 0, 1, 0, ("m",)))
    for k in range(0, 2000, 2):
        message = wire.message(events.MoodUpdated("a", "m", k, k / 2000, 0.0, 0.5))
        assert isinstance(message, Mood)
        trail.add(message)
    assert len(trail.points) == 600
    assert trail.points[-2] == pytest.approx(0.999)


def test_logos_and_frames(tmp_path: Path, folder: Path, feed: Feed) -> None:
    logos = tmp_path / "logos"
    logos.mkdir()
    (logos / "club.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (logos / ".hidden.svg").write_text("x")
    (logos / "secret.txt").write_text("x")
    table = f'logos = "{logos}"\nframe_origins = ["https://venue.example"]\ntoken = "t"'
    with serving(tmp_path, feed, folder / "j.db", table) as server:
        logo = server.get("/logos/club.svg")
        assert (logo.status_code, logo.headers["content-type"]) == (200, "image/svg+xml")
        assert "sandbox" in logo.headers["content-security-policy"]
        for name in (".hidden.svg", "secret.txt", "none.png", "..%2fweb.toml"):
            assert server.get(f"/logos/{name}").status_code == 404
        page = server.get("/wall/radio")  # needs no token, and says nothing
        assert page.headers["content-security-policy"].endswith(
            "frame-ancestors https://venue.example"
        )
        nobody = server.get("/wall/nobody").text
        assert page.text.replace("radio", "nobody") == nobody  # but what was asked
        assert server.get("/api/tags?stream=radio").status_code == 401
        assert server.get("/wall/%2e%2e/api/state").status_code in (401, 404)


@pytest.mark.parametrize("origin", ["*", "https://a.example; script-src *", "venue", "'self'"])
def test_frame_origins_are_sites(origin: str) -> None:
    with pytest.raises(ValidationError, match="frame_origins: expected such as"):
        WebConfig(frame_origins=(origin,))


def test_a_missing_folder_of_logos_is_reported(tmp_path: Path) -> None:
    (complaint,) = WebConfig(logos=str(tmp_path / "none")).missing_files("web")
    assert complaint.startswith("web.logos: expected a folder that exists")


def test_other_sites_pages_are_kept_out(server: Server) -> None:
    assert (
        "access-control-allow-origin"
        not in server.get("/api/state", headers={"Origin": "https://evil.example"}).headers
    )
    rebound = server.get("/api/state", headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    assert rebound.json()["error"]["parameter"] == "Host"
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{server.address}/ws", origin="https://evil.example", proxy=None)
    assert refused.value.response.status_code == 403
    with connect(f"ws://{server.address}/ws", origin=server.url, proxy=None) as socket:
        assert '"type": "state"' in str(socket.recv(60))


def test_requests_need_the_token(tmp_path: Path, feed: Feed, folder: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    table = 'token_file = "token"\ncors_origins = ["https://wall.example"]'
    with serving(tmp_path, feed, folder / "j.db", table) as server:
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic s3cret"}):
            answer = server.get("/api/state", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "s3cret" not in answer.text
        right = {"Authorization": "Bearer s3cret", "Origin": "https://wall.example"}
        answer = server.get("/api/state", headers=right)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://wall.example"
        assert server.get("/events").status_code == 401
        assert server.get("/").status_code == server.get("/healthz").status_code == 200
        for query, origin in (("", None), ("?token=s3cret", "https://evil.example")):
            with pytest.raises(InvalidStatus):
                connect(f"ws://{server.address}/ws{query}", origin=origin, proxy=None)
        url = f"ws://{server.address}/ws?token=s3cret"
        with connect(url, origin="https://wall.example", proxy=None) as socket:
            assert '"type": "state"' in str(socket.recv(60))
    assert "s3cret" not in "".join(server.log)


def test_a_public_address_needs_a_token_or_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"

    def table(text: str) -> None:
        path.write_text(f'exit_when_done = false\n[streams]\n[web]\nbind = "0.0.0.0:8080"\n{text}')

    table("")
    with pytest.raises(ConfigError, match=r"web\.bind: expected .* or a token, or no_token_on_pub"):
        load_config(path)
    for text in ('token = "x"', 'token_env = "X"', "no_token_on_public_address = true"):
        table(text)
        assert load_config(path).web
    table('token = "x"\ntoken_env = "X"')
    with pytest.raises(ConfigError, match="expected one of token, token_file, token_env"):
        load_config(path)
    table('token_file = "nothing"')
    assert any("web.token_file: expected an existing file" in c for c in complaints_about(path))
    path.write_text('streams.a.source = "device:"\nweb.bind = "8080"')
    with pytest.raises(ConfigError, match=r"web\.bind: expected HOST:PORT"):
        load_config(path)


def test_check_names_missing_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamtag.config import bridge_kinds

    monkeypatch.setattr(bridge_kinds, "_is_installed", lambda module: module != "uvicorn")
    path = tmp_path / "a.toml"
    path.write_text('exit_when_done = false\n[streams]\n[web]\nbind = "127.0.0.1:8080"')
    (line,) = complaints_about(path)
    assert line.endswith('pip install "streamtag[web]"')


def test_random_requests_are_answered_without_a_traceback(server: Server) -> None:
    import random

    import httpx

    choice, epoch = random.Random(1).choice, "18e9ee7562274622"
    names = ("stream", "tag", "type", "from", "to", "limit", "after", "last_event_id", "token", "")
    values = ("", "%00", "%ff%fe", "-2h", "-999999999w", "9" * 40, "2026-13-01", "[]", "tag_on")
    values += ("0001-01-01T00:00%2B14:00", f"{epoch}-{'9' * 18}-0", f"{epoch}-0-0", "a" * 5000)
    paths = ("/api/history", "/api/state", "/api/streams/%00", "/api/streams/a%2Fb", "//", "/ws")
    with httpx.Client(timeout=60, trust_env=False, verify=False) as client:
        for k in range(150):
            query = "&".join(f"{choice(names)}={choice(values)}" for _ in range(k % 4))
            answer = client.get(f"{server.url}{choice(paths)}?{query}")
            assert answer.status_code in (200, 400, 404), (query, answer.text)
            assert (answer.status_code == 200) != ("error" in answer.json())
        assert client.get(f"{server.url}/healthz").json()["status"] == "ok"
    assert not [line for line in server.log if "Traceback" in line]
