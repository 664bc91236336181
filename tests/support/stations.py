"""Many invented stations with an hour of programme each, for the desk."""

import random
import time
from collections.abc import Iterable, Iterator

from streamtag.engine import events
from support.wall import REASON, TAGGER, Stage
from support.web_server import RATE

HOUR = 3600
PLACES = {
    "de": ("hafen", "nordlicht", "welle-sieben", "kultur", "klassik", "nacht", "regional", "jung"),
    "fr": ("lumiere", "rive-gauche", "mistral", "atelier", "paroles", "jazz-bleu", "ville"),
    "uk": ("harbour", "northern", "classics", "late-hours", "city", "fields", "talk"),
    "es": ("ronda", "sierra", "noticias", "clasica", "playa", "barrio"),
    "at": ("donau", "alpen", "ring", "heimat", "neu"),
}
PROGRAMMES = (
    ({"happy": 0.8, "funny": 0.6, "pop": 0.9, "guitar": 0.7}, (0.55, 0.35, 0.8)),
    ({"calm": 0.8, "ambient": 0.9, "piano": 0.9, "synth": 0.7}, (0.35, -0.6, 0.8)),
    ({"melancholic": 0.7, "classical": 0.9, "cello": 0.8, "strings": 0.9}, (-0.5, -0.3, 0.7)),
    ({"energetic": 0.9, "party": 0.7, "techno": 0.95, "drums": 0.9}, (0.2, 0.75, 0.9)),
    ({"tender": 0.6, "jazz": 0.9, "piano": 0.8, "bass": 0.7}, (0.4, -0.2, 0.6)),
    ({"aggressive": 0.8, "rock": 0.9, "guitar": 0.9, "drums": 0.9}, (-0.3, 0.6, 0.8)),
    ({"dreamy": 0.7, "electronic": 0.8, "synth": 0.9}, (0.2, -0.3, 0.5)),
)
TITLES = (
    "Market Street Quartet – Morning in the Market",
    "Hana Lind – Slow Water",
    "Ensemble Nord – Lament in D minor",
    "Kontakt 9 – Night Shift (Extended)",
    "Trio Almada – Blue Tiles",
    "Iron Harbour – Break the Line",
    "Vesper Lane – A Room Above the Sea",
)
NEWS = "The news on the hour"
LOST = (
    (events.SourceState.RETRYING, events.Cause.REFUSED, "Connection refused"),
    (events.SourceState.FAILED, events.Cause.NOT_FOUND, "404 Not Found"),
    (events.SourceState.RETRYING, events.Cause.DNS, "Name or service not known"),
)


def station_names(n: int) -> list[str]:
    """Names with the prefixes of countries."""
    names = [f"{country}-{name}" for country, some in PLACES.items() for name in some]
    return [
        f"{names[k % len(names)]}{k // len(names) + 1 if k >= len(names) else ''}" for k in range(n)
    ]


def play_stations(stage: Stage, n: int, seconds: int = HOUR) -> list[str]:
    """Publishes the last `seconds` of `n` stations; returns their names.

    A few have failed, are lost, silent or paused in the end.
    """
    names, begin = station_names(n), time.time_ns() - seconds * 10**9
    stage.publish(*(e for k, name in enumerate(names) for e in _programme(name, k, begin, seconds)))
    return names


def play_levels(stage: Stage, names: Iterable[str]) -> None:
    """Publishes a level of each station that plays."""
    some: list[events.Event] = []
    for k, name in enumerate(names):
        if k % 23 not in (3, 8, 12, 17):
            rms = -14.0 - k * 7 % 11
            some.append(events.LevelMeasured(name, HOUR * RATE, rms + 8 + k % 5, rms, rms + 1))
    stage.publish(*some)


def play_station(stage: Stage, name: str, k: int, seconds: int = HOUR) -> None:
    """Publishes the last `seconds` of a station with the scores of its last ten minutes; it ends
    on air."""
    begin = time.time_ns() - seconds * 10**9
    stage.publish(*_programme(name, k, begin, seconds, stage.tags))
    stage.wander(name, (0.4, 0.2, 0.7))


def _programme(
    name: str, k: int, begin: int, seconds: int, scored: tuple[str, ...] = ()
) -> Iterator[events.Event]:
    """The events of one station, with scores if there are names of tags."""
    choose = random.Random(k)
    yield events.SourceStatusChanged(name, 0, events.SourceState.UP, events.Cause.NONE, "", 0.0)
    yield events.StreamOpened(name, 0, RATE, begin, (TAGGER,))
    on: dict[str, int] = {}
    at, talks, mood = 0, k % 7 == 3, (0.0, 0.0, 0.1)
    end = RATE * seconds
    while at < end:
        tags, mood = choose.choice(PROGRAMMES) if not talks else ({}, (0.1, -0.2, 0.1))
        yield from _switch(name, on, at, {"speech": 0.97} if talks else {"music": 0.99, **tags})
        yield events.TitleChanged(name, at, NEWS if talks else choose.choice(TITLES))
        then = at + RATE * (choose.randint(30, 150) if talks else choose.randint(150, 420))
        if scored:
            yield from _scores(name, choose, scored, on, max(at, end - 600 * RATE), min(then, end))
        at = then
        talks = choose.random() < (0.8 if k % 7 == 3 else 0.3)
    state = k % 23
    if state in (3, 8, 17) and k % 2:
        yield from _switch(name, on, end, {})
        kind, cause, detail = LOST[(3, 8, 17).index(state)]
        yield events.StreamClosed(name, end, REASON.STREAM_LOST, detail)
        yield events.SourceStatusChanged(name, 0, kind, cause, detail, 8.0)
    elif state == 12:
        yield from _switch(name, on, end, {})
        yield events.SilenceStarted(name, end, end)
    else:
        yield events.MoodUpdated(name, TAGGER, end, *mood)


def _scores(
    name: str,
    choose: random.Random,
    tags: tuple[str, ...],
    on: dict[str, int],
    begin: int,
    end: int,
) -> Iterator[events.Event]:
    """Probabilities that wander above the thresholds of what is on, and mostly near zero else."""
    level = {tag: 0.9 if tag in on else choose.random() ** 4 / 3 for tag in tags}
    for at in range(begin, end, 2 * RATE):
        for tag in tags:
            wish = 0.85 if tag in on else 0.02 if choose.random() < 0.97 else 0.35
            level[tag] = min(
                0.99, max(0.01, 0.85 * level[tag] + 0.15 * wish + choose.gauss(0, 0.03))
            )
        values = tuple(level[tag] for tag in tags)
        yield events.WindowScored(name, TAGGER, at - RATE, at, values, values, False)


def _switch(
    name: str, on: dict[str, int], at: int, tags: dict[str, float]
) -> Iterator[events.Event]:
    """Switches to other tags."""
    for tag in [tag for tag in on if tag not in tags]:
        yield events.TagEnded(name, TAGGER, tag, at, at, on.pop(tag), 0.9, REASON.BELOW_THRESHOLD)
    for tag in [tag for tag in tags if tag not in on]:
        on[tag] = at
        yield events.TagStarted(name, TAGGER, tag, at, at, tags[tag], False)
