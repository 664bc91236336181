"""The page of a report. Nothing in it moves, so it prints and can be sent as one file."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta, tzinfo
from typing import Any
from urllib.parse import quote, urlencode

from streamtag.bridges.state_bridge import known_categories
from streamtag.bridges.web.html import Html, element, join
from streamtag.bridges.web.texts import STATIC, Texts
from streamtag.feed.rights import EVERYTHING, Rights
from streamtag.feed.timestamps import SECOND, minutes_and_seconds, ns_of
from streamtag.history.clips import clips_of
from streamtag.history.days import hours_of_days, local_time
from streamtag.history.history import History
from streamtag.history.intervals import Labelled
from streamtag.history.query import Query
from streamtag.history.report import (
    BOTH,
    CONDITIONS,
    KIND,
    LOST,
    MUSIC,
    SILENCE,
    SPEECH,
    HourReport,
    ReportedAlert,
    ReportedSection,
    Song,
    StreamReport,
    TagReport,
    bare_name,
    by_day,
    make_report,
)
from streamtag.history.report_parts import alerts_of, log_of
from streamtag.history.timeline import read_timeline

MOST_ROWS = 12
"""Tags of each category, at most; the others were on for less."""
CELL, ROW = 10, 12
"""Width of an hour and height of a row in the pictures."""
WIDTH = 1000
"""Width of the bars, in pixels."""
COLUMNS = (MUSIC, BOTH, SPEECH, SILENCE, LOST)
"""The conditions that have a column of minutes."""


@dataclass(frozen=True, slots=True)
class ReportView:
    """How a report is shown."""

    day: date
    """The only or first day."""
    zone: tzinfo
    now: int
    """When it was made, in nanoseconds since 1970."""
    texts: Texts
    mode: str = "auto"
    """`light`, `dark` or `auto`, as the device has it."""
    half_days: bool = False
    """Whether the clock has twelve hours."""
    static: str = ""
    """Address of the pages' files; empty for a file of its own, which has the styles inside."""
    days: int = 1
    """How many days the report is about."""

    @property
    def last(self) -> date:
        """The last day."""
        return self.day + timedelta(days=self.days - 1)

    @property
    def period(self) -> str:
        """The days, as in the names of files."""
        return self.day.isoformat() + (f"_{self.last.isoformat()}" if self.days > 1 else "")

    def moment(self, ns: int) -> str:
        """A moment; with its day if there are several."""
        local = local_time(ns, self.zone)
        return f"{local:%m-%d} {self.clock(ns)}" if self.days > 1 else self.clock(ns)

    def bucket(self, ns: int, *, zone: bool = False) -> str:
        """An hour of the only day, or a day."""
        if self.days == 1:
            return self.clock(ns, zone=zone)
        local = local_time(ns, self.zone)
        return f"{self.texts['report_weekdays'].split()[local.weekday()]} {local:%Y-%m-%d}"

    def clock(self, ns: int, *, zone: bool = False) -> str:
        """A moment as hour and minute."""
        local = local_time(ns, self.zone)
        text = local.strftime("%I:%M %p").lstrip("0") if self.half_days else local.strftime("%H:%M")
        return f"{text} {local:%Z}" if zone else text


def report_page(report: StreamReport, view: ReportView) -> str:
    """The page as HTML."""
    texts = view.texts
    title = f"{report.stream}, {view.period}"
    segments = report.segments
    if view.days > 1:
        report = by_day(report, view.zone)
    main = element(
        "main",
        element("h1", report.stream),
        element("p", _date(view), class_="day"),
        _summary(report, view),
        _day(report, view) if view.days == 1 else Html(""),
        _hours(report, view, segments),
        *[_category(name, rows, report, view) for name, rows in report.tags.items()],
        _log(report.sections, view),
        _songs(report.songs, view),
        _alerts(report, view),
        _clips(report.clips, view),
        _notes(report, view),
    )
    body = element("body", _bar(report, view), main, class_="desk report")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title} – streamtag"),
        *_links(view.static),
    )
    return "<!doctype html>\n" + element(
        "html", head, body, lang=texts.language, data_mode=view.mode
    )


def read_report(
    history: History,
    stream: str,
    view: ReportView,
    categories: Mapping[str, str],
    rights: Rights = EVERYTHING,
) -> StreamReport:
    """The report of a stream's days, by hours."""
    hours = hours_of_days((view.day + timedelta(days=i) for i in range(view.days)), view.zone)
    begin, end = hours[0][0], hours[-1][1]
    running = view.now if history.being_written else None
    intervals = read_timeline(history, stream, begin, end, running)
    seen = {tag for _, tag in intervals.on}
    report = make_report(
        stream, intervals, hours, known_categories(seen) | {**categories}, view.now
    )
    query = Query(frozenset({stream}), since=begin, until=end, rights=rights)
    return replace(
        report,
        alerts=alerts_of(history, stream, begin, end, rights),
        sections=log_of(history, stream, begin, end, rights),
        clips=tuple(clips_of(history, query)),
    )


def _links(static: str) -> list[Html]:
    if not static:
        return [element("style", Html((STATIC / "plain.css").read_text("utf-8")))]
    return [
        element("link", rel="icon", href=f"{static}/icon.svg"),
        element("link", rel="stylesheet", href=f"{static}/plain.css"),
    ]


def _bar(report: StreamReport, view: ReportView) -> Html:
    """The head of the page, which is not printed; a file of its own has none."""
    if not view.static:
        return Html("")
    texts, name = view.texts, quote(report.stream, safe="")
    links = [
        element("a", texts[key], href=f"{name}?{urlencode({'day': day.isoformat()})}", rel=rel)
        for key, rel, day in (
            ("report_before", "prev", view.day - timedelta(days=1)),
            ("report_after", "next", view.day + timedelta(days=1)),
        )
    ]
    form = element(
        "form",
        element("label", texts["report_day"], for_="day"),
        element("input", type="date", id="day", name="day", value=view.day.isoformat()),
        element("button", texts["report_show"]),
        action=name,
    )
    stream = element("a", report.stream, href=f"../stream/{name}")
    home = element("a", "streamtag", href="../", class_="home")
    nav = element("nav", stream, *links, form, aria_label=texts["report_days"])
    return element("header", home, nav, class_="bar")


def _date(view: ReportView) -> str:
    text = _long_date(view.day, view.texts)
    if view.days > 1:
        last = _long_date(view.last, view.texts)
        text = view.texts["report_period"].format(first=text, last=last)
    return f"{text} · {view.zone}"


def _long_date(day: date, texts: Texts) -> str:
    return texts["report_date"].format(
        weekday=texts["report_weekdays"].split()[day.weekday()],
        day=day.day,
        month=texts["report_months"].split()[day.month - 1],
        year=day.year,
    )


def _summary(report: StreamReport, view: ReportView) -> Html:
    """How long each condition lasted."""
    seconds, known = report.seconds, sum(report.seconds.values())
    items = [
        element(
            "div",
            element("dt", _key(name), view.texts[f"report_{name}"]),
            element("dd", _minutes(seconds[name], view), _percent(seconds[name], known)),
        )
        for name in CONDITIONS
        if seconds[name] or name in (MUSIC, SPEECH, SILENCE, LOST)
    ]
    if report.one_sided:
        share = _percent(report.one_sided, report.heard)
        value = element("dd", _minutes(report.one_sided, view), share)
        items.append(element("div", element("dt", view.texts["report_one_sided"]), value))
    return element("dl", *items, class_="summary")


def _key(condition: str) -> Html:
    """The colour of a condition."""
    square = element("rect", width=10, height=10, class_=f"c-{condition}")
    return element("svg", square, class_="key", viewBox="0 0 10 10", aria_hidden="true")


def _percent(part: float, whole: float) -> Html:
    return element("small", f"{100 * part / whole:.1f} %" if whole else "–")


def _minutes(seconds: float, view: ReportView) -> str:
    """A duration. A moment is not rounded to nothing."""
    if 0 < seconds < 30:
        return view.texts["report_moment"]
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return view.texts["minutes"].format(n=minutes)
    return f"{view.texts['hours'].format(n=hours)} {view.texts['minutes'].format(n=minutes)}"


def _day(report: StreamReport, view: ReportView) -> Html:
    """The whole day as one bar."""
    begin, end = report.hours[0].begin, report.hours[-1].end
    scale = WIDTH / (end - begin)
    pieces = _joined(
        (s.text, (s.begin - begin) * scale, (s.end - begin) * scale) for s in report.segments
    )
    bars = [_piece(name, first, after, 60) for name, first, after in pieces]
    texts = [
        element("text", view.clock(hour.begin), x=round((hour.begin - begin) * scale, 1), y=76)
        for hour in report.hours[:: 3 if view.half_days else 2]
    ]
    label = view.texts["report_day_picture"]
    return element(
        "svg",
        *bars,
        *texts,
        class_="strip",
        viewBox=f"0 0 {WIDTH} 80",
        role="img",
        aria_label=label,
    )


def _joined(pieces: Iterable[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Pieces that are too narrow to be seen alone are drawn with the one before."""
    found: list[tuple[str, float, float]] = []
    for name, first, after in pieces:
        if found and (found[-1][0] == name or after - found[-1][1] < 0.25):
            found[-1] = found[-1][0], found[-1][1], after
        else:
            found.append((name, first, after))
    return found


def _piece(condition: str, first: float, after: float, height: int) -> Html:
    return element(
        "rect",
        x=round(first, 2),
        width=round(after - first, 2),
        height=height,
        class_=f"c-{condition}",
    )


def _hours(report: StreamReport, view: ReportView, segments: Sequence[Labelled]) -> Html:
    """The hours, or days, as a table with a bar each. That of a day shows what was when."""
    texts = view.texts
    several = view.days > 1
    names = [texts[f"report_{name}"] for name in COLUMNS]
    titles = [texts["report_day" if several else "report_hour"], "", *names]
    head = element("tr", *[element("th", title, scope="col") for title in titles])
    rows = [
        _hour(
            hour,
            _true_bar(hour, segments) if several else _sorted_bar(hour),
            view.bucket(hour.begin, zone=_doubled(report, hour)),
        )
        for hour in report.hours
    ]
    name = texts["report_by_days" if several else "report_hours"]
    caption = element("caption", name, " ", element("small", texts["report_unit"]))
    table = element("table", caption, element("thead", head), element("tbody", *rows))
    return element("section", table, class_="hours")


def _doubled(report: StreamReport, hour: HourReport) -> bool:
    """Whether the zone must be named, because the clock shows this hour of the day twice."""
    return len(report.hours) > 24 and any(
        0 < abs(other.begin - hour.begin) <= 3600 * SECOND for other in report.hours
    )


def _sorted_bar(hour: HourReport) -> list[Html]:
    """The conditions of an hour, one after the other."""
    whole, first, bars = (hour.end - hour.begin) / SECOND, 0.0, []
    for name in CONDITIONS:
        after = first + hour.seconds[name] / whole * 300
        if after > first:
            bars.append(_piece(name, first, after, ROW))
        first = after
    return bars


def _true_bar(day: HourReport, segments: Sequence[Labelled]) -> list[Html]:
    """The conditions of a day, where they were."""
    scale = 300 / (day.end - day.begin)
    first = bisect_left(segments, day.begin, key=lambda s: s.end)
    after = bisect_left(segments, day.end, key=lambda s: s.begin)
    pieces = _joined(
        (
            s.text,
            (max(s.begin, day.begin) - day.begin) * scale,
            (min(s.end, day.end) - day.begin) * scale,
        )
        for s in segments[first:after]
    )
    return [_piece(name, begin, end, ROW) for name, begin, end in pieces if begin < end]


def _hour(hour: HourReport, bars: Sequence[Html], name: str) -> Html:
    bar = element(
        "svg", *bars, viewBox=f"0 0 300 {ROW}", preserveAspectRatio="none", aria_hidden="true"
    )
    passed = sum(hour.seconds.values()) > 0
    cells = [element("td", _number(hour.seconds[name]) if passed else "") for name in COLUMNS]
    return element("tr", element("th", name, scope="row"), element("td", bar), *cells)


def _number(seconds: float) -> str:
    """Minutes, with a place after the point where they are few."""
    if seconds == 0:
        return "·"
    minutes = seconds / 60
    return f"{minutes:.1f}" if minutes < 9.95 else f"{minutes:.0f}"


def _category(name: str, rows: Sequence[TagReport], report: StreamReport, view: ReportView) -> Html:
    """The tags of a category by hour."""
    texts, heard = view.texts, report.heard
    shown = rows if len(rows) <= MOST_ROWS + 1 else rows[: MOST_ROWS + 1]
    titles = [
        texts["report_tag"],
        texts["report_by_hour" if view.days == 1 else "report_by_days"],
        texts["report_share"],
        texts["report_on"],
    ]
    head = element("tr", *[element("th", title, scope="col") for title in titles])
    body = [
        element(
            "tr",
            element("th", texts.tag(row.tag) if row.tag else texts["report_any"], scope="row"),
            element("td", _cells(row, report)),
            element("td", f"{100 * sum(row.on) / heard:.1f} %" if heard else "–"),
            element("td", _minutes(sum(row.on), view)),
            class_=None if row.tag else "any",
        )
        for row in shown
    ]
    more = len(rows) - len(shown)
    note = element("p", texts["report_more"].format(n=more)) if more else Html("")
    table = element(
        "table",
        element("caption", texts.category(name)),
        element("thead", head),
        element("tbody", *body),
    )
    return element("section", table, note, class_="tags")


def _cells(row: TagReport, report: StreamReport) -> Html:
    """The share of each hour as a shade; hours in which nothing was received are crossed out."""
    cells = []
    for i, (on, hour) in enumerate(zip(row.on, report.hours, strict=True)):
        x = i * CELL
        if not hour.heard:
            cells.append(element("path", d=f"M{x + 3} 6h4", class_="none"))
        else:
            cells.append(element("rect", x=x, width=CELL - 1, height=ROW, class_="cell"))
        if hour.heard and on:
            share = round(min(1.0, on / hour.heard), 3)
            cells.append(
                element("rect", x=x, width=CELL - 1, height=ROW, class_="heat", fill_opacity=share)
            )
    width = len(row.on) * CELL
    box = {"viewBox": f"0 0 {width} {ROW}", "preserveAspectRatio": "xMinYMid"}
    return element("svg", *cells, class_="heats", aria_hidden="true", **box)


def _log(sections: Sequence[ReportedSection], view: ReportView) -> Html:
    """The programme log; nothing if there is none."""
    texts = view.texts
    rows = [
        [
            element("td", view.moment(one.begin)),
            element("th", one.title or texts[f"report_{one.kind}"], scope="row"),
            element("td", minutes_and_seconds((one.end - one.begin) / SECOND)),
            element(
                "td", texts[f"report_{one.kind}"], " ", element("small", f"{one.certainty:.2f}")
            ),
            element("td", ", ".join(map(texts.tag, filter(None, (one.genre, *one.moods))))),
            element("td", ", ".join(map(texts.tag, one.instruments))),
        ]
        for one in sections
    ]
    names = [texts[f"report_{key}"] for key in ("from", "title", "length", "kind")]
    names += [texts.category(name) for name in ("genre", "instrument")]
    return _table(texts["report_log"], names, rows)


def _alerts(report: StreamReport, view: ReportView) -> Html:
    """The alerts about the stream with their clips; nothing if there were none."""
    texts = view.texts
    rows = [
        [
            element("td", view.moment(one.since)),
            element("th", one.detail, " ", element("small", one.id), scope="row"),
            element("td", texts["report_holds"] if one.over is None else view.moment(one.over)),
            element("td", one.severity),
            element("td", *_clips_of(one, report.clips, view)),
        ]
        for one in report.alerts
    ]
    names = [texts[f"report_{key}"] for key in ("from", "alert", "until")]
    return _table(texts["report_alerts"], [*names, "", texts["report_clip"]], rows)


def _clips_of(
    alert: ReportedAlert, clips: Sequence[Mapping[str, Any]], view: ReportView
) -> list[Html]:
    """The clips that an alert made."""
    return [
        element("small", _clip_link(clip, clip["file"] or clip["detail"] or clip["stage"], view))
        for clip in clips
        if clip["event"] == f"alert_raised {alert.alert}"
        and (alert.over is None or ns_of(clip["utc"]) <= alert.over)
        and ns_of(clip["utc"]) + clip["seconds"] * SECOND >= alert.since
    ]


def _table(caption: str, names: Sequence[str], rows: Sequence[Sequence[Html]]) -> Html:
    """A table; nothing without rows."""
    if not rows:
        return Html("")
    head = element("thead", element("tr", *[element("th", name, scope="col") for name in names]))
    body = element("tbody", *[element("tr", *cells) for cells in rows])
    table = element("table", element("caption", caption), head, body)
    return element("section", table, class_="songs")


def _songs(songs: Sequence[Song], view: ReportView) -> Html:
    """The titles with their tags."""
    texts = view.texts
    caption = element("caption", texts["report_songs"])
    if not songs:
        return element(
            "section", element("h2", texts["report_songs"]), element("p", texts["report_no_songs"])
        )
    categories = sorted({name for song in songs for name in song.tags} - {KIND})
    titles = [texts["report_from"], texts["report_title"], texts["report_length"]]
    titles += [texts.category(name) for name in categories]
    head = element("tr", *[element("th", title, scope="col") for title in titles])
    rows = [
        element(
            "tr",
            element("td", view.moment(song.begin)),
            element("th", song.title, _spoken(song, texts), scope="row"),
            element("td", minutes_and_seconds(song.heard)),
            *[
                element("td", ", ".join(texts.tag(tag) for tag, _ in song.tags.get(name, ())))
                for name in categories
            ],
        )
        for song in songs
    ]
    table = element("table", caption, element("thead", head), element("tbody", *rows))
    return element("section", table, class_="songs")


def _clips(clips: Sequence[Mapping[str, Any]], view: ReportView) -> Html:
    """The clips of audio, with their links and checksums; nothing if there are none."""
    texts = view.texts
    rows = [
        [
            element("td", view.moment(ns_of(clip["utc"]))),
            element(
                "th",
                _clip_link(clip, clip["event"], view),
                " ",
                element("small", clip["file"] or clip["detail"]),
                scope="row",
            ),
            element("td", minutes_and_seconds(clip["seconds"])),
            element("td", element("small", clip["sha256"])),
        ]
        for clip in clips
    ]
    names = [texts["report_from"], texts["report_clip"], texts["report_length"], "SHA-256"]
    return _table(texts["report_clips"], names, rows)


def _clip_link(clip: Mapping[str, Any], text: str, view: ReportView) -> Html | str:
    """A text that leads to a clip; in a file of its own it leads nowhere."""
    if clip["stage"] != "ready" or not view.static:
        return text
    return element("a", text, href=f"../clip/{quote(clip['id'])}")


def _spoken(song: Song, texts: Texts) -> Html:
    """A remark where a title was speech."""
    kinds = {bare_name(tag).lower() for tag, _ in song.tags.get(KIND, ())}
    spoken = SPEECH in kinds and MUSIC not in kinds
    return join(" ", element("small", texts["report_speech"])) if spoken else Html("")


def _notes(report: StreamReport, view: ReportView) -> Html:
    """What the reader should know about the numbers."""
    texts, seconds = view.texts, report.seconds
    hours = sum((hour.end - hour.begin) / (3600 * SECOND) for hour in report.hours)
    lines = [texts["report_note_share"]]
    if view.days == 1 and hours != 24:
        lines.append(texts["report_note_clock"].format(n=f"{hours:g}"))
    if seconds["unknown"]:
        lines.append(texts["report_note_unknown"])
    if report.gaps:
        lines.append(texts["report_note_gaps"].format(n=report.gaps))
    if view.now < report.hours[-1].end:
        key = "report_note_now" if view.days == 1 else "report_note_period"
        lines.append(texts[key].format(time=view.moment(view.now)))
    made = local_time(view.now, view.zone)
    lines.append(texts["report_note_made"].format(time=f"{made:%Y-%m-%d} {view.clock(view.now)}"))
    return element("footer", join(*[element("p", line) for line in lines]))
