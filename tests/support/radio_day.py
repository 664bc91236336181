"""A day of an invented radio station, for the picture of a report."""

import random
from pathlib import Path

from streamtag.engine import events
from streamtag.feed.event_encoder import TaggerInfo
from support.wall import TAGGER, Stage
from support.web_server import RATE, START_NS, Feed

DAY = "2026-11-21"
HOUR = 3600
MIDNIGHT_NS = START_NS - 10 * HOUR * 10**9
LAST = 20.5 * HOUR
"""Seconds of the day at which the daemon ended."""
LOST = (13.2 * HOUR, 13.5 * HOUR)
BANDS = "Market Street Quartet,Ensemble Nord,Hana Lind,Kontakt 9,Iron Harbour,The Tall Pines"
SONGS = "Morning,Slow Water,Night Shift,Break the Line,Lament,Harbour Lights,Late Train,Paper Moon"
TAGS = (
    (["pop", "rock", "jazz", "classical", "electronic", "folk"], 1),
    (["happy", "calm", "energetic", "dark", "tender", "dreamy", "melancholic"], 2),
    (["piano", "guitar", "drums", "strings", "synth", "saxophone"], 3),
)


class RadioDay(Feed):
    """`radio1`: news at the full hour, songs, a few silences, and once no audio for a while."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.wire.taggers[TAGGER] = TaggerInfo(Stage.known_tags())
        self._dice = random.Random(4)
        self._at: list[tuple[float, events.Event]] = []
        self._open(0.0)
        time = 0.0
        while time < LAST:
            if LOST[0] < time < LOST[1]:
                self._lose(time)
                time = LOST[1]
            time += self._news(time) if time % HOUR < 240 else self._song(time)
        why = events.Reason.SHUTDOWN
        self._add(time, events.StreamClosed("radio1", round(time * RATE), why, ""))
        self.publish(*[event for _, event in sorted(self._at, key=lambda one: one[0])])

    def _add(self, time: float, event: events.Event) -> None:
        self._at.append((time, event))

    def _open(self, time: float) -> None:
        self._add(time, events.StreamOpened("radio1", 0, RATE, MIDNIGHT_NS, (TAGGER,)))

    def _lose(self, time: float) -> None:
        a, b = round(time * RATE), round(LOST[1] * RATE)
        self._add(time, events.GapFound("radio1", a, b))

    def _span(self, tag: str, begin: float, end: float) -> None:
        why, a, b = events.Reason.BELOW_THRESHOLD, round(begin * RATE), round(end * RATE)
        self._add(begin, events.TagStarted("radio1", TAGGER, tag, a, a, 0.8, False))
        self._add(end, events.TagEnded("radio1", TAGGER, tag, b, b, a, 0.9, why))

    def _title(self, time: float, title: str) -> None:
        self._add(time, events.TitleChanged("radio1", round(time * RATE), title))

    def _news(self, time: float) -> float:
        length = self._dice.uniform(200, 420)
        self._title(time, "The News")
        self._span("speech", time + 1, time + length)
        return length

    def _song(self, time: float) -> float:
        dice, length = self._dice, self._dice.uniform(150, 330)
        end = time + length
        self._title(time, f"{dice.choice(BANDS.split(','))} – {dice.choice(SONGS.split(','))}")
        self._span("music", time + 2, end - 1)
        for names, count in TAGS:
            for tag in dice.sample(names, count):
                self._span(tag, time + dice.uniform(3, 30), end - dice.uniform(2, 60))
        if dice.random() < 0.25:
            self._span("speech", end - 20, end - 2)
        elif dice.random() < 0.05:
            a, b = round(end * RATE), round((end + 40) * RATE)
            self._add(end, events.SilenceStarted("radio1", a, a))
            self._add(end + 40, events.SilenceEnded("radio1", b, b, a))
            return length + 41
        return length
