"""MobileNetV2, and MobileNetV2 with self-attention over the slices of a window.

Sukhavasi and Adapa, "Music theme recognition using CNN and self-attention", MediaEval 2019
(arXiv:1911.07041), section 3, submissions 1 and 2, with details from the authors' code
(github.com/sainathadapa/mediaeval-2019-moodtheme-detection). MobileNetV2 is that of Sandler et al.
2018, table 2. The attention is two layers of BERT (Devlin et al. 2018) without a vocabulary, after
Won et al., "Toward interpretable music tagging with self-attention", 2019. It has no position for a
summary: the first position is the summary. Frames are 20·log10(mel power); the nets divide them by
100.

Deviates: see `deviates` of the recipes (`streamtag recipes amlag-2`).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.nets.net import Reach, StreamingNet, check_at_least, reach_of

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""(expansion, channels, blocks, stride of the first) (Sandler et al. 2018, table 2)."""
FEATURES = 1280
"""Channels at the end of MobileNetV2."""
SLICE = 256
"""Frames of a slice."""
SMALLEST = 65
"""Smallest number of bands, and of frames of a slice, of which MobileNetV2 leaves the 3 that a 3×3
convolution needs."""


class ConvNorm(nn.Sequential):
    """A convolution that keeps the size but for its stride, batch normalisation, ReLU6."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1):
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    """An inverted residual: expansion by 1×1, 3×3 per channel, linear projection by 1×1."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [ConvNorm(inputs, wide, 1)]
        layers.append(ConvNorm(wide, wide, 3, stride, groups=wide))
        layers.append(nn.Conv2d(wide, outputs, 1, bias=False))
        layers.append(nn.BatchNorm2d(outputs))
        self.layers = nn.Sequential(*layers)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, f, t) to (n, outputs, ⌈f / stride⌉, ⌈t / stride⌉)."""
        y: Tensor = self.layers(x)
        return x + y if self.skips else y


def mobilenet_features() -> nn.Sequential:
    """(n, 3, f, t) to (n, 1280, ⌈f / 32⌉, ⌈t / 32⌉); 2,223,872 weights."""
    blocks: list[nn.Module] = [ConvNorm(3, 32, 3, stride=2)]
    channels = 32
    for expansion, outputs, count, stride in STAGES:
        for i in range(count):
            blocks.append(InvertedResidual(channels, outputs, stride if i == 0 else 1, expansion))
            channels = outputs
    return nn.Sequential(*blocks, ConvNorm(channels, FEATURES, 1))


class MobileNetV2(nn.Module):
    """(n, 3, f, t) to (n, n_outputs); 3,504,872 weights at the 1000 classes of ImageNet.

    Args:
        n_outputs: logits.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.features = mobilenet_features()
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(FEATURES, n_outputs)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, f, t) to (n, n_outputs) logits."""
        x = self.features(x).mean(dim=(2, 3))
        out: Tensor = self.dense(self.dropout(x))
        return out


def initialise(module: nn.Module) -> None:
    """Initialises MobileNetV2 for training from scratch (He et al. 2015, by fan-out)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)


class MobilenetStem(nn.Sequential):
    """Turns frames into the three channels of an image."""

    def __init__(self) -> None:
        super().__init__(
            nn.BatchNorm2d(1), nn.Conv2d(1, 10, 1), nn.ReLU(), nn.Conv2d(10, 3, 1), nn.ReLU()
        )


class Mobilenet(StreamingNet):
    """(n, 6590, 96) frames, 141 s, to (n, n_tags); 2,295,663 weights at 56 tags.

    Args:
        n_tags: outputs.
        width: bands, any number.
        window_frames: any number.
    """

    def __init__(self, n_tags: int, *, width: int = 96, window_frames: int = 6590) -> None:
        super().__init__()
        check_at_least("mobilenet", "width", width, 1)
        check_at_least("mobilenet", "window_frames", window_frames, 1)
        self.stem = MobilenetStem()
        self.body = MobileNetV2(n_tags)
        steps = [stride for _, _, count, first in STAGES for stride in (first, *[1] * (count - 1))]
        self.reach = reach_of((3, stride, 1) for stride in (2, *steps))

    def embed(self, frames: Tensor) -> Tensor:
        """All convolutions: (n, frames, width) to (n, frames / 32, 1280)."""
        x = self.body.features(self.stem(frames.transpose(1, 2).unsqueeze(1) / 100))
        columns: Tensor = x.mean(dim=2).transpose(1, 2)
        return columns

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The mean over the embeddings of a window, and the dense layer."""
        out: Tensor = self.body.dense(self.body.dropout(embeddings.mean(dim=1)))
        return out


class MobilenetAttention(StreamingNet):
    """(n, 4096, 96) frames, 87 s, to (n, n_tags); 9,993,895 weights at 56 tags.

    The window is cut into slices of 256 frames. One branch uses their sequence, another one each
    slice alone. The score is the mean of both. Other windows have `window_frames // 256` slices, at
    least one, of equal length; the oldest frames that are left over are not used. In a stream the
    slices begin where the stream does, every 256 frames. If frames are left over, the net sees
    whole windows only.

    Args:
        n_tags: outputs.
        width: bands, at least 65.
        window_frames: at least 65.

    Raises:
        RecipeError: too few bands or frames.
    """

    def __init__(self, n_tags: int, *, width: int = 96, window_frames: int = 4096) -> None:
        super().__init__()
        check_at_least("mobilenet-attention", "width", width, SMALLEST)
        check_at_least("mobilenet-attention", "window_frames", window_frames, SMALLEST)
        self.slices = max(1, window_frames // SLICE)
        self.slice_frames = window_frames // self.slices
        left_over = window_frames % self.slices
        self.reach = None if left_over else Reach(self.slice_frames, 0, 0, 0)
        self.stem = MobilenetStem()
        self.features = mobilenet_features()
        self.features.apply(initialise)
        self.narrow = nn.Sequential(
            nn.Conv2d(FEATURES, 512, 3), nn.ReLU(), nn.Conv2d(512, 256, 1), nn.ReLU()
        )
        self.attention = AttentionHead(n_tags, self.slices)
        self.alone = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(256, 256), nn.Dropout(0.2), nn.Linear(256, n_tags)
        )

    def embed(self, frames: Tensor) -> Tensor:
        """(n, frames, width) to (n, slices, 256): each slice by itself."""
        first = frames.shape[1] % self.slice_frames
        x = frames[:, first:].reshape(-1, self.slice_frames, frames.shape[2])
        x = self.features(self.stem(x.transpose(1, 2).unsqueeze(1) / 100))
        x = self.narrow(x).amax(dim=(2, 3))
        features: Tensor = x.reshape(frames.shape[0], -1, x.shape[1])
        return features

    def branches(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(n, slices, 256) to (n, n_tags) logits of the sequence and of the slices."""
        return self.attention(features), logit_of_mean(self.alone(features))

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """(n, slices, 256) to (n, n_tags): the logit of the branches' mean score."""
        sequence, slices = self.branches(embeddings)
        return logit_of_mean(torch.stack([sequence, slices], dim=1))

    @torch.jit.unused
    def selection_logits(self, frames: Tensor) -> Tensor:
        """`logits` of the sequence alone, by which the authors' code chooses the best epoch."""
        return self.branches(self.embed(frames))[0]

    def losses(
        self, frames: Tensor, targets: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """The mean of both branches' losses; shapes as in `model`."""
        sequence, slices = self.branches(self.embed(frames))
        return (criterion(sequence, targets) + criterion(slices, targets)) / 2


ATTENTION_WIDTH = 256
ATTENTION_HEADS = 4
FEED_FORWARD_WIDTH = 1024
"""Width between the two layers after the attention."""
LAYER_NORM_EPS = 1e-12
"""Epsilon of the layer normalisations."""


def logit_of_mean(logits: Tensor) -> Tensor:
    """(n, k, n_tags) to (n, n_tags): the logit of the mean of k scores, exact at 0 and 1.

    log(p / (1 - p)) with p the mean of σ(x), whose 1/k cancels.
    """
    yes = torch.logsumexp(functional.logsigmoid(logits), dim=1)
    no = torch.logsumexp(functional.logsigmoid(-logits), dim=1)
    return yes - no


def sinusoids(n_positions: int, width: int) -> Tensor:
    """(n_positions, width): sines and cosines in turn (Vaswani et al. 2017, 3.5), row 0 all zeros.

    Row 0 was meant for padding, but the authors' first slice uses it.
    """
    wavelengths = 10000.0 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(n_positions, dtype=torch.float64).unsqueeze(1) / wavelengths
    table = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    table[0] = 0
    return table.float()


class BertLayer(nn.Module):
    """Attention and a feed-forward layer, each added to its input and normalised after that."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(ATTENTION_WIDTH, ATTENTION_WIDTH)
        self.key = nn.Linear(ATTENTION_WIDTH, ATTENTION_WIDTH)
        self.value = nn.Linear(ATTENTION_WIDTH, ATTENTION_WIDTH)
        self.n_heads = ATTENTION_HEADS
        self.dropout_weights = nn.Dropout(0.1)
        self.output = nn.Linear(ATTENTION_WIDTH, ATTENTION_WIDTH)
        self.norm_1 = nn.LayerNorm(ATTENTION_WIDTH, eps=LAYER_NORM_EPS)
        self.widen = nn.Linear(ATTENTION_WIDTH, FEED_FORWARD_WIDTH)
        self.gelu = nn.GELU()
        self.narrow = nn.Linear(FEED_FORWARD_WIDTH, ATTENTION_WIDTH)
        self.norm_2 = nn.LayerNorm(ATTENTION_WIDTH, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(0.2)

    def heads(self, x: Tensor) -> Tensor:
        """(n, k, 256) to (n, heads, k, 64)."""
        return x.reshape(x.shape[0], x.shape[1], self.n_heads, -1).transpose(1, 2)

    def attended(self, x: Tensor) -> Tensor:
        """(n, k, 256) to (n, k, 256): the attention of each position to all positions."""
        query, key = self.heads(self.query(x)), self.heads(self.key(x))
        similarity = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        weights = self.dropout_weights(torch.softmax(similarity, dim=3))
        attended: Tensor = weights @ self.heads(self.value(x))
        return attended.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, k, 256) to (n, k, 256)."""
        x = self.norm_1(x + self.dropout(self.output(self.attended(x))))
        out: Tensor = self.norm_2(x + self.dropout(self.narrow(self.gelu(self.widen(x)))))
        return out


class AttentionHead(nn.Module):
    """(n, n_positions, 256) to (n, n_tags) logits; 1,659,704 weights at 56 tags.

    Args:
        n_tags: outputs.
        n_positions: length of the sequence.
    """

    def __init__(self, n_tags: int, n_positions: int) -> None:
        super().__init__()
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(n_positions, ATTENTION_WIDTH))
        self.layers = nn.Sequential(BertLayer(), BertLayer())
        self.pool = nn.Linear(ATTENTION_WIDTH, ATTENTION_WIDTH)
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(ATTENTION_WIDTH, n_tags)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_positions, 256) to (n, n_tags) logits."""
        x = self.layers(x + self.positions)
        pooled = torch.tanh(self.pool(x[:, 0]))
        out: Tensor = self.dense(self.dropout(pooled))
        return out
