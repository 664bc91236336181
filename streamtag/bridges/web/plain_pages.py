"""The pages of sign-in, settings and control. The server writes them; `plain.js` sends their forms.

A button or form with `data-command` is sent to `/api/control`. All texts are escaped (`html.py`).
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


def sign_in_page(view: PageView, session: Session | None) -> str:
    """`/sign-in`. `data-role` says who has signed in already."""
    texts = view.texts
    name = element("input", id="name", autocomplete="username", maxlength=40)
    token = element(
        "input", id="token", type="password", autocomplete="current-password", required=""
    )
    form = element(
        "form",
        *_labelled(texts["set_name"], "name", name),
        *_labelled(texts["set_token"], "token", token),
        element("button", texts["set_sign_in"], class_="main"),
        id="sign-in",
        class_="fields",
        data_role=session.role if session else None,
        data_wrong=texts["set_wrong"],
        data_reader=texts["set_only_reader"],
        data_wait=texts["set_wait"],
    )
    hint = element("p", texts["set_token_hint"], class_="day")
    return _page(view, "set_sign_in", hint, form, _said(view))


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
        id="settings",
        class_="fields",
    )
    key = f"set_{session.role}" if session else "set_nobody" if needed else "set_open"
    who = " · ".join(filter(None, (texts[key], session.name if session else "")))
    links = [element("button", texts["set_sign_out"], id="sign-out")] if session else []
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
        element("p", join(*links), class_="buttons"),
    )
    hint = element("p", texts["set_here"], class_="day")
    return _page(view, "set_settings", hint, form, _said(view), access)


def control_page(view: PageView, streams: Mapping[str, str], choice: ThresholdChoice) -> str:
    """`/control`. `streams` has the state of each stream for people."""
    sections = [_said(view), _streams(view, streams), _new_stream(view)]
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
                data_command=command,
                data_name=name,
                data_sure=texts["set_sure"].format(name=name) if command == "remove" else None,
                aria_label=f"{texts[f'set_{command}']}: {name}",
            )
            for command in (first, "remove")
        ]
        cells = element("th", name, scope="row"), element("td", state), element("td", *buttons)
        rows.append(element("tr", *cells))
    caption = element("caption", texts["set_streams"])
    table = element("table", caption, element("thead", head), element("tbody", *rows))
    return element("section", table)


def _new_stream(view: PageView) -> Html:
    texts = view.texts
    name = element(
        "input", id="name", name="name", required="", pattern=r"[A-Za-z0-9._\-]{1,64}",
        autocomplete="off", spellcheck="false",
    )  # fmt: skip
    source = element(
        "input", id="source", name="source", required="", placeholder="https://…",
        autocomplete="off", spellcheck="false",
    )  # fmt: skip
    words = {f"data_{name}": texts[f"set_trial_{name}"] for name in ("good", "bad")}
    trial = element("button", texts["set_try"], type="button", id="try", **words)
    buttons = element(
        "div", trial, element("button", texts["set_add"], class_="main"), class_="buttons"
    )
    form = element(
        "form",
        *_labelled(texts["set_stream_name"], "name", name),
        *_labelled(texts["set_source"], "source", source),
        buttons,
        class_="fields",
        data_command="add",
    )
    trial_line = element("p", id="trial", role="status", data_wait=texts["set_trying"])
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
    button = element(
        "button",
        texts["set_apply"],
        class_="main",
        data_command="threshold",
        **{f"data_{key}": value for key, value in values.items()},
    )
    line = " ".join((present, words("set_was", found["was"]), would))
    return [element("p", line, id="effect"), choice.picture, element("p", button)]


def alerts_page(view: PageView, alerts: Iterable[Mapping[str, Any]], may_control: bool) -> str:
    """`/alerts`."""
    texts = view.texts
    rows = [_alert_row(view, alert, may_control) for alert in alerts]
    if not rows:
        return _page(view, "alerts", element("p", texts["alerts_none"]), _said(view))
    names = ("alerts_what", "alerts_since", "alerts_streams", "alerts_seen")
    heads = [element("th", texts[name], scope="col") for name in names]
    table = element(
        "table",
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        class_="alerts",
    )
    return _page(view, "alerts", element("div", table, class_="wide"), _said(view))


def _alert_row(view: PageView, alert: Mapping[str, Any], may_control: bool) -> Html:
    texts = view.texts
    seen: str = ": ".join(filter(None, (alert["acknowledged_by"], alert["note"])))
    if not seen and may_control:
        button = element("button", texts["alerts_ack"], data_command="ack", data_alert=alert["id"])
        cell = element("td", button)
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


def _said(view: PageView) -> Html:
    """The line in which a page says what came of something; screen readers read it."""
    texts = view.texts
    return element(
        "p", id="said", role="status", data_offline=texts["offline"], data_done=texts["set_done"]
    )


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
