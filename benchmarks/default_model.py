"""Judges default models side by side: against teachers, people and known truth, live, and by cost.

Everything is measured on the test part of the recordings (`train.distillation.splits`), and on
noise, speech and judged pieces that are kept from training. `--part validation` measures on the
part that choices are made on. Intervals are 95 % ranges over draws of
whole sources (bootstrap). What is measured once is kept in the results, per bundle.

    python benchmarks/default_model.py models/general-2.pt models/general-1.pt \
        --data ../shared/data --cache data --pictures taggrams
    python benchmarks/default_model.py --table                      # writes models/README.md only
"""

import argparse
import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from instrument_excerpts import Excerpts, instrument_excerpts
from model_page import write_page
from rich.console import Console

from streamtag.audio.block import Block
from streamtag.engine.embeddings import saves_work, warm_up_parts
from streamtag.engine.offline import TaggerResult, tag_blocks
from streamtag.history import taggram
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger
from streamtag.train.data.extraction import read_samples
from streamtag.train.data.known import KnownItem, known_targets
from streamtag.train.data.radio import speech_over
from streamtag.train.data.vocabulary import VocabularyTag, read_vocabulary
from streamtag.train.distillation.labels import judging_truth
from streamtag.train.distillation.long_programme import LAG
from streamtag.train.distillation.mixing import LABEL_STEP
from streamtag.train.distillation.sets import learned_labels
from streamtag.train.distillation.splits import read_recordings
from streamtag.train.evaluation.live import evaluate_files
from streamtag.train.evaluation.metrics import areas, rank_correlation
from streamtag.train.evaluation.reliability import reliability
from streamtag.train.recipes.file import load_recipe
from streamtag.train.synthesis import sounds
from streamtag.train.synthesis.rated import rated_items

RESULTS = Path(__file__).with_name("default_model.json")
SECONDS = 40.0
"""The seconds of every recording that are used, from its beginning."""
ORDERS = 3
"""Orders in which the recordings follow each other for the figures of cuts and repeats: one order's
90 % vary by several seconds."""
STEP = 2.0
"""Seconds between the windows that are compared with the teachers."""
RARE = 0.01
"""The share of windows below which a tag is not judged by hard labels."""
DRAWS = 200
"""Draws of sources for an interval."""
RATIOS = (-20, -12, -6, 0, 6, 12, 20)
"""dB of speech relative to the music under it."""
MIXED = (16, 12.0)
"""Recordings that speech is put over, and seconds of each."""
ALIASES = {"singing": "vocals", "female voice": "female vocals", "male voice": "male vocals",
           "tender": "romantic", "funny": "fun"}  # fmt: skip
"""What general-1 calls tags of general-2."""
FIRST, FIRST_SLACK = (1.0, 3.0, 10.0), 0.1
"""Seconds after a stream begins at which its first answers are judged, and by how much later their
windows may end."""
LOUDEST = 0.9
"""Peak of the loudest judged piece."""
SOUND_RATE = 32000
"""Hz of the noise and speech that is kept."""
HARMLESS = {"noise": ("kind",), "speech": ("kind", "voice")}
"""Categories whose tags are no false events on a kind of sound."""


def full_windows(result: TaggerResult) -> np.ndarray:
    """(n, n_tags) probabilities of the full windows; of the last one if none is full."""
    rows = [row.values for row in result.scores if not row.provisional]
    return np.array(rows or [result.scores[-1].values])


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording as a model hears it."""

    known: KnownItem
    result: TaggerResult
    of_end: bool = False
    """Whether the model was taught what sounds at the end of its window."""

    @property
    def full(self) -> np.ndarray:
        """(n, n_tags) probabilities of the full windows; of the last one if none is full."""
        return full_windows(self.result)

    def thinned(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of full windows, one in `STEP` seconds, and the rows of their labels: of
        the middle of a window, or of its end if the model was taught what sounds there."""
        rows = [row for row in self.result.scores if not row.provisional]
        rows = rows[:: max(1, round(STEP / self.result.hop_seconds))]
        moments = np.array([row.end - LAG if self.of_end else (row.start + row.end) / 2
                            for row in rows])  # fmt: skip
        return np.array([row.values for row in rows]), np.round(moments / LABEL_STEP).astype(int)


@dataclass
class Material:
    """What all models are judged on."""

    data: Path
    cache: Path
    console: Console
    part: str = "test"
    """Of the recordings, sounds, pieces and notes."""
    sounds: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def report(self, what: str, done: int, total: int) -> None:
        """Shows progress."""
        if done % max(1, total // 5) == 0:
            self.console.print(f"  {what}: {done} of {total}")

    @cached_property
    def vocabulary(self) -> tuple[VocabularyTag, ...]:
        """The tags that are judged."""
        return read_vocabulary("general-2")

    @cached_property
    def labelled(self) -> tuple[list[KnownItem], dict[str, np.ndarray]]:
        """The recordings, and the combined teachers' soft labels (n, n_tags) along them."""
        recipe = load_recipe("general-2")
        assert recipe.distil is not None
        recorded = replace(recipe.distil, rated=0, grooves=0, packages=False)
        known, labeller, scores = learned_labels(
            replace(recipe, distil=recorded), self.data, self.cache, self.report
        )
        test = [k for k in known if k.item.split == self.part]
        n_tags = len(self.vocabulary)
        labels = {
            k.item.name: labeller.labels(scores[k.item.name], k, sung_speech=1.0)[:, :n_tags]
            for k in test
        }
        return test, labels

    @cached_property
    def judged(self) -> list[KnownItem]:
        """The judged pieces, each once on a piano."""
        found = rated_items(self.data, self.cache / "rated", 1, self.report)
        return [k for k in found if k.item.split == self.part]

    @cached_property
    def instrument_excerpts(self) -> tuple[tuple[str, ...], dict[str, Excerpts]]:
        """Families of instruments, and excerpts of each test with what sounds in them."""
        return instrument_excerpts(self.data, self.cache, self.part, self.report)

    def noise_and_speech(self, kind: str) -> list[np.ndarray]:
        """Sounds at `SOUND_RATE`, made once."""
        if kind not in self.sounds:
            path = self.cache / f"{self.part}-{kind}-{SOUND_RATE}.npz"
            if not path.exists():
                some = (
                    sounds.noises(self.data, self.part, SOUND_RATE)
                    if kind == "noise"
                    else sounds.speech(self.data, self.part, SOUND_RATE, 1)
                )
                np.savez(path, *(x.astype(np.float16) for x in some))
            with np.load(path) as arrays:
                self.sounds[kind] = [arrays[name].astype(np.float32) for name in arrays.files]
        return self.sounds[kind]


@dataclass
class Subject:
    """A model that is judged."""

    tagger: Tagger
    material: Material

    @property
    def card(self) -> Card:
        return self.tagger.card

    @property
    def rate(self) -> int:
        """Hz of its front end."""
        return self.card.features.sample_rate

    @property
    def of_end(self) -> bool:
        """Whether it was taught what sounds at the end of its window."""
        taught = self.card.extra.get("recipe", {}).get("distil") or {}
        return bool(taught.get("programme_seconds"))

    @cached_property
    def columns(self) -> dict[str, int]:
        """Its column for each tag that is judged and that it has."""
        names = {tag.tag: ALIASES.get(tag.tag, "") for tag in self.material.vocabulary}
        tags = self.card.tags
        return {t: tags.index(t if t in tags else other) for t, other in names.items()
                if t in tags or other in tags}  # fmt: skip

    def of(self, tags: Sequence[str]) -> list[int]:
        """Columns of tags that it has."""
        return [self.columns[tag] for tag in tags]

    def hear(self, samples: np.ndarray) -> TaggerResult:
        """What the engine makes of a recording."""
        return tag_blocks([Block(samples, 0, self.rate)], self.rate, {"m": self.tagger})["m"]

    @cached_property
    def music(self) -> list[Heard]:
        """The recordings."""
        test = self.material.labelled[0]
        return self._heard(test, lambda i: read_samples(test[i].item, self.rate, SECONDS), "music")

    @cached_property
    def pieces(self) -> list[Heard]:
        """The judged pieces, all with the gain that brings the loudest to full scale: how loud each
        is beside the others carries much of the arousal."""
        audio = [read_samples(k.item, self.rate, 30.0) for k in self.material.judged]
        gain = np.float32(LOUDEST / max(float(np.abs(x).max()) for x in audio))
        return self._heard(self.material.judged, lambda i: audio[i] * gain, "judged pieces")

    def _heard(
        self, some: Sequence[KnownItem], samples: Callable[[int], np.ndarray], what: str
    ) -> list[Heard]:
        out = []
        for i, known in enumerate(some):
            out.append(Heard(known, self.hear(samples(i)), self.of_end))
            self.material.report(f"{self.card.name}, {what}", i + 1, len(some))
        return out

    def sounds(self, kind: str) -> list[np.ndarray]:
        """Noise or speech at its rate."""
        some = self.material.noise_and_speech(kind)
        return [sounds.resampled(x, SOUND_RATE, self.rate) for x in some]


def interval(groups: Sequence[str], figure: Callable[[Sequence[int]], float]) -> dict[str, Any]:
    """A figure over all rows, and its range over draws of groups with replacement.

    Args:
        groups: of each row.
        figure: of the indices of rows, which may come several times.
    """
    names = sorted(set(groups))
    members = {name: [i for i, g in enumerate(groups) if g == name] for name in names}
    rng, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        chosen = rng.choice(len(names), len(names))
        drawn.append(figure([i for k in chosen for i in members[names[k]]]))
    drawn = [x for x in drawn if np.isfinite(x)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (np.nan, np.nan)
    out = {"value": figure(range(len(groups))), "low": low, "high": high}
    return {k: round(float(v), 3) for k, v in out.items()} | {
        "n": len(groups),
        "sources": len(names),
    }


def area(truth: Sequence[float] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """ROC-AUC of one row; NaN if everything is true or nothing."""
    known = ~np.isnan(np.asarray(truth, float))
    found = areas(np.asarray(truth, float)[known, None], np.asarray(scores, float)[known, None])
    return float(found.roc_auc[0])


def _tags_of_music(subject: Subject) -> tuple[list[str], list[int]]:
    """The tags whose agreement is judged, and their places in the vocabulary."""
    places = {tag.tag: i for i, tag in enumerate(subject.material.vocabulary)}
    tags = [t for t in places if t in subject.columns and t not in ("music", "silence")]
    return tags, [places[tag] for tag in tags]


def first_answers(subject: Subject) -> dict[str, Any]:
    """Agreement with the combined teachers soon after a stream begins, by seconds. The labels are
    those of the middle of the first ten seconds, whenever the answer comes."""
    tags, where = _tags_of_music(subject)
    labels, columns = subject.material.labelled[1], subject.of(tags)
    said: dict[float, list[np.ndarray]] = {seconds: [] for seconds in FIRST}
    soft, size = [], round((FIRST[-1] + 0.5) * subject.rate)
    for heard in subject.music:
        item = heard.known.item
        samples = read_samples(item, subject.rate, SECONDS)
        for start in range(0, len(samples) - size + 1, size):
            rows = subject.hear(samples[start : start + size]).scores
            for seconds in FIRST:
                so_far = [row for row in rows if row.end <= seconds + FIRST_SLACK]
                said[seconds].append(np.array(so_far[-1].values)[columns])
            middle = round((start / subject.rate + FIRST[-1] / 2) / LABEL_STEP)
            own = labels[item.name]
            soft.append(own[min(middle, len(own) - 1)][where])
    truth = np.stack(soft)
    common = ((truth >= 0.5).sum(axis=0) >= 3) & ((truth < 0.5).sum(axis=0) >= 3)
    out: dict[str, Any] = {"excerpts": len(truth), "tags": int(common.sum())}
    for seconds, answers in said.items():
        values = np.stack(answers)
        auc = areas((truth[:, common] >= 0.5).astype(float), values[:, common]).roc_auc
        ranks = [rank_correlation(truth[:, k], values[:, k]) for k in np.flatnonzero(common)]
        out[f"{seconds:g} s"] = {
            "roc_auc": round(float(np.mean(auc)), 3), "rank": round(float(np.mean(ranks)), 3)
        }  # fmt: skip
    return out


def agreement(subject: Subject) -> dict[str, Any]:
    """Agreement with the combined teachers on unseen sources, and per tag."""
    tags, where = _tags_of_music(subject)
    labels, parts = subject.material.labelled[1], []
    for heard in subject.music:
        values, rows = heard.thinned()
        soft = labels[heard.known.item.name]
        parts.append((values[:, subject.of(tags)], soft[np.minimum(rows, len(soft) - 1)][:, where]))
    values, soft = (np.concatenate(some) for some in zip(*parts, strict=True))
    prior = (soft >= 0.5).mean(axis=0)
    common = (prior >= RARE) & (prior <= 1 - RARE)

    def macro(which: Sequence[int]) -> float:
        p, q = (np.concatenate([parts[i][k] for i in which])[:, common] for k in (0, 1))
        return float(np.nanmean(areas((q >= 0.5).astype(float), p).roc_auc))

    def ranks(which: Sequence[int]) -> float:
        p, q = (np.concatenate([parts[i][k] for i in which]) for k in (0, 1))
        return float(np.nanmean([rank_correlation(q[:, k], p[:, k]) for k in range(len(tags))]))

    groups = [heard.known.item.group for heard in subject.music]
    auc = areas((soft >= 0.5).astype(float), values).roc_auc
    rows = {
        tag: {
            "roc_auc": round(float(auc[k]), 3) if common[k] else None,
            "rank": round(rank_correlation(soft[:, k], values[:, k]), 3),
            "prior": round(float(prior[k]), 4),
        }
        for k, tag in enumerate(tags)
    }
    categories = {tag.tag: tag.category for tag in subject.material.vocabulary}
    error = {}
    for category in sorted(set(categories[tag] for tag in tags)):
        mine = [k for k, tag in enumerate(tags) if categories[tag] == category]
        error[category] = reliability((soft[:, mine] >= 0.5).astype(np.float32), values[:, mine])
    moods = {tag: rows[tag]["rank"] for tag in tags if categories[tag] == "mood/theme"}
    return {
        "roc_auc": interval(groups, macro) | {"tags": int(common.sum())},
        "rank": interval(groups, ranks) | {"tags": len(tags)},
        "moods": moods | {"mean": round(float(np.mean(list(moods.values()))), 3)},
        "calibration": {name: round(float(row["error"]), 3) for name, row in error.items()},
        "tags": rows,
    }


def singing(subject: Subject) -> dict[str, Any]:
    """Whether somebody sings in unseen songs: the mean over the windows of each."""
    if "singing" not in subject.columns:
        return {}
    known = [h for h in subject.music if not np.isnan(h.known.tags.get("singing", np.nan))]
    truth = [h.known.tags["singing"] for h in known]
    column, groups = subject.columns["singing"], [h.known.item.group for h in known]
    out = {}
    for name, pool in (("mean", np.mean), ("largest", np.max)):
        scores = np.array([pool(h.full[:, column]) for h in known])
        out[name] = interval(
            groups, lambda which, s=scores: area([truth[i] for i in which], [s[i] for i in which])
        )
    return out | {"sung": int(sum(truth))}


def genres(subject: Subject) -> dict[str, Any]:
    """Genres of unseen artists by the words of the tables: means over each recording."""
    vocabulary = subject.material.vocabulary
    tags = [t.tag for t in vocabulary if t.category == "genre" and t.tag in subject.columns]
    index = [i for i, tag in enumerate(vocabulary) if tag.tag in tags]
    truth = np.stack([judging_truth(vocabulary, h.known)[index] for h in subject.music])
    some = np.flatnonzero(~np.isnan(truth).all(axis=1)).tolist()
    scores = np.stack([h.full[:, subject.of(tags)].mean(axis=0) for h in subject.music])

    def macro(which: Sequence[int]) -> float:
        rows = [some[i] for i in which]
        return float(np.nanmean([area(truth[rows, k], scores[rows, k]) for k in range(len(tags))]))

    each = {
        tag: {"roc_auc": round(area(truth[some, k], scores[some, k]), 3),
              "recordings": int(np.nansum(truth[some, k]))}
        for k, tag in enumerate(tags) if np.nansum(truth[some, k])
    }  # fmt: skip
    groups = [subject.music[i].known.item.group for i in some]
    return {"roc_auc": interval(groups, macro), "tags": each}


def speech(subject: Subject) -> dict[str, Any]:
    """Speech against singing, and speech over music by the ratio of their levels."""
    if "speech" not in subject.columns:
        return {}
    column = subject.columns["speech"]
    spoken = subject.sounds("speech")
    sung = [h for h in subject.music if h.known.tags.get("singing") == 1]
    of_songs = [float(h.full[:, column].mean()) for h in sung]
    of_speech = [float(_full(subject, x)[:, column].mean()) for x in spoken[::2]]
    against = area([1] * len(of_speech) + [0] * len(of_songs), of_speech + of_songs)
    out: dict[str, Any] = {"against singing": round(against, 3), "songs": len(sung)}
    plain = [h.known for h in subject.music if h.known.tags.get("singing") != 1]
    chosen = plain[:: max(1, len(plain) // MIXED[0])][: MIXED[0]]
    music = [read_samples(k.item, subject.rate, 10 + MIXED[1])[10 * subject.rate :] for k in chosen]
    without = [float(_full(subject, x)[:, column].mean()) for x in music]
    high = subject.card.on_thresholds[column]
    for ratio in RATIOS:
        mixed = [speech_over(x, spoken[(3 * i) % len(spoken)], ratio) for i, x in enumerate(music)]
        said = [float(_full(subject, x)[:, column].mean()) for x in mixed]
        truth = [1] * len(said) + [0] * len(without)
        found = float(np.mean(np.array(said) >= high))
        out[f"{ratio:+d} dB"] = {"roc_auc": round(area(truth, said + without), 3), "found": found}
    return out | {"recordings": len(chosen)}


def _full(subject: Subject, samples: np.ndarray) -> np.ndarray:
    """(n, n_tags) of the full windows of a sound."""
    clipped = np.clip(samples, -1, 1).astype(np.float32)
    return full_windows(subject.hear(clipped))


def people(subject: Subject) -> dict[str, Any]:
    """Valence, arousal and moods against what people heard in the judged pieces."""
    groups = [h.known.item.group for h in subject.pieces]
    out: dict[str, Any] = {}
    for name in ("valence", "arousal"):
        truth = np.array([getattr(h.known, name) for h in subject.pieces])
        said = np.array([getattr(h.result.mood, name) for h in subject.pieces])

        def figure(which: Sequence[int], t: np.ndarray = truth, s: np.ndarray = said) -> float:
            return rank_correlation(t[list(which)], s[list(which)])

        out[name] = interval(groups, figure) | {"roc_auc": round(area(truth > 0, said), 3)}
    moods = [t.tag for t in subject.material.vocabulary
             if t.category == "mood/theme" and t.tag in subject.columns]  # fmt: skip
    truth = np.stack([known_targets(h.known, moods) for h in subject.pieces])
    said = np.stack([h.full[:, subject.of(moods)].mean(axis=0) for h in subject.pieces])
    out["moods"] = {
        tag: round(area(truth[:, k], said[:, k]), 3)
        for k, tag in enumerate(moods) if len(set(truth[~np.isnan(truth[:, k]), k])) > 1
    }  # fmt: skip
    return out


def false_events(subject: Subject) -> dict[str, Any]:
    """Events per hour that noise and speech do not deserve."""
    categories, out = subject.card.categories, {}
    for kind, harmless in HARMLESS.items():
        seconds, wrong = 0.0, dict[str, int]()
        for samples in subject.sounds(kind):
            result = subject.hear(samples)
            seconds += result.seconds
            for event in result.events:
                if categories.get(event.tag, "") not in harmless:
                    wrong[event.tag] = wrong.get(event.tag, 0) + 1
        hourly = round(3600 * sum(wrong.values()) / seconds, 1)
        out[kind] = {"per_hour": hourly, "minutes": round(seconds / 60, 1), "tags": wrong}
    return out


def live(subject: Subject) -> dict[str, Any]:
    """Cuts from one recording to another, and flapping, through the engine."""
    test, labels = subject.material.labelled
    path = subject.material.cache / f"{subject.material.part}-{subject.card.name}.csv"
    names = {tag: subject.card.tags[column] for tag, column in subject.columns.items()}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "tags", "split"])
        for known in test:
            mean = labels[known.item.name][: round(SECONDS / LABEL_STEP)].mean(axis=0)
            on = [t.tag for t, q in zip(subject.material.vocabulary, mean, strict=True) if q >= 0.5]
            if known.tags.get("singing") == 1 and "speech" in on:
                on.remove("speech")  # the teachers' word for a singer
            mine = {names[tag] for tag in on if tag in names} | {"music"}
            writer.writerow([known.item.path.resolve(), ";".join(sorted(mine)), "test"])
    found = evaluate_files(
        subject.tagger.path or Path(), path, part="test", longest=SECONDS, orders=ORDERS,
        console=subject.material.console,
    )  # fmt: skip
    kept = ("hours", "flapping", "detection", "release", "heard", "after_cuts")
    return {name: found[name] for name in kept if name in found}


def instruments(subject: Subject) -> dict[str, Any]:
    """Families of instruments against the truth, in excerpts that are the same for every model:
    the mean over all answers to each, from the first second on."""
    families, tests = subject.material.instrument_excerpts
    out: dict[str, Any] = {}
    for name, (audio, truth) in tests.items():
        said = []
        for i, one in enumerate(audio):
            samples = sounds.resampled(one.astype(np.float32), SOUND_RATE, subject.rate)
            answers = np.array([row.values for row in subject.hear(samples).scores])
            said.append(answers.mean(axis=0)[subject.of(families)])
            subject.material.report(f"{subject.card.name}, {name}", i + 1, len(audio))
        each = {tag: area(truth[:, k], np.array(said)[:, k]) for k, tag in enumerate(families)}
        each = {tag: round(auc, 3) for tag, auc in each.items() if np.isfinite(auc)}
        mean = round(float(np.mean(list(each.values()))), 3)
        out[name] = {"roc_auc": mean, "families": each, "excerpts": len(audio)}
    return out


def cost(subject: Subject) -> dict[str, Any]:
    """CPU milliseconds of one core per second of audio, without the front end, by batch."""
    card, out = subject.card, {}
    for n in (1, 8, 32):
        if saves_work(card):
            seconds = warm_up_parts(subject.tagger, card.hop_frames, n)
        else:
            windows = subject.tagger.staging(n)
            windows[:] = np.random.default_rng(0).normal(-6, 2, windows.shape)
            subject.tagger.warm_up([n])
            seconds = min(_cpu_seconds(subject.tagger, windows) for _ in range(10))
        out[f"batch of {n}"] = round(1000 * seconds / n / card.hop_seconds, 3)
    return out | {"bytes": subject.tagger.path.stat().st_size if subject.tagger.path else 0}


def _cpu_seconds(tagger: Tagger, windows: np.ndarray) -> float:
    """CPU seconds of a call, which may run in a thread of the tagger's own."""
    began = tagger.cpu_seconds
    tagger(windows)
    return tagger.cpu_seconds - began


SECTIONS: Mapping[str, Callable[[Subject], dict[str, Any]]] = {
    "agreement": agreement, "first answers": first_answers, "singing": singing, "genres": genres,
    "people": people, "false events": false_events, "speech": speech, "live": live,
    "instruments": instruments, "cost": cost,
}  # fmt: skip


def draw_pictures(subject: Subject, folder: Path, most: int = 20) -> None:
    """Taggrams of unseen recordings, at most one per source, with title and genre words."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {r.path: ", ".join(r.words) for r in read_recordings(subject.material.data)}
    first = {h.known.item.group: h for h in reversed(subject.music)}
    for heard in list(first.values())[:most]:
        item, rows = heard.known.item, heard.result.scores
        smoothed = np.array([row.smoothed for row in rows])
        shown = np.argsort(-smoothed.max(axis=0))[:28]
        taggram.draw(
            folder / f"{item.path.stem}.png",
            f"{item.path.stem}: {words.get(item.path, '')} ({subject.card.name})",
            [subject.card.tags[i] for i in shown],
            np.array([(row.start + row.end) / 2 for row in rows]),
            smoothed[:, shown],
            [taggram.TagSpan(e.tag, e.on, e.off) for e in heard.result.events
             if e.tag in {subject.card.tags[i] for i in shown}],
            heard.result.seconds,
        )  # fmt: skip


def main() -> None:
    """Measures what is missing and writes the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("data"))
    parser.add_argument("--part", choices=("test", "validation"), default="test")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", help="sections, by comma; measured again")
    parser.add_argument("--pictures", type=Path, help="folder for taggrams of each bundle")
    parser.add_argument("--table", action="store_true", help="write the page only")
    given = parser.parse_args()
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    if given.table:
        write_page(results)
        return
    if given.data is None or not given.bundles:
        parser.error("expected bundles and --data")
    if given.part != "test" and given.results == RESULTS:
        parser.error(f"expected --results for the {given.part} part; {RESULTS.name} is of the test")
    torch.set_num_threads(1)
    material = Material(given.data, given.cache, Console(stderr=True), given.part)
    for path in given.bundles:
        subject = Subject(Tagger.load(path, "cpu"), material)
        measure(subject, results, given.only.split(",") if given.only else [], given.results)
        if given.pictures:
            draw_pictures(subject, given.pictures / subject.card.name)


def measure(subject: Subject, results: dict[str, Any], again: Sequence[str], target: Path) -> None:
    """Measures the sections that the results lack, or all of `again`; writes after each."""
    old = results.get(subject.card.name, {})
    fresh = old.get("checksum") != subject.tagger.checksum[:12]
    mine = {"checksum": subject.tagger.checksum[:12]} if fresh else old
    results[subject.card.name] = mine
    for name, section in SECTIONS.items():
        if (again and name not in again) or (name in mine and not again):
            continue
        began = time.process_time()
        mine[name] = section(subject)
        target.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        seconds = time.process_time() - began
        subject.material.console.print(f"{subject.card.name}: {name} ({seconds:.0f} CPU s)")


if __name__ == "__main__":
    main()
