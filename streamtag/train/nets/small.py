"""A small net for windows of a few seconds, for the models that come with streamtag.

Depthwise-separable convolutions (Howard et al., "MobileNets", 2017, section 3.1) over log-mel. The
frequency axis is not averaged but folded into the channels at the end, because the position of
energy in frequency identifies an instrument. Then time is pooled by its mean and its maximum.

Deviates: this is our own design, not a published net.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.nets.net import StreamingNet, reach_of, refusal

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


class Small(StreamingNet):
    """(n, window_frames, width) frames to (n, n_tags) probabilities; 0.28 M weights.

    Args:
        n_tags: outputs.
        width: bands, a multiple of 16.
        window_frames: any.
        multiplier: factor on the number of channels (Howard et al. 2017, section 3.3), rounded
            to multiples of 8.
        deeper: further blocks that keep their shape, after the last but one.

    Raises:
        RecipeError: the width or a size cannot work.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 80,
        window_frames: int = 128,
        multiplier: float = 1.0,
        deeper: int = 0,
    ) -> None:
        super().__init__()
        if width < 16 or width % 16:
            raise refusal(
                "small", "width", "a multiple of 16, by which its strides divide it", width
            )
        if not 0.25 <= multiplier <= 16:
            raise refusal("small", "multiplier", "a number from 0.25 to 16", multiplier)
        if deeper < 0:
            raise refusal("small", "deeper", "0 or more", deeper)

        def sized(channels: int) -> int:
            return max(8, round(channels * multiplier / 8) * 8)

        channels, last = sized(32), sized(128)
        self.stem = nn.Conv2d(1, channels, (7, 5), (4, 2), (3, 2), bias=False)
        self.norm = nn.BatchNorm2d(channels)
        blocks, reach = [], [(7, 4, 3)]
        same = ((BLOCKS[-2][0], (1, 1)),) * deeper
        for outputs, strides in (*BLOCKS[:-1], *same, BLOCKS[-1]):
            blocks.append(Separable(channels, sized(outputs), strides))
            reach.append((3, strides[0], 1))
            channels = sized(outputs)
        self.blocks = nn.Sequential(*blocks)
        self.fold = nn.Conv2d(channels, last, (1, width // 16), bias=False)
        self.norm_fold = nn.BatchNorm2d(last)
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(2 * last, n_tags)
        self.reach = reach_of(reach)

    def embed(self, frames: Tensor) -> Tensor:
        """All but the pooling over time: (n, frames, width) to (n, frames / 16, 128)."""
        x = self.blocks(functional.relu(self.norm(self.stem(frames.unsqueeze(1)))))
        return functional.relu(self.norm_fold(self.fold(x))).squeeze(3).transpose(1, 2)

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Mean and maximum over the embeddings of a window, and the dense layer."""
        x = torch.cat([embeddings.mean(dim=1), embeddings.amax(dim=1)], dim=1)
        out: Tensor = self.dense(self.dropout(x))
        return out
