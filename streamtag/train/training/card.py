"""The card of a trained net: calibration and thresholds from validation data, scores from test
data."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamtag.model.card import DIMENSIONS, Card, Settling
from streamtag.train.data.samples import Samples, Sets
from streamtag.train.evaluation.metrics import macro, per_tag, rank_correlation
from streamtag.train.evaluation.reliability import reliability
from streamtag.train.evaluation.score_arrays import ScoreArrays
from streamtag.train.evaluation.scores import report
from streamtag.train.evaluation.thresholds import choose_thresholds, decide, temperatures
from streamtag.train.nets.dimensions import deviation_factors, values_and_deviations
from streamtag.train.nets.model import Model
from streamtag.train.recipes.file import RECIPES, known_recipes, read_table, to_dict
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.run_folder import revision
from streamtag.train.training.predictions import (
    Predictions,
    predict,
    sigmoid,
    window_dimensions,
)

UNSTATED = "not stated: the weights are yours, state it with --set licence=..."
"""The licence of a model whose recipe states none for its data."""
DEFAULT_THRESHOLD = 0.5
"""On threshold of every tag if there is no validation data."""
DIGITS = 6
"""Decimals of the scores in a card, as many as the official figures of MediaEval 2019 have."""


def make_card(
    recipe: Recipe, model: Model, sets: Sets, folder: Path | None = None, **changes: Any
) -> Card:
    """Calibrates the model on validation data, chooses thresholds, and scores the test sets.

    Args:
        recipe: front end, windows and rules.
        model: its temperatures are set.
        sets: validation and tests.
        folder: gets the arrays behind the scores of the test sets (see `score_arrays`).
        changes: further fields of the card.
    """
    scores: dict[str, Any] = {}
    on, off = (DEFAULT_THRESHOLD,) * len(sets.tags), (DEFAULT_THRESHOLD * 0.7,) * len(sets.tags)
    muted: tuple[str, ...] = ()
    settling: Settling | None = None
    validation = None
    if sets.validation is not None:
        predictions = validation = predict(
            model, sets.validation, per_window=recipe.thresholds.per_window
        )
        temperature = temperatures(predictions.truth, predictions.logits)
        model.calibrate(torch.from_numpy(temperature).to(model.temperature.device))
        calibrated = sigmoid(predictions.logits / temperature)
        chosen = choose_thresholds(
            sets.tags, predictions.truth, calibrated, recipe.thresholds, sets.categories
        )
        on, off, muted = chosen.on, chosen.off, chosen.off_by_default
        settling = chosen.settling
        scores["validation"] = summary(sets.tags, predictions)
        scores["validation f1"] = dict(zip(sets.tags, chosen.f1, strict=True))
        scores["calibration"] = reliability(
            predictions.truth, calibrated, tags=sets.tags, before=predictions.scores
        )
        if model.n_dimensions:
            scores["dimensions"] = calibrate_dimensions(model, sets.validation)
    for title, samples in sets.tests.items():
        scores[title], arrays = _test(recipe, model, samples, validation, sets)
        if folder is not None:
            arrays.write(folder, title)
    recipe = described(recipe, sets)
    made: dict[str, Any] = {
        "name": recipe.name,
        "net": recipe.net.name,
        "features": recipe.features,
        "window_frames": recipe.window_frames,
        "hop_frames": recipe.hop_frames,
        "first_frames": recipe.first_frames,
        "padding": recipe.padding,
        "tags": sets.tags,
        "dimensions": DIMENSIONS[: model.n_dimensions],
        "on_thresholds": on,
        "off_thresholds": off,
        "off_by_default": muted,
        "settling": settling,
        "categories": dict(sets.categories),
        "smoothing_seconds": recipe.smoothing_seconds,
        "min_on_seconds": recipe.min_on_seconds,
        "min_off_seconds": recipe.min_off_seconds,
        "scores": rounded(scores),
        "data": "\n".join(filter(None, (recipe.data or sets.note, sets.sheet))),
        "licence": recipe.licence or UNSTATED,
        "description": recipe.description,
        "extra": {"recipe": to_dict(recipe), "revision": revision(), "paper": recipe.paper,
                  "deviates": list(recipe.deviates)},
    }  # fmt: skip
    return Card(**made | changes)


def calibrate_dimensions(model: Model, samples: Samples) -> dict[str, Any]:
    """Makes the deviations as large as the errors on validation windows.

    Returns:
        By dimension: the rank correlation with the known values, the root mean square of the
        errors, and the mean deviation that the model then states.
    """
    targets = torch.from_numpy(np.asarray(getattr(samples, "dimensions", None), np.float32))
    values, deviations = values_and_deviations(torch.from_numpy(window_dimensions(model, samples)))
    factors = deviation_factors(values, deviations, targets)
    model.calibrate_deviations(factors)
    found = {}
    for i, name in enumerate(DIMENSIONS):
        known = (~targets[:, i].isnan() & (targets[:, -1] > 0)).numpy()
        if known.sum() < 2:
            continue
        wanted, said = targets[known, i].numpy(), values[known, i].numpy()
        found[name] = {
            "rank_correlation": rank_correlation(wanted, said),
            "error": float(np.sqrt(np.mean((wanted - said) ** 2))),
            "stated": float(factors[i] * deviations[known, i].square().mean().sqrt()),
            "windows": int(known.sum()),
        }
    return found


def described(recipe: Recipe, sets: Sets) -> Recipe:
    """The recipe without what it says of a corpus that these sets are not from.

    Its `data`, `licence` and `description` stay where they are not those of an included recipe,
    because then somebody has written them for this model. For another subset or split of the same
    corpus, only the published scores are left out.
    """
    if not recipe.corpus:
        return recipe
    included = [read_table(RECIPES / f"{name}.toml") for name in known_recipes()]
    if sets.corpus == recipe.corpus:
        wanted = recipe.recordings
        parts = [
            (part.get("subset", ""), part.get("split", ""))
            for part in (table.get("recordings", {}) for table in included
                         if table.get("published") == recipe.published)
        ]  # fmt: skip
        theirs = not parts or (wanted.subset, wanted.split) in parts
        return recipe if theirs else dataclasses.replace(recipe, published={}, run="")
    method = f"Net and training of {recipe.paper} ({recipe.run}), on other data than the paper's."
    texts = {"data": "", "licence": "", "description": method}
    foreign: dict[str, Any] = {
        key: text
        for key, text in texts.items()
        if any(table.get(key) == getattr(recipe, key) for table in included)
    }
    return dataclasses.replace(recipe, corpus="", published={}, run="", **foreign)


def summary(tags: Sequence[str], predictions: Predictions, rare: float = 0.0) -> dict[str, Any]:
    """Macro means and a table of the tags that are scored.

    A tag that is on in less than a share `rare` of the recordings, or off in less, is left out,
    because a single piece would decide its score.
    """
    table = per_tag(tags, predictions.truth, predictions.logits)
    table = {tag: row for tag, row in table.items() if rare <= row["prior"] <= 1 - rare}
    means = {name: macro(table, name) for name in ("roc_auc", "pr_auc", "prior")}
    return means | {"tags": table}


def rounded(scores: Any) -> Any:
    """The same tables with every float to `DIGITS` decimals."""
    if isinstance(scores, dict):
        return {key: rounded(value) for key, value in scores.items()}
    if isinstance(scores, list | tuple):
        return [rounded(value) for value in scores]
    return round(scores, DIGITS) if isinstance(scores, float) else scores


def _test(
    recipe: Recipe, model: Model, samples: Samples, validation: Predictions | None, sets: Sets
) -> tuple[dict[str, Any], ScoreArrays]:
    """The scores of a test set and the arrays behind them; also the scores without side values,
    which a net does not get live."""
    predictions = predict(model, samples)
    table = summary(sets.tags, predictions, sets.rare)
    decisions = None
    if validation is not None:
        pair = (validation.truth, validation.scores)
        whole = report(
            sets.tags,
            predictions.truth,
            predictions.scores,
            validation=pair,
            rule=recipe.thresholds,
        )
        table |= {
            "decisions": whole["decisions"],
            "oracle": whole["oracle"],
            "micro": whole["micro"],
        }
        thresholds = [whole["tags"][tag]["threshold"] for tag in sets.tags]
        limits = np.array([np.inf if t is None else t for t in thresholds])
        decisions = decide(predictions.scores, limits)
    if recipe.recordings.side:
        live = summary(sets.tags, predict(model, samples, with_side=False), sets.rare)
        table["live, without side values"] = {k: v for k, v in live.items() if k != "tags"}
    names = tuple(item.name for item in getattr(samples, "items", ()))
    arrays = ScoreArrays(sets.tags, names, predictions.truth, predictions.scores, decisions)
    return table, arrays
