"""The desk in a real browser: five hundred streams, search, keys, phones and strangers' names."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.peers import free_port
from support.raised import acknowledged, cleared, raised
from support.stations import play_stations
from support.wall import Open, Stage, opening_pages, wait_until
from support.web_server import RATE, SECONDS, Server, serving

from streamtag.engine import events

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LAPTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
EVIL = '<img src=x onerror="window.hacked=1">'
N = 500
ROWS = "[...document.querySelectorAll('#table .row:not([hidden])')]"
NAMES = f"{ROWS}.map((row) => row.querySelector('.name').innerText)"
COUNT = "Number(document.getElementById('table').ariaRowCount) - 1"

HEARD = """() => {
  window.told = [];
  window.tones = 0;
  window.Notification = class extends Notification {
    constructor(title, options) {
      super(title, options);
      window.told.push(`${title}: ${options.body}`);
    }
  };
  const play = HTMLAudioElement.prototype.play;
  HTMLAudioElement.prototype.play = async function () {
    await play.call(this);
    window.tones += 1;
  };
}"""
"""Notes notifications and tones."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("desk") / "j.db", (EVIL,))
    play_stations(stage, N, 60)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def server(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), stage, stage.journal) as server:
        yield server


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Open]:
    with opening_pages(browser, viewport=LAPTOP) as open_one:
        yield open_one


def texts(page: "Page", selector: str) -> list[str]:
    """Of what is seen."""
    return [str(one).strip() for one in page.locator(f"{selector}:visible").all_inner_texts()]


def test_five_hundred_streams(server: Server, stage: Stage, open_page: Open) -> None:
    page = open_page(server.url)
    wait_until(page, f"{COUNT} === {N}")
    assert len(texts(page, "#table .row")) < 60
    states = texts(page, "#table .state span")
    order = ("failed", "lost", "silent", "on air")
    assert states == sorted(states, key=order.index)
    assert states[0] == "failed"
    failed, lost, silent = (int(text.split()[0]) for text in texts(page, "#counts button")[:3])
    assert page.title() == f"{failed} failed · {lost} lost · {silent} silent – streamtag"
    assert texts(page, "#table .now")[0] == "404 Not Found"

    page.mouse.move(700, 500)
    page.mouse.wheel(0, 9000)
    wait_until(page, f"{NAMES}.includes('es-playa5')")
    assert len(texts(page, "#table .row")) < 60

    stage.up("zz-new")  # a change is seen at once, wherever the table is
    stage.play("zz-new", (0.6, 0.5, 0.8), {"music": 0.9, "happy": 0.9, "piano": 0.8})
    wait_until(page, f"{COUNT} === {N + 1}")
    stage.lose("zz-new")
    wait_until(page, f"document.title.includes('{lost + 1} lost')")
    page.locator("#counts .lost").click()
    wait_until(page, f"{NAMES}.includes('zz-new')")
    assert page.url.endswith("?q=state%3Alost")
    assert set(texts(page, "#table .state span")) == {"lost"}


def test_the_search_is_in_the_address(server: Server, stage: Stage, open_page: Open) -> None:
    stage.up("find-me")
    stage.play("find-me", (0.0, 0.0, 0.5), {"music": 0.9, "harp": 0.9, "folk": 0.8})
    stage.title("find-me", "Late Harvest")
    page = open_page(f"{server.url}/?q=tag%3Aharp+-title%3Anews+harvest&sort=name")
    wait_until(page, f"{NAMES}.join() === 'find-me'")
    assert page.locator("#search").input_value() == "tag:harp -title:news harvest"
    words = "[...document.querySelectorAll('.row .now span')].map((one) => one.innerText).join()"
    wait_until(page, f"{words} === 'folk,harp'")  # by category, as soon as those are known
    for search, found in [
        ("name:find", 1),
        ('title:"late harvest"', 1),
        ("-state:up tag:harp", 0),
        ("title:late -harp", 0),
        ("group:find", 1),
    ]:
        page.locator("#search").fill(search)
        wait_until(page, f"{COUNT} === {found}")
    page.locator("#search").fill("")
    page.get_by_role("button", name="Group").click()
    wait_until(page, "document.querySelector('.row.group .name').innerText === 'at'")
    assert page.url.endswith("?sort=name&group=1")


def test_levels(server: Server, stage: Stage, open_page: Open) -> None:
    stage.up("meter")
    page = open_page(f"{server.url}/?q=name:meter")
    wait_until(page, f"{NAMES}.join() === 'meter'")
    assert not page.is_visible(".level")  # until there is one

    shown = """((said, share) => {
      const meter = document.querySelector("#table .meter");
      const hot = meter.parentElement.ariaLabel === said && meter.dataset.level === "hot";
      return hot && meter.style.getPropertyValue("--loud") === share && meter.offsetWidth > 0;
    })"""
    play_until(page, stage, f"{shown}('-30 dB', '0.5')")
    play_until(page, stage, f"{shown}('-24 LUFS', '0.6')", -24.2)
    station = open_page(f"{server.url}/stream/meter")
    wait_until(station, "document.getElementById('state').dataset.state === 'up'")
    said = "document.getElementById('level').innerText"
    play_until(station, stage, f"{said} === 'mean -30 dB · peak -1 dB'")
    play_until(station, stage, f"{said} === '-24 LUFS · peak -1 dB'", -24.2)
    station.clock.run_for(5000)
    wait_until(station, f"{said} === ''")  # it is no more


def play_until(page: "Page", stage: Stage, expression: str, loudness: float | None = None) -> None:
    """Publishes levels, which pages soon forget, until an expression is true."""
    deadline = time.monotonic() + SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        stage.publish(events.LevelMeasured("meter", RATE, -0.7, -30.2, loudness))
        page.wait_for_timeout(100)


def test_alerts_come_first_and_go(server: Server, stage: Stage, open_page: Open) -> None:
    stage.derive(raised("quiet", "no sound for 5 min", ("at-ring2",)))
    page = open_page(server.url)
    lines = "[...document.querySelectorAll('#alerts li')].map((line) => line.innerText)"
    wait_until(page, f"{lines}.join().startsWith('quiet')")
    assert "no sound for 5 min" in page.inner_text("#alerts")
    wait_until(page, "document.title.startsWith('1 alerts')")
    many = tuple(f"de-{k}" for k in range(6))
    stage.derive(raised("down", EVIL, many, severity="critical"))
    wait_until(page, f"{lines}.length === 2 && {lines}[0].includes('+ 2')")
    assert page.locator("#alerts .critical > a").count() == 4
    assert page.evaluate("document.images.length") == 0
    stage.derive(acknowledged("down", "Ana"))
    seen = f"{lines}.length === 2 && {lines}[1].includes('Seen by Ana')"
    wait_until(page, seen)
    assert page.locator("#alerts button").count() == 0  # without the control token
    page.reload()
    wait_until(page, seen)
    stage.derive(cleared("quiet", ("at-ring2",)), cleared("down", many))
    wait_until(page, "document.getElementById('alerts').hidden")


def test_by_keyboard_alone(server: Server, open_page: Open) -> None:
    page = open_page(server.url)
    wait_until(page, f"{COUNT} >= {N}")
    page.keyboard.press("/")
    page.keyboard.type("name:klassik")
    wait_until(page, f"{NAMES}.every((name) => name.includes('klassik'))")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    active = "document.querySelector('.row.active')"
    wait_until(
        page, f"{active}.id === document.activeElement.getAttribute('aria-activedescendant')"
    )
    name = page.evaluate(f"{active}.querySelector('.name').innerText")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/stream/{name}")
    page.go_back()
    wait_until(page, "document.getElementById('search').value === 'name:klassik'")
    page.keyboard.press("Escape")
    wait_until(page, f"{COUNT} >= {N}")
    assert page.url == f"{server.url}/"


@pytest.mark.parametrize("path", ["/", "/?group=1"])
def test_on_a_phone(server: Server, open_page: Open, path: str) -> None:
    page = open_page(server.url + path, viewport=PHONE, has_touch=True, is_mobile=True)
    wait_until(page, f"{COUNT} >= {N}")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.evaluate(f"{ROWS}.every((row) => row.scrollHeight <= row.clientHeight)")
    small = "[...document.querySelectorAll('button, input')].filter((one) => one.offsetHeight)"
    assert page.evaluate(f"Math.min(...{small}.map((one) => one.offsetHeight))") >= 24  # WCAG 2.5.8


def test_names_titles_and_tags_are_text(server: Server, stage: Stage, open_page: Open) -> None:
    name = EVIL.replace("/", "")
    stage.up(name)
    stage.play(name, (0.0, 0.0, 0.5), {EVIL: 0.9})
    stage.title(name, EVIL)
    page = open_page(f"{server.url}/?q=onerror&group=1")
    wait_until(page, f"{COUNT} === 2")
    assert texts(page, "#table .title")[-1] == texts(page, "#table .now")[-1] == EVIL
    assert texts(page, "#table .name")[-1] == name
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("window.hacked") is None


def test_a_killed_server_comes_back(tmp_path: Path, stage: Stage, open_page: Open) -> None:
    port = free_port()
    server = Server(tmp_path, stage.publisher.address, stage.journal, port=port)
    page = open_page(server.url, lost=True)
    wait_until(page, f"{COUNT} >= {N}")
    server.end(signal.SIGKILL)
    wait_until(page, "document.getElementById('banner').innerText === 'No connection'")
    stage.up("yy-later")
    with serving(tmp_path, stage, stage.journal, port=port):
        wait_until(page, "document.getElementById('banner').hidden", 300)
        page.locator("#search").fill("yy-later")
        wait_until(page, f"{NAMES}.join() === 'yy-later'")


def test_in_german_and_light(server: Server, stage: Stage, open_page: Open) -> None:
    stage.up("sprache")
    stage.play("sprache", (0.0, 0.0, 0.5), {"speech": 0.9})
    page = open_page(f"{server.url}/?lang=de&q=name:sprache", color_scheme="light")
    wait_until(page, f"{NAMES}.join() === 'sprache'")
    wait_until(page, "document.querySelector('.row .now').innerText === 'Sprache'")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(248, 248, 246)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == "rgb(14, 17, 21)"


def test_notification_and_sound_of_a_loss(server: Server, stage: Stage, open_page: Open) -> None:
    stage.up("on-call")
    page = open_page(f"{server.url}/?q=name:on-call", permissions=["notifications"])
    state = "document.querySelector('.row')?.dataset.state"
    wait_until(page, f"{state} === 'up'")
    page.evaluate(HEARD)
    for name in ("Notify", "Sound"):
        page.get_by_role("button", name=name).click()
        wait_until(page, f"document.querySelector('#tools .{name.lower()}').ariaPressed === 'true'")
    wait_until(page, "window.tones === 1")  # so it sounds
    for times in (1, 2):
        page.clock.run_for(1500)  # from now on a loss is news
        stage.lose("on-call")
        wait_until(page, f"window.told.length === {times} && window.tones === {1 + times}", 300)
        stage.up("on-call")
        wait_until(page, f"{state} === 'up'")
    assert page.evaluate("window.told") == ["on-call: Connection refused"] * 2
    stage.derive(raised("old", "no sound", ("on-call",)))
    wait_until(page, "window.told.length === 3", 300)
    page.reload()
    wait_until(page, "document.querySelector('#alerts b')?.innerText === 'old'")
    page.evaluate(HEARD)
    page.clock.run_for(5000)
    assert page.evaluate("window.told.length") == 0  # it is no news
    stage.derive(cleared("old", ("on-call",)))
    wait_until(page, f"{state} === 'up'")
    pressed = "[...document.querySelectorAll('#tools button')].map((one) => one.ariaPressed).join()"
    assert page.evaluate(pressed) == "false,true,true"  # kept
