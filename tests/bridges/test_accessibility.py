"""axe-core (npm, `.ci/peers` installs it) finds nothing serious on any page, light and dark; what
the pages of sign-in, settings and control do in a browser, with the keyboard alone."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest
from support.control_desk import TAG, CommandLog, Hour, controlled
from support.raised import acknowledged, cleared, raised
from support.wall import TAGGER, wait_until
from support.web_server import Server, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
PAGES = (
    "/",
    "/stream/radio1",
    "/wall/radio1?theme=field&mode=auto",
    "/wall/radio1?theme=constellation&mode=auto",
    "/wall/radio1?theme=type&mode=auto",
    "/report/radio1?day=today",
    "/settings",
    "/alerts",
    "/control?stream=radio1&tagger=default&tag=piano&on=0.7",
    "/sign-in?again=1",
)
READ = {"Authorization": "Bearer read"}
Open = Callable[..., "Page"]


@cache
def axe() -> str:
    """The library's text; skips a test where it is missing."""
    if which("npm") is None:
        pytest.skip("npm is not installed")
    root = subprocess.run(["npm", "root", "--global"], capture_output=True, text=True).stdout
    path = Path(root.strip()) / "axe-core" / "axe.min.js"
    if not path.is_file():
        pytest.skip("axe-core is not installed; `.ci/peers` installs it")
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, CommandLog]]:
    folder = tmp_path_factory.mktemp("axe")
    feed = Hour(folder / "j.db")
    with controlled(folder, feed) as desk:
        yield desk
    feed.close()


@pytest.fixture
def open_page(browser: "Browser", desk: tuple[Server, CommandLog]) -> Iterator[Open]:
    """Opens pages; fails if one writes an error or asks another server for something."""
    faults: list[str] = []
    server = desk[0]
    with ExitStack() as stack:

        def open_one(path: str, *, role: str = "", **options: Any) -> "Page":
            context = browser.new_context(locale="en", reduced_motion="reduce", **options)
            stack.callback(context.close)
            if role:
                headers = {"Streamtag-Request": "1"}
                url = f"{server.url}/api/session"
                context.request.post(url, data={"token": role, "name": "Ana"}, headers=headers)
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "console",
                lambda line: (
                    faults.append(line.text)
                    if line.type in ("error", "warning")
                    and "status of 401" not in line.text
                    and "GPU stall due to ReadPixels" not in line.text  # without a graphics card
                    else None
                ),
            )
            page.on(
                "request",
                lambda asked: (
                    None if asked.url.startswith(server.url + "/") else faults.append(asked.url)
                ),
            )
            page.goto(server.url + path)
            return page

        yield open_one
        assert faults == []


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(open_page: Open, path: str, mode: str) -> None:
    text = axe()
    page = open_page(path, role="change", color_scheme=mode)
    wait_until(page, "document.body.innerText.trim().length > 5")
    if path == "/":
        wait_until(page, "document.querySelector('.row')?.innerText.includes('radio1')")
    wait_until(page, "!document.querySelector('.stale') && !document.getAnimations().length")
    page.evaluate(text)
    found = page.evaluate("async (rules) => (await axe.run(document, rules)).violations", RULES)
    serious = [
        (one["id"], one["impact"], [node["html"][:150] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious


def test_signing_in_with_the_keyboard_leads_back(open_page: Open) -> None:
    page = open_page("/report/radio1?day=today")
    assert "/sign-in?next=report/radio1%3Fday%3Dtoday" in page.url
    page.focus("#token")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    wait_until(page, "document.getElementById('said').innerText === 'That is not the token.'")
    page.fill("#token", "")
    page.focus("#token")
    page.keyboard.type("read")
    page.keyboard.press("Enter")
    page.wait_for_url("**/report/radio1?day=today")
    assert page.inner_text("h1") == "radio1"
    assert "streamtag-session" not in page.evaluate("document.cookie")  # no script can read it


def test_no_sign_in_leads_to_another_site(open_page: Open) -> None:
    for there in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        page = open_page(f"/sign-in?next={there}", role="read")
        page.wait_for_url(lambda url: "/sign-in" not in url)
        assert "evil" not in page.url


def test_settings_are_kept_in_the_browser(open_page: Open) -> None:
    page = open_page("/settings", role="read")
    for name, value in (("zone", "Asia/Tokyo"), ("mode", "dark"), ("language", "de")):
        with page.expect_navigation():
            page.select_option(f"#{name}", value)
    assert page.inner_text("h1") == "Einstellungen"
    assert page.input_value("#zone") == "Asia/Tokyo"
    assert page.evaluate("document.documentElement.dataset.mode") == "dark"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(13, 18, 24)"
    page.goto(page.url.replace("settings", "report/radio1"))
    assert "Asia/Tokyo" in page.inner_text(".day")
    assert page.inner_text("caption").startswith("Stunde für Stunde")


def test_control_from_a_browser(open_page: Open, desk: tuple[Server, CommandLog]) -> None:
    log = desk[1]
    page = open_page("/control", role="change")
    with page.expect_navigation():
        page.click("[value=pause]")
    assert log.requests.pop().model_dump()["command"] == "pause"
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.click("[value=remove]")
    page.fill("#name", "new")
    page.fill("#source", "http://127.0.0.1:9/x")
    page.click("#try")
    wait_until(page, "document.getElementById('trial').innerText.startsWith('No audio: refused')")
    wait_until(page, "document.activeElement.id === 'try'")
    assert page.input_value("#name") == "new"
    with page.expect_navigation():
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    (added,) = log.requests  # and nothing was removed
    assert added.model_dump()["stream"] == {"source": "http://127.0.0.1:9/x"}
    log.requests.clear()
    page.select_option("#tag", TAG)
    page.fill("#on", "0.7")
    with page.expect_navigation():
        page.press("#on", "Enter")
    assert "With this threshold: 5 ×" in page.inner_text("#effect")
    with page.expect_navigation():
        page.click("[value=threshold]")
    table = log.requests.pop().model_dump()["table"]
    assert table == {"streams": {"radio1": {"tuning": {TAGGER: {"on_thresholds": {TAG: 0.7}}}}}}


def test_signing_out(open_page: Open) -> None:
    page = open_page("/settings", role="read")
    with page.expect_navigation():
        page.click("#sign-out")
    wait_until(page, "document.body.innerText.includes('You have not signed in.')")
    page.goto(page.url.replace("settings", "report/radio1"))
    assert "/sign-in" in page.url


def test_the_page_of_alerts(open_page: Open, desk: tuple[Server, CommandLog]) -> None:
    server, log = desk
    log.feed.derive(raised("loud", "clipping", ("radio1",)))
    wait_for(lambda: server.get("/api/alerts", headers=READ).json()["alerts"])
    page = open_page("/alerts", role="change")
    with page.expect_navigation():
        page.get_by_role("button", name="Acknowledge").click()
    assert page.url == f"{server.url}/alerts"
    sent = log.requests.pop().model_dump()
    assert (sent["command"], sent["alert"]) == ("ack", "loud-1")
    log.feed.derive(cleared("loud", ("radio1",)))
    wait_for(lambda: not server.get("/api/alerts", headers=READ).json()["alerts"])


def test_an_alert_is_acknowledged(open_page: Open, desk: tuple[Server, CommandLog]) -> None:
    desk[1].feed.derive(raised("quiet", "no sound", ("radio1",)))
    page = open_page("/", role="change")
    page.get_by_role("button", name="Acknowledge: quiet").click()
    wait_for(lambda: desk[1].requests)
    sent = desk[1].requests.pop().model_dump()
    assert (sent["command"], sent["alert"]) == ("ack", "quiet-1")
    assert sent["by"].startswith("Ana at ")
    desk[1].feed.derive(acknowledged("quiet", "Ana"))
    wait_until(page, "document.querySelector('#alerts .by')?.innerText === 'Seen by Ana'")


def test_a_report_prints_on_paper_without_the_links(open_page: Open) -> None:
    page = open_page("/report/radio1?day=today", role="read")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.is_visible(".bar")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf()[:5] == b"%PDF-"
