"""The pages of sign-in, settings, alerts and control, which the server writes.

Their forms work without JavaScript. All texts are escaped (`html.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import available_timezones

from streamtag.bridges.web.html import Html, element, join
from streamtag.bridges.web.parameters import chosen_zone
from streamtag.bridges.web.sessions import Role, Session
from streamtag.bridges.web.texts import LANGUAGES, Texts

OWN_NAMES = {"de": "Deutsch", "en": "English", "es": "Español", "fr": "Français"}
STEP = 0.01
"""Of the slider for a threshold."""


@dataclass(frozen=True, slots=True)
class PageView:
    """How a page is shown."""

    texts: Texts
    static: str
    """Address of the pages' files."""
    chosen: Mapping[str, str]
    """What somebody chose on the page of settings."""


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """What the page of control shows about thresholds."""

    stream: str
    tagger: str
    tag: str
    on: float | None
    taggers: Iterable[str]
    tags: Mapping[str, str]
    """Names by tag."""
    preview: Mapping[str, Any] | None
    """As `/api/control/preview` has it."""
    picture: Html
    fault: str = ""
    """Why there is no preview."""


@dataclass(frozen=True, slots=True)
class FormOutcome:
    """What came of a form of the page of control."""

    done: str = ""
    fault: str = ""
    trial: str = ""
    """What was heard of a source."""
    name: str = ""
    """Of a new stream, as `source`: both are kept where the page is shown again."""
    source: str = ""


def sign_in_page(view: PageView, fault: str = "", person: str = "") -> str:
    """`/sign-in`. `fault` is the key of what was wrong when this person last tried."""
    texts = view.texts
    name = element(
        "input", id="name", name="name", autocomplete="username", maxlength=40, value=person
    )
    token = element(
        "input", id="token", name="token", type="password", autocomplete="current-password",
        required="", autofocus="" if fault else None,
    )  # fmt: skip
    form = element(
        "form",
        *_labelled(texts["set_name"], "name", name),
        *_labelled(texts["set_token"], "token", token),
        element("button", texts["set_sign_in"], class_="main"),
        id="sign-in",
        class_="fields",
        method="post",
    )
    hint = element("p", texts["set_token_hint"], class_="day")
    return _page(view, "set_sign_in", hint, form, _said(fault and texts[fault], bad=True))


def settings_page(view: PageView, session: Session | None, needed: bool, control: bool) -> str:
    """`/settings`."""
    texts, chosen = view.texts, view.chosen
    zone = "" if chosen.get("own") else chosen.get("zone", "")
    zones = {
        "": texts["set_browser"],
        **{z: z.replace("_", " ") for z in sorted(available_timezones())},
    }
    languages = {
        "": texts["set_browser"],
        **{code: OWN_NAMES.get(code, code) for code in LANGUAGES},
    }
    modes = {"auto": texts["set_device"], "light": texts["set_light"], "dark": texts["set_dark"]}
    clocks = {"": texts["set_usual"], "24": texts["set_24"], "12": texts["set_12"]}
    form = element(
        "form",
        *_labelled(
            texts["set_language"],
            "language",
            _select("language", languages, chosen.get("lang", "")),
        ),
        *_labelled(texts["set_mode"], "mode", _select("mode", modes, chosen.get("mode", "auto"))),
        *_labelled(texts["set_zone"], "zone", _select("zone", zones, zone)),
        *_labelled(texts["set_clock"], "clock", _select("clock", clocks, chosen.get("clock", ""))),
        _hidden("own", ""),
        element("noscript", element("button", texts["set_apply"], class_="main")),
        id="settings",
        class_="fields",
        method="post",
    )
    key = f"set_{session.role}" if session else "set_nobody" if needed else "set_open"
    who = " · ".join(filter(None, (texts[key], session.name if session else "")))
    out = element("button", texts["set_sign_out"], id="sign-out")
    links = [element("form", out, method="post", action="sign-out")] if session else []
    if (control and (session is None or session.role is not Role.CONTROLLER)) or (
        needed and not session
    ):
        links.append(element("a", texts["set_sign_in"], href="sign-in?next=settings&again=1"))
    if control:
        links.append(element("a", texts["set_control"], href="control"))
    access = element(
        "section",
        element("h2", texts["set_access"]),
        element("p", who),
        element("div", join(*links), class_="buttons"),
    )
    hint = element("p", texts["set_here"], class_="day")
    return _page(view, "set_settings", hint, form, access)


def control_page(
    view: PageView, streams: Mapping[str, str], choice: ThresholdChoice, outcome: FormOutcome
) -> str:
    """`/control`. `streams` has the state of each stream for people."""
    said = _said(outcome.fault or outcome.done, bad=bool(outcome.fault))
    sections = [said, _streams(view, streams), _new_stream(view, outcome)]
    return _page(view, "set_control", *sections, _threshold(view, streams, choice))


def _streams(view: PageView, streams: Mapping[str, str]) -> Html:
    texts = view.texts
    titles = [texts[f"set_{name}"] for name in ("stream", "state", "actions")]
    head = element("tr", *[element("th", title, scope="col") for title in titles])
    rows = []
    for name, state in streams.items():
        first = "resume" if state.startswith("paused") else "pause"
        buttons = [
            element(
                "button",
                texts[f"set_{command}"],
                name="command",
                value=command,
                data_sure=texts["set_sure"].format(name=name) if command == "remove" else None,
                aria_label=f"{texts[f'set_{command}']}: {name}",
            )
            for command in (first, "remove")
        ]
        form = element("form", _hidden("name", name), *buttons, method="post")
        cells = element("th", name, scope="row"), element("td", state), element("td", form)
        rows.append(element("tr", *cells))
    caption = element("caption", texts["set_streams"])
    table = element("table", caption, element("thead", head), element("tbody", *rows))
    return element("section", table)


def _new_stream(view: PageView, outcome: FormOutcome) -> Html:
    texts = view.texts
    name = element(
        "input", id="name", name="name", required="", pattern=r"[A-Za-z0-9._\-]{1,64}",
        autocomplete="off", spellcheck="false", value=outcome.name,
    )  # fmt: skip
    source = element(
        "input", id="source", name="source", required="", placeholder="https://…",
        autocomplete="off", spellcheck="false", value=outcome.source,
    )  # fmt: skip
    trial = element(
        "button", texts["set_try"], id="try", name="command", value="try", formnovalidate="",
        autofocus="" if outcome.trial else None, data_wait=texts["set_trying"],
    )  # fmt: skip
    add = element("button", texts["set_add"], class_="main", name="command", value="add")
    buttons = element("div", trial, add, class_="buttons")
    form = element(
        "form",
        *_labelled(texts["set_stream_name"], "name", name),
        *_labelled(texts["set_source"], "source", source),
        buttons,
        class_="fields",
        method="post",
    )
    trial_line = element("p", outcome.trial, id="trial", role="status")
    return element("section", element("h2", texts["set_add"]), form, trial_line)


def _threshold(view: PageView, streams: Mapping[str, str], choice: ThresholdChoice) -> Html:
    """Two forms that ask the server for this page again, and a button to apply the threshold."""
    texts = view.texts
    names = {name: name for name in streams}
    pick = element(
        "form",
        *_labelled(texts["set_stream"], "stream", _select("stream", names, choice.stream)),
        element("button", texts["set_choose"]),
        class_="fields",
    )
    parts = [
        element("h2", texts["set_threshold"]),
        element("p", texts["set_threshold_hint"], class_="hint"),
        pick,
    ]
    if choice.tags:
        parts.append(_tag_form(view, choice))
    if choice.fault:
        parts.append(element("p", choice.fault, class_="bad"))
    if choice.preview is not None:
        parts += _effect(view, choice, choice.preview)
    return element("section", *parts)


def _tag_form(view: PageView, choice: ThresholdChoice) -> Html:
    texts, taggers = view.texts, {name: name for name in choice.taggers}
    on = element(
        "input", id="on", name="on", type="number", min=STEP, max=1 - STEP, step=STEP, required="",
        value=f"{choice.on:.2f}" if choice.on else "0.50",
    )  # fmt: skip
    return element(
        "form",
        element("input", type="hidden", name="stream", value=choice.stream),
        *_labelled(texts["set_tagger"], "tagger", _select("tagger", taggers, choice.tagger)),
        *_labelled(texts["set_tag"], "tag", _select("tag", choice.tags, choice.tag)),
        *_labelled(texts["set_on"], "on", on),
        element("button", texts["set_preview"]),
        class_="fields",
    )


def _effect(view: PageView, choice: ThresholdChoice, found: Mapping[str, Any]) -> list[Html]:
    """What was and would have been in the last hour, and the button that applies it."""
    texts = view.texts

    def words(key: str, summary: Mapping[str, Any]) -> str:
        minutes = f"{summary['seconds'] / 60:.1f}"
        return texts[key].format(times=summary["times"], minutes=minutes)

    would = words("set_would", found["would"]) if found["kept"] else texts["set_no_scores"]
    present = texts["set_present"].format(on=f"{found['threshold']:.2f}")
    values = {"name": choice.stream, "tagger": choice.tagger, "tag": choice.tag, "on": choice.on}
    fields = [_hidden(key, value) for key, value in values.items()]
    button = element("button", texts["set_apply"], class_="main", name="command", value="threshold")
    line = " ".join((present, words("set_was", found["was"]), would))
    return [
        element("p", line, id="effect"),
        choice.picture,
        element("form", *fields, button, method="post"),
    ]


def alerts_page(
    view: PageView, alerts: Iterable[Mapping[str, Any]], may_control: bool, fault: str = ""
) -> str:
    """`/alerts`. `fault` says why the last form had no effect."""
    texts, said = view.texts, _said(fault, bad=True)
    rows = [_alert_row(view, alert, may_control) for alert in alerts]
    if not rows:
        return _page(view, "alerts", element("p", texts["alerts_none"]), said)
    names = ("alerts_what", "alerts_since", "alerts_streams", "alerts_seen")
    heads = [element("th", texts[name], scope="col") for name in names]
    table = element(
        "table",
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        class_="alerts",
    )
    return _page(view, "alerts", element("div", table, class_="wide"), said)


def _alert_row(view: PageView, alert: Mapping[str, Any], may_control: bool) -> Html:
    texts = view.texts
    seen: str = ": ".join(filter(None, (alert["acknowledged_by"], alert["note"])))
    if not seen and may_control:
        button = element("button", texts["alerts_ack"], name="command", value="ack")
        form = element("form", _hidden("alert", alert["id"]), button, method="post")
        cell = element("td", form)
    else:
        cell = element("td", seen)
    links = [element("a", name, href=f"stream/{quote(name, safe='')}") for name in alert["streams"]]
    streams = [part for link in links for part in (", ", link)][1:]
    return element(
        "tr",
        element("td", element("b", alert["alert"]), alert["detail"]),
        element("td", _moment(view, alert["since_utc"]), class_="time"),
        element("td", *streams),
        cell,
        class_=alert["severity"],
    )


def _moment(view: PageView, utc: str) -> str:
    """A moment in the chosen time zone and clock, with the zone's name."""
    zone = chosen_zone(view.chosen.get("zone", ""))
    clock = "%I:%M %p" if view.chosen.get("clock") == "12" else "%H:%M"
    return datetime.fromisoformat(utc).astimezone(zone).strftime(f"%Y-%m-%d {clock} %Z")


def _labelled(text: str, id: str, field: Html) -> tuple[Html, Html]:
    return element("label", text, for_=id), field


def _select(name: str, options: Mapping[str, str], chosen: str) -> Html:
    return element(
        "select",
        *[
            element("option", text, value=value, selected="" if value == chosen else None)
            for value, text in options.items()
        ],
        id=name,
        name=name,
    )


def _hidden(name: str, value: object) -> Html:
    return element("input", type="hidden", name=name, value=value)


def _said(text: str, *, bad: bool) -> Html:
    """The line in which a page says what came of a form; screen readers read it."""
    role, kind = ("alert", "bad") if text and bad else ("status", None)
    return element("p", text, id="said", role=role, class_=kind)


def _page(view: PageView, title: str, *content: Html) -> str:
    texts = view.texts
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{texts[title]} – streamtag"),
        element("link", rel="icon", href=f"{view.static}/icon.svg"),
        element("link", rel="stylesheet", href=f"{view.static}/plain.css"),
        element("script", type="module", src=f"{view.static}/plain.js"),
    )
    nav = element(
        "nav", element("a", texts["set_settings"], href="settings"), aria_label="streamtag"
    )
    bar = element("header", element("a", "streamtag", href=".", class_="home"), nav, class_="bar")
    main = element("main", element("h1", texts[title]), *content)
    mode = view.chosen.get("mode", "auto")
    body = element("body", bar, main, class_="plain")
    return "<!doctype html>\n" + element(
        "html",
        head,
        body,
        lang=texts.language,
        data_mode=mode if mode in ("light", "dark") else "auto",
    )
