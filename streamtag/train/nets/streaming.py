"""A net for streams: each frame goes through its layers once, and several time scales decide.

The trunk is a stack of depthwise-separable convolutions over log-mel (Howard et al., "MobileNets",
2017, section 3.1), as in `small`. They are causal: a layer sees the present and the past only. In a
stream it remembers its last columns, as streaming speech models do (Rybakov et al., "Streaming
Keyword Spotting on Mobile Devices", 2020, section 3). The head pools the newest embeddings by their
mean and their maximum over each of several time scales. A dense layer then chooses for each tag:
ten seconds may decide on a genre, and one second on an instrument.

Deviates: this is our own design, not a published net.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.nets.net import StatefulNet, refusal, shortened

BLOCKS = ((64, (2, 2)), (128, (2, 2)), (128, (1, 1)), (192, (1, 2)), (256, (1, 1)))
"""(channels, strides in time and frequency) after the stem, which has strides 4 and 2."""
STRIDE = 16
"""Frames from one embedding to the next."""
Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits and targets, (n, n_tags) each, to a loss."""


class Causal(nn.Module):
    """A convolution over time and frequency that sees no later column.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: in time and frequency.
        strides: in time and frequency.
        groups: as in `nn.Conv2d`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        strides: tuple[int, int],
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.past = kernel[0] - strides[0]
        """Columns of the input that it remembers."""
        padding = (0, kernel[1] // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, strides, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """The output and the next past.

        Args:
            x: (n, inputs, t, f); t is a multiple of the stride.
            past: (n, inputs, self.past, f), the columns before.
        """
        x = torch.cat([past, x], dim=2)
        return functional.relu(self.norm(self.conv(x))), x[:, :, x.shape[2] - self.past :]


class CausalSeparable(nn.Module):
    """A 3×3 causal convolution per channel and a 1×1 across them, each normalised."""

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, int]) -> None:
        super().__init__()
        self.depthwise = Causal(inputs, inputs, (3, 3), strides, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.keeps_shape = strides == (1, 1) and inputs == outputs

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """(n, inputs, t, f) to (n, outputs, t, f), t and f divided by the strides; and the past."""
        y, after = self.depthwise(x, past)
        y = functional.relu(self.norm(self.pointwise(y)))
        return x + y if self.keeps_shape else y, after


class Streaming(StatefulNet):
    """(n, window_frames, width) frames to (n, n_tags) probabilities; 0.3 M weights.

    Args:
        n_tags: outputs.
        width: bands, a multiple of 16.
        window_frames: at least 16; the head uses whole strides of 16.
        multiplier: factor on the number of channels (Howard et al. 2017, section 3.3), rounded
            to multiples of 8.
        deeper: further blocks that keep their shape, after the last but one.
        scales: frames that each pooling covers; those longer than the window cover the window.
        first_frames: frames of the shortest window of the training.

    Raises:
        RecipeError: the width or a size cannot work.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 80,
        window_frames: int = 432,
        multiplier: float = 1.0,
        deeper: int = 0,
        scales: Sequence[int] = (48, 128, 432),
        first_frames: int = 48,
    ) -> None:
        super().__init__()
        if width < 16 or width % 16:
            raise refusal(
                "streaming", "width", "a multiple of 16, by which its strides divide it", width
            )
        if window_frames < STRIDE:
            raise refusal("streaming", "window_frames", f"at least {STRIDE}", window_frames)
        if not 0.25 <= multiplier <= 16:
            raise refusal("streaming", "multiplier", "a number from 0.25 to 16", multiplier)
        if deeper < 0:
            raise refusal("streaming", "deeper", "0 or more", deeper)
        if not scales or min(scales) < STRIDE or min(first_frames, window_frames) < STRIDE:
            raise refusal("streaming", "scales", f"numbers of frames, at least {STRIDE}", scales)

        def sized(channels: int) -> int:
            return max(8, round(channels * multiplier / 8) * 8)

        channels, bands, last = sized(32), width // 2, sized(128)
        self.stem = Causal(1, channels, (7, 5), (4, 2))
        blocks, pasts = [], [(1, self.stem.past, width)]
        same = ((BLOCKS[-2][0], (1, 1)),) * deeper
        for outputs, strides in (*BLOCKS[:-1], *same, BLOCKS[-1]):
            blocks.append(block := CausalSeparable(channels, sized(outputs), strides))
            pasts.append((channels, block.depthwise.past, bands))
            channels, bands = sized(outputs), bands // strides[1]
        self.blocks = nn.ModuleList(blocks)
        self.fold = nn.Conv2d(channels, last, (1, bands), bias=False)
        self.norm = nn.BatchNorm2d(last)
        self.dropout = nn.Dropout(0.2)
        self.columns = window_frames // STRIDE
        self.first = min(first_frames, window_frames) // STRIDE
        self.scales = sorted({min(scale // STRIDE, self.columns) for scale in scales})
        self.dense = nn.Linear(2 * last * len(self.scales), n_tags)
        self.remember(STRIDE, pasts)

    def advance(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(n, m * 16, width) and the state before to (n, m, size) and the state after."""
        pasts = self.pasts(state)
        x, after = self.stem(frames.unsqueeze(1), pasts[0])
        states = [after.flatten(1)]
        for i, block in enumerate(self.blocks):
            x, after = block(x, pasts[i + 1])
            states.append(after.flatten(1))
        x = functional.relu(self.norm(self.fold(x)))
        return x.squeeze(3).transpose(1, 2), torch.cat(states, dim=1)

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Mean and maximum over the newest embeddings, at each scale, and the dense layer."""
        pooled: list[Tensor] = []
        for scale in self.scales:
            newest = embeddings[:, embeddings.shape[1] - scale :]
            pooled += [newest.mean(dim=1), newest.amax(dim=1)]
        out: Tensor = self.dense(self.dropout(torch.cat(pooled, dim=1)))
        return out

    def losses(self, frames: Tensor, targets: Tensor, criterion: Criterion) -> Tensor:
        """The loss of windows some of which are as short as at the beginning of a stream."""
        embeddings = shortened(self.embed(frames), self.first)
        return criterion(self.logits_of(embeddings), targets)
