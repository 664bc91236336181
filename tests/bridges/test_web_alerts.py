"""The raised alerts over HTTP: `/api/alerts`, the page, and who may acknowledge."""

import time
from pathlib import Path
from typing import Any

import httpx
from support.control_desk import controlled
from support.web_server import SECONDS, Feed, Server, wait_for

from streamtag.feed.messages import AlertAcknowledged, AlertCleared, AlertRaised, Message
from streamtag.feed.timestamps import rfc3339

MAY = {"Authorization": "Bearer change", "Streamtag-Request": "1"}
READ = {"Authorization": "Bearer read"}
ID = "silent@1"


def head() -> dict[str, Any]:
    fields = {"epoch": "", "seq": 0, "stream": "", "t": 0.0, "utc": rfc3339(time.time_ns())}
    return fields | {"alert": "silent", "id": ID}


def publish(feed: Feed, message: Message) -> None:
    feed.publisher.publish(feed.wire.number(message))


def get(server: Server, path: str, headers: dict[str, str] = READ) -> httpx.Response:
    return httpx.get(
        f"{server.url}{path}", headers=headers, timeout=SECONDS, trust_env=False, verify=False
    )


def test_what_is_raised_is_shown_and_acknowledged(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "j.db", keeps=("event/", "alert/"))
    feed.up("radio1")
    with controlled(tmp_path, feed) as (server, log):
        assert get(server, "/api/alerts").json() == {"alerts": []}
        assert "No alert is raised." in get(server, "/alerts").text
        raised = {"severity": "warning", "since_utc": rfc3339(0), "notify": (), "quiet_until": ""}
        text = "radio1 <b>: silent"
        streams = {"streams": ("radio1", "radio2"), "detail": text, "remind_seconds": 0.0}
        publish(feed, AlertRaised(**head(), **raised, **streams))
        wait_for(lambda: len(get(server, "/api/alerts").json()["alerts"]) == 1)
        assert get(server, "/api/alerts").json()["alerts"][0]["streams"] == ["radio1", "radio2"]
        page = get(server, "/alerts").text
        assert "radio1 &lt;b&gt;: silent" in page
        assert 'value="ack"' not in page
        assert f'name="alert" value="{ID}"' in get(server, "/alerts", MAY).text
        url, body = f"{server.url}/api/control", {"command": "ack", "alert": ID}
        refused = httpx.post(
            url, json=body, headers=READ, timeout=SECONDS, trust_env=False, verify=False
        )
        assert refused.status_code == 403
        done = httpx.post(
            url, json=body, headers=MAY, timeout=SECONDS, trust_env=False, verify=False
        )
        assert done.status_code == 200
        sent = log.requests.pop().model_dump()
        assert (sent["command"], sent["alert"]) == ("ack", ID)
        assert sent["by"].startswith("somebody at 127.0.0.1")
        publish(feed, AlertAcknowledged(**head(), by="ann", note="on it"))
        wait_for(lambda: "ann: on it" in get(server, "/alerts", MAY).text)
        over = {"since_utc": rfc3339(0), "why": "over", "detail": "", "notify": ()}
        publish(feed, AlertCleared(**head(), **over, streams=("radio1", "radio2"), remaining=()))
        wait_for(lambda: get(server, "/api/alerts").json() == {"alerts": []})
        state = get(server, "/api/state").json()
        assert list(state["streams"]) == ["radio1"]
    feed.publisher.close()
