"""The two baselines of the MediaEval 2019 mood/theme task (MTG-Jamendo).

Bogdanov et al., "The MTG-Jamendo dataset for automatic music tagging", 2019, section 4: VGG-ish,
five 3×3 convolutions with batch normalisation, ELU and max-pooling over 29.1 s of log-mel, after
Choi et al. 2016. The names of the weights are those of the published checkpoint.

Bogdanov et al., "MediaEval 2019: Emotion and theme recognition in music using Jamendo", section 4:
popularity, which always predicts the most frequent tag.

Deviates: see `deviates` of the recipe (`streamtag recipes vggish`).
"""

import torch
from torch import Tensor, nn

from streamtag.train.nets.net import StreamingNet, TaggingNet, pooled_size, reach_of

POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
"""(frequency, time) per block: 96×1366 becomes 1×1."""
SURE = 4.0
"""Logit of the most frequent tag, and its negative for the others: on and off at any threshold."""


class Vggish(StreamingNet):
    """(n, window_frames, width) frames of 20·log10(mel power) to (n, n_tags) probabilities;
    448,122 weights at 56 tags.

    Args:
        n_tags: outputs.
        width: bands, at least 96.
        window_frames: at least 1280.

    Raises:
        RecipeError: fewer bands or frames.
    """

    def __init__(self, n_tags: int, *, width: int = 96, window_frames: int = 1366) -> None:
        super().__init__()
        high = pooled_size("vggish", "width", width, (pool[0] for pool in POOLS))
        long = pooled_size("vggish", "window_frames", window_frames, (pool[1] for pool in POOLS))
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
        self.dense = nn.Linear(64 * high * long, n_tags)
        self.reach = reach_of(
            layer for _, time in POOLS[:3] for layer in ((3, 1, 1), (time, time, 0))
        )

    def embed(self, frames: Tensor) -> Tensor:
        """Three blocks, 97 % of the work: (n, frames, width) to (n, frames / 64, 128 * rows)."""
        x = self.bn_init(frames.transpose(1, 2).unsqueeze(1))
        x = self.pool_1(self.elu(self.bn_1(self.conv_1(x))))
        x = self.pool_2(self.elu(self.bn_2(self.conv_2(x))))
        x = self.pool_3(self.elu(self.bn_3(self.conv_3(x))))
        columns: Tensor = x.flatten(1, 2).transpose(1, 2)
        return columns

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The other two blocks, which leave one column of a window, and the dense layer."""
        x = embeddings.transpose(1, 2)
        x = x.reshape(x.shape[0], 128, -1, x.shape[2])
        x = self.pool_4(self.elu(self.bn_4(self.conv_4(x))))
        x = self.pool_5(self.elu(self.bn_5(self.conv_5(x))))
        out: Tensor = self.dense(self.dropout(x.flatten(1)))
        return out


class Popularity(TaggingNet):
    """(n, window_frames, width) frames, which it ignores, to (n, n_tags) probabilities: always the
    most frequent tag and no other. Nothing is trained.

    Args:
        n_tags: outputs.
        width: any.
        window_frames: any.
    """

    def __init__(self, n_tags: int, *, width: int = 96, window_frames: int = 1366) -> None:
        super().__init__()
        self.answer: Tensor
        self.register_buffer("answer", torch.full((n_tags,), -SURE))

    def count(self, targets: Tensor) -> None:
        """Stores the most frequent tag, the first one of several.

        Args:
            targets: (n, n_tags) of the training set, NaN where unknown.
        """
        self.answer.fill_(-SURE)
        self.answer[int(targets.nansum(dim=0).argmax())] = SURE

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags)."""
        return self.answer.unsqueeze(0).repeat(frames.shape[0], 1)
