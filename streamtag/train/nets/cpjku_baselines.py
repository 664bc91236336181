"""ResNet-34 and Choi's CRNN, what the nets of `cpjku` were compared with.

Koutini et al., "Emotion and theme recognition in music with frequency-aware RF-regularized CNNs",
MediaEval 2019, submissions 5 and 4, of which no code is public. ResNet-34: He et al. 2016, table 1,
from scratch. CRNN: Choi et al., "Convolutional recurrent neural networks for music classification",
2017, figure 1 (d) and github.com/keunwoochoi/music-auto_tagging-keras.

Deviates: the GRU is PyTorch's, with two biases. The poolings for 256 bands are our reading.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.nets.cpjku import CpjkuStage, Residual, check_channels, picture
from streamtag.train.nets.pooling import check_at_least, refusal

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""(channels, blocks, stride of the first) (He et al. 2016, table 1)."""
CRNN_CHANNELS = (64, 128, 128, 128)
TIME_POOLS = (2, 3, 4, 4)
FREQ_POOLS = {96: (2, 3, 4, 4), 256: (4, 4, 4, 4)}
"""By the smallest number of bands of which they leave 1."""


class Resnet34(nn.Module):
    """(n, 288, 256) frames to (n, n_tags); 21,307,128 weights at 56 tags.

    With three channels and 1000 classes it has the 21,797,672 weights of ImageNet's.

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
        for outputs, count, stride in STAGES:
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
        x = self.stem(picture(frames, self.channels))
        x = self.blocks(self.pool(functional.relu(self.norm(x))))
        out: Tensor = self.dense(x.mean(dim=(2, 3)))
        return out

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags) probabilities."""
        return torch.sigmoid(self.logits(frames))


class ChoiCrnn(nn.Module):
    """(n, 1366, 96) frames, 29 s, to (n, n_tags); 394,488 weights at 56 tags.

    Four convolutions take the bands to one and the frames to a 96th, then two GRUs read what is
    left. Zeros on both sides fill the window up to a multiple of 96 frames, 1366 to 1440.

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
            # The pooling before the ELU, which keeps the order: the same, but quicker.
            layers += [nn.MaxPool2d(pool), nn.ELU(), nn.Dropout(0.1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.gru = nn.GRU(inputs, 32, num_layers=2, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.dense = nn.Linear(32, n_tags)

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags)."""
        missing = -frames.shape[1] % 96
        x = functional.pad(frames.transpose(1, 2), (missing // 2, missing - missing // 2))
        x = self.layers(self.norm(x).unsqueeze(1))  # (n, 128, 1, frames / 96)
        steps, _ = self.gru(x.squeeze(2).transpose(1, 2))
        out: Tensor = self.dense(self.dropout(steps[:, -1]))
        return out

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags) probabilities."""
        return torch.sigmoid(self.logits(frames))
