"""What a person with the control token may do: through the daemon's own control socket.

Nothing here is possible without `[web] control = true`. Every action is logged with who did it.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from streamtag.bridges.state_bridge import TagVocabulary
from streamtag.bridges.web.access import read_form, read_json, who
from streamtag.bridges.web.html import Html, element
from streamtag.bridges.web.hub import FeedHub
from streamtag.bridges.web.pages import Pages
from streamtag.bridges.web.parameters import (
    BadParameter,
    check_names,
    checked,
    error_response,
    single,
)
from streamtag.bridges.web.personal import page_view
from streamtag.bridges.web.plain_pages import FormOutcome, ThresholdChoice, control_page
from streamtag.bridges.web.sessions import Role, Session
from streamtag.bridges.web.texts import Texts
from streamtag.config.config import parse_config
from streamtag.config.control_socket import send_command
from streamtag.config.stream import StreamConfig
from streamtag.errors import ConfigError, ControlError, StreamtagError, complaint
from streamtag.history.history import History
from streamtag.history.intervals import HOUR, Interval, within
from streamtag.history.threshold_preview import read_scores, replay_switch
from streamtag.history.timeline import read_timeline

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.5
"""The feed says soon after the daemon's answer what has changed."""
TIMEOUT_SECONDS = 180.0
"""A change may have to load models."""
ANSWER_SECONDS = 10.0
"""A question has an answer at once."""
NO_SOURCE = ("stdin",)
"""Kinds of sources that only the daemon's own starter can give."""
NAMES = ("stream", "tagger", "tag")
"""Parameters that name a tag."""
WIDTH, HEIGHT = 1000, 160
"""Of the picture's curve."""
GREY, ORANGE = "#7d8894", "#d2601a"
"""What was, and what would have been."""
KEYS = {
    "pause": ("name",),
    "resume": ("name",),
    "remove": ("name",),
    "add": ("name", "source"),
    "try": ("source",),
    "threshold": ("name", "tagger", "tag", "on"),
    "ack": ("alert",),
}
"""The commands and what each needs."""


class Control:
    """Answers `/control`, `/api/control` and `/api/control/preview`.

    Args:
        hub: knows the streams.
        pages: their files.
        socket: path of the daemon's control socket.
        journal: its path; None if it is not known.
        vocabulary: tags and categories in the models' cards; None if they cannot be read.
        folder: of the configuration, to which paths of sources are relative.
    """

    def __init__(
        self,
        hub: FeedHub,
        pages: Pages,
        socket: Path,
        journal: Path | None,
        vocabulary: TagVocabulary | None,
        folder: Path,
    ) -> None:
        self._hub, self._pages = hub, pages
        self._socket, self._journal, self._folder = socket, journal, folder
        self._vocabulary = vocabulary
        self._one_at_a_time, self._trials = asyncio.Semaphore(1), asyncio.Semaphore(1)

    async def command(self, request: Request) -> Response:
        """`POST /api/control`."""
        if refusal := _refusal(request):
            return refusal
        body = await read_json(request)
        try:
            result = await self._obey(request, body)
        except ControlError as error:
            kind = str(body["command"])
            return error_response(409, kind, "a command that the daemon accepts", str(error))
        return JSONResponse({"result": result})

    async def obey_form(self, request: Request, form: Mapping[str, str]) -> str:
        """Sends what a form says to the daemon; returns why that was not possible, or nothing.

        Afterwards the feed has probably said what became of it, and a page can show it.
        """
        if _refusal(request):
            return page_view(request, self._pages).texts["set_only_reader"]
        try:
            await self._obey(request, form)
        except (BadParameter, ControlError) as error:
            return str(error)
        await asyncio.sleep(SETTLE_SECONDS)
        return ""

    async def _obey(self, request: Request, body: Mapping[str, Any]) -> Any:
        """Sends a command to the daemon; returns what it answers.

        Raises:
            BadParameter: it is no command, or its values are not valid.
            ControlError: the daemon refuses it.
        """
        kind = body.get("command")
        if not isinstance(kind, str) or kind not in KEYS:
            raise BadParameter("command", f"one of {', '.join(KEYS)}", str(kind))
        values = {key: body.get(key) for key in KEYS[kind]}
        person, said = who(request, request.state.session), json.dumps(values)[:500]
        if kind == "ack":
            values["by"] = person
        try:
            work = self._work(kind, values)
            async with self._trials if kind == "try" else self._one_at_a_time:
                result = await asyncio.to_thread(work)
        except ControlError as error:
            log.warning("control: %s: %s %s refused: %s", person, kind, said, error)
            raise
        log.info("control: %s: %s %s", person, kind, said)
        return result

    async def preview(self, request: Request) -> Response:
        """`GET /api/control/preview`."""
        if refusal := _refusal(request):
            return refusal
        params = request.query_params
        check_names(params, ("stream", "tagger", "tag", "on"))
        stream, tagger, tag = (single(params, key, str) or "" for key in NAMES)
        if (on := single(params, "on", read_threshold)) is None:
            raise BadParameter("on", "a threshold", "none")
        return JSONResponse(await self._look(stream, tagger, tag, on))

    async def page(self, request: Request) -> Response:
        """`GET` and `POST /control`."""
        if _refusal(request):
            there = f"control?{request.url.query}" if request.url.query else "control"
            return RedirectResponse(f"sign-in?for=control&next={quote(there)}", 303)
        params = request.query_params
        check_names(params, ("stream", "tagger", "tag", "on", "done"))
        view, states = page_view(request, self._pages), self._hub.states
        outcome = FormOutcome(view.texts["set_done"] if params.get("done") else "")
        if request.method == "POST":
            form = await read_form(request)
            outcome = await self._outcome(request, form, view.texts)
            if not (outcome.fault or outcome.trial):
                return RedirectResponse(f"control?{urlencode({**params, 'done': '1'})}", 303)
        streams = {
            name: ", ".join(filter(None, (one.status, one.cause, one.detail)))
            for name, one in ((name, states[name]) for name in sorted(states))
        }
        stream, tagger, tag = (single(params, key, str) or "" for key in NAMES)
        if stream not in streams:
            stream = next(iter(streams), "")
        taggers = states[stream].taggers if stream else ()
        names = self._names(stream, taggers, view.texts)
        on, found, fault = single(params, "on", read_threshold), None, ""
        if on is not None and tag:
            try:
                found = await self._look(stream, tagger, tag, on)
            except BadParameter as error:
                fault = str(error)
        drawn = picture(found) if found and found["kept"] else Html("")
        choice = ThresholdChoice(stream, tagger, tag, on, taggers, names, found, drawn, fault)
        page = control_page(view, streams, choice, outcome)
        return HTMLResponse(page, headers=self._pages.written_headers)

    async def _outcome(
        self, request: Request, form: Mapping[str, str], texts: Texts
    ) -> FormOutcome:
        """What comes of a form of the page."""
        fields = {key: form.get(key, "") for key in KEYS["add"]}
        if form.get("command") != "try":
            return FormOutcome(fault=await self.obey_form(request, form), **fields)
        try:
            return FormOutcome(trial=_said_of(await self._obey(request, form), texts), **fields)
        except BadParameter as error:
            return FormOutcome(trial=str(error), **fields)

    def _names(self, stream: str, taggers: Iterable[str], texts: Texts) -> dict[str, str]:
        """The tags of a stream with their names, by name."""
        if self._vocabulary is None or not stream:
            return {}
        self._vocabulary.refresh()
        found = self._vocabulary.descriptions(stream, taggers, texts.language)
        named = {tag: about["name"] or texts.tag(tag) for tag, about in found.items()}
        return dict(sorted(named.items(), key=lambda one: one[1].lower()))

    async def _look(self, stream: str, tagger: str, tag: str, on: float) -> dict[str, Any]:
        if self._journal is None or self._vocabulary is None:
            raise BadParameter("history", "a journal, and models that can be read", "none")
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._preview, self._journal, stream, tagger, tag, on)

    def _work(self, kind: str, values: dict[str, Any]) -> Callable[[], Any]:
        """What a command does; wrong values are refused at once."""
        for key, value in values.items():
            if key != "on" and not (isinstance(value, str) and value):
                raise BadParameter(key, "a text", str(value))
        if kind in ("add", "try"):
            source = self._check_source(values["source"])
            if kind == "try":
                return lambda: _try(source)
            stream = {"source": values["source"]}
            return lambda: self._send("add", name=values["name"], stream=stream)
        if kind == "ack":
            return lambda: self._send("ack", **values)
        if kind == "threshold":
            on = checked("on", str(values["on"]), read_threshold)
            tuning = {values["tagger"]: {"on_thresholds": {values["tag"]: on}}}
            table = {"streams": {values["name"]: {"tuning": tuning}}}
            return lambda: self._change_threshold(table)
        return lambda: self._send(kind, name=values["name"])

    def _change_threshold(self, table: dict[str, Any]) -> Any:
        result = self._send("set", table=table)
        self._follow_daemon()
        return result

    def _follow_daemon(self) -> None:
        """Takes over what is in force, which may differ from the file."""
        if self._vocabulary is None:
            return
        try:
            table = send_command(self._socket, {"command": "config"}, ANSWER_SECONDS)
            self._vocabulary.follow(parse_config(table, self._folder))
        except StreamtagError as error:
            log.warning("control: the configuration in force is not known: %s", error)

    def _send(self, command: str, **fields: Any) -> Any:
        return send_command(self._socket, {"command": command, **fields}, TIMEOUT_SECONDS)

    def _check_source(self, source: str) -> StreamConfig:
        try:
            stream = StreamConfig.model_validate(
                {"source": source}, context={"folder": self._folder}
            )
        except ValidationError as error:
            words = complaint(dict(error.errors()[0]), StreamConfig)
            raise BadParameter("source", f"another one: {words}", source) from None
        if stream.kind in NO_SOURCE:
            raise BadParameter("source", "one that the daemon can open by itself", source)
        return stream

    def _preview(self, path: Path, stream: str, tagger: str, tag: str, on: float) -> dict[str, Any]:
        """What was, and what would have been, in the last hour."""
        assert self._vocabulary is not None
        self._follow_daemon()
        now = time.time_ns()
        try:
            card, present = self._vocabulary.switch_of(stream, tagger, tag)
            _, wanted = self._vocabulary.switch_of(stream, tagger, tag, on)
        except (ConfigError, ValueError) as error:
            raise BadParameter(
                "tag", "a tag of this tagger, and a fitting threshold", str(error)
            ) from None
        history = History(path)
        try:
            end = now if history.being_written else None
            timeline = read_timeline(history, stream, now - HOUR, now, end)
            scores = read_scores(history, stream, tagger, card.tags, now - HOUR, now)
        finally:
            history.close()
        i = card.tags.index(tag)
        was = within(timeline.on.get((tagger, tag), []), now - HOUR, now)
        return {
            "threshold": round(float(present.high[i]), 6),
            "on": on,
            "off": round(float(wanted.low[i]), 6),
            "from": (now - HOUR) // 10**6,
            "to": now // 10**6,
            "was": _summary(was),
            "kept": bool(scores),
            "would": _summary(replay_switch(scores, wanted)) if scores else None,
            "scores": [(one.end // 10**6, round(one.probabilities[i], 4)) for one in scores],
        }


def picture(found: dict[str, Any]) -> Html:
    """The preview as SVG: probabilities, both thresholds; below them what was and would have been.

    The colours can be seen on light and on dark ground.
    """
    scale = WIDTH / (found["to"] - found["from"])
    points = " ".join(
        f"{(at - found['from']) * scale:.1f},{HEIGHT * (1 - probability):.1f}"
        for at, probability in found["scores"]
    )
    line = element("polyline", points=points, fill="none", stroke=GREY, stroke_width=1.5)
    parts = [line]
    for level, colour in ((found["threshold"], GREY), (found["on"], ORANGE)):
        y = round(HEIGHT * (1 - level), 1)
        parts.append(element("path", d=f"M0 {y}H{WIDTH}", stroke=colour, stroke_width=2))
    for summary, top, colour in ((found["was"], 8, GREY), (found["would"], 22, ORANGE)):
        for begin, end in summary["spans"] if summary else ():
            x, width = (begin - found["from"]) * scale, max(1.0, (end - begin) * scale)
            place = {"x": round(x, 1), "y": HEIGHT + top, "width": round(width, 1), "height": 10}
            parts.append(element("rect", fill=colour, **place))
    box = f"0 0 {WIDTH} {HEIGHT + 36}"
    return element("svg", *parts, viewBox=box, id="curve", aria_hidden="true")


def _said_of(trial: Mapping[str, Any], texts: Texts) -> str:
    """What was heard of a source."""
    if not trial["seconds"]:
        return f"{texts['set_trial_bad']} {trial['cause']}: {trial['detail']}"
    peak = trial["peak_dbfs"]
    level = "-∞ dBFS" if peak is None else f"{peak:.1f} dBFS"
    heard = f"{texts['set_trial_good']} {trial['rate']} Hz"
    return " · ".join(filter(None, (heard, level, trial["title"])))


def _try(source: StreamConfig) -> dict[str, Any]:
    from streamtag.sources.trial import try_source  # decoders and sound cards, seldom needed

    return asdict(try_source(source))


def _refusal(request: Request) -> JSONResponse | None:
    session: Session | None = request.state.session
    if session is not None and session.role is Role.CONTROLLER:
        return None
    return error_response(403, "token", "a sign-in with the control token", "another or none")


def _summary(spans: list[Interval]) -> dict[str, Any]:
    """How often and how long, and the intervals in milliseconds since 1970."""
    return {
        "times": len(spans),
        "seconds": round(sum(b - a for a, b in spans) / 1e9, 1),
        "spans": [(a // 10**6, b // 10**6) for a, b in spans],
    }


def read_threshold(text: str) -> float:
    """A threshold.

    Raises:
        ValueError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ValueError(f"expected a number between 0 and 1, got {text!r}")
    return value
