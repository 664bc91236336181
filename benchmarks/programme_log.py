"""Sections of programmes with known borders, beside those of a speech detector.

    python benchmarks/programme_log.py --music FOLDER … --speech FOLDER …

Programmes are put together from recordings: speech and music with cuts, cross-fades and presenters
over intros. Each goes through the engine with the default model and through the observer that makes
sections, as a live stream does. Beside it runs silero-vad (PyPI; its weights come with it), whose
speech is speech and whose rest is music. Its sections are merged by the same rule.

Parameters were chosen on the programmes of seed 1; the rows are those of seed 2.
"""

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from rows import Row, parser, write

from streamtag.audio.block import Block
from streamtag.engine.engine import Engine
from streamtag.engine.settings import LagPolicy
from streamtag.errors import StreamtagError
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.messages import Section
from streamtag.model.shipped import default_bundle
from streamtag.model.tagger import Tagger
from streamtag.monitoring.section_observer import SectionObserver
from streamtag.monitoring.sections import MUSIC, SPEECH, Piece, merge
from streamtag.sources.file import FileSource

RATE = 16_000
PAUSE_MS = 2000
START_NS = 1_800_000_000_000_000_000


@dataclass(frozen=True)
class Programme:
    """A programme and its sections."""

    samples: np.ndarray
    truth: list[Piece]


def read(path: Path) -> np.ndarray:
    """A recording at `RATE`, at a mean level of -20 dB."""
    samples = np.concatenate([block.samples for block in FileSource(path, rate=RATE)])
    return samples * np.float32(0.1 / max(1e-4, float(np.sqrt(np.mean(samples**2)))))


def recordings(folders: Sequence[Path], rng: random.Random, count: int) -> list[Path]:
    """Some recordings of each folder."""
    chosen: list[Path] = []
    for folder in folders:
        found = [p for p in sorted(folder.rglob("*")) if p.suffix in (".opus", ".wav", ".ogg")]
        chosen += rng.sample(found, min(count, len(found)))
    return chosen


def spoken(paths: Sequence[Path], seconds: float, rng: random.Random) -> np.ndarray:
    """Somebody who speaks, with short pauses."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * RATE:
        parts += [read(rng.choice(paths)), np.zeros(int(rng.uniform(0.1, 0.5) * RATE), np.float32)]
    return np.concatenate(parts)


def played(paths: Sequence[Path], seconds: float, rng: random.Random) -> np.ndarray:
    """A piece of music, or so much of it."""
    for _ in range(20):
        samples = read(rng.choice(paths))
        if len(samples) >= seconds * RATE:
            start = rng.randrange(len(samples) - int(seconds * RATE) + 1)
            return samples[start : start + int(seconds * RATE)]
    return samples


def programme(music: Sequence[Path], speech: Sequence[Path], rng: random.Random) -> Programme:
    """About ten minutes of a station."""
    whole, truth = np.zeros(0, np.float32), list[Piece]()
    kind = rng.choice((SPEECH, MUSIC))
    while len(whole) < 600 * RATE:
        piece = (
            spoken(speech, rng.uniform(12, 60), rng)
            if kind == SPEECH
            else played(music, rng.uniform(30, 120), rng)
        )
        overlap = border = 0
        how = rng.random()
        if len(whole) and how < 0.3:  # a cross-fade
            overlap = min(int(rng.uniform(1, 4) * RATE), len(whole), len(piece))
            slope = np.linspace(0, 1, overlap, dtype=np.float32)
            piece[:overlap] *= slope
            whole[len(whole) - overlap :] *= 1 - slope
            border = overlap // 2
        elif len(whole) and how < 0.6 and kind == MUSIC:  # a presenter over the intro
            overlap = min(int(rng.uniform(4, 10) * RATE), len(whole), len(piece))
            piece[:overlap] *= np.float32(0.4)
            border = overlap
        begin = len(whole) - border
        joined = np.zeros(len(whole) + len(piece) - overlap, np.float32)
        joined[: len(whole)] += whole
        joined[len(whole) - overlap :] += piece
        if truth:
            truth[-1] = Piece(truth[-1].begin, begin / RATE, truth[-1].kind)
        truth.append(Piece(begin / RATE, len(joined) / RATE, kind))
        whole, kind = joined, MUSIC if kind == SPEECH else SPEECH
    return Programme(np.clip(whole, -1, 1), truth)


def ours(tagger: Tagger, made: Programme) -> list[Piece]:
    """Sections as a live stream gets them: through engine, encoder and observer."""
    engine = Engine({"default": tagger}, max_batch=64, lag_policy=LagPolicy.WAIT, slack=60.0)
    encoder = EventEncoder({"default": tuple(tagger.card.tags)}, START_NS)
    observer, found = SectionObserver({"default": tagger.card}), list[Section]()
    events = engine.open("a", RATE, epoch_ns=START_NS)
    for start in range(0, len(made.samples), RATE):
        events += engine.feed("a", Block(made.samples[start : start + RATE], start, RATE))
    events += engine.close("a")
    wanted = [event for event in events if type(event).__name__ not in ("WindowScored",)]
    for event in wanted:
        message = encoder.message(event)
        found += observer.observe(message, START_NS)  # type: ignore[arg-type]
    return [Piece(one.t, one.end, one.kind) for one in found]


def silero(made: Programme) -> list[Piece]:
    """Sections by silero-vad: speech, and everything else."""
    import torch
    from silero_vad import get_speech_timestamps, load_silero_vad

    torch.set_num_threads(1)
    # A second of pause is no music: of 0.1 (the default), 1, 2, 3 and 5 s this was best on seed 1.
    spans = get_speech_timestamps(
        torch.from_numpy(made.samples), load_silero_vad(), min_silence_duration_ms=PAUSE_MS
    )
    end, at, pieces = len(made.samples) / RATE, 0.0, list[Piece]()
    for span in spans:
        begin, after = span["start"] / RATE, span["end"] / RATE
        pieces += [Piece(at, begin, MUSIC), Piece(begin, after, SPEECH)]
        at = after
    return merge([*(p for p in pieces if p.begin < p.end), Piece(at, end, MUSIC)])


def borders(sections: Sequence[Piece]) -> list[tuple[float, str]]:
    """Where a section of another kind begins, and its kind."""
    return [
        (after.begin, after.kind)
        for before, after in pairwise(sections)
        if before.kind != after.kind
    ]


def matched(
    truth: list[tuple[float, str]], found: list[tuple[float, str]], most: float
) -> list[float]:
    """Errors of the borders that were found within so many seconds, each used once."""
    left, errors = list(found), list[float]()
    for at, kind in truth:
        near = [(abs(b - at), b) for b, k in left if k == kind and abs(b - at) <= most]
        if near:
            _, best = min(near)
            left.remove((best, kind))
            errors.append(best - at)
    return errors


def rate(programmes: Sequence[Programme], found: Sequence[list[Piece]]) -> dict[str, float]:
    """Errors of borders in seconds, F of borders, and the share of time of the right kind."""
    errors, counts = list[float](), dict.fromkeys((1.0, 3.0), 0)
    n_true = n_found = 0
    right = total = 0.0
    for made, sections in zip(programmes, found, strict=True):
        truth, mine = borders(made.truth), borders(sections)
        n_true, n_found = n_true + len(truth), n_found + len(mine)
        errors += matched(truth, mine, 15.0)
        for tolerance in counts:
            counts[tolerance] += len(matched(truth, mine, tolerance))
        right += sum(
            max(0.0, min(a.end, b.end) - max(a.begin, b.begin))
            for a in made.truth
            for b in sections
            if a.kind == b.kind
        )
        total += made.truth[-1].end
    size = np.abs(errors) if errors else np.array([np.nan])
    return {
        "border_error_median_s": float(np.median(size)),
        "border_error_90_s": float(np.quantile(size, 0.9)),
        "border_bias_s": float(np.median(errors)) if errors else float("nan"),
        "f_1s": 2 * counts[1.0] / max(1, n_true + n_found),
        "f_3s": 2 * counts[3.0] / max(1, n_true + n_found),
        "time_right": right / total,
        "borders": float(n_true),
        "borders_found": float(n_found),
    }


def main() -> None:
    """Makes the programmes, and prints a row per figure."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--music", type=Path, nargs="+", required=True, help="folders of recordings"
    )
    arguments.add_argument(
        "--speech", type=Path, nargs="+", required=True, help="folders of recordings"
    )
    arguments.add_argument("--seed", type=int, default=2)
    arguments.add_argument("--programmes", type=int, default=12)
    given = arguments.parse_args()
    rng = random.Random(given.seed)
    music = recordings(given.music, rng, 60)
    speech = recordings(given.speech, rng, 200)
    if not music or not speech:
        raise StreamtagError(f"{given.music}, {given.speech}: expected recordings, got none")
    made = [programme(music, speech, rng) for _ in range(given.programmes)]
    tagger = Tagger.load(default_bundle(), "cpu")
    contenders = {"streamtag": lambda one: ours(tagger, one)}
    try:
        import silero_vad  # noqa: F401

        contenders["silero_vad"] = silero
    except ImportError:
        print("silero-vad is not installed", file=sys.stderr)
    rows: list[Row] = []
    for name, contender in contenders.items():
        begun = time.process_time()
        found = [contender(one) for one in made]
        seconds = time.process_time() - begun
        figures = rate(made, found)
        figures["cpu_ms_per_s"] = 1000 * seconds / sum(len(one.samples) / RATE for one in made)
        print(name, " ".join(f"{key} {value:.2f}" for key, value in figures.items()))
        rows += [Row(f"programme_log/{name}/{key}", value, "") for key, value in figures.items()]
    write(rows, given.json)


if __name__ == "__main__":
    main()
