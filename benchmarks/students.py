"""Compares nets for the default model: students of the same teachers with the same budget.

Every net trains on the data of the recipe `general` for the same time on one core, with one cosine
schedule of the learning rate. It is evaluated on music from unseen sources: rank agreement with the
teachers' decisions (ROC-AUC, PR-AUC, means over tags). The CPU time per window is measured too.

    python benchmarks/students.py --data ../shared/data --cache data --budget 90

With `--music` the data are the recordings alone, as they are, labelled by the three teachers that
cost least. All nets are judged on the same moments then: nets for 3 s see the middle of the 10 s.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from streamtag.train.data.cache import FeatureCache
from streamtag.train.data.loader import Loader
from streamtag.train.data.samples import ProgressCallback, Sets, statistics
from streamtag.train.data.vocabulary import read_vocabulary
from streamtag.train.distillation.mixing import (
    KindColumns,
    MixedWindows,
    SoundMaterial,
    fixed_windows,
)
from streamtag.train.distillation.sets import distillation_sets, label_music, tracks_of
from streamtag.train.evaluation.metrics import macro, per_tag
from streamtag.train.nets.model import Model, new_model
from streamtag.train.recipes.file import load_recipe
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.synthesis.prepared import PreparedWindows
from streamtag.train.training.predictions import cross_entropy, predict

RESULTS = Path(__file__).with_name("students.json")
PAGE = Path(__file__).parents[1] / "docs" / "models-method.md"
JUDGED = "music, unseen sources"
CONTENDERS = {
    "small": "small",
    "small ×1.5, 3 deeper": "small multiplier=1.5 deeper=3",
    "small ×2, 3 deeper": "small multiplier=2.0 deeper=3",
    "2D-CNN (MusicTagger)": "cnn2d",
    "BiLSTM (MusicTagger)": "bilstm",
    "MobileNetV2": "mobilenet",
    "CP-ResNet, ρ 5": "cp-resnet rho=5",
    "musicnn": "musicnn",
    "streaming, 3 s": "streaming",
    "streaming, 3 deeper, 3 s": "streaming deeper=3",
    "streaming": "streaming window_frames=432",
    "streaming ×1.5, 3 deeper, 3 s": "streaming multiplier=1.5 deeper=3",
}
"""The nets that accept 80 bands and 3 s; a word with `window_frames` goes to the recipe."""
CHEAP_TEACHERS = ("jamendo-fcn", "mtat-fcn", "moodtheme-vggish")
JUDGED_FRAMES = 432


def main() -> None:
    """Trains every net that has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("data"))
    parser.add_argument("--budget", type=float, default=90, help="seconds of one core per net")
    parser.add_argument("--only", help="names of contenders, separated by semicolons")
    parser.add_argument("--music", action="store_true", help="only recordings, cheap teachers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="write the rows into the page only")
    given = parser.parse_args()
    if given.table:
        write_page(json.loads(given.results.read_text()))
        return
    if given.data is None:
        parser.error("expected --data, got nothing")
    torch.set_num_threads(1)
    console = Console(stderr=True)
    known = json.loads(given.results.read_text()) if given.results.exists() else []
    for label in given.only.split(";") if given.only else CONTENDERS:
        key = {"label": label, "budget": given.budget, "seed": given.seed, "music": given.music}
        if any(key.items() <= ({"seed": 1, "music": False} | row).items() for row in known):
            continue
        row = key | compared(CONTENDERS[label], given)
        rows = json.loads(given.results.read_text()) if given.results.exists() else []
        given.results.write_text(json.dumps([*rows, row], indent=1, ensure_ascii=False) + "\n")
        console.print(label, row)


def compared(net: str, given: argparse.Namespace) -> dict[str, Any]:
    """Trains a net and scores it."""
    recipe = load_recipe("general", [*_changes(net), f"seed={given.seed}"])
    make = music_sets if given.music else distillation_sets
    sets = make(recipe, given.data, given.cache, lambda what, i, n: None, 1)
    mean, scale = statistics(sets.train)
    model = new_model(recipe, len(sets.tags))
    model.normalise(torch.from_numpy(mean), torch.from_numpy(scale))
    row: dict[str, Any] = {"windows": train_for(model, recipe, sets.train, given.budget)}
    row |= measured(model, recipe)
    for name, samples in [("validation", sets.validation), *sets.tests.items()]:
        verdict = predict(model, samples)
        table = per_tag(sets.tags, verdict.truth, verdict.logits)
        table = {t: v for t, v in table.items() if 0.005 <= v["prior"] <= 0.995}
        row[name] = {m: round(macro(table, m), 4) for m in ("roc_auc", "pr_auc", "prior")}
    return row


def music_sets(
    recipe: Recipe, data: Path, cache: Path, report: ProgressCallback, workers: int | None
) -> Sets:
    """Windows of recordings alone; those to judge are of one length, whatever the net sees."""
    assert recipe.distil is not None
    vocabulary, own = read_vocabulary(recipe.distil.vocabulary), recipe.distil.teachers
    cheap = tuple(text for text in own if text.partition("=")[0] in CHEAP_TEACHERS)
    want = replace(recipe.distil, teachers=cheap)
    music = label_music(want, vocabulary, data, cache, report)
    frames = FeatureCache(cache, recipe.features)
    for items in music.items.values():
        frames.build(items, workers=workers, progress=report)

    def windows(part: str, size: int, count: int, *, plain: bool) -> MixedWindows:
        material = SoundMaterial(tracks_of(music, frames, 0, [part]), [], [], [])
        tags = tuple(tag.tag for tag in vocabulary)
        columns = KindColumns(*(tags.index(tag) for tag in ("speech", "music", "silence")))
        return MixedWindows(
            material, tags, columns, recipe.features, size, recipe.first_frames, count,
            (1.0, 0.0, 0.0, 0.0), plain=plain,
        )  # fmt: skip

    def judged(part: str, seed: int) -> PreparedWindows:
        found = fixed_windows(windows(part, JUDGED_FRAMES, 2000, plain=True), 2000, seed)
        begin = (JUDGED_FRAMES - recipe.window_frames) // 2
        middle = found.frames[:, begin : begin + recipe.window_frames]
        return replace(found, frames=middle)

    train = windows("train", recipe.window_frames, want.windows, plain=False)
    tests = {
        JUDGED: judged("unseen sources", 3),
        "music, unseen tracks": judged("unseen tracks", 4),
    }
    return Sets(train.tags, train, judged("validation", 2), tests)


def _changes(text: str) -> list[str]:
    name, *options = text.split()
    return [
        f'net={{name="{name}"}}',
        *(o if o.startswith("window_frames") else f"net.options.{o}" for o in options),
    ]


def train_for(model: Model, recipe: Recipe, samples: Any, budget: float) -> int:
    """Trains for `budget` CPU seconds; returns the number of windows seen."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.05)
    loader, epoch, seen, began = Loader(samples, recipe), 0, 0, time.process_time()
    model.train()
    while True:
        for batch in loader.epoch(epoch):
            share = (time.process_time() - began) / budget
            if share >= 1:
                model.eval()
                return seen
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * min(share / 0.1, 0.5 * (1 + math.cos(math.pi * share)))
            loss = model.loss(batch.frames, batch.targets, None, cross_entropy)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            seen += len(batch.frames)
        epoch += 1


def measured(model: Model, recipe: Recipe) -> dict[str, Any]:
    """Size, and milliseconds per window on one core: alone, and in batches of eight."""
    script = torch.jit.freeze(torch.jit.script(model.eval()))
    fast, out = torch.jit.optimize_for_inference(script), {}
    with torch.inference_mode():
        for n in (1, 8):
            frames, took = torch.randn(n, recipe.window_frames, 80), []
            for i in range(30):
                began = time.process_time()
                fast(frames)
                if i >= 5:
                    took.append(time.process_time() - began)
            out[f"ms_{n}"] = round(1000 * float(np.median(took)) / n, 3)
    count = sum(p.numel() for p in model.net.parameters())
    return {"weights": count, "megabytes": round(4 * count / 1e6, 2)} | out


def write_page(rows: list[dict[str, Any]]) -> None:
    """Puts the table between the page's markers, the best first."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- students -->", "<!-- /students -->"
    head = "| net | weights | windows seen | ROC-AUC | PR-AUC | ms per window | in batches of 8 |"
    lines = [head, "|---|--:|--:|--:|--:|--:|--:|"]
    ours = [row for row in rows if not row.get("music")]
    for row in sorted(ours, key=lambda r: -float(r[JUDGED]["pr_auc"])):
        found = row[JUDGED]
        lines.append(
            f"| {row['label']} | {row['weights']:,} | {row['windows']:,} | {found['roc_auc']:.3f} "
            f"| {found['pr_auc']:.3f} | {row['ms_1']:.2f} | {row['ms_8']:.2f} |"
        )
    body = "\n".join(lines)
    before, after = text.split(begin)[0], text.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
