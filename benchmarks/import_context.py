"""Differences of imported checkpoints from their published outputs, alone and inside a stream.

For every checkpoint in the folder of weights: the largest difference from the reference outputs
(each window cut out and tagged alone); how far the scores move when the same window is part of a
longer stream, whose real neighbours replace the mirrored ends; how far they move when the engine
computes each stretch of a stream once instead of whole windows; how the provisional scores after
3, 5, 10 and 20 s relate to those of the full window; and the time of a window on one thread.
With `--songs` also: PR-AUC of whole windows and of embeddings against the words that the songs are
described by, and how often events differ if streams share batches.
Without the weights beside the clone it prints a message and measures nothing.
"""

import argparse
import csv
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soxr
import torch
from scipy.signal import resample_poly

from streamtag.audio.block import Block
from streamtag.audio.front_end import frames_of
from streamtag.engine.engine import Engine
from streamtag.engine.events import TagEnded, TagStarted, WindowScored
from streamtag.engine.offline import tag_blocks
from streamtag.engine.windows import pad_past
from streamtag.model.bundle import silence_frame
from streamtag.model.tagger import Tagger
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.extraction import read_samples
from streamtag.train.evaluation.metrics import macro, per_tag
from streamtag.train.importing.importer import import_checkpoint

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "weights"
CLIPS = ("hungarian_dance", "vibe_ace", "speech")
STARTS = 12
"""Windows per clip and checkpoint that are compared, at most."""

Rows = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Case:
    """A bundle and the published outputs."""

    name: str
    tagger: Tagger
    clips: dict[str, np.ndarray]
    """At the bundle's rate, longer than a window if possible."""
    cuts: dict[str, list[np.ndarray]]
    """Windows of each clip."""
    expected: dict[str, np.ndarray]
    """Outputs of the published net, (n_windows, n_tags)."""


def cases(weights: Path, folder: Path) -> Iterator[Case]:
    """All checkpoints of the folder of weights."""
    clips = {c: np.load(weights / "sota" / f"{c}_16k.npy") for c in CLIPS}
    reference = np.load(weights / "mtg-jamendo" / "reference.npz")
    yield Case(
        "vggish",
        _tagger("mtg-jamendo-vggish", weights / "mtg-jamendo" / "vggish_moodtheme.pth", folder),
        {c: soxr.resample(clip, 16000, 12000) for c, clip in clips.items()},
        {c: [reference[f"{c}|audio12k"]] for c in CLIPS[:2]},
        {c: reference[f"{c}|prob"][None] for c in CLIPS[:2]},
    )
    reference = np.load(weights / "efficientat" / "reference.npz")
    whole = {c: np.asarray(resample_poly(x, 2, 1), np.float32) for c, x in clips.items()}
    logits = {c: reference[f"{c}|logit"].astype(np.float64) for c in CLIPS}
    yield Case(
        "efficientat",
        _tagger("efficientat-mn", weights / "efficientat" / "mn04_as.pth", folder),
        whole,
        {c: [x[i * 320_000 :][:320_000] for i in range(len(logits[c]))] for c, x in whole.items()},
        {c: 1 / (1 + np.exp(-x)) for c, x in logits.items()},
    )
    reference = np.load(weights / "msd-musicnn" / "reference.npz")
    yield Case(
        "msd",
        _tagger("msd-musicnn", weights / "msd-musicnn" / "msd_musicnn.npz", folder),
        clips,
        {c: [clip[:48_000]] for c, clip in clips.items()},
        {c: reference[f"{c}|prob"][:1] for c in CLIPS},
    )
    reference = np.load(weights / "sota" / "reference.npz")
    for tags in ("mtat", "jamendo"):
        for net in ("musicnn", "fcn", "crnn"):
            logits = {c: reference[f"{c}|{tags}|{net}|logits"] for c in CLIPS}
            yield Case(
                f"{tags}_{net}",
                _tagger(f"sota-{net}", weights / "sota" / f"{tags}_{net}.pth", folder),
                clips,
                {c: _cuts(net, clip, len(logits[c])) for c, clip in clips.items()},
                {c: 1 / (1 + np.exp(-x.astype(np.float64))) for c, x in logits.items()},
            )


def agreement(case: Case) -> Rows:
    """Largest difference from the published outputs, per clip."""
    return [
        _row(f"{case.name}/{clip}/alone", max(differences), "max |Δp|")
        for clip, cuts in case.cuts.items()
        if (
            differences := [
                float(np.abs(alone(case.tagger, cut) - expected).max())
                for cut, expected in zip(cuts, case.expected[clip], strict=True)
            ]
        )
    ]


def context(case: Case) -> Rows:
    """How far scores move when a window has real neighbours."""
    card = case.tagger.card
    hop, n_frames = card.features.frame_hop, card.features.n_frames
    size = (card.window_frames - 1) * hop
    size += int(n_frames(size) < card.window_frames)  # pre-emphasis takes a sample more
    moved = []
    for clip in case.clips.values():
        frames = frames_of(clip, card.features)
        for start in _starts(len(frames) - 2, card.window_frames):
            inside = frames[start : start + card.window_frames]
            cut = clip[start * hop :][:size]
            apart = alone(case.tagger, cut)
            moved.append(np.abs(case.tagger(inside[None].copy())[0] - apart))
    return _both(f"{case.name}/context", moved)


def streaming(case: Case) -> Rows:
    """How far scores move when each stretch of a stream goes through the trunk once."""
    rate, moved = case.tagger.card.features.sample_rate, []
    for clip in case.clips.values():
        whole, once = (
            tag_blocks([Block(clip, 0, rate)], rate, {"x": case.tagger}, exact=exact)["x"].scores
            for exact in (True, False)
        )
        moved += [
            np.abs(np.subtract(a.values, b.values))
            for a, b in zip(whole, once, strict=True)
            if not a.provisional
        ]
    return _both(f"{case.name}/streaming", moved)


SECONDS = 36.0
"""Of each song."""
FEWEST = 3
"""Songs that a tag must be said of."""


def labelled(case: Case, songs: Path, every: int) -> Rows:
    """PR-AUC against the words of songs, of whole windows and of the same stretches embedded."""
    card, trunk = case.tagger.card, case.tagger.card.trunk
    assert trunk is not None
    names = [tag.rpartition("---")[2] for tag in card.tags]
    truth, found = [], []
    for path, words in _described(songs)[::every]:
        frames = frames_of(_middle(path, card.features.sample_rate), card.features)
        ends = np.linspace(card.window_frames, len(frames), 2).astype(int)
        every_one = case.tagger.trunk(
            np.ascontiguousarray(frames[None, : len(frames) // trunk.stride * trunk.stride])
        )[0]
        lasts = np.maximum(ends // trunk.stride - trunk.short, trunk.columns)
        parts = np.stack([every_one[last - trunk.columns : last] for last in lasts])
        whole = np.stack([frames[end - card.window_frames : end] for end in ends])
        truth.append([name in words for name in names])
        found.append((case.tagger(whole).mean(axis=0), case.tagger.head(parts).mean(axis=0)))
    table = np.array(truth, np.float32)
    rows = [_row(f"{case.name}/songs", len(table), "songs")]
    for kind, scores in zip(("whole", "streaming"), np.array(found).swapaxes(0, 1), strict=True):
        some = table.sum(axis=0) >= FEWEST
        judged = per_tag([n for n, s in zip(names, some, strict=True) if s], table[:, some],
                         scores[:, some])  # fmt: skip
        for metric in ("pr_auc", "roc_auc"):
            rows.append(_row(f"{case.name}/{metric}/{kind}", macro(judged, metric), metric))
    return [*rows, _row(f"{case.name}/tags", int(some.sum()), "tags")]


def batching(case: Case, songs: Path, every: int) -> Rows:
    """How events differ if streams share batches, over the songs as streams side by side."""
    rate = case.tagger.card.features.sample_rate
    clips = [_middle(path, rate) for path, _ in _described(songs)[::every]]
    found = []
    for sizes in ([1], [1, 2, 4, 8]):
        engine = Engine({"x": case.tagger}, sizes=sizes)
        events = [e for i in range(len(clips)) for e in engine.open(f"s{i}", rate)]
        for start in range(0, round(SECONDS * rate), rate):
            events += engine.feed_many(
                (f"s{i}", Block(clip[start : start + rate], start, rate))
                for i, clip in enumerate(clips)
            )
            events += engine.step()
        found.append(events + engine.close_many([f"s{i}" for i in range(len(clips))]))
    switches = [
        {(type(e), e.stream, e.tag, e.at) for e in events if isinstance(e, TagStarted | TagEnded)}
        for events in found
    ]
    values = [
        {(e.stream, e.end): e.values for e in events if isinstance(e, WindowScored)}
        for events in found
    ]
    moved = [np.abs(np.subtract(values[0][key], values[1][key])).max() for key in values[0]]
    return [
        _row(f"{case.name}/batching/hours", len(clips) * SECONDS / 3600, "h"),
        _row(f"{case.name}/batching/max", max(moved), "max |Δp|"),
        _row(f"{case.name}/batching/events", len(switches[0]), "events"),
        _row(f"{case.name}/batching/differ", len(switches[0] ^ switches[1]), "events"),
    ]


def _described(songs: Path) -> list[tuple[Path, set[str]]]:
    """Songs and their words: genres, instruments, and whether somebody sings."""
    with (songs / "tracks.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    out = []
    for row in rows:
        words = {word for phrase in re.split("[,;]", row["genre"]) for word in phrase.split()}
        if row["vocals"].startswith("yes"):
            words |= {"vocal", "vocals", "voice", "singing"}
        out.append((songs / row["file"], {word.strip("().'") for word in words}))
    return [one for one in out if one[0].is_file()]


def _middle(path: Path, rate: int) -> np.ndarray:
    """The middle of a recording, repeated if it is short."""
    samples, n = read_samples(Item(path.stem, path, (), "test", ""), rate), round(SECONDS * rate)
    samples = samples[np.arange(max(n, len(samples))) % len(samples)]
    return samples[(len(samples) - n) // 2 :][:n]


def provisional(case: Case) -> Rows:
    """How far the scores of a window's beginning are from those of the whole window."""
    card = case.tagger.card
    silence = silence_frame(card.features)
    rows: Rows = []
    for seconds in (3, 5, 10, 20):
        count = round(seconds * card.features.frame_rate)
        moved, alike = [], []
        for clip in case.clips.values() if count < card.window_frames else ():
            frames = frames_of(clip, card.features)
            for start in _starts(len(frames), card.window_frames):
                full = frames[start : start + card.window_frames]
                row = np.zeros_like(full)
                row[-count:] = full[:count]
                pad_past(row, count, card.padding, silence)
                early, late = case.tagger(np.stack([row, full]))
                moved.append(np.abs(early - late))
                alike.append(np.corrcoef(early, late)[0, 1])
        if moved:
            name = f"{case.name}/provisional/{seconds}s"
            rows += [*_both(name, moved), _row(f"{name}/corr", np.mean(alike), "correlation")]
    return rows


def short(case: Case) -> Rows:
    """A clip shorter than a window: filled by repetition as we do, or with silence at its end."""
    card, silence = case.tagger.card, silence_frame(case.tagger.card.features)
    rows: Rows = []
    for clip, expected in case.expected.items():
        frames = frames_of(case.clips[clip], card.features)
        if len(frames) >= card.window_frames:
            continue
        row = np.zeros((1, card.window_frames, card.features.width), np.float32)
        row[0, -len(frames) :] = frames
        pad_past(row[0], len(frames), card.padding, silence)
        moved = np.abs(case.tagger(row) - expected)
        rows += _both(f"{case.name}/{clip}/short", [moved])
    return rows


def speed(case: Case) -> Rows:
    """Time of one window, alone and in a batch of 8."""
    rows: Rows = []
    for n in (1, 8):
        case.tagger.warm_up([n])
        windows, times = case.tagger.staging(n), []
        for _ in range(5):
            began = time.perf_counter()
            case.tagger(windows)
            times.append((time.perf_counter() - began) / n)
        rows.append(_row(f"{case.name}/window/batch{n}", np.median(times), "s"))
    return rows


def alone(tagger: Tagger, cut: np.ndarray) -> np.ndarray:
    """Probabilities of a window's audio that nothing precedes; of the first window of a cut."""
    frames = frames_of(cut, tagger.card.features)[: tagger.card.window_frames]
    if len(frames) != tagger.card.window_frames:
        raise ValueError(f"expected {tagger.card.window_frames} frames, got {len(frames)}")
    return tagger(frames[None].copy())[0]


def _tagger(kind: str, checkpoint: Path, folder: Path) -> Tagger:
    bundle = folder / f"{checkpoint.stem}.pt"
    import_checkpoint(kind, checkpoint, None, bundle)
    return Tagger.load(bundle, "cpu")


def _cuts(net: str, clip: np.ndarray, n: int) -> list[np.ndarray]:
    """The windows that the reference outputs belong to."""
    if net == "musicnn":
        return [clip[i * 48000 : (i + 1) * 48000] for i in range(n)]
    size = 29 * 16000
    centre = clip[max(0, (len(clip) - size) // 2) :][:size]
    return [np.pad(centre, (0, size - len(centre)))]


def _starts(n_frames: int, window: int) -> list[int]:
    """First frames of at most STARTS windows, spread over a clip."""
    last = n_frames - window
    return [] if last < 1 else sorted({int(s) for s in np.linspace(1, last, STARTS)})


def _both(name: str, moved: list[np.ndarray]) -> Rows:
    if not moved:
        return []
    return [
        _row(f"{name}/mean", np.mean(moved), "mean |Δp|"),
        _row(f"{name}/max", np.max(moved), "max |Δp|"),
    ]


def _row(name: str, value: float, unit: str) -> dict[str, object]:
    return {"name": name, "value": float(value), "unit": unit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the checkpoints")
    parser.add_argument("--songs", type=Path, help="folder with tracks.tsv, for these rows alone")
    parser.add_argument("--every", type=int, default=1, help="use every so many songs")
    parser.add_argument("--only", default="", help="part of the names to measure")
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: Rows = []
    if not args.weights.is_dir():
        print(f"{args.weights}: not on this machine, nothing to measure")
    else:
        with tempfile.TemporaryDirectory() as folder:
            for case in cases(args.weights, Path(folder)):
                if args.only not in case.name:
                    continue
                measures: list[Callable[[Case], Rows]]
                measures = [agreement, context, streaming, provisional, short, speed]
                if args.songs:
                    more = {"songs": args.songs, "every": args.every}
                    measures = [partial(labelled, **more), partial(batching, **more)]
                for measure in measures:
                    for row in measure(case):
                        print(f"{row['name']:40} {row['value']:12.3g} {row['unit']}", flush=True)
                        rows.append(row)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
