"""Differences of imported checkpoints from their published outputs, alone and inside a stream.

For every checkpoint in the folder of weights: the largest difference from the reference outputs
(each window cut out and tagged alone); how far the scores move when the same window is part of a
longer stream, whose real neighbours replace the mirrored ends; how far they move when the engine
computes each stretch of a stream once instead of whole windows; how the provisional scores after
3, 5, 10 and 20 s relate to those of the full window; and the time of a window on one thread.
Without the weights beside the clone it prints a message and measures nothing.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch

from streamtag.audio.block import Block
from streamtag.audio.front_end import frames_of
from streamtag.engine.offline import tag_blocks
from streamtag.engine.windows import pad_past
from streamtag.model.bundle import silence_frame
from streamtag.model.tagger import Tagger
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
    hop = card.features.frame_hop
    moved = []
    for clip in case.clips.values():
        frames = frames_of(clip, card.features)
        for start in _starts(len(frames) - 2, card.window_frames):
            inside = frames[start : start + card.window_frames]
            cut = clip[start * hop : (start + card.window_frames - 1) * hop]
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
    """Probabilities of a window's audio that nothing precedes or follows."""
    frames = frames_of(cut, tagger.card.features)
    if len(frames) != tagger.card.window_frames:
        raise ValueError(f"expected {tagger.card.window_frames} frames, got {len(frames)}")
    return tagger(frames[None])[0]


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
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: Rows = []
    if not args.weights.is_dir():
        print(f"{args.weights}: not on this machine, nothing to measure")
    else:
        with tempfile.TemporaryDirectory() as folder:
            for case in cases(args.weights, Path(folder)):
                for measure in (agreement, context, streaming, provisional, short, speed):
                    for row in measure(case):
                        print(f"{row['name']:40} {row['value']:12.3g} {row['unit']}", flush=True)
                        rows.append(row)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
