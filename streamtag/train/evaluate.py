"""What a model is worth: scores on test windows, and false alarms on sounds that are no music."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from streamtag.audio import Block
from streamtag.card import Card
from streamtag.offline import tag_blocks
from streamtag.tagger import Tagger
from streamtag.train.data import load, validation_set
from streamtag.train.metrics import macro, per_tag
from streamtag.train.mixtures import others
from streamtag.train.recipe import Recipe, to_dict
from streamtag.train.thresholds import switches, temperatures
from streamtag.train.trainable import logits_of, trainable

RARE = 0.05
"""Share of windows."""


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    out: np.ndarray = 0.5 * (1 + np.tanh(0.5 * logits))
    return out


def judged_sets(recipe: Recipe) -> dict[str, list[str]]:
    """Which prepared sets are judged together, by the title they get in the card."""
    want = recipe.mixtures
    sets = {
        "unseen notes, mixed": ["mixtures-test"],
    }
    for kind in ("tunes", "pieces"):
        known = [f"{kind}-test-{font}" for font in want.soundfonts]
        sets[f"unseen {kind}, known soundfonts"] = known
        for font in want.unseen_soundfonts:
            sets[f"unseen {kind}, unknown soundfont {font}"] = [f"{kind}-test-{font}"]
    return sets


def summary(tags: Sequence[str], targets: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    """Macro means and the table of every tag that is judged there.

    A tag that sounds in fewer than `RARE` of the windows is left out, or in all but so few: a
    single piece would decide its score.
    """
    table = per_tag(tags, targets, logits)
    table = {tag: row for tag, row in table.items() if RARE <= row["prior"] <= 1 - RARE}
    return {
        "roc_auc": macro(table, "roc_auc"),
        "pr_auc": macro(table, "pr_auc"),
        "prior": macro(table, "prior"),
        "tags": table,
    }


def describe(recipe: Recipe, net: nn.Module, windows: Path) -> Card:
    """Calibrates the net on validation data, chooses thresholds, and measures on test data."""
    validation = validation_set(recipe, windows)
    logits = logits_of(net, validation)
    temperature = temperatures(validation.targets, logits)
    trainable(net).calibrate(torch.from_numpy(temperature))
    chosen = switches(
        recipe.tags,
        validation.targets,
        sigmoid(logits / temperature),
        recipe.thresholds,
    )
    scores: dict[str, Any] = {"validation f1": dict(zip(recipe.tags, chosen.f1, strict=True))}
    for title, names in judged_sets(recipe).items():
        judged = load(windows, *names)
        scores[title] = summary(recipe.tags, judged.targets, logits_of(net, judged))
    return Card(
        name=recipe.name,
        net=recipe.net,
        features=recipe.features,
        window_frames=recipe.window_frames,
        hop_frames=recipe.hop_frames,
        first_frames=recipe.first_frames,
        padding=recipe.padding,
        tags=recipe.tags,
        on_thresholds=chosen.on,
        off_thresholds=chosen.off,
        off_by_default=chosen.off_by_default,
        smoothing_seconds=recipe.smoothing_seconds,
        min_on_seconds=recipe.min_on_seconds,
        min_off_seconds=recipe.min_off_seconds,
        scores=scores,
        data=recipe.data,
        licence=recipe.licence,
        description=recipe.description,
        extra={"recipe": to_dict(recipe)},
    )


def false_alarms(tagger: Tagger, data: Path) -> dict[str, float]:
    """Events per hour of noises and speech of the test split, through the whole engine."""
    rate = tagger.card.features.sample_rate
    sounds = others(data, "test", rate)
    seconds = events = 0.0
    for sound in sounds:
        result = tag_blocks([Block(sound, 0, rate)], rate, {"model": tagger})["model"]
        seconds += result.seconds
        events += len(result.events)
    return {"events_per_hour": round(3600 * events / seconds, 1), "hours": round(seconds / 3600, 3)}
