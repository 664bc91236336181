"""What a net must offer beyond `forward` so that `fit` can train it."""

from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from streamtag.errors import RecipeError
from streamtag.train.data import Windows


class Trainable(Protocol):
    """What a net offers beyond `forward` so that it can be trained here."""

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags)."""

    def normalise(self, mean: Tensor, scale: Tensor) -> None:
        """Sets the mean and the deviation of each mel band."""

    def calibrate(self, temperature: Tensor) -> None:
        """Sets the temperature of each tag."""


def trainable(net: nn.Module) -> Trainable:
    """The net, seen as one that can be trained.

    Raises:
        RecipeError: it cannot.
    """
    if not all(hasattr(net, name) for name in ("logits", "normalise", "calibrate")):
        raise RecipeError(
            f"net: expected one with logits(), normalise() and calibrate(), got "
            f"{type(net).__name__}, which only serves imported weights"
        )
    return cast(Trainable, net)


def logits_of(net: nn.Module, windows: Windows, size: int = 256) -> np.ndarray:
    """The net's logits for every window, (n, n_tags) float32."""
    net.eval()
    out = []
    with torch.inference_mode():
        for i in range(0, len(windows), size):
            frames = torch.from_numpy(windows.frames[i : i + size].astype(np.float32))
            out.append(trainable(net).logits(frames).numpy())
    return np.concatenate(out)
