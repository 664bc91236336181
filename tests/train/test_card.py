"""The card of a trained net: what its scores and thresholds were measured on, and how exactly."""

import json

import numpy as np
import pytest
import torch
from support.toy_training import TAGS, ToySamples, toy_recipe

from streamtag.train.data.samples import Sets
from streamtag.train.evaluation.metrics import areas
from streamtag.train.evaluation.thresholds import choose_thresholds, temperatures
from streamtag.train.nets.model import Model, new_model
from streamtag.train.training.card import make_card, rounded
from streamtag.train.training.predictions import predict, sigmoid, window_logits

pytestmark = pytest.mark.usefixtures("one_thread")


class Pairs(ToySamples):
    """Two windows for each recording, the second one without its sound."""

    def __init__(self, n: int, seed: int) -> None:
        super().__init__(2 * n, seed)
        self.owners = np.arange(2 * n) // 2
        self.targets = np.repeat(self.targets[::2], 2, axis=0)

    def truth(self) -> np.ndarray:
        return self.targets[::2]


def model_for(samples: ToySamples) -> Model:
    model = new_model(toy_recipe(), 3)
    model.normalise(torch.full((80,), -7.0), torch.full((80,), 2.0))
    return model.eval()


def test_windows_can_be_samples_of_their_own() -> None:
    """Innsbruck's validation and Polimi's early stopping: five windows, or four, are as many
    samples."""
    samples = Pairs(20, 3)
    model = model_for(samples)
    each, mean = predict(model, samples, per_window=True), predict(model, samples)
    assert each.logits == pytest.approx(window_logits(model, samples), abs=1e-6)
    assert each.truth.tolist() == np.repeat(mean.truth, 2, axis=0).tolist()
    assert mean.scores == pytest.approx(each.scores.reshape(20, 2, 3).mean(axis=1), abs=1e-6)
    assert each.loss > mean.loss  # cross-entropy is convex


@pytest.mark.parametrize("per_window", [True, False])
def test_thresholds_are_chosen_on_windows_or_on_recordings(per_window: bool) -> None:
    recipe = toy_recipe(f"thresholds.per_window={str(per_window).lower()}")
    samples = Pairs(40, 5)
    model = model_for(samples)
    found = predict(model, samples, per_window=per_window)
    probabilities = sigmoid(found.logits / temperatures(found.truth, found.logits))
    expected = choose_thresholds(TAGS, found.truth, probabilities, recipe.thresholds)
    sets = Sets(TAGS, samples, samples, note="Tones.", sheet="Train: tones 0.01 h (CC0).")
    card = make_card(recipe, model, sets)
    assert card.data.splitlines()[-1] == "Train: tones 0.01 h (CC0)."
    assert card.on_thresholds == expected.on
    assert card.scores["validation"]["tags"]["low"]["n"] == (80 if per_window else 40)


def test_a_card_has_six_decimals_and_what_deviates() -> None:
    recipe = toy_recipe('deviates=["It is a toy."]')
    samples, test = ToySamples(50, 6), ToySamples(300, 7)
    model = model_for(samples)
    card = make_card(recipe, model, Sets(TAGS, samples, samples, {"test": test}))
    found = predict(model, test)
    exact = areas(found.truth, found.logits).pr_auc[:2]
    assert card.scores["test"]["pr_auc"] == round(exact.mean(), 6) != round(exact.mean(), 3)
    assert card.scores["test"]["tags"]["high"]["pr_auc"] == round(exact[1], 6)
    assert card.extra["deviates"] == ["It is a toy."]
    assert rounded({"a": [1 / 3, 7, None], "b": {"c": "d"}}) == {
        "a": [0.333333, 7, None],
        "b": {"c": "d"},
    }
    assert json.dumps(card.scores)
