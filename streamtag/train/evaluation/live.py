"""How good a bundle is live: recordings go through the engine that serves live streams.

There are three passes. First each recording alone: its score is the mean over its full windows, or
the last window's if none is full. Then its first seconds alone. Then all recordings as a playlist:
joined one after the other, so that every start of a recording is a cut from one truth to another.

Times are those at which a subscriber gets the information: a score when its window ends, an event
when it is decided. Nothing here depends on the speed of the machine.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamtag.audio.block import Block
from streamtag.engine.offline import ScoreRow, tag_blocks
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import RecipeError, SourceError
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger
from streamtag.model.threads import one_thread, usable_threads
from streamtag.train.data.corpora import SPLITS, Corpus, Item, read_corpus
from streamtag.train.data.extraction import read_samples
from streamtag.train.evaluation.live_report import (
    after_cuts,
    detection,
    false_events,
    flapping,
    live_plot,
    live_table,
    release,
    score_metrics,
)
from streamtag.train.evaluation.playlist import (
    TAGGER,
    StreamResult,
    alternating_order,
    run_playlist,
)
from streamtag.train.evaluation.scores import report
from streamtag.train.evaluation.thresholds import SOUND_KINDS
from streamtag.train.synthesis.sounds import noise_and_speech

__all__ = ["evaluate", "evaluate_files", "false_alarms", "live_plot", "live_table"]

DELAYS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
"""Seconds after a cut at which scores and decisions are measured."""
EXCERPT_SECONDS = (1.0, 2.0, 3.0, 5.0, 10.0)
"""Numbers of first seconds from which recordings are also scored."""
STREAMS = 4
"""Number of streams that run side by side."""


@dataclass(frozen=True, slots=True)
class TagMatch:
    """The tags that a bundle and a corpus have in common, by name."""

    tags: tuple[int, ...]
    """Columns of the bundle, rising."""
    truth: np.ndarray
    """(n_items, n_tags) bool for all tags of the bundle; False where the corpus has no such tag."""
    of_corpus: tuple[str, ...]
    """Tags that only the corpus has."""


def evaluate_files(
    bundle: Path,
    data: Path,
    *,
    subset: str = "",
    split: str = "",
    part: str = "test",
    longest: float = 0.0,
    orders: int = 1,
    device: str = "cpu",
    console: Console | None = None,
) -> dict[str, Any]:
    """Runs `evaluate` on a bundle and labelled recordings on disk.

    Args:
        bundle: its file.
        data: for `corpora.read_corpus`.
        subset: of the corpus: which tags.
        split: of the corpus, where it has several.
        part: train, validation, test or all.
        longest: seconds after which a recording is cut off; 0 means never.
        orders: how many orders of the playlist are run.
        device: of the model.
        console: for a progress bar; None is silent.

    Raises:
        BundleError: the bundle cannot be loaded.
        RecipeError: there is no corpus, or nothing in that part of it.
    """
    tagger = Tagger.load(bundle, device)
    corpus = read_corpus(data, subset=subset, split=split)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console or Console(quiet=True), transient=True
    ) as bar:
        tasks: dict[str, Any] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        return evaluate(
            tagger, corpus, part=part, longest=longest, orders=orders, on_progress=on_progress
        )


@one_thread()
def evaluate(
    tagger: Tagger,
    corpus: Corpus,
    *,
    part: str = "test",
    seed: int = 1,
    orders: int = 1,
    streams: int = STREAMS,
    longest: float = 0.0,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """All figures as values for JSON.

    Tags are matched by name, ignoring case, spaces, hyphens and category. Tags that the corpus does
    not have make no events here, because their truth is unknown. If it has none of the tags, all
    events of the bundle count as false, and only those are counted.

    Args:
        tagger: a loaded bundle.
        corpus: recordings with tags.
        part: train, validation, test or all.
        seed: of the order of the playlist.
        orders: how many orders of the playlist are run; the figures are those of all together.
        streams: number of streams side by side; the first recording of each follows no cut.
        longest: seconds after which a recording is cut off; 0 means never.
        on_progress: reports progress.

    Raises:
        RecipeError: that part is empty, or none of it can be decoded.
        StreamtagError: the model failed.
    """
    report_progress = on_progress or (lambda what, done, total: None)
    card = tagger.card
    rate = card.features.sample_rate
    items, broken, whole, first = _score_alone(
        tagger, _items_of_part(corpus, part), longest, report_progress
    )
    match = match_tags(card, corpus, items)
    mine = [i for i in match.tags if card.tags[i] not in card.off_by_default]
    settings = (
        TaggerSettings(tags=tuple(card.tags[i] for i in mine)) if match.tags else TaggerSettings()
    )

    def played(number: int) -> list[StreamResult]:
        order = alternating_order(match.truth, np.random.default_rng(seed + number))
        return run_playlist(
            tagger,
            settings,
            [some.tolist() for some in np.array_split(order, min(streams, len(order)))],
            lambda i: read_samples(items[i], rate, longest),
            DELAYS,
            lambda done: report_progress(
                "as a playlist", number * len(items) + done, orders * len(items)
            ),
        )

    results = [stream for number in range(orders) for stream in played(number)]
    body = _facts(card, corpus, match, mine) | {
        "part": part,
        "recordings": len(items),
        "broken": broken,
        "hours": sum(result.end for result in results) / rate / 3600,
        "seed": seed,
        "orders": orders,
        "streams": len(results),
        "false_events": false_events(results, match.truth, card.tags, rate),
        "flapping": flapping(results, rate),
    }
    if not match.tags:
        return body
    high, columns = np.array(card.on_thresholds), list(match.tags)
    return body | {
        "whole": _whole_metrics(card, match, whole),
        "heard": [
            {"seconds": seconds}
            | score_metrics(match.truth[:, columns], some[:, columns], high[columns])
            for seconds, some in first
        ],
        "after_cuts": after_cuts(results, match.truth, high, columns, mine, DELAYS, rate),
        "detection": detection(results, match.truth, mine, rate),
        "release": release(results, match.truth, mine, rate),
    }


def _facts(card: Card, corpus: Corpus, match: TagMatch, switched: Sequence[int]) -> dict[str, Any]:
    """What is evaluated on which data."""
    return {
        "bundle": card.name,
        "corpus": corpus.name,
        "window_seconds": card.window_seconds,
        "hop_seconds": card.hop_seconds,
        "tags": [card.tags[i] for i in match.tags],
        "off_by_default": [card.tags[i] for i in match.tags if i not in switched],
        "only_in_bundle": [tag for i, tag in enumerate(card.tags) if i not in match.tags],
        "only_in_corpus": list(match.of_corpus),
    }


def _whole_metrics(card: Card, match: TagMatch, scores: np.ndarray) -> dict[str, Any]:
    """Figures of whole recordings, with decisions by the card's thresholds."""
    columns = list(match.tags)
    mine, high = scores[:, columns], np.array(card.on_thresholds)[columns]
    names = [card.tags[i] for i in columns]
    figures = report(names, match.truth[:, columns], mine, decisions=mine >= high)
    figures["decisions"]["by"] = "the card's thresholds"
    return {key: value for key, value in figures.items() if key != "rules"}


HARMLESS = ("kind", "voice")
"""Categories whose tags may be on in noise and speech."""


def false_alarms(tagger: Tagger, data: Path) -> dict[str, float]:
    """Events per hour of noise and speech of the test split, through the whole engine.

    Kinds of sound and voices are not counted.
    """
    categories = tagger.card.categories
    harmless = {tag for tag in categories if categories[tag] in HARMLESS} | set(SOUND_KINDS)
    rate = tagger.card.features.sample_rate
    seconds = events = 0.0
    for sound in noise_and_speech(data, "test", rate):
        result = tag_blocks(
            [Block(sound, 0, rate)], rate, {TAGGER: tagger}, threads=usable_threads()
        )[TAGGER]
        seconds += result.seconds
        events += sum(event.tag not in harmless for event in result.events)
    return {"events_per_hour": round(3600 * events / seconds, 1), "hours": round(seconds / 3600, 3)}


def match_tags(card: Card, corpus: Corpus, items: Sequence[Item]) -> TagMatch:
    """Finds the bundle's tags among those of the corpus."""
    wanted = [_key(tag) for tag in card.tags]
    targets = corpus.targets(items) > 0
    truth = np.zeros((len(items), len(wanted)), bool)
    for column, tag in enumerate(corpus.tags):
        for i, key in enumerate(wanted):
            if key == _key(tag):
                truth[:, i] |= targets[:, column]
    known = {_key(tag) for tag in corpus.tags}
    return TagMatch(
        tuple(i for i, key in enumerate(wanted) if key in known),
        truth,
        tuple(tag for tag in corpus.tags if _key(tag) not in wanted),
    )


def recording_score(rows: Sequence[ScoreRow]) -> np.ndarray:
    """(n_tags,): the mean over the full windows, or the last window if none is full."""
    full = [row.values for row in rows if not row.provisional]
    return np.mean(full, axis=0) if full else np.array(rows[-1].values)


def _key(tag: str) -> str:
    """The form in which names are compared: `mood/theme---Hip Hop` equals `hip-hop`."""
    return re.sub(r"[\s_-]+", "", tag.rpartition("---")[2].casefold())


def _items_of_part(corpus: Corpus, part: str) -> tuple[Item, ...]:
    if part not in (*SPLITS, "all"):
        raise RecipeError(f"part: expected {', '.join(SPLITS)} or all, got {part!r}")
    items = corpus.items if part == "all" else corpus.of(part)
    if not items:
        sizes = ", ".join(f"{len(corpus.of(name))} {name}" for name in SPLITS)
        raise RecipeError(
            f"{corpus.name}: expected recordings in the part {part!r}, got none ({sizes}); "
            "choose another part"
        )
    return items


def _score_alone(
    tagger: Tagger,
    items: Sequence[Item],
    longest: float,
    report_progress: Callable[[str, int, int], None],
) -> tuple[list[Item], list[str], np.ndarray, list[tuple[float, np.ndarray]]]:
    """Scores each recording by itself.

    Returns:
        The items that can be decoded; why the others cannot; scores of the whole recordings,
        (n_items, n_tags); and of their first seconds, up to the longest recording.
    """
    rate = tagger.card.features.sample_rate
    good, broken, whole, first, lengths = [], [], [], [], []
    for number, item in enumerate(items):
        try:
            samples = read_samples(item, rate, longest)
        except SourceError as error:
            broken.append(f"{error}")
            report_progress("one by one", number + 1, len(items))
            continue
        rows = _rows(tagger, samples, TaggerSettings())
        good.append(item)
        lengths.append(len(samples) / rate)
        whole.append(recording_score(rows))
        first.append(
            [_excerpt_score(tagger, samples, rows, seconds) for seconds in EXCERPT_SECONDS]
        )
        report_progress("one by one", number + 1, len(items))
    if not good:
        raise RecipeError(
            f"expected recordings that can be decoded, got {len(broken)} that cannot; "
            f"the first: {broken[0]}"
        )
    usable = [k for k, seconds in enumerate(EXCERPT_SECONDS) if seconds < max(lengths)]
    table = np.array(first)
    return good, broken, np.array(whole), [(EXCERPT_SECONDS[k], table[:, k]) for k in usable]


def _excerpt_score(
    tagger: Tagger, samples: np.ndarray, rows: Sequence[ScoreRow], seconds: float
) -> np.ndarray:
    """The score of a recording of which only the first seconds are used."""
    card = tagger.card
    n = round(seconds * card.features.sample_rate)
    if n >= len(samples):
        return recording_score(rows)
    if seconds > card.window_seconds:
        return recording_score([row for row in rows if row.end <= seconds + 1e-6])
    # One window at the end is enough: none before it is full.
    return recording_score(_rows(tagger, samples[:n], TaggerSettings(hop_seconds=seconds))[-1:])


def _rows(tagger: Tagger, samples: np.ndarray, settings: TaggerSettings) -> Sequence[ScoreRow]:
    rate = tagger.card.features.sample_rate
    blocks = [Block(samples, 0, rate)]
    result = tag_blocks(
        blocks, rate, {TAGGER: tagger}, settings={TAGGER: settings}, threads=usable_threads()
    )
    return result[TAGGER].scores
