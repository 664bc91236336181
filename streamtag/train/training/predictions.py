"""A model's predictions for a set of windows, and their loss."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamtag.train.data.samples import Samples
from streamtag.train.nets.model import Criterion, Model

BATCH_VALUES = 1 << 20 | 1 << 18
"""The approximate number of values in the frames of a batch."""
LARGEST_LOGIT = 16.0
"""Logits are limited to this absolute value."""
SOFT_LOGIT = 9.0
"""The same of soft targets: beyond it they say no more than yes or no."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """A model's predictions for every recording of a set."""

    truth: np.ndarray
    """(n, n_tags) float32, n recordings or windows."""
    logits: np.ndarray
    """(n, n_tags) float64, of the mean of a recording's windows' probabilities, or of windows."""

    @property
    def scores(self) -> np.ndarray:
        """Probabilities, (n, n_tags) float64, before the temperature."""
        return sigmoid(self.logits)

    @property
    def loss_per_tag(self) -> np.ndarray:
        """Binary cross-entropy, (n_tags,); NaN where no target is known."""
        losses = np.logaddexp(0, self.logits) - self.truth * self.logits
        known = ~np.isnan(self.truth)
        sums = np.where(known, losses, 0).sum(axis=0)
        with np.errstate(invalid="ignore"):
            out: np.ndarray = sums / known.sum(axis=0)
        return out

    @property
    def loss(self) -> float:
        """Mean loss over all known targets."""
        losses = np.logaddexp(0, self.logits) - self.truth * self.logits
        return float(np.nanmean(losses))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    out: np.ndarray = 0.5 * (1 + np.tanh(0.5 * logits))
    return out


def predict(
    model: Model,
    samples: Samples,
    *,
    size: int | None = None,
    with_side: bool = True,
    per_window: bool = False,
    on_windows: Callable[[int], None] | None = None,
) -> Predictions:
    """Predictions for every recording: the mean of the probabilities of its windows.

    Args:
        model: set to evaluation.
        samples: the windows.
        size: windows per batch; None means a number that fits into small memories.
        with_side: whether nets that take side values get them; live they do not.
        per_window: predictions for every window instead, each with its recording's truth.
        on_windows: called with the number of windows of each batch.
    """
    rows = window_logits(model, samples, size=size, with_side=with_side, on_windows=on_windows)
    if per_window:
        limited = np.clip(rows, -LARGEST_LOGIT, LARGEST_LOGIT)
        return Predictions(samples.truth()[samples.owners], limited)
    sums = np.zeros_like(samples.truth(), np.float64)
    np.add.at(sums, samples.owners, sigmoid(rows))
    counts = np.bincount(samples.owners, minlength=len(sums))[:, None]
    mean = np.clip(sums / counts, 1e-12, 1 - 1e-12)
    alone = bool((counts == 1).all())
    logits = rows[np.argsort(samples.owners)] if alone else np.log(mean) - np.log1p(-mean)
    return Predictions(samples.truth(), np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT))


def window_logits(
    model: Model,
    samples: Samples,
    *,
    size: int | None = None,
    with_side: bool = True,
    on_windows: Callable[[int], None] | None = None,
) -> np.ndarray:
    """The model's logits for every window, (n, n_tags) float64."""
    model.eval()
    device = model.temperature.device
    out = []
    size = size or windows_per_batch(samples)
    with torch.inference_mode():
        for i in range(0, len(samples), size):
            frames, side = _inputs(samples, range(i, min(i + size, len(samples))), device)
            use = with_side and side is not None and hasattr(model.net, "side_logits")
            logits = (
                model.side_logits(frames, side)
                if use and side is not None
                else model.logits(frames)
            )
            out.append(logits.float().cpu().numpy())
            if on_windows:
                on_windows(len(frames))
    return np.concatenate(out).astype(np.float64)


def window_dimensions(model: Model, samples: Samples) -> np.ndarray:
    """The raw outputs of the model's dimensions for every window, (n, 2 * n_dimensions) float32."""
    model.eval()
    out, size = [], windows_per_batch(samples)
    with torch.inference_mode():
        for i in range(0, len(samples), size):
            rows = range(i, min(i + size, len(samples)))
            frames, _ = _inputs(samples, rows, model.temperature.device)
            out.append(model.raw(frames)[:, model.n_tags :].float().cpu().numpy())
    return np.concatenate(out)


def windows_per_batch(samples: Samples) -> int:
    """Number of windows per batch: few if they are large, because activations need hundreds of
    times their memory.

    64 windows of 3 s; ten of 24 s of 128 bands, for which a VQ-VAE needs 3 GB.
    """
    if not len(samples):
        return 1
    values = samples.sample(0, 0, np.random.default_rng([0, 5])).frames.size
    return max(1, min(64, BATCH_VALUES // values))


def reconstruction_loss(
    model: Model,
    samples: Samples,
    *,
    size: int | None = None,
    on_windows: Callable[[int], None] | None = None,
) -> float:
    """The mean loss of an autoencoder."""
    model.eval()
    device = model.temperature.device
    total = 0.0
    size = size or windows_per_batch(samples)
    with torch.inference_mode():
        for i in range(0, len(samples), size):
            frames, _ = _inputs(samples, range(i, min(i + size, len(samples))), device)
            loss = model.loss(frames, frames.new_zeros(len(frames), 1), None, cross_entropy)
            total += float(loss) * len(frames)
            if on_windows:
                on_windows(len(frames))
    return total / max(1, len(samples))


def cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over known targets.

    Args:
        logits: (n, n_tags).
        targets: (n, n_tags) in [0, 1], or NaN.
        weight: weight of positives, (n_tags,).
    """
    sure = ~torch.isnan(targets)
    if weight is not None:
        weight = weight.expand_as(targets)[sure]
    return functional.binary_cross_entropy_with_logits(
        logits[sure], targets[sure], pos_weight=weight
    )


def with_logit_loss(criterion: Criterion, weight: float) -> Criterion:
    """A criterion with the distance of logits from those of soft targets added to it.

    Cross-entropy hardly sees the order of small probabilities; logits keep it (Ba and Caruana, "Do
    deep nets really need to be deep?", 2014, section 2). Targets of 0 and 1 are truth, not soft.

    Args:
        criterion: of logits and targets, (n, n_tags) each.
        weight: of the distance.
    """

    def both(logits: Tensor, targets: Tensor) -> Tensor:
        loss = criterion(logits, targets)
        soft = (targets > 0) & (targets < 1)
        if not bool(soft.any()):
            return loss
        wanted = torch.logit(targets[soft]).clamp(-SOFT_LOGIT, SOFT_LOGIT)
        said = logits[soft].clamp(-SOFT_LOGIT - 1, SOFT_LOGIT + 1)
        return loss + weight * functional.smooth_l1_loss(said, wanted)

    return both


def _inputs(samples: Samples, rows: range, device: torch.device) -> tuple[Tensor, Tensor | None]:
    some = [samples.sample(i, 0, np.random.default_rng([i, 5])) for i in rows]
    frames = torch.from_numpy(np.stack([s.frames for s in some]).astype(np.float32, copy=False))
    sides = [s.side for s in some if s.side is not None]
    side = torch.from_numpy(np.stack(sides)).to(device) if sides else None
    return frames.to(device), side
