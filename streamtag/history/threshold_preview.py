"""When a tag would have been on with other thresholds, from the scores in a journal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamtag.engine.smoothing import SwitchBank, SwitchSettings
from streamtag.feed.messages import Scores
from streamtag.feed.timestamps import ns_of
from streamtag.history.history import History
from streamtag.history.intervals import Interval
from streamtag.history.query import Query

BREAK = 30 * 10**9
"""How long a stream may have no score before it counts as absent, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class WindowScores:
    """The probabilities of one window."""

    middle: int
    """Of the window, in nanoseconds since 1970."""
    end: int
    probabilities: tuple[float, ...]
    """Smoothed, of all tags of the tagger."""


def read_scores(
    history: History, stream: str, tagger: str, tags: Sequence[str], since: int, until: int
) -> list[WindowScores]:
    """The scores of a tagger by time; empty if the journal keeps none (`feed.journal_scores`).

    Windows of an earlier model with other tags are left out.
    """
    query = Query(frozenset([stream]), frozenset(), frozenset(["scores"]), since, until)
    found = []
    for entry in history.entries(query):
        scores = entry.message
        if isinstance(scores, Scores) and scores.tagger == tagger and scores.tags == tuple(tags):
            end = ns_of(scores.utc)
            middle = end - round((scores.t - scores.start) * 5e8)
            found.append(WindowScores(middle, end, scores.smoothed))
    return sorted(found, key=lambda score: score.end)


def replay_switch(scores: Iterable[WindowScores], settings: SwitchSettings) -> list[Interval]:
    """When tags would have been on.

    Args:
        scores: by time.
        settings: of all tags, with times in nanoseconds and no smoothing.
    """
    bank, found, last = SwitchBank(len(settings.high)), list[Interval](), 0
    row = bank.add(settings)
    for score in scores:
        if last and score.end - last > BREAK:
            found += [(switch.since, switch.at) for switch in bank.close(row, last)]
        last = score.end
        values = np.array([score.probabilities])
        _, ((*switches,),) = bank.update([row], values, [score.middle], [score.end], {})
        found += [(switch.since, switch.at) for switch in switches if not switch.on]
    found += [(switch.since, switch.at) for switch in bank.close(row, last)]
    return found
