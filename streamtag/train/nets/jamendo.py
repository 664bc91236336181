"""VGG-ish baseline of the MediaEval 2019 mood/theme task (MTG-Jamendo).

Bogdanov et al., "The MTG-Jamendo dataset for automatic music tagging", 2019, section 4: five
3×3 convolutions with batch normalisation, ELU and max-pooling over 29.1 s of log-mel, after
Choi et al. 2016. The names of the weights are those of the published checkpoint.
"""

import torch
from torch import nn

POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
"""(frequency, time) per block: 96×1366 becomes 1×1."""


class Vggish(nn.Module):
    """(n, 1366, 96) frames of 20·log10(mel power) to (n, n_tags) probabilities; 448,122 weights
    at 56 tags.

    Args:
        n_tags: outputs.
    """

    def __init__(self, n_tags: int) -> None:
        super().__init__()
        self.bn_init = nn.BatchNorm2d(1)
        self.conv_1 = nn.Conv2d(1, 64, 3, padding=1)
        self.bn_1 = nn.BatchNorm2d(64)
        self.conv_2 = nn.Conv2d(64, 128, 3, padding=1)
        self.bn_2 = nn.BatchNorm2d(128)
        self.conv_3 = nn.Conv2d(128, 128, 3, padding=1)
        self.bn_3 = nn.BatchNorm2d(128)
        self.conv_4 = nn.Conv2d(128, 128, 3, padding=1)
        self.bn_4 = nn.BatchNorm2d(128)
        self.conv_5 = nn.Conv2d(128, 64, 3, padding=1)
        self.bn_5 = nn.BatchNorm2d(64)
        self.pool_1, self.pool_2, self.pool_3, self.pool_4, self.pool_5 = map(nn.MaxPool2d, POOLS)
        self.elu = nn.ELU()
        self.dropout = nn.Dropout(0.5)
        self.dense = nn.Linear(64, n_tags)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(n, 1366, 96) to (n, n_tags)."""
        x = self.bn_init(frames.transpose(1, 2).unsqueeze(1))
        x = self.pool_1(self.elu(self.bn_1(self.conv_1(x))))
        x = self.pool_2(self.elu(self.bn_2(self.conv_2(x))))
        x = self.pool_3(self.elu(self.bn_3(self.conv_3(x))))
        x = self.pool_4(self.elu(self.bn_4(self.conv_4(x))))
        x = self.pool_5(self.elu(self.bn_5(self.conv_5(x))))
        return torch.sigmoid(self.dense(self.dropout(x.flatten(1))))
