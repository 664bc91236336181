"""The addresses of reports."""

import asyncio
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from streamtag.bridges.state_bridge import TagVocabulary
from streamtag.bridges.web.access import rights_of
from streamtag.bridges.web.hub import FeedHub
from streamtag.bridges.web.pages import Pages
from streamtag.bridges.web.parameters import (
    check_names,
    chosen_zone,
    error_response,
    read_settings,
    single,
)
from streamtag.bridges.web.report_page import ReportView, read_report, report_page
from streamtag.bridges.web.texts import Texts, best_language
from streamtag.feed.rights import Rights
from streamtag.history.days import find_zone, parse_day
from streamtag.history.history import History
from streamtag.history.report import StreamReport

MODES = ("light", "dark", "auto")


class Reports:
    """Answers `GET /report/STREAM`. The journal's path is None if it is not known."""

    def __init__(
        self, hub: FeedHub, journal: Path | None, vocabulary: TagVocabulary | None, pages: Pages
    ) -> None:
        self._hub, self._journal, self._vocabulary, self._pages = hub, journal, vocabulary, pages
        self._one_at_a_time = asyncio.Semaphore(1)

    async def report(self, request: Request) -> Response:
        """`GET /report/STREAM`."""
        check_names(request.query_params, ("day", "tz", "lang", "mode"))
        stream, view = request.path_params["stream"], self._view(request)
        if self._journal is None:
            return error_response(404, "report", "feed.journal in the configuration", "none")
        async with self._one_at_a_time:
            rights = rights_of(request)
            answer = await asyncio.to_thread(self._read, self._journal, stream, view, rights)
        if isinstance(answer, Response):
            return answer
        return HTMLResponse(report_page(answer, view), headers=self._pages.written_headers)

    def _view(self, request: Request) -> ReportView:
        params, chosen = request.query_params, read_settings(request.cookies)
        zone = single(params, "tz", find_zone) or chosen_zone(chosen.get("zone", ""))
        now = time.time_ns()
        day = single(params, "day", lambda text: parse_day(text, zone, now))
        language = single(params, "lang", str) or chosen.get("lang", "")
        mode = single(params, "mode", str) or chosen.get("mode", "")
        return ReportView(
            day or parse_day("today", zone, now),
            zone,
            now,
            Texts(best_language(language, request.headers.get("accept-language", ""))),
            mode if mode in MODES else "auto",
            chosen.get("clock") == "12",
            f"../static/{self._pages.version}",
        )

    def _read(
        self, journal: Path, stream: str, view: ReportView, rights: Rights
    ) -> StreamReport | Response:
        history = History(journal)
        try:
            known = [name for name in history.streams() if rights.sees(f"event/{name}/")]
            if stream not in known:
                expected = f"one of the streams {', '.join(known) or 'none'}"
                return error_response(404, "stream", expected, stream)
            return read_report(history, stream, view, self._categories(stream), rights)
        finally:
            history.close()

    def _categories(self, stream: str) -> dict[str, str]:
        if self._vocabulary is None:
            return {}
        states = self._hub.states
        taggers = states[stream].taggers if stream in list(states) else ()
        described = self._vocabulary.descriptions(stream, taggers)
        return {tag: about["category"] for tag, about in described.items()}
