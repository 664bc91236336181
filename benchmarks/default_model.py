"""Evaluates the default model: teachers, degraded audio, live use, and cost.

Everything is measured on music that was not in training (whole sources, and tracks of others), and
on held-out speech, noise and notes. The truth about music is the teachers' decision on the clean
recording, also where the student's input is degraded.

    python benchmarks/default_model.py --data ../shared/data --cache data models/general-1.pt
"""

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from scipy.stats import spearmanr

from streamtag.audio.block import Block
from streamtag.audio.front_end import FrontEnd, frames_of
from streamtag.engine.offline import tag_blocks
from streamtag.model.bundle import read_card
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger
from streamtag.train.data.codec import encode_decode
from streamtag.train.data.corpora import Item
from streamtag.train.data.effects import add_noise, add_reverberation, change_level
from streamtag.train.data.extraction import read_samples
from streamtag.train.data.vocabulary import read_vocabulary
from streamtag.train.distillation.mixing import LABEL_STEP
from streamtag.train.distillation.sets import label_music
from streamtag.train.evaluation.live import evaluate_files
from streamtag.train.evaluation.metrics import macro, per_tag
from streamtag.train.evaluation.thresholds import SOUND_KINDS
from streamtag.train.recipes.file import load_recipe
from streamtag.train.synthesis import sounds

RESULTS = Path(__file__).with_name("default_model.json")
PAGE = Path(__file__).parents[1] / "models" / "README.md"
SECONDS = 40.0
"""The seconds of every recording that are used, from its beginning."""
STEP = 2.0
"""Seconds between the windows that are compared."""
RARE = 0.01
"""The share of windows below which a tag is not evaluated."""
Change = Callable[[np.ndarray, int], np.ndarray]


def conditions() -> dict[str, Change]:
    """Changes to the audio before it goes to the student."""
    found: dict[str, Change] = {"clean": lambda x, rate: x}
    for codec in ("mp3:32", "mp3:64", "mp3:128", "aac:32", "aac:64", "opus:32", "opus:64"):
        name = f"{codec.split(':')[0].upper()} {codec.split(':')[1]} kbit/s"
        found[name] = lambda x, rate, codec=codec: encode_decode(x, rate, codec)
    for decibel in (-10, 10):
        found[f"{decibel:+d} dB"] = lambda x, rate, d=decibel: np.clip(change_level(x, d), -1, 1)
    for ratio in (20, 10):
        found[f"noise, {ratio} dB below"] = lambda x, rate, r=ratio: add_noise(
            x, rate, r, np.random.default_rng(1)
        )
    for decay in (0.4, 1.0):
        found[f"room, {decay:g} s"] = lambda x, rate, d=decay: add_reverberation(
            x, rate, d, np.random.default_rng(1)
        )
    return found


def main() -> None:
    """Measures everything and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("data"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="write the rows into the page only")
    given = parser.parse_args()
    if given.table:
        write_page(given.bundle, json.loads(given.results.read_text()))
        return
    if given.data is None:
        parser.error("expected --data, got nothing")
    torch.set_num_threads(1)
    console = Console(stderr=True)
    tagger = Tagger.load(given.bundle, "cpu")
    items, labels = labelled(given.data, given.cache)
    out: dict[str, Any] = {"bundle": given.bundle.name, "checksum": tagger.checksum[:12]}
    audio = {i.name: read_samples(i, tagger.card.features.sample_rate, SECONDS) for i in items}
    out["intervals"] = intervals(tagger, items, labels, audio)
    out["conditions"], soft, clean = in_conditions(tagger, items, labels, audio, console)
    out["tags"] = against_teachers(tagger, soft, clean)
    out["false events"] = false_events(tagger, given.data)
    out["cost"] = cost(tagger)
    out["live"] = live_scores(given.bundle, items, labels, given.cache, console)
    given.results.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    console.print(json.dumps({k: v for k, v in out.items() if k not in ("tags", "live")}, indent=1))


def labelled(data: Path, cache: Path) -> tuple[list[Item], dict[str, np.ndarray]]:
    """The unseen recordings, and the teachers' soft decisions along them."""
    recipe = load_recipe("general")
    assert recipe.distil is not None
    vocabulary = read_vocabulary(recipe.distil.vocabulary)
    music = label_music(recipe.distil, vocabulary, data, cache, lambda what, i, n: None)
    items = [*music.items["unseen sources"], *music.items["unseen tracks"]]
    return items, dict(music.labels)


def window_scores(tagger: Tagger, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of full windows every `STEP` seconds, and the seconds of their middles."""
    card = tagger.card
    frames, size = frames_of(np.ascontiguousarray(samples), card.features), card.window_frames
    starts = range(0, len(frames) - size + 1, round(STEP * card.features.frame_rate))
    windows = np.stack([frames[s : s + size] for s in starts])
    middles = (np.array(starts) + size / 2) / card.features.frame_rate
    return tagger(windows), middles


def in_conditions(
    tagger: Tagger,
    items: list[Item],
    labels: dict[str, np.ndarray],
    audio: dict[str, np.ndarray],
    console: Console,
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Per condition: agreement with the teachers and with the student's scores of clean audio.

    Also returns the teachers' soft decisions and the student's scores of the clean windows.
    """
    card, rate = tagger.card, tagger.card.features.sample_rate
    on = np.array(card.on_thresholds)
    clean = table = np.zeros(0)
    out = {}
    for name, change in conditions().items():
        scores, soft = [], []
        for item in items:
            found, middles = window_scores(tagger, change(audio[item.name], rate))
            scores.append(found)
            rows = np.round(middles / LABEL_STEP).astype(int)
            rows = np.minimum(rows, len(labels[item.name]) - 1)
            soft.append(labels[item.name][rows])
        predicted = np.concatenate(scores)
        if not len(clean):
            table, clean = np.concatenate(soft), predicted
        truth = np.where(np.isnan(table), np.nan, table >= 0.5)
        out[name] = agreement(card.tags, truth, predicted) | {
            "decisions kept": round(float(kept(clean >= on, predicted >= on)), 4)
        }
        console.print(name, out[name])
    return out, table, clean


def intervals(
    tagger: Tagger,
    items: list[Item],
    labels: dict[str, np.ndarray],
    audio: dict[str, np.ndarray],
    draws: int = 300,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the means over tags, recordings drawn with replacement (bootstrap)."""
    parts = []
    for item in items:
        scores, middles = window_scores(tagger, audio[item.name])
        rows = np.minimum(np.round(middles / LABEL_STEP).astype(int), len(labels[item.name]) - 1)
        parts.append((labels[item.name][rows], scores))
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        some = [parts[i] for i in rng.integers(len(parts), size=len(parts))]
        soft = np.concatenate([s for s, _ in some])
        truth = np.where(np.isnan(soft), np.nan, soft >= 0.5)
        found.append(agreement(tagger.card.tags, truth, np.concatenate([s for _, s in some])))
    ends = {n: np.percentile([f[n] for f in found], [2.5, 97.5]) for n in ("roc_auc", "pr_auc")}
    return {name: (round(float(a), 3), round(float(b), 3)) for name, (a, b) in ends.items()}


def agreement(tags: tuple[str, ...], truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Means over the tags that are neither rare nor everywhere."""
    table = per_tag(tags, truth.astype(np.float32), np.log(scores) - np.log1p(-scores))
    table = {tag: row for tag, row in table.items() if RARE <= row["prior"] <= 1 - RARE}
    found = {name: round(macro(table, name), 4) for name in ("roc_auc", "pr_auc", "prior")}
    return found | {"tags": len(table)}


def kept(before: np.ndarray, after: np.ndarray) -> float:
    """Of all decisions that are on in either, the share that is on in both."""
    return float((before & after).sum() / max(1, (before | after).sum()))


def against_teachers(tagger: Tagger, soft: np.ndarray, clean: np.ndarray) -> dict[str, Any]:
    """Per tag: rank correlation with the soft decisions, and agreement of the hard ones."""
    card = tagger.card
    out: dict[str, Any] = {}
    logits = np.log(clean) - np.log1p(-clean)
    table = per_tag(card.tags, np.where(np.isnan(soft), np.nan, soft >= 0.5), logits)
    for i, tag in enumerate(card.tags):
        if np.isnan(soft[:, i]).all():
            continue
        teacher, student = soft[:, i] >= 0.5, clean[:, i] >= card.on_thresholds[i]
        both, either = (teacher & student).sum(), teacher.sum() + student.sum()
        row = table.get(tag, {})
        out[tag] = {
            "spearman": round(float(spearmanr(soft[:, i], clean[:, i]).statistic), 3),
            "agree": round(float((teacher == student).mean()), 3),
            "f1": round(float(2 * both / either), 3) if either else None,
            "prior": round(float(teacher.mean()), 4),
            "roc_auc": row.get("roc_auc"),
            "pr_auc": row.get("pr_auc"),
        }
    return out


def false_events(tagger: Tagger, data: Path) -> dict[str, Any]:
    """Events per hour on noise and speech of the test set, through the engine, and kind tags."""
    rate, out = tagger.card.features.sample_rate, {}
    found = {
        "noise": sounds.noises(data, "test", rate),
        "speech": sounds.speech(data, "test", rate, 1),
    }
    reading = data / "weights" / "sota" / "speech_16k.npy"
    if reading.exists():
        clip = np.load(reading).astype(np.float32)
        found["speech, a reading (LibriSpeech)"] = [sounds.resampled(clip, 16000, rate)]
    for name, some in found.items():
        seconds, content, kinds = 0.0, 0, dict.fromkeys(SOUND_KINDS, 0.0)
        for samples in some:
            result = tag_blocks([Block(samples, 0, rate)], rate, {"m": tagger})["m"]
            seconds += result.seconds
            content += sum(event.tag not in SOUND_KINDS for event in result.events)
            for event in result.events:
                if event.tag in kinds:
                    kinds[event.tag] += event.off - event.on
        out[name] = {
            "minutes": round(seconds / 60, 1),
            "false events per hour": round(3600 * content / seconds, 1),
            **{f"share {kind}": round(on / seconds, 3) for kind, on in kinds.items()},
        }
    return out


def cost(tagger: Tagger, repeats: int = 200) -> dict[str, float]:
    """CPU milliseconds per second of audio, and streams per core at a hop of one second."""
    card, rate = tagger.card, tagger.card.features.sample_rate
    rng = np.random.default_rng(0)
    second = (0.1 * rng.standard_normal(rate)).astype(np.float32)
    front = FrontEnd(card.features, card.window_frames * 4)
    took: dict[str, list[float]] = {"front end": [], "alone": [], "batch of 8": []}
    windows = {n: rng.normal(-6, 2, (n, card.window_frames, card.features.width)) for n in (1, 8)}
    windows = {n: w.astype(np.float32) for n, w in windows.items()}
    for _ in range(repeats):
        for name, call, n in (
            ("front end", lambda: front.push(second), 1),
            ("alone", lambda: tagger(windows[1]), 1),
            ("batch of 8", lambda: tagger(windows[8]), 8),
        ):
            began = time.process_time()
            call()
            took[name].append((time.process_time() - began) / n)
    ms = {name: 1000 * statistics.median(values) for name, values in took.items()}
    out = {f"{name}, ms": round(value, 3) for name, value in ms.items()}
    for name in ("alone", "batch of 8"):
        out[f"streams per core, {name}"] = round(1000 / (ms["front end"] + ms[name]))
    return out


def live_scores(
    bundle: Path, items: list[Item], labels: dict[str, np.ndarray], cache: Path, console: Console
) -> dict[str, Any]:
    """Cuts from one recording to another, through the engine."""
    card, path = Tagger.load(bundle, "cpu").card, cache / "unseen-music.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "tags", "split"])
        for item in items:
            mean = labels[item.name][: round(SECONDS / LABEL_STEP)].mean(axis=0)
            tags = [t for t, q in zip(card.tags, mean, strict=True) if q >= 0.5]
            writer.writerow([item.path.resolve(), ";".join([*tags, "music"]), "test"])
    found = evaluate_files(bundle, path, part="test", longest=SECONDS, console=console)
    return {k: v for k, v in found.items() if k not in ("tags", "only_in_bundle", "only_in_corpus")}


def write_page(bundle: Path, found: dict[str, Any]) -> None:
    """Puts the tables between the page's markers."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- general -->", "<!-- /general -->"
    before, after = text.split(begin)[0], text.split(end)[1]
    body = "\n\n".join(tables(read_card(bundle), found))
    PAGE.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")


def tables(card: Card, found: dict[str, Any]) -> list[str]:
    """All tables of a card and its measurements, as Markdown."""
    live = found["live"]
    rows = [
        [name, row["roc_auc"], row["pr_auc"], f"{row['decisions kept']:.0%}"]
        for name, row in found["conditions"].items()
    ]
    prior = found["conditions"]["clean"]["prior"]
    return [
        f"**In bad conditions** (unseen music; mean over {found['conditions']['clean']['tags']} "
        f"tags; guessing has a PR-AUC of {prior:.3f}):",
        table(["what the student hears", "ROC-AUC", "PR-AUC", "decisions kept"], rows),
        "**By seconds heard** (from a beginning, last window's score):",
        table(
            ["seconds", "ROC-AUC", "PR-AUC", "F macro"],
            [[r["seconds"], r["roc_auc"], r["pr_auc"], r["f_macro"]] for r in live["heard"]],
        ),
        "**By delay after a cut** from one recording to another (smoothed scores):",
        table(
            ["seconds since", "ROC-AUC", "PR-AUC", "F macro"],
            [[r["seconds"], r["roc_auc"], r["pr_auc"], r["f_macro"]] for r in live["after_cuts"]],
        ),
        "**Sounds that are no music:**",
        table(
            ["sound", "minutes", "false events per hour", *(f"share {k}" for k in SOUND_KINDS)],
            [
                [name, row["minutes"], row["false events per hour"],
                 *(row[f"share {k}"] for k in SOUND_KINDS)]
                for name, row in found["false events"].items()
            ],
        ),
        "**Every tag:** on at this probability; on all 67 unseen recordings, where it is on in at "
        "least 1 % and off in at least 1 % of the windows: rank correlation with the teachers, F1 "
        "of the decisions at our thresholds, ROC-AUC and PR-AUC (share of windows in which the "
        "teachers have it on). Last column: the same two figures against the truth, on mixtures "
        "of unseen notes and on unseen tunes; of kinds, on everything unseen as it might arrive.",
        tags_table(card, found),
    ]  # fmt: skip


def tags_table(card: Card, found: dict[str, Any]) -> str:
    """A row per tag."""
    truth = [card.scores[t]["tags"] for t in card.scores if t.startswith("instruments, unseen")][:2]
    rows = []
    for tag, on in zip(card.tags, card.on_thresholds, strict=True):
        row = found["tags"].get(tag, {})
        known = RARE <= row.get("prior", 0) <= 1 - RARE
        kind = card.scores["everything unseen, as it might arrive"]["tags"].get(tag)
        true = [t[tag] for t in truth if tag in t]
        if kind and card.categories[tag] == "kind":
            true = [kind]
        rows.append([
            tag, card.categories[tag], on, "off by default" if tag in card.off_by_default else "",
            row.get("spearman") if known else None, row.get("f1") if known else None,
            figures(row) if known else None,
            ", ".join(figures(t) for t in true) or None,
        ])  # fmt: skip
    head = ["tag", "category", "on at", "", "rank", "F1", "ROC / PR (prior)", "against the truth"]
    return table(head, rows)


def figures(row: dict[str, Any]) -> str:
    """Two areas and the prior."""
    return f"{row['roc_auc']:.2f} / {row['pr_auc']:.2f} ({row['prior']:.2f})"


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; floats with three digits, nothing as a dash."""

    def cell(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(v) for v in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
