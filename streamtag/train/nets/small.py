"""A small depthwise-separable net for short windows: our own, for the model that comes along.

Pairs of a depthwise and a pointwise convolution after Howard 2017 (MobileNets, table 1), much
narrower and shallower; every time step gets its own probabilities and a window's is their mean, so
that it says for which share of the window an instrument sounds.
"""

import torch
from torch import Tensor, nn

STEM = 16
PAIRS = ((32, (2, 2)), (48, (1, 1)), (64, (1, 2)), (96, (1, 1)), (128, (1, 2)), (128, (1, 1)))
"""(channels out, stride in (time, frequency)) of each depthwise-pointwise pair."""


def _layer(
    channels: int, out: int, kernel: int, stride: tuple[int, int], groups: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(
        channels, out, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


class Small(nn.Module):
    """Log-mel windows to probabilities.

    Args:
        n_tags: outputs.
        width: mel bands.
        silence: value of a mel band in digital silence: frames before the first sound do not count.
        dropout: before the last layer.
    """

    def __init__(self, n_tags: int, width: int, silence: float, dropout: float = 0.2) -> None:
        super().__init__()
        self.silence = silence
        self.norm = nn.BatchNorm1d(width)
        layers, channels = _layer(1, STEM, 3, (2, 2)), STEM
        for out, stride in PAIRS:
            layers += _layer(channels, channels, 3, stride, groups=channels)
            layers += _layer(channels, out, 1, (1, 1))
            channels = out
        self.body = nn.Sequential(*layers)
        self.mix = nn.Sequential(
            nn.Conv1d(2 * channels, 128, 3, padding=1, bias=False),
            nn.BatchNorm1d(128),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.head = nn.Conv1d(128, n_tags, 1)

    def forward(self, windows: Tensor) -> Tensor:
        """(n, frames, width) to (n, n_tags) in (0, 1): shares of the heard time."""
        heard = (windows.amax(dim=2) > self.silence + 0.5).to(windows.dtype)
        heard = torch.cummax(heard, dim=1)[0]  # silence counts once something has sounded
        x = self.norm(windows.transpose(1, 2)).transpose(1, 2).unsqueeze(1)
        x = self.body(x)
        x = torch.cat([x.mean(dim=3), x.amax(dim=3)], dim=1)
        shares = torch.sigmoid(self.head(self.mix(x)))
        weight = torch.nn.functional.adaptive_avg_pool1d(heard.unsqueeze(1), shares.shape[2])
        weight = weight + 1e-4
        mean = (shares * weight).sum(dim=2) / weight.sum(dim=2)
        return mean.clamp(1e-6, 1 - 1e-6)
