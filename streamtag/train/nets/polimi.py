"""SampleCNN on the waveform, a 2D-CNN and a BiLSTM on mel bands in dB.

MusicTagger (Politecnico di Milano, 2018, github.com/urzino/MusicTagger), paper and code; SampleCNN
is after Lee et al. 2017. Initial weights and batch normalisations are Keras'. The two nets on mel
bands apply librosa's `top_db` to their window.

Deviates: see `deviates` of the recipes (`streamtag recipes polimi-bilstm`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.nets.keras import as_keras
from streamtag.train.nets.net import (
    StreamingNet,
    TaggingNet,
    check_at_least,
    reach_of,
    refusal,
)


def limited(frames: Tensor, top_db: float) -> Tensor:
    """(n, t, f) dB, each value at least its window's largest value minus `top_db`."""
    return torch.maximum(frames, frames.amax(dim=(1, 2), keepdim=True) - top_db)


def left_over(size: int, rounds: int, shrink: int, pool: int) -> int:
    """What is left of an axis after so many rounds of losing `shrink` and division by `pool`."""
    for _ in range(rounds):
        size = (size - shrink) // pool
    return size


def smallest(rounds: int, shrink: int, pool: int) -> int:
    """The smallest axis of which `left_over` is 1."""
    size = 1
    for _ in range(rounds):
        size = size * pool + shrink
    return size


class SampleBlock(nn.Module):
    """Convolution over three samples, batch normalisation, ReLU; a third of the samples remain.

    It has two axes, of which the first has length 1, because channels-last layout needs both. On a
    CPU this takes half as long as `Conv1d`.
    """

    def __init__(self, inputs: int, outputs: int, *, strided: bool = False) -> None:
        super().__init__()
        step, margin = (3, 0) if strided else (1, 1)
        self.conv = nn.Conv2d(inputs, outputs, (1, 3), (1, step), (0, margin))
        self.norm = nn.BatchNorm2d(outputs)
        self.pools = not strided

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, 1, t) to (n, outputs, 1, ⌊t / 3⌋)."""
        x = self.norm(self.conv(x))
        if self.pools:  # before the ReLU gives the same, because it is monotonic, and is faster
            x = functional.max_pool2d(x, (1, 3))
        return functional.relu(x)


class SampleCnn(StreamingNet):
    """(n, 465984, 1) samples, 29 s at 16 kHz, to (n, n_tags); 2,119,858 weights at 50 tags.

    Args:
        n_tags: outputs.
        width: 1.
        window_frames: samples, at least 19,683.

    Raises:
        RecipeError: another width, or too few samples.
    """

    widths = (128, 256, 256, 256, 256, 256, 256, 512)

    def __init__(self, n_tags: int, *, width: int = 1, window_frames: int = 465_984) -> None:
        super().__init__()
        rounds = len(self.widths) + 1
        check_at_least("samplecnn", "window_frames", window_frames, 3**rounds)
        if width != 1:
            raise refusal("samplecnn", "width", "1, samples", width, 'set features.kind = "raw"')
        self.first = SampleBlock(1, 128, strided=True)
        blocks, channels = [], 128
        for outputs in self.widths:
            blocks.append(SampleBlock(channels, outputs))
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(0.5)
        self.dense = nn.Linear(channels * left_over(window_frames, rounds, 0, 3), n_tags)
        self.reach = reach_of([(3, 3, 0)] + [(3, 1, 1), (3, 3, 0)] * 6)
        self.apply(as_keras)

    def embed(self, frames: Tensor) -> Tensor:
        """All but two blocks: (n, samples, 1) to (n, samples / 2187, 256)."""
        x = self.first(frames.transpose(1, 2).unsqueeze(2))
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            if i < 6:
                x = block(x)
        columns: Tensor = x.squeeze(2).transpose(1, 2)
        return columns

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The last two blocks and the dense layer."""
        x = embeddings.transpose(1, 2).unsqueeze(2)
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            if i >= 6:
                x = block(x)
        out: Tensor = self.dense(self.dropout(x.flatten(1)))
        return out


class Cnn2d(TaggingNet):
    """(n, 261, 128) frames in dB, 29 s, to (n, n_tags); 361,970 weights at 50 tags.

    It sees whole windows only: all frames depend on the largest value of their window.

    Args:
        n_tags: outputs.
        width: bands, at least 46.
        window_frames: at least 46.
        top_db: range below the window's largest value.

    Raises:
        RecipeError: too few bands or frames.
    """

    widths = (32, 64, 64, 64)

    def __init__(
        self, n_tags: int, *, width: int = 128, window_frames: int = 261, top_db: float = 80.0
    ) -> None:
        super().__init__()
        rounds = len(self.widths)
        check_at_least("cnn2d", "width", width, smallest(rounds, 2, 2))
        check_at_least("cnn2d", "window_frames", window_frames, smallest(rounds, 2, 2))
        self.top_db = float(top_db)
        layers: list[nn.Module] = []
        channels = 1
        for outputs in self.widths:
            layers += [nn.Conv2d(channels, outputs, 3), nn.BatchNorm2d(outputs)]
            layers += [nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(0.1)]  # faster in this order
            channels = outputs
        self.layers = nn.Sequential(*layers)
        left = left_over(width, rounds, 2, 2) * left_over(window_frames, rounds, 2, 2)
        self.dense = nn.Linear(channels * left, n_tags)
        self.apply(as_keras)

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags)."""
        x = limited(frames, self.top_db).transpose(1, 2).unsqueeze(1)
        out: Tensor = self.dense(self.layers(x).flatten(1))
        return out


class BiLstm(TaggingNet):
    """(n, 227, 128) frames in dB, a quarter of a clip, to (n, n_tags); 1,023,300 weights at 50 tags
    (1,021,700 in Keras, whose LSTM has one bias).

    It sees whole windows only: its first layer is a recurrence in both directions.

    Args:
        n_tags: outputs.
        width: bands, any number.
        window_frames: at least 7.
        top_db: range below the window's largest value.

    Raises:
        RecipeError: too few frames.
    """

    def __init__(
        self, n_tags: int, *, width: int = 128, window_frames: int = 227, top_db: float = 80.0
    ) -> None:
        super().__init__()
        check_at_least("bilstm", "width", width, 1)
        check_at_least("bilstm", "window_frames", window_frames, smallest(3, 2, 1))
        self.top_db = float(top_db)
        self.lstm = nn.LSTM(width, 100, num_layers=2, bidirectional=True, batch_first=True)
        self.convs = nn.Sequential(
            nn.Conv1d(200, 50, 3), nn.ReLU(),
            nn.Conv1d(50, 50, 3), nn.ReLU(),
            nn.Conv1d(50, 50, 3), nn.ReLU(),
        )  # fmt: skip
        self.dropout = nn.Dropout(0.1)
        self.dense = nn.Linear(50 * left_over(window_frames, 3, 2, 1), n_tags)
        self.apply(as_keras)

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags)."""
        steps, _ = self.lstm(limited(frames, self.top_db))
        x = self.convs(steps.transpose(1, 2))
        out: Tensor = self.dense(self.dropout(x.flatten(1)))
        return out
