"""CP-ResNet, FA-ResNet and Shake-Shake FA-ResNet, and their baselines ResNet-34 and Choi's CRNN.

Koutini et al., "Emotion and theme recognition in music with frequency-aware RF-regularized CNNs",
MediaEval 2019: submissions 1 to 3, and 5 and 4 for the baselines. CP-ResNet: Koutini et al., "The
receptive field as a regularizer in deep convolutional neural networks for acoustic scene
classification", EUSIPCO 2019. FA-ResNet: Koutini et al., "Receptive-field-regularized CNN variants
for acoustic scene classification", DCASE 2019. Widths and initial weights are those of the authors'
code for another task (github.com/kkoutini/cpjku_dcase19). ResNet-34: He et al. 2016, table 1, from
scratch. CRNN: Choi et al., "Convolutional recurrent neural networks for music classification",
2017, figure 1 (d) and github.com/keunwoochoi/music-auto_tagging-keras.

Bands must have mean 0 and deviation 1 (`fit.normalise`).

There is no public code of Shake-Shake and of the baselines; the poolings for 256 bands are our
reading.

Deviates: see `deviates` of the recipes (`streamtag recipes cpjku-crnn`).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.nets.net import (
    Reach,
    StreamingNet,
    TaggingNet,
    check_at_least,
    reach_of,
    refusal,
)

WIDTHS = (128,) * 4 + (256,) * 4 + (512,) * 4
"""Channels of the twelve blocks of a CP-ResNet."""
POOLED = (1, 2, 4)
"""Blocks after which both axes are halved."""
LARGEST_RHO = 2 * len(WIDTHS) - 2
"""The largest ρ: the number of convolutions after the first block."""
SMALLEST = 17
"""Smallest number of bands or frames of which the stem and three poolings leave 1."""

Size = tuple[int, int]
"""Sizes in frequency and in time."""


def as_image(frames: Tensor, channels: int) -> Tensor:
    """(n, t, channels · f), one channel after the other, to (n, channels, f, t)."""
    shape = (frames.shape[0], frames.shape[1], channels, frames.shape[2] // channels)
    return frames.reshape(shape).permute(0, 2, 3, 1)


def check_channels(net: str, width: int, channels: int) -> None:
    """Refuses a width that is not a multiple of the number of channels.

    Raises:
        RecipeError: it is not.
    """
    check_at_least(net, "channels", channels, 1)
    if width % channels:
        raise refusal(
            net,
            "width",
            f"a multiple of channels = {channels}",
            width,
            "a frame holds the bands of one channel after the other",
        )


class Residual(nn.Module):
    """Two convolutions, each normalised, with a ReLU between them; sizes 1 or 3 per axis."""

    extra = 0
    """Number of further input channels of the convolutions."""

    def __init__(
        self, inputs: int, outputs: int, first: Size, second: Size, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = self.conv(inputs, outputs, first, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = self.conv(outputs, outputs, second, 1)
        self.bn2 = nn.BatchNorm2d(outputs)

    def conv(self, inputs: int, outputs: int, size: Size, stride: int) -> nn.Conv2d:
        """Keeps the size of its input at stride 1."""
        padding = (size[0] // 2, size[1] // 2)
        return nn.Conv2d(inputs + self.extra, outputs, size, stride, padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, f, t) to (n, outputs, f / stride, t / stride)."""
        out: Tensor = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return out


def with_position(x: Tensor) -> Tensor:
    """(n, c, f, t) to (n, c + 1, f, t): the last channel is 2·k / f - 1 in bin k, at all times."""
    position = torch.arange(x.shape[2], dtype=x.dtype, device=x.device) * (2 / x.shape[2]) - 1
    channel = position.reshape(1, 1, -1, 1).expand(x.shape[0], 1, x.shape[2], x.shape[3])
    return torch.cat([x, channel], dim=1)


class FrequencyAwareResidual(Residual):
    """A residual whose convolutions also get the position in frequency."""

    extra = 1

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, f, t) to (n, outputs, f, t)."""
        x = functional.relu(self.bn1(self.conv1(with_position(x))))
        out: Tensor = self.bn2(self.conv2(with_position(x)))
        return out


class ShakeShakeResidual(nn.Module):
    """Two branches in random shares, with other shares in the backward pass (Gastaldi 2017)."""

    def __init__(self, inputs: int, outputs: int, first: Size, second: Size) -> None:
        super().__init__()
        self.branch_1 = FrequencyAwareResidual(inputs, outputs, first, second)
        self.branch_2 = FrequencyAwareResidual(inputs, outputs, first, second)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, f, t) to (n, outputs, f, t)."""
        return shake_shake(self.branch_1(x), self.branch_2(x), self.training)


def shake_shake(first: Tensor, second: Tensor, training: bool) -> Tensor:
    """α·first + (1 - α)·second, (n, c, f, t) each.

    In training α ~ U(0, 1) for each sample, and the gradients are those of another share β;
    otherwise α is a half.
    """
    if not training:
        return torch.lerp(first, second, 0.5)
    shares = torch.rand(2, first.shape[0], 1, 1, 1, dtype=first.dtype, device=first.device)
    alpha, beta = shares[0], shares[1]
    gap = first - second
    return second + beta * gap + ((alpha - beta) * gap).detach()


class Shortcut(nn.Module):
    """A 1×1 convolution, normalised, around a residual that changes the shape."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, f, t) to (n, outputs, f / stride, t / stride)."""
        out: Tensor = self.norm(self.conv(x))
        return out


class CpjkuStage(nn.Module):
    """A residual, its shortcut and the ReLU of their sum."""

    def __init__(self, residual: nn.Module, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = residual
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else Shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, f, t) to (n, outputs, f / stride, t / stride)."""
        return functional.relu(self.residual(x) + self.shortcut(x))


def kernels(rho_freq: int, rho_time: int) -> list[Size]:
    """Sizes of the 24 convolutions: of the 22 after the first block ρ have size 3, the others 1."""

    def along(rho: int) -> list[int]:
        return [3, 1] + [3 if j <= rho else 1 for j in range(1, LARGEST_RHO + 1)]

    return list(zip(along(rho_freq), along(rho_time), strict=True))


class CpResnet(StreamingNet):
    """(n, 861, 256) frames, 10 s, to (n, n_tags); 3,587,056 weights at 56 tags and ρ = 5.

    Fully convolutional: longer windows work too.

    Args:
        n_tags: outputs.
        width: values per frame: bands times channels; at least 17 bands.
        window_frames: at least 17.
        rho: convolutions that are 3 wide, which sets the receptive field: 87 bins at 5.
        rho_freq: the same along frequency alone; 0 is `rho`.
        rho_time: the same along time alone; 0 is `rho`.
        channels: of the recording; a frame holds one channel's bands after the other's.

    Raises:
        RecipeError: a value is out of its range.
    """

    name = "cp-resnet"
    residual: Callable[[int, int, Size, Size], nn.Module] = Residual

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 256,
        window_frames: int = 861,
        rho: int = 5,
        rho_freq: int = 0,
        rho_time: int = 0,
        channels: int = 1,
    ) -> None:
        super().__init__()
        check_channels(self.name, width, channels)
        check_at_least(self.name, "width", width, SMALLEST * channels)
        check_at_least(self.name, "window_frames", window_frames, SMALLEST)
        self.check_rho(rho=rho, rho_freq=rho_freq, rho_time=rho_time)
        self.channels = channels
        self.stem = nn.Conv2d(channels, WIDTHS[0], 5, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTHS[0])
        sizes = kernels(rho_freq or rho, rho_time or rho)
        self.blocks = self.body(sizes)
        self.head = nn.Conv2d(WIDTHS[-1], n_tags, 1, bias=False)
        self.norm = nn.BatchNorm2d(n_tags)
        self.reach = self.body_reach([time for _, time in sizes])
        self.initialise()

    def check_rho(self, **given: int) -> None:
        """Refuses a ρ for which there are not enough convolutions."""
        for key, value in given.items():
            if not 0 <= value <= LARGEST_RHO:
                raise refusal(self.name, key, f"0 to {LARGEST_RHO}", value)

    def body(self, sizes: list[Size]) -> nn.Sequential:
        """The twelve blocks and three poolings."""
        layers: list[nn.Module] = []
        inputs = WIDTHS[0]
        for i, outputs in enumerate(WIDTHS):
            residual = type(self).residual(inputs, outputs, *sizes[2 * i : 2 * i + 2])
            layers.append(CpjkuStage(residual, inputs, outputs))
            if i + 1 in POOLED:
                layers.append(nn.MaxPool2d(2))
            inputs = outputs
        return nn.Sequential(*layers)

    def body_reach(self, sizes: list[int]) -> Reach:
        """Of the stem and the body, from the sizes of its convolutions in time."""
        layers = [(5, 2, 1)]
        for i in range(len(WIDTHS)):
            layers += [(size, 1, size // 2) for size in sizes[2 * i : 2 * i + 2]]
            if i + 1 in POOLED:
                layers.append((2, 2, 0))
        return reach_of(layers)

    def initialise(self) -> None:
        """Fixup (Zhang et al. 2019) as in the authors' code: at first each block is its shortcut,
        and all scores are ½."""
        nn.init.kaiming_normal_(self.stem.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.head.weight)
        for module in self.modules():
            if isinstance(module, Residual):
                fan_out = math.prod(module.conv1.kernel_size) * module.conv1.out_channels
                nn.init.normal_(module.conv1.weight, 0, math.sqrt(2 / fan_out / len(WIDTHS)))
                nn.init.zeros_(module.conv2.weight)
            if isinstance(module, Shortcut):
                nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")

    def features(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, 512, bands / 17, window_frames / 17), roughly."""
        x = self.stem_norm(self.stem(as_image(frames, self.channels)))
        out: Tensor = self.blocks(functional.relu(x))
        return out

    def embed(self, frames: Tensor) -> Tensor:
        """All but the mean over time: (n, frames, width) to (n, frames / 16, n_tags)."""
        x: Tensor = self.norm(self.head(self.features(frames)))
        return x.mean(dim=2).transpose(1, 2)

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The mean over the embeddings of a window."""
        return embeddings.mean(dim=1)


class FaResnet(CpResnet):
    """CP-ResNet with the position in frequency in every block; 3,600,368 weights."""

    name = "fa-resnet"
    residual = FrequencyAwareResidual


class ShakeFaResnet(CpResnet):
    """FA-ResNet with two branches per block, mixed at random in training; 7,003,120 weights."""

    name = "shake-fa-resnet"
    residual = ShakeShakeResidual


RESNET34_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""(channels, blocks, stride of the first) (He et al. 2016, table 1)."""
CRNN_CHANNELS = (64, 128, 128, 128)
TIME_POOLS = (2, 3, 4, 4)
FREQ_POOLS = {96: (2, 3, 4, 4), 256: (4, 4, 4, 4)}
"""By the smallest number of bands of which they leave 1."""


class Resnet34(TaggingNet):
    """(n, 288, 256) frames to (n, n_tags); 21,307,128 weights at 56 tags.

    With three channels and 1000 classes it has the 21,797,672 weights of the ImageNet model.

    Args:
        n_tags: outputs.
        width: values per frame: bands times channels, any number.
        window_frames: any number.
        channels: of the recording; a frame holds one channel's bands after the other's.

    Raises:
        RecipeError: `width` is not a multiple of `channels`.
    """

    def __init__(
        self, n_tags: int, *, width: int = 256, window_frames: int = 288, channels: int = 1
    ) -> None:
        super().__init__()
        check_channels("resnet34", width, channels)
        check_at_least("resnet34", "width", width, 1)
        check_at_least("resnet34", "window_frames", window_frames, 1)
        self.channels = channels
        self.stem = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], 64
        for outputs, count, stride in RESNET34_STAGES:
            for i in range(count):
                step = stride if i == 0 else 1
                residual = Residual(inputs, outputs, (3, 3), (3, 3), step)
                blocks.append(CpjkuStage(residual, inputs, outputs, step))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(inputs, n_tags)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags)."""
        x = self.pool(functional.relu(self.norm(self.stem(as_image(frames, self.channels)))))
        out: Tensor = self.dense(self.blocks(x).mean(dim=(2, 3)))
        return out


class ChoiCrnn(StreamingNet):
    """(n, 1366, 96) frames, 29 s, to (n, n_tags); 394,488 weights at 56 tags.

    Four convolutions reduce the bands to one and the frames to a 96th. Two GRUs follow.
    Zeros on both sides fill the window up to a multiple of 96 frames, 1366 to 1440; then the net
    sees whole windows only.

    Args:
        n_tags: outputs.
        width: bands: 96 to 191, or 256 to 511.
        window_frames: any number.

    Raises:
        RecipeError: another number of bands.
    """

    def __init__(self, n_tags: int, *, width: int = 96, window_frames: int = 1366) -> None:
        super().__init__()
        check_at_least("choi-crnn", "window_frames", window_frames, 1)
        pools = next((p for least, p in FREQ_POOLS.items() if least <= width < 2 * least), None)
        if pools is None:
            expected = "96 to 191 or 256 to 511, of which its poolings leave one band,"
            raise refusal("choi-crnn", "width", expected, width, "set features.n_mels")
        self.norm = nn.BatchNorm1d(width)
        layers: list[nn.Module] = []
        inputs = 1
        for outputs, pool in zip(CRNN_CHANNELS, zip(pools, TIME_POOLS, strict=True), strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
            # Pooling before the ELU gives the same, because the ELU is monotonic, and is faster.
            layers += [nn.MaxPool2d(pool), nn.ELU(), nn.Dropout(0.1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.gru = nn.GRU(inputs, 32, num_layers=2, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.dense = nn.Linear(32, n_tags)
        missing = -window_frames % 96
        self.before, self.behind = missing // 2, missing - missing // 2
        early = [layer for time in TIME_POOLS[:2] for layer in ((3, 1, 1), (time, time, 0))]
        self.reach = None if missing else reach_of(early)

    def embed(self, frames: Tensor) -> Tensor:
        """Two blocks: (n, frames, width) to (n, frames / 6, 128 * rows)."""
        x = functional.pad(frames.transpose(1, 2), (self.before, self.behind))
        x = self.norm(x).unsqueeze(1)
        for i, layer in enumerate(self.layers):
            if i < 10:
                x = layer(x)
        columns: Tensor = x.flatten(1, 2).transpose(1, 2)
        return columns

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The other two blocks, the recurrence and the dense layer."""
        x = embeddings.transpose(1, 2)
        x = x.reshape(x.shape[0], 128, -1, x.shape[2])
        for i, layer in enumerate(self.layers):
            if i >= 10:
                x = layer(x)
        steps, _ = self.gru(x.squeeze(2).transpose(1, 2))  # (n, 128, frames / 96)
        out: Tensor = self.dense(self.dropout(steps[:, -1]))
        return out
