"""Export of an `nn.Module` to a bundle."""

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from streamtag.errors import BundleError
from streamtag.model.bundle import golden_window, save_bundle
from streamtag.model.card import Card, Golden, Trunk
from streamtag.model.tagger import Tagger, flush_denormal_weights
from streamtag.model.threads import one_thread
from streamtag.model.trial import remember
from streamtag.train.nets.model import StreamingModel
from streamtag.train.nets.net import StatefulNet, StreamingNet

TOLERANCE = 1e-4
"""Largest difference between the eager module and the scripted, optimised, batched one."""


@one_thread()
def export(module: nn.Module, card: Card, path: Path) -> Card:
    """Scripts a module, writes it as a bundle, loads the bundle and compares the two.

    If that fails, no file is left behind, and an older file of this name is not changed.

    Args:
        module: maps (n, window_frames, width) float32 to (n, n_tags) probabilities in (0, 1), and
            the values and deviations of the card's `dimensions` after them; normalisation,
            temperature and sigmoid are inside. Moved to the CPU and set to evaluation; weights too
            small to matter are set to zero.
        card: the card without `golden`, which is computed here.
        path: where to write.

    Returns:
        The card with its golden answer.

    Raises:
        BundleError: the module does not fit the card, cannot be scripted, gives another answer when
            scripted, or the file cannot be written.
    """
    module = module.cpu().eval()
    flush_denormal_weights(module)
    window = golden_window(card)
    answer = _eager_answer(module, card, window)
    if isinstance(module, StreamingModel):
        card = dataclasses.replace(card, trunk=_trunk(module, window))
    tolerance = card.golden.tolerance if card.golden else Golden(()).tolerance
    digits, n_tags = tuple(round(float(p), 7) for p in answer), len(card.tags)
    golden = Golden(digits[:n_tags], tolerance, digits[n_tags:])
    card = dataclasses.replace(card, golden=golden)
    scripted = script(module, f"{path}: net {card.net!r}")
    trial = path.with_name(f"{path.name}.trial")
    try:
        save_bundle(trial, scripted, card)
        tagger = _load_trial(trial, path)
        _compare(tagger, window, answer, path)
        if card.trunk is not None:
            _compare_trunk(tagger, card.trunk, window, path)
        remember(tagger.checksum)  # it has just run here
        trial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter
        raise BundleError(f"{path}: expected a place to write to, got: {error}") from error
    finally:
        with suppress(OSError):
            trial.unlink()
    return card


def script(module: nn.Module, what: str) -> torch.jit.ScriptModule:
    """The module as TorchScript.

    Args:
        module: in evaluation.
        what: its name in a message.

    Raises:
        BundleError: it cannot be scripted; the message has torch's reason.
    """
    try:
        scripted: torch.jit.ScriptModule = torch.jit.script(module)
    except Exception as error:  # torch raises whatever its parsers raise
        raise BundleError(f"{what} cannot be scripted: {error}") from error
    return scripted


def _load_trial(trial: Path, path: Path) -> Tagger:
    """The bundle as the daemon loads it; error messages name the final file."""
    try:
        return Tagger.load(trial, "cpu")
    except BundleError as error:
        raise BundleError(str(error).replace(str(trial), str(path))) from error


def _eager_answer(module: nn.Module, card: Card, window: np.ndarray) -> np.ndarray:
    """The module's own answer to one window, (n_outputs,)."""
    try:
        with torch.inference_mode():
            answer: np.ndarray = module(torch.from_numpy(window)).numpy()
    except RuntimeError as error:
        raise BundleError(
            f"card {card.name!r}: expected a net for windows of {card.window_frames} frames of "
            f"{card.features.width} values, got one that fails on them: {error}"
        ) from error
    if answer.shape != (1, len(card.outputs)):
        raise BundleError(
            f"card {card.name!r}: expected {card.counted_outputs} per window, "
            f"got shape {answer.shape} for a batch of 1"
        )
    p, values, deviations = np.split(answer[0], np.cumsum([len(card.tags), len(card.dimensions)]))
    if not ((p >= 0) & (p <= 1)).all():
        raise BundleError(f"card {card.name!r}: expected probabilities in (0, 1), got {p}")
    if not ((np.abs(values) <= 1).all() and (deviations > 0).all()):
        raise BundleError(
            f"card {card.name!r}: dimensions: expected values in [-1, 1] and positive deviations, "
            f"got {values} and {deviations}"
        )
    first: np.ndarray = answer[0]
    return first


def _trunk(model: StreamingModel, window: np.ndarray) -> Trunk | None:
    """What the card says of the model's trunk; None if it reaches farther than a window."""
    reach = cast(StreamingNet, model.net).reach
    assert reach is not None  # or it were no `StreamingModel`
    if max(reach.left, reach.right) > window.shape[1]:
        return None
    with torch.inference_mode():
        _, columns, size = model.trunk(torch.from_numpy(window)).shape
    state = model.net.state_size if isinstance(model.net, StatefulNet) else 0
    return Trunk(**reach._asdict(), columns=columns, size=size, state=state)


def _compare_trunk(tagger: Tagger, trunk: Trunk, window: np.ndarray, path: Path) -> None:
    """Checks that embeddings depend on no more frames than the card says, and on the state."""
    if trunk.state:
        _compare_pieces(tagger, trunk, window, path)
        return
    stride, left = trunk.stride, -(-trunk.left // trunk.stride)
    strides = window.shape[1] // stride
    begin, after = strides // 3, trunk.short + max(0, -(-trunk.right // stride) - trunk.short)
    if begin < left or begin + 1 + after > strides:
        return  # every embedding of a window depends on its ends
    whole = tagger.trunk(window[:, : strides * stride])
    first, end = (begin - left) * stride, (begin + 1 + after) * stride
    part = tagger.trunk(np.ascontiguousarray(window[:, first:end]))
    difference = float(np.abs(whole[:, begin] - part[:, left]).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(whole).max())):
        raise BundleError(
            f"{path}: embedding {begin} alone differs by {difference:.2g} from the same one in a "
            f"window, expected at most {TOLERANCE:g}: correct the reach of the net"
        )


def _compare_pieces(tagger: Tagger, trunk: Trunk, window: np.ndarray, path: Path) -> None:
    """Checks that a trunk with a state gives the same embeddings in pieces."""
    half = trunk.columns // 2 * trunk.stride
    whole, state = tagger.trunk(window), np.zeros((1, trunk.state), np.float32)
    pieces = []
    for frames in (window[:, :half], window[:, half : trunk.columns * trunk.stride]):
        values, state = tagger.advance(np.ascontiguousarray(frames), state)
        pieces.append(values)
    difference = float(np.abs(np.concatenate(pieces, axis=1) - whole).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(whole).max())):
        raise BundleError(
            f"{path}: the embeddings of a window in two pieces differ by {difference:.2g} from "
            f"those in one, expected at most {TOLERANCE:g}: correct the state of the net"
        )


def _compare(tagger: Tagger, window: np.ndarray, expected: np.ndarray, path: Path) -> None:
    """Checks that the bundle gives the same answer as the module in every row of a batch."""
    for n in (1, 3):
        for _ in range(3):  # TorchScript specialises itself in its first runs
            try:
                answer = tagger.outputs(np.repeat(window, n, axis=0))
            except RuntimeError as error:
                raise BundleError(
                    f"{path}: the scripted model fails in a batch of {n}: {error}"
                ) from error
            difference = float(np.abs(answer - expected).max())
            if not difference <= TOLERANCE:
                raise BundleError(
                    f"{path}: the scripted model differs from the net by {difference:.2g} in a "
                    f"batch of {n}, expected at most {TOLERANCE:g}"
                )
