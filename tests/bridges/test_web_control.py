"""Control over HTTP: who may, what reaches the daemon, and what a threshold would have done."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from support.control_desk import MINUTES, TAG, CommandLog, Hour, controlled
from support.sounds import tone, write_wav
from support.wall import TAGGER
from support.web_server import SECONDS, Feed, Server, serving, wait_for

from streamtag.engine.smoothing import Settled, SwitchSettings
from streamtag.history.threshold_preview import BREAK, WindowScores, replay_switch

PAGE = {"Streamtag-Request": "1"}
MAY = {"Authorization": "Bearer change", **PAGE}
SECOND = 10**9


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, CommandLog]]:
    folder = tmp_path_factory.mktemp("control")
    write_wav(folder / "a.wav", tone(4.0, 16_000), 16_000)
    feed = Hour(folder / "j.db")
    with controlled(folder, feed) as desk:
        yield desk
    feed.close()


def post(server: Server, body: object, headers: dict[str, str] = MAY) -> httpx.Response:
    url = f"{server.url}/api/control"
    return httpx.post(
        url, json=body, headers=headers, timeout=SECONDS, trust_env=False, verify=False
    )


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"command": "pause", "name": "radio1"}, {"command": "pause", "name": "radio1"}),
        ({"command": "resume", "name": "radio1"}, {"command": "resume", "name": "radio1"}),
        ({"command": "remove", "name": "radio1"}, {"command": "remove", "name": "radio1"}),
        (
            {"command": "add", "name": "new", "source": "http://host/x"},
            {"command": "add", "name": "new", "stream": {"source": "http://host/x"}},
        ),
        (
            {"command": "threshold", "name": "radio1", "tagger": "t.u", "tag": "a.b", "on": 0.6},
            {
                "command": "set",
                "table": {
                    "streams": {"radio1": {"tuning": {"t.u": {"on_thresholds": {"a.b": 0.6}}}}}
                },
            },
        ),
    ],
)
def test_commands_reach_the_daemon(
    desk: tuple[Server, CommandLog], body: dict[str, object], sent: dict[str, object]
) -> None:
    server, log = desk
    assert post(server, body).json() == {"result": {"done": True}}
    assert log.requests.pop().model_dump(exclude_unset=True) == sent
    values = {key: value for key, value in body.items() if key != "command"}
    line = f"control: somebody at 127.0.0.1: {body['command']} {json.dumps(values)}"
    wait_for(lambda: any(line in logged for logged in server.log))


def test_a_refusal_of_the_daemon_is_passed_on(desk: tuple[Server, CommandLog]) -> None:
    answer = post(desk[0], {"command": "pause", "name": "nobody"})
    assert answer.status_code == 409
    assert answer.json()["error"]["got"] == "no stream of this name; there are: radio1"
    assert desk[1].requests.pop().model_dump()["name"] == "nobody"
    wait_for(lambda: any("refused: no stream of this name" in line for line in desk[0].log))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (PAGE, 401),
        ({"Authorization": "Bearer read", **PAGE}, 403),
        ({"Authorization": "Bearer change"}, 403),  # without the header of our pages
        ({**MAY, "Origin": "https://evil.example"}, 403),
    ],
)
def test_nobody_else_controls(
    desk: tuple[Server, CommandLog], headers: dict[str, str], status: int
) -> None:
    server, log = desk
    assert post(server, {"command": "pause", "name": "radio1"}, headers).status_code == status
    assert not log.requests
    if PAGE.items() <= headers.items() and "Origin" not in headers:
        preview = server.get("/api/control/preview?on=0.5", headers=headers)
        assert preview.status_code == status


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({}, "command"),
        ({"command": "swap", "tagger": "default"}, "command"),
        ({"command": ["pause"]}, "command"),
        ({"command": "pause"}, "name"),
        ({"command": "pause", "name": {"a": 1}}, "name"),
        ({"command": "add", "name": "x", "source": "nonsense"}, "source"),
        ({"command": "add", "name": "x", "source": "stdin:"}, "source"),
        ({"command": "threshold", "name": "a", "tagger": "t", "tag": "x", "on": 1}, "on"),
        ({"command": "threshold", "name": "a", "tagger": "t", "tag": "x", "on": "nan"}, "on"),
        ([], "body"),
    ],
)
def test_wrong_commands_are_named(
    desk: tuple[Server, CommandLog], body: object, parameter: str
) -> None:
    answer = post(desk[0], body)
    assert (answer.status_code, answer.json()["error"]["parameter"]) == (400, parameter)
    assert not desk[1].requests


def test_without_control_nothing_changes(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "j.db")
    with serving(tmp_path, feed, tmp_path / "j.db") as server:
        assert post(server, {"command": "pause", "name": "radio1"}).status_code == 404
        assert server.get("/control").status_code == 404
    feed.close()


def test_a_source_is_tried(desk: tuple[Server, CommandLog]) -> None:
    found = post(desk[0], {"command": "try", "source": "file:a.wav"}).json()["result"]
    assert found["seconds"] >= 3
    assert found["rate"] == 16_000
    assert found["peak_dbfs"] == pytest.approx(-6.02, abs=0.1)
    assert found["cause"] == ""
    lost = post(desk[0], {"command": "try", "source": "http://127.0.0.1:9/x"}).json()["result"]
    assert (lost["seconds"], lost["cause"]) == (0, "refused")
    gone = post(desk[0], {"command": "try", "source": "file:none.wav"}).json()["result"]
    assert gone["cause"] == "other"
    assert "none.wav" in gone["detail"]


def preview(server: Server, **query: object) -> httpx.Response:
    wanted = {"stream": "radio1", "tagger": TAGGER, "tag": TAG, **query}
    return server.get("/api/control/preview", params=wanted, headers=MAY)


def test_the_effect_of_a_threshold_on_the_last_hour(desk: tuple[Server, CommandLog]) -> None:
    found = preview(desk[0], on=0.7).json()
    assert found["kept"]
    assert found["was"]["times"] == 1
    assert found["was"]["seconds"] == 200
    assert found["would"]["times"] == MINUTES // 10  # once in each of the piano's ten minutes
    begin, end = found["would"]["spans"][0]
    assert 180 < (end - begin) / 1000 < 420
    lower = preview(desk[0], on=0.3).json()
    assert lower["would"]["seconds"] > found["would"]["seconds"]
    assert preview(desk[0], on=0.98).json()["would"] == {"times": 0, "seconds": 0, "spans": []}
    for wrong in ({"on": 2}, {"tag": "nothing", "on": 0.5}, {"tagger": "x", "on": 0.5}, {}):
        assert preview(desk[0], **wrong).status_code == 400


def test_the_page_shows_streams_and_the_effect(desk: tuple[Server, CommandLog]) -> None:
    def page(**query: object) -> httpx.Response:
        return desk[0].get("/control", params=query, headers=MAY)

    wait_for(lambda: 'name="name" value="radio1"' in page().text)
    text = page(stream="radio1", tagger=TAGGER, tag=TAG, on=0.7).text
    assert text.count('fill="#d2601a"') == MINUTES // 10
    assert "it was on 1 ×, 3.3 min. With this threshold: 5 ×" in text
    fields = (("name", "radio1"), ("tagger", TAGGER), ("tag", TAG), ("on", 0.7))
    hidden = "".join(f'<input type="hidden" name="{k}" value="{v}">' for k, v in fields)
    assert f'{hidden}<button class="main" name="command" value="threshold">' in text
    evil = "<img src=x>"
    fault = page(stream=evil, tagger=evil, tag=evil, on=0.7)
    assert fault.status_code == 200
    assert "<img" not in fault.text
    assert "expected a tagger and one of its tags" in fault.text
    assert page(on=3).status_code == 400


def test_a_threshold_that_was_applied_is_the_one_in_force(tmp_path: Path) -> None:
    feed = Hour(tmp_path / "j.db")
    with controlled(tmp_path, feed) as (server, _):
        assert preview(server, on=0.7).json()["threshold"] != 0.7
        command = {"name": "radio1", "tagger": TAGGER, "tag": TAG, "on": 0.7}
        assert post(server, {"command": "threshold", **command}).status_code == 200
        assert preview(server, on=0.6).json()["threshold"] == 0.7
        tags = server.get("/api/tags?stream=radio1", headers=MAY).json()["tags"]
        assert tags[TAG]["threshold"] == 0.7
        query = f"stream=radio1&tagger={TAGGER}&tag={TAG}&on=0.6"
        page = server.get(f"/control?{query}", headers=MAY).text
        assert "The threshold in force is 0.70." in page
    feed.close()


def test_without_scores_the_effect_is_not_known(tmp_path: Path) -> None:
    feed = Hour(tmp_path / "j.db", scores=False)
    with controlled(tmp_path, feed) as (server, _):
        found = preview(server, on=0.7).json()
        assert (found["kept"], found["would"], found["was"]["times"]) == (False, None, 1)
        query = f"stream=radio1&tagger={TAGGER}&tag={TAG}&on=0.7"
        wait_for(
            lambda: "is not known: the jour" in server.get(f"/control?{query}", headers=MAY).text
        )
    feed.close()


def test_the_replay_switches_as_the_engine_does() -> None:
    settings = SwitchSettings(np.array([0.6]), np.array([0.4]), 2.0 * SECOND, 1.0 * SECOND)

    def replay(*values: float, begin: int = 100) -> list[tuple[float, float]]:
        scores = [
            WindowScores((begin + k) * SECOND - SECOND // 2, (begin + k) * SECOND, (value,))
            for k, value in enumerate(values)
        ]
        return [(a / SECOND, b / SECOND) for a, b in replay_switch(scores, settings)]

    assert replay(0.1, 0.7, 0.7, 0.7, 0.5, 0.3, 0.3, 0.1) == [(100.5, 104.5)]
    assert replay(0.7, 0.7, 0.3, 0.7, 0.7) == []  # never two seconds long
    assert replay(0.7, 0.7, 0.7) == [(99.5, 102)]  # on until the last score
    far = [WindowScores(k * SECOND, k * SECOND, (0.9,)) for k in (1, 2, 3, 4)]
    later = [WindowScores(s.middle + 2 * BREAK, s.end + 2 * BREAK, (0.9,)) for s in far]
    assert len(replay_switch([*far, *later], settings)) == 2  # the stream was away between


def test_the_replay_knows_when_tags_have_settled() -> None:
    near, wide = (
        (np.array([0.5, np.inf]), np.full(2, 0.4)),
        (np.array([0.8, np.inf]), np.full(2, 0.1)),
    )
    settled = Settled(*wide, change=0.25, after=3 * SECOND, slow=2 * SECOND)
    settings = SwitchSettings(*near, settled=settled)

    def replay(*others: float) -> list[tuple[float, float]]:
        own = (0.1, 0.1, 0.1, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6, 0.2, 0.2)
        scores = [
            WindowScores(k * SECOND, k * SECOND, pair)
            for k, pair in enumerate(zip(own, others, strict=True))
        ]
        return [(a / SECOND, b / SECOND) for a, b in replay_switch(scores, settings)]

    assert replay(*[0.2] * 5, *[0.9] * 6) == [(5, 10)]  # much changes with it; then it stays
    assert replay(*[0.2] * 11) == []  # little changes, so 0.6 is not enough
