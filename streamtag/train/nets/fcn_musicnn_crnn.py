"""FCN, Musicnn and CRNN as compared in one study.

Won, Ferraro, Bogdanov, Serra, "Evaluation of CNN-based automatic music tagging models", SMC 2020,
section 2. The weights have the names of its checkpoints (sota-music-tagging-models). The nets come
from Choi et al. 2016 (FCN), Pons et al. 2018 (Musicnn) and Choi et al. 2017 (CRNN).

All take frames of 10·log10(mel power), which a batch normalisation of one channel scales first.

Deviates: the front end is not part of the net; the output is probabilities.
"""

import torch
from torch import Tensor, nn

from streamtag.train.nets.net import StreamingNet, pooled_size, reach_of, refusal

FCN_POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
CRNN_POOLS = ((2, 2), (3, 3), (4, 4), (4, 4))
"""(frequency, time) per block."""


def _block(time: int) -> tuple[tuple[int, int, int], ...]:
    """(kernel, stride, padding) in time of a `ConvBlock`'s layers."""
    return (3, 1, 1), (time, time, 0)


class ConvBlock(nn.Module):
    """3×3 convolution, batch normalisation, ReLU, max-pooling over (frequency, time)."""

    def __init__(self, inputs: int, outputs: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, bands, frames) to (n, outputs, bands / pool, frames / pool)."""
        x = self.relu(self.bn(self.conv(x)))
        pooled: Tensor = self.pool(x)
        return pooled


class Fcn(StreamingNet):
    """(n, window_frames, width) frames, 29 s, to (n, n_tags) probabilities.

    Args:
        n_tags: outputs.
        width: bands, at least 96.
        window_frames: at least 1280.

    Raises:
        RecipeError: fewer bands or frames.
    """

    def __init__(self, n_tags: int, *, width: int = 96, window_frames: int = 1813) -> None:
        super().__init__()
        high = pooled_size("fcn", "width", width, (pool[0] for pool in FCN_POOLS))
        long = pooled_size("fcn", "window_frames", window_frames, (pool[1] for pool in FCN_POOLS))
        self.spec_bn = nn.BatchNorm2d(1)
        self.layer1 = ConvBlock(1, 64, FCN_POOLS[0])
        self.layer2 = ConvBlock(64, 128, FCN_POOLS[1])
        self.layer3 = ConvBlock(128, 128, FCN_POOLS[2])
        self.layer4 = ConvBlock(128, 128, FCN_POOLS[3])
        self.layer5 = ConvBlock(128, 64, FCN_POOLS[4])
        self.dropout = nn.Dropout(0.5)
        self.dense = nn.Linear(64 * high * long, n_tags)
        self.reach = reach_of(layer for _, time in FCN_POOLS[:3] for layer in _block(time))

    def embed(self, frames: Tensor) -> Tensor:
        """Three blocks, 97 % of the work: (n, frames, width) to (n, frames / 64, 128 * rows)."""
        x = self.spec_bn(frames.transpose(1, 2).unsqueeze(1))
        x = self.layer3(self.layer2(self.layer1(x)))
        columns: Tensor = x.flatten(1, 2).transpose(1, 2)
        return columns

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The other two blocks, which leave one column of a window, and the dense layer."""
        x = embeddings.transpose(1, 2)
        x = x.reshape(x.shape[0], 128, -1, x.shape[2])
        x = self.layer5(self.layer4(x))
        out: Tensor = self.dense(self.dropout(x.flatten(1)))
        return out


class Crnn(StreamingNet):
    """(n, window_frames, width) frames, 29 s, to (n, n_tags) probabilities.

    Args:
        n_tags: outputs.
        width: bands, at least 96.
        window_frames: at least 96.

    Raises:
        RecipeError: fewer bands or frames.
    """

    def __init__(self, n_tags: int, *, width: int = 96, window_frames: int = 1813) -> None:
        super().__init__()
        high = pooled_size("crnn", "width", width, (pool[0] for pool in CRNN_POOLS))
        pooled_size("crnn", "window_frames", window_frames, (pool[1] for pool in CRNN_POOLS))
        self.spec_bn = nn.BatchNorm2d(1)
        self.layer1 = ConvBlock(1, 64, CRNN_POOLS[0])
        self.layer2 = ConvBlock(64, 128, CRNN_POOLS[1])
        self.layer3 = ConvBlock(128, 128, CRNN_POOLS[2])
        self.layer4 = ConvBlock(128, 128, CRNN_POOLS[3])
        self.layer5 = nn.GRU(128 * high, 32, num_layers=2, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.dense = nn.Linear(32, n_tags)
        self.reach = reach_of(layer for _, time in CRNN_POOLS[:3] for layer in _block(time))

    def embed(self, frames: Tensor) -> Tensor:
        """Three blocks, 99 % of the work: (n, frames, width) to (n, frames / 24, 128 * rows)."""
        x = self.spec_bn(frames.transpose(1, 2).unsqueeze(1))
        x = self.layer3(self.layer2(self.layer1(x)))
        columns: Tensor = x.flatten(1, 2).transpose(1, 2)
        return columns

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The last block, the recurrence and the dense layer."""
        x = embeddings.transpose(1, 2)
        x = self.layer4(x.reshape(x.shape[0], 128, -1, x.shape[2]))  # (n, 128, 1, 18)
        steps, _ = self.layer5(x.flatten(1, 2).transpose(1, 2))
        out: Tensor = self.dense(self.dropout(steps[:, -1]))
        return out


class TimbreFilters(nn.Module):
    """Vertical filters tall enough for a timbre; the maximum over frequency is used."""

    def __init__(self, outputs: int, bands: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, outputs, (bands, 7), padding=(0, 3))
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, bands, frames) to (n, outputs, frames)."""
        x = self.relu(self.bn(self.conv(x)))
        return torch.amax(x, dim=2)


class TimeConv(nn.Module):
    """1-D convolution over time, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, length: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, length, padding=length // 2)
        self.bn = nn.BatchNorm1d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, frames) to (n, outputs, frames)."""
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class Musicnn(StreamingNet):
    """(n, window_frames, width) frames, 3 s, to (n, n_tags) probabilities.

    Args:
        n_tags: outputs.
        width: bands, at least 3.
        window_frames: any.

    Raises:
        RecipeError: fewer bands.
    """

    def __init__(self, n_tags: int, *, width: int = 96, window_frames: int = 188) -> None:
        super().__init__()
        if width < 3:
            raise refusal("musicnn", "width", "at least 3", width)
        tall, low = 7 * width // 10, 4 * width // 10  # Pons et al. 2018: 0.7 and 0.4 of the bands
        self.spec_bn = nn.BatchNorm2d(1)
        fronts = [TimbreFilters(204, tall), TimbreFilters(204, low)]
        self.layers = nn.ModuleList(fronts + [TimeConv(1, 51, length) for length in (129, 65, 33)])
        self.layer1 = TimeConv(561, 64, 7)
        self.layer2 = TimeConv(64, 64, 7)
        self.layer3 = TimeConv(64, 64, 7)
        self.dense1 = nn.Linear(2 * 753, 200)
        self.bn = nn.BatchNorm1d(200)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.5)
        self.dense2 = nn.Linear(200, n_tags)
        self.reach = reach_of([(7, 1, 3)])

    def embed(self, frames: Tensor) -> Tensor:
        """The timbre filters, 95 % of the work, and the mean over all bands, which the long rhythm
        filters see: (n, frames, width) to (n, frames, 409)."""
        x = self.spec_bn(frames.transpose(1, 2).unsqueeze(1))
        parts = [self.layers[0](x), self.layers[1](x), x.mean(dim=2)]
        return torch.cat(parts, dim=1).transpose(1, 2)

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Rhythm filters, the middle and the dense layers."""
        x = embeddings.transpose(1, 2)
        timbre, mean = x[:, :-1], x[:, -1:]
        parts = [timbre, self.layers[2](mean), self.layers[3](mean), self.layers[4](mean)]
        front = torch.cat(parts, dim=1)
        first = self.layer1(front)
        second = first + self.layer2(first)
        third = second + self.layer3(second)
        every = torch.cat([front, first, second, third], dim=1)  # (n, 753, frames)
        summary = torch.cat([torch.amax(every, dim=2), every.mean(dim=2)], dim=1)
        hidden = self.relu(self.bn(self.dense1(summary)))
        out: Tensor = self.dense2(self.dropout(hidden))
        return out
