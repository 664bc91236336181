"""A small net for windows of a few seconds: the first one that streamtag trains itself.

Depthwise-separable convolutions (Howard et al., "MobileNets", 2017, section 3.1) over log-mel.
The frequency axis is not averaged away but folded into the channels at the end, because where
energy lies says which instrument it is; only then time is pooled, by its mean and its maximum.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = ((64, (2, 2)), (128, (2, 2)), (128, (1, 1)), (192, (1, 2)), (256, (1, 1)))
"""(channels, strides in time and frequency) after the stem, which has strides 4 and 2."""


class Separable(nn.Module):
    """A 3×3 convolution per channel and a 1×1 across them, each normalised."""

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, int]) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, strides, 1, groups=inputs, bias=False)
        self.norm_1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm_2 = nn.BatchNorm2d(outputs)
        self.keeps_shape = strides == (1, 1) and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, t, f) to (n, outputs, t, f), t and f divided by the strides."""
        y = functional.relu(self.norm_1(self.depthwise(x)))
        y = functional.relu(self.norm_2(self.pointwise(y)))
        return x + y if self.keeps_shape else y


class Small(nn.Module):
    """(n, window_frames, 80) frames to (n, n_tags) probabilities; 0.28 M weights.

    Args:
        n_tags: outputs.
    """

    width = 80

    def __init__(self, n_tags: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.temperature: Tensor
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(self.width))
        self.register_buffer("temperature", torch.ones(n_tags))
        self.stem = nn.Conv2d(1, 32, (7, 5), (4, 2), (3, 2), bias=False)
        self.norm = nn.BatchNorm2d(32)
        blocks, channels = [], 32
        for outputs, strides in BLOCKS:
            blocks.append(Separable(channels, outputs, strides))
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fold = nn.Conv2d(channels, 128, (1, self.width // 16), bias=False)
        self.norm_fold = nn.BatchNorm2d(128)
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(256, n_tags)

    def normalise(self, mean: Tensor, scale: Tensor) -> None:
        """Sets what is subtracted from each mel band and what it is divided by, (80,) each."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def calibrate(self, temperature: Tensor) -> None:
        """Sets by what each tag's logit is divided, (n_tags,) (Guo et al. 2017)."""
        self.temperature.copy_(temperature)

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, 80) to (n, n_tags), before the temperature."""
        x = ((frames - self.mean) / self.scale).unsqueeze(1)
        x = self.blocks(functional.relu(self.norm(self.stem(x))))
        x = functional.relu(self.norm_fold(self.fold(x))).squeeze(3)
        x = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)
        out: Tensor = self.dense(self.dropout(x))
        return out

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, 80) to (n, n_tags)."""
        return torch.sigmoid(self.logits(frames) / self.temperature)
