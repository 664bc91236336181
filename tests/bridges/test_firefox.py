"""Every page in Debian's Firefox: it loads, is live, writes no error, asks no other server."""

from collections.abc import Iterator

import pytest
from support.control_desk import MINUTES, Hour, controlled
from support.firefox import Firefox, firefox
from support.raised import cleared, raised
from support.web_server import RATE, Server

from streamtag.engine import events

SIGN_IN = """document.getElementById("token").value = "change";
document.getElementById("sign-in").requestSubmit();"""
LIVE = {
    "/": "document.querySelector('.row')?.dataset.state === '{state}'",
    "/stream/radio1": "document.getElementById('state').dataset.state === '{state}'",
    "/wall/radio1?theme=field": "document.body.dataset.scene === '{scene}'",
    "/wall/radio1?theme=constellation": "document.body.dataset.scene === '{scene}'",
    "/wall/radio1?theme=type": "document.body.dataset.scene === '{scene}'",
}
"""What is true of each page in a state of the stream."""
WRITTEN = {
    "/report/radio1?day=today": "radio1",
    "/settings": "Settings",
    "/control?stream=radio1&tagger=default&tag=piano&on=0.7": "Control",
    "/sign-in?again=1": "Sign in",
}
"""The headings of the pages that the server writes."""


@pytest.fixture(scope="module")
def fox() -> Iterator[Firefox]:
    with firefox() as fox:
        yield fox


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hour]:
    feed = Hour(tmp_path_factory.mktemp("firefox") / "j.db")
    yield feed
    feed.close()


@pytest.fixture(scope="module")
def server(fox: Firefox, feed: Hour) -> Iterator[Server]:
    """With a Firefox that has signed in."""
    with controlled(feed.journal.parent, feed) as (server, _):
        fox.open(f"{server.url}/sign-in")
        fox.evaluate(SIGN_IN)
        fox.wait_until("location.pathname === '/'")
        yield server


@pytest.fixture(autouse=True)
def _nothing_strange(fox: Firefox, server: Server) -> Iterator[None]:
    fox.errors.clear()
    fox.requests.clear()
    yield
    assert not fox.errors
    assert [url for url in fox.requests if not url.startswith(f"{server.url}/")] == []


@pytest.mark.parametrize("path", LIVE)
def test_a_page_follows_the_feed(fox: Firefox, server: Server, feed: Hour, path: str) -> None:
    fox.open(server.url + path)
    fox.wait_until(LIVE[path].format(state="up", scene="uncertain"))
    at = (MINUTES * 60 + 10 * list(LIVE).index(path)) * RATE
    feed.publish(events.SilenceStarted("radio1", at, at))
    fox.wait_until(LIVE[path].format(state="silent", scene="silence"))
    feed.publish(events.SilenceEnded("radio1", at + RATE, at + RATE, at))
    fox.wait_until(LIVE[path].format(state="up", scene="uncertain"))


def test_parts_that_the_server_writes(fox: Firefox, server: Server, feed: Hour) -> None:
    feed.derive(raised("quiet", "no sound", ("radio1",)))
    fox.open(server.url)
    fox.wait_until("document.querySelector('#alerts li .detail')?.innerText === 'no sound'")
    fox.wait_until("document.querySelector('#alerts li > a').pathname === '/stream/radio1'")
    feed.derive(cleared("quiet", ("radio1",)))
    fox.wait_until("document.getElementById('alerts').hidden")


def test_a_form_of_the_server(fox: Firefox, server: Server) -> None:
    fox.open(f"{server.url}/control")
    fox.evaluate("document.querySelector('[value=pause]').click()")
    fox.wait_until("document.getElementById('said')?.innerText === 'Done.'")


@pytest.mark.parametrize("path", WRITTEN)
def test_a_page_of_the_server(fox: Firefox, server: Server, path: str) -> None:
    fox.open(server.url + path)
    fox.wait_until(f"document.querySelector('h1').innerText === '{WRITTEN[path]}'")
    fox.wait_until("document.styleSheets.length > 0")
