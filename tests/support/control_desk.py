"""A feed whose journal keeps scores of the last hour, and a daemon that only takes commands."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamtag.config.fields import merge
from streamtag.daemon.control import ControlRequest, ControlServer, SetCommand
from streamtag.engine import events
from streamtag.errors import ControlError
from streamtag.feed.event_encoder import TaggerInfo
from support.wall import TAGGER, Stage
from support.web_server import RATE, Feed, Server, serving

TABLE = 'token = "read"\ncontrol = true\ncontrol_token = "change"\n[control]\nsocket = "{socket}"'
MINUTES = 50
TAG = "piano"


class Hour(Feed):
    """`radio1` has played for the last 50 minutes. The piano comes and goes every ten, and
    nothing else changes."""

    def __init__(self, path: Path, *, scores: bool = True) -> None:
        super().__init__(path, keeps=("event/", "scores/") if scores else ("event/",))
        tags = Stage.known_tags()
        self.wire.taggers[TAGGER] = TaggerInfo(tags)
        self.begun = time.time_ns() - MINUTES * 60 * 10**9
        self.publish(events.StreamOpened("radio1", 0, RATE, self.begun, (TAGGER,)))
        column, some = tags.index(TAG), list[events.Event]()
        for second in range(1, MINUTES * 60, 5):
            values = [0.01] * len(tags)
            values[column] = 0.5 - 0.495 * math.cos(2 * math.pi * second / 600)
            k = second * RATE
            some.append(
                events.WindowScored("radio1", TAGGER, k - RATE, k, (*values,), (*values,), False)
            )
        self.publish(*some)
        on, off = 200 * RATE, 400 * RATE
        why = events.Reason.BELOW_THRESHOLD
        self.publish(
            events.TagStarted("radio1", TAGGER, TAG, on, on, 0.7, False),
            events.TagEnded("radio1", TAGGER, TAG, off, off, on, 0.9, why),
        )


class CommandLog:
    """The control socket of a daemon. It knows `radio1` only, and what was set."""

    def __init__(self, path: Path, feed: Feed) -> None:
        self.feed = feed
        self.requests: list[ControlRequest] = []
        """Without questions."""
        self._config: dict[str, Any] = {"streams": {"radio1": {"source": "http://127.0.0.1:9/x"}}}
        with ThreadPoolExecutor(1) as elsewhere:  # Playwright's loop may run in this thread
            self._server = elsewhere.submit(ControlServer, path, self._take).result()

    def _take(self, request: ControlRequest) -> Future[object]:
        answer: Future[object] = Future()
        if request.command == "config":
            answer.set_result(self._config)
            return answer
        self.requests.append(request)
        if isinstance(request, SetCommand):
            self._config = merge(self._config, request.table)
        if getattr(request, "name", "radio1") in ("radio1", "new"):
            answer.set_result({"done": True})
        else:
            answer.set_exception(ControlError("no stream of this name; there are: radio1"))
        return answer

    def close(self) -> None:
        self._server.close()


@contextmanager
def controlled(folder: Path, feed: Feed) -> Iterator[tuple[Server, CommandLog]]:
    """A web server with control, and what it sends to its daemon."""
    log = CommandLog(folder / "c.sock", feed)
    table = TABLE.format(socket=folder / "c.sock")
    try:
        with serving(folder, feed, folder / "j.db", table) as server:
            yield server, log
    finally:
        log.close()
