"""A feed that plays moods on request, and a browser to look at the wall with."""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streamtag.engine import events
from streamtag.feed.event_encoder import TaggerInfo
from streamtag.model.bundle import read_card
from streamtag.model.shipped import default_bundle
from support.web_server import RATE, SECONDS, START_NS, Feed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSER = "chromium"
FLAGS = [
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-rasterization",
    "--disable-accelerated-2d-canvas",
    "--disable-gpu-compositing",
]
"""A machine without a graphics card draws WebGL, and nothing else, by emulating one."""
Open = Callable[..., "Page"]
TAGGER = "default"
REASON = events.Reason


class Stage(Feed):
    """A feed whose streams are tagged by the default model, whose tags a test chooses.

    Args:
        path: of the journal.
        more: further tags that the model says it has.
    """

    def __init__(self, path: Path, more: tuple[str, ...] = ()) -> None:
        super().__init__(path)
        self.tags = (*self.known_tags(), *more)
        self.wire.taggers[TAGGER] = TaggerInfo(self.tags)
        self._on: dict[str, dict[str, int]] = {}
        self._at: dict[str, int] = {}

    @staticmethod
    def known_tags() -> tuple[str, ...]:
        """The tags of the default model."""
        return read_card(default_bundle()).tags

    def up(self, stream: str, epoch_ns: int = START_NS) -> list[events.Event]:
        self._on[stream], self._at[stream] = {}, 0
        opened = events.StreamOpened(stream, 0, RATE, epoch_ns, (TAGGER,))
        return self.publish(opened)

    def play(
        self, stream: str, mood: tuple[float, float, float], tags: Mapping[str, float]
    ) -> None:
        """Switches tags on and off, and publishes valence, arousal and certainty."""
        at = self._at[stream] = self._at[stream] + RATE
        now, on = self._on[stream], []
        for tag in [tag for tag in now if tag not in tags]:
            since = now.pop(tag)
            on.append(
                events.TagEnded(stream, TAGGER, tag, at, at, since, 0.9, REASON.BELOW_THRESHOLD)
            )
        for tag in tags.keys() - now.keys():
            now[tag] = at
            on.append(events.TagStarted(stream, TAGGER, tag, at, at, tags[tag], False))
        values = tuple(tags.get(tag, 0.01) for tag in self.tags)
        scores = events.WindowScored(stream, TAGGER, at - RATE, at, values, values, False)
        self.publish(*on, scores, events.MoodUpdated(stream, TAGGER, at, *mood))

    def wander(self, stream: str, mood: tuple[float, float, float]) -> None:
        """Ten minutes on the mood plane that end near a mood."""
        for i in range(300, 0, -1):
            at = self._at[stream] = self._at.get(stream, 0) + 2 * RATE
            share = i / 300
            v = mood[0] * (1 - share) + 0.3 * share * math.sin(i / 31) + 0.12 * math.sin(i / 13)
            a = mood[1] * (1 - share) + 0.4 * share * math.cos(i / 23) + 0.1 * math.sin(i / 17 + 1)
            self.publish(events.MoodUpdated(stream, TAGGER, at, v, a, 0.7))

    def title(self, stream: str, title: str) -> None:
        self.publish(events.TitleChanged(stream, self._at[stream], title))

    def silence(self, stream: str) -> None:
        self.play(stream, (0.0, -0.5, 0.1), {})
        at = self._at[stream]
        self.publish(events.SilenceStarted(stream, at, at))

    def sound(self, stream: str) -> None:
        """The silence ends."""
        at = self._at[stream] = self._at[stream] + RATE
        self.publish(events.SilenceEnded(stream, at, at, at - RATE))

    def lose(self, stream: str) -> None:
        """The source cannot be reached, and the stream ends."""
        at, detail = self._at[stream], "Connection refused"
        self.play(stream, (0.0, 0.0, 0.1), {})
        self.publish(
            events.StreamClosed(stream, at, REASON.STREAM_LOST, detail),
            events.SourceStatusChanged(
                stream, 0, events.SourceState.RETRYING, events.Cause.REFUSED, detail, 8.0
            ),
        )


def wait_until(page: "Page", expression: str, hurry: int = 0) -> None:
    """Waits until a JavaScript expression is true; Playwright's own way needs `eval`, which the
    pages' policy forbids. The page's clock, if it was installed, jumps by `hurry` milliseconds at
    every look."""
    deadline = time.monotonic() + SECONDS
    while not _is_true(page, expression):
        assert time.monotonic() < deadline, f"{expression}; there is {page.inner_text('body')!r}"
        if hurry:
            page.clock.fast_forward(hurry)
        page.wait_for_timeout(50)


def _is_true(page: "Page", expression: str) -> bool:
    from playwright.sync_api import Error

    try:
        return bool(page.evaluate(expression))
    except Error as error:
        if "navigation" not in str(error):
            raise
        return False  # the page is just loading


@contextmanager
def browsing() -> Iterator["Browser"]:
    """Debian's Chromium; skips a test where it or Playwright is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which(BROWSER)
    if path is None:
        pytest.skip(f"{BROWSER} is not installed; `.ci/peers` installs it")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opening_pages(browser: "Browser", **usual: Any) -> Iterator[Open]:
    """Opens pages; fails if one of them writes an error or asks another server for something."""
    faults: list[str] = []
    with ExitStack() as stack:

        def open_one(url: str, *, lost: bool = False, **options: Any) -> "Page":
            """`lost`: the server goes away meanwhile, which the browser itself reports."""
            options = {"locale": "en", "reduced_motion": "reduce"} | usual | options
            page = browser.new_page(**options)
            stack.callback(page.close)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "console",
                lambda line: (
                    faults.append(line.text)
                    if line.type in ("error", "warning")
                    and not (lost and "Failed to load resource" in line.text)
                    and not (lost and "WebSocket connection to" in line.text)
                    and "GPU stall due to ReadPixels" not in line.text  # without a graphics card
                    else None
                ),
            )
            origin = "/".join(url.split("/")[2:3])
            page.on(
                "request",
                lambda asked: (
                    None
                    if asked.url.partition("://")[2].startswith(origin + "/")
                    or asked.url.startswith(f"blob:http://{origin}/")
                    else faults.append(asked.url)
                ),
            )
            page.clock.install()
            page.goto(url)
            return page

        yield open_one
        assert faults == []
