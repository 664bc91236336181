"""The page of a stream in a real browser: taggram, mood, time line, details and exports."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.peers import free_port
from support.stations import play_station
from support.wall import TAGGER, Open, Stage, opening_pages, wait_until
from support.web_server import RATE, Server, serving
from websockets.sync.client import connect

from streamtag.engine import events
from streamtag.feed.messages import Clip, Section
from streamtag.feed.timestamps import rfc3339

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LAPTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
EVIL = '<img src=x onerror="window.hacked=1">'
ROW = 17
"""Height of a row of the time line in pixels."""
COLOURS = """(id) => {
  const canvas = document.getElementById(id);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""
"""Number of different colours of a canvas."""

NAMED = """(count) => {
  const canvas = document.getElementById("taggram");
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const high = (canvas.height - 20) / count;
  const painted = (row) => context.getImageData(0, row * high, 140, high).data;
  return Array.from({ length: count }, (_, row) => painted(row).some(Boolean)).every(Boolean);
}"""
"""Whether so many rows have names."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`live` has an hour of programme; `steady` has had music on for half an hour."""
    stage = Stage(tmp_path_factory.mktemp("stream") / "j.db", (EVIL,))
    play_station(stage, "live", 1)
    half_hour = 1800
    stage.up("steady", time.time_ns() - half_hour * 10**9)
    stage.title("steady", EVIL)
    stage.publish(events.TagStarted("steady", TAGGER, "music", 0, RATE, 0.9, False))
    for second in range(half_hour - 500, half_hour, 2):
        values = tuple(0.8 if tag == "music" else 0.1 for tag in stage.tags)
        end = second * RATE
        stage.publish(events.WindowScored("steady", TAGGER, end - RATE, end, values, values, False))
    stage.derive(*clips("steady", EVIL), *sections("live"))
    yield stage
    stage.close()


def clips(stream: str, event: str) -> list[Clip]:
    """One of ten minutes ago, and one that there is not."""
    head: dict[str, Any] = {"epoch": "", "seq": 0, "stream": stream, "t": 1200.0, "event": event}
    head |= {"utc": rfc3339(time.time_ns() - 600 * 10**9), "end": 1212.0, "url": "", "sha256": ""}
    return [
        Clip(**head, id=f"{stream}-{k}", stage=stage, file=file, bytes=9, complete=True, detail="")
        for k, stage, file in ((1, "ready", "a.flac"), (2, "missing", ""))
    ]


def sections(stream: str) -> list[Section]:
    """Music and then speech in the last half hour."""
    now = time.time_ns()
    times = [rfc3339(now - seconds * 10**9) for seconds in (1800, 900, 600)]
    head: dict[str, Any] = {"epoch": "", "seq": 0, "stream": stream, "t": 0.0, "end": 1.0}
    head |= {"certainty": 1.0, "title": EVIL, "genre": "", "moods": (), "instruments": ()}
    kinds = zip(times, times[1:], ("music", "speech"), strict=False)
    return [Section(**head, utc=a, end_utc=b, kind=kind) for a, b, kind in kinds]


@pytest.fixture(scope="module")
def server(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), stage, stage.journal) as server:
        yield server


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Open]:
    with opening_pages(browser, viewport=LAPTOP) as open_one:
        yield open_one


@pytest.fixture
def scored(server: Server, stage: Stage) -> None:
    """The server has the scores of the last ten minutes, also those from before it started."""
    for stream in ("live", "steady"):
        at = 3600 * RATE if stream == "live" else 1800 * RATE
        for k in range(5):
            values = tuple(0.8 if tag == "music" else 0.1 for tag in stage.tags)
            end = at + 2 * k * RATE
            stage.publish(
                events.WindowScored(stream, TAGGER, end - RATE, end, values, values, False)
            )


def drawn(page: "Page", id: str) -> bool:
    return bool(page.evaluate(COLOURS, id) > 8)


def test_what_is_on_now(server: Server, stage: Stage, scored: None, open_page: Open) -> None:
    page = open_page(f"{server.url}/stream/live")
    wait_until(page, "/^On now: .*music/.test(document.getElementById('taggram').ariaLabel)")
    assert page.inner_text("#state").startswith("on air")
    assert " – " in page.inner_text("#playing")
    page.clock.run_for(1000)
    for id in ("taggram", "mood", "timeline"):
        assert drawn(page, id), id
    stage.publish(events.SilenceStarted("live", 3700 * RATE, 3700 * RATE))
    wait_until(page, "document.getElementById('state').dataset.state === 'silent'")
    assert page.title() == "live – silent"


def test_the_taggram_fills_its_place(server: Server, scored: None, open_page: Open) -> None:
    page = open_page(f"{server.url}/stream/steady")
    wait_until(page, f"({NAMED})(10)")  # although one tag only is near its threshold
    bottom = "document.getElementById('{}').getBoundingClientRect().bottom"
    wait_until(page, f"Math.abs({bottom.format('taggram')} - {bottom.format('mood')}) < 2")


def test_the_rows_of_the_time_line(server: Server) -> None:
    def names(language: str) -> list[str]:
        found = server.get(f"/part/timeline?stream=live&from=-1h&lang={language}").json()["rows"]
        return [row["name"] for row in found]

    assert names("en")[:5] == ["Signal", "Title", "Programme", "speech", "music"]
    assert names("de")[3:5] == ["Sprache", "Musik"]


def test_an_event_of_the_past(server: Server, scored: None, open_page: Open) -> None:
    page = open_page(f"{server.url}/stream/steady", lost=True)  # it may ask before there are scores
    wait_until(page, f"document.getElementById('timeline').clientHeight === {3 * ROW + 20}")
    box = page.locator("#timeline").bounding_box()
    assert box is not None
    x = box["x"] + box["width"] - 60
    page.mouse.click(x, box["y"] + 2.5 * ROW)
    wait_until(page, "document.querySelector('#detail .curve')")
    facts = page.inner_text("#detail dl").split("\n")
    found = dict(zip(facts[::2], facts[1::2], strict=True))
    assert found["Peak"] == "0.90"
    assert 0 < float(found["Threshold"]) < 1
    assert found["Model"].startswith(TAGGER)
    assert page.inner_text("#detail h3") == "music"
    assert (
        page.evaluate("document.querySelector('#detail audio').src")
        == f"{server.url}/clip/steady-1"
    )
    assert page.inner_text("#detail .clip a") == f"{EVIL}, 12 s"
    page.mouse.click(x, box["y"] + 0.5 * ROW)
    wait_until(page, "!document.getElementById('detail').innerText")


def test_zoom_and_exports(server: Server, open_page: Open) -> None:
    page = open_page(f"{server.url}/stream/live")
    wait_until(page, f"document.getElementById('timeline').clientHeight > {6 * ROW}")

    def saved(kind: str) -> bytes:
        with page.expect_download() as download:
            page.get_by_role("button", name=kind).click()
        assert download.value.suggested_filename.endswith(kind.lower())
        return Path(download.value.path()).read_bytes()

    hour = json.loads(saved("JSON"))
    assert hour["stream"] == "live"
    lines = saved("CSV").decode().splitlines()
    assert lines[0] == "kind,tagger,name,begin,end"
    assert sum(line.startswith("tag,") for line in lines) == sum(
        len(tag["spans"]) for tag in hour["tags"]
    )
    assert [kind for *_, kind in hour["sections"]] == ["music", "speech"]
    spans = [end - begin for begin, end, _ in hour["sections"]]
    assert spans == pytest.approx([900_000, 300_000], abs=2)
    assert [line.split(",")[2] for line in lines if line.startswith("sections,")] == [
        "music",
        "speech",
    ]
    assert saved("PNG").startswith(b"\x89PNG")
    page.locator("#timeline").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    wait_until(page, "location.search.startsWith('?from=')")
    shown = page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
    assert abs(int(shown["to"]) - int(shown["from"]) - 1_800_000) < 5
    again = open_page(page.url)
    page.clock.run_for(500)
    wait_until(again, f"document.getElementById('timeline').clientHeight > {4 * ROW}")
    part = json.loads(saved("JSON"))
    whole_ms = [int(shown["from"]), int(shown["to"])]
    assert [part["from"], part["to"]] == pytest.approx(whole_ms, abs=2)


def test_dragging_and_the_wheel(server: Server, open_page: Open) -> None:
    page = open_page(f"{server.url}/stream/live")
    wait_until(page, f"document.getElementById('timeline').clientHeight > {6 * ROW}")
    box = page.locator("#timeline").bounding_box()
    assert box is not None
    x, y = box["x"] + 600, box["y"] + 40
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 200, y, steps=4)
    page.mouse.up()
    shown = "Object.values(Object.fromEntries(new URLSearchParams(location.search))).map(Number)"
    begin, end = page.evaluate(shown)
    width = box["width"] - 140 - 4
    assert end - begin == pytest.approx(3_600_000, abs=2)
    assert page.evaluate("Date.now()") - end >= 3_600_000 * 200 / width - 2
    assert page.inner_text("#detail") == ""  # it was no click
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    wait_until(page, f"(([from, to]) => to - from < 3_000_000)({shown})")


def test_on_a_phone(server: Server, scored: None, open_page: Open) -> None:
    page = open_page(f"{server.url}/stream/live", viewport=PHONE, has_touch=True, is_mobile=True)
    wait_until(page, f"document.getElementById('timeline').clientHeight > {6 * ROW}")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_names_and_titles_are_text(server: Server, stage: Stage, open_page: Open) -> None:
    page = open_page(f"{server.url}/stream/steady")
    wait_until(page, f"document.getElementById('playing').innerText === {json.dumps(EVIL)}")
    name = EVIL.replace("/", "")
    stage.up(name)
    page = open_page(f"{server.url}/stream/{name.replace(' ', '%20')}")
    wait_until(page, "document.getElementById('state').innerText.startsWith('on air')")
    assert page.inner_text("#name") == name
    assert page.evaluate("window.hacked") is None


def test_a_killed_server_comes_back(tmp_path: Path, stage: Stage, open_page: Open) -> None:
    port = free_port()
    server = Server(tmp_path, stage.publisher.address, stage.journal, port=port)
    page = open_page(f"{server.url}/stream/steady", lost=True)
    wait_until(page, "document.getElementById('state').innerText.startsWith('on air')")
    server.end(signal.SIGKILL)
    wait_until(page, "document.getElementById('banner').innerText === 'No connection'", 300)
    with serving(tmp_path, stage, stage.journal, port=port):
        wait_until(page, "document.getElementById('banner').hidden", 300)


def test_scores_come_as_bytes(server: Server, stage: Stage) -> None:
    stage.up("bytes")
    stage.play("bytes", (0.0, 0.0, 0.5), {"music": 0.8})
    server.state_with(lambda state: state["streams"].get("bytes", {}).get("scores"))
    with connect(f"ws://{server.address}/ws/scores?stream=bytes", proxy=None) as socket:
        head = json.loads(socket.recv(60))
        assert head["tags"] == list(stage.tags)
        past = socket.recv(60)
        assert isinstance(past, bytes)
        music = 1 + 8 + head["tags"].index("music")
        assert (past[0], past[music]) == (head["number"], 204)
        assert len(past) == 1 + 8 + len(head["tags"])
        stage.play("bytes", (0.0, 0.0, 0.5), {"music": 0.2})
        live = socket.recv(60)
        assert live[music] == 51
