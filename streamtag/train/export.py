"""From an `nn.Module` to a bundle. The only place that saves TorchScript."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn

from streamtag.bundle import golden_window, save_bundle
from streamtag.card import Card, Golden
from streamtag.errors import BundleError
from streamtag.tagger import Tagger, clear_tiny_weights

SAME = 1e-4
"""Largest difference between the eager module and the scripted, optimised, batched one."""


def export(module: nn.Module, card: Card, path: Path) -> Card:
    """Scripts a module, writes it as a bundle, loads it again and compares.

    Args:
        module: maps (n, window_frames, width) float32 to (n, n_tags) probabilities in (0, 1);
            normalisation, temperature and sigmoid are inside. Moved to the CPU and set to
            evaluation; weights too small to matter are set to zero.
        card: everything but `golden`, which is computed here.
        path: where to write.

    Returns:
        The card with its golden answer.

    Raises:
        BundleError: the module does not fit the card, cannot be scripted, or scripted it says
            something else.
    """
    module = module.cpu().eval()
    clear_tiny_weights(module)
    window = golden_window(card)
    answer = _answer(module, card, window)
    tolerance = card.golden.tolerance if card.golden else Golden(()).tolerance
    golden = Golden(tuple(round(float(p), 7) for p in answer), tolerance)
    card = dataclasses.replace(card, golden=golden)
    try:
        scripted = torch.jit.script(module)
    except RuntimeError as error:
        raise BundleError(f"{path}: net {card.net!r} cannot be scripted: {error}") from error
    save_bundle(path, scripted, card)
    _compare(Tagger.load(path, "cpu"), window, answer, path)
    return card


def _answer(module: nn.Module, card: Card, window: np.ndarray) -> np.ndarray:
    """What the module itself says to one window, (n_tags,)."""
    with torch.inference_mode():
        answer: np.ndarray = module(torch.from_numpy(window)).numpy()
    if answer.shape != (1, len(card.tags)):
        raise BundleError(
            f"card {card.name!r}: expected {len(card.tags)} probabilities per window, "
            f"got shape {answer.shape} for a batch of 1"
        )
    if not ((answer >= 0) & (answer <= 1)).all():
        raise BundleError(f"card {card.name!r}: expected probabilities in (0, 1), got {answer[0]}")
    first: np.ndarray = answer[0]
    return first


def _compare(tagger: Tagger, window: np.ndarray, expected: np.ndarray, path: Path) -> None:
    """Holds that the bundle says in every row of a batch what the module said."""
    for n in (1, 3):
        for _ in range(3):  # TorchScript specialises itself in its first runs
            difference = float(np.abs(tagger(np.repeat(window, n, axis=0)) - expected).max())
            if not difference <= SAME:
                raise BundleError(
                    f"{path}: the scripted model differs from the net by {difference:.2g} in a "
                    f"batch of {n}, expected at most {SAME:g}"
                )
