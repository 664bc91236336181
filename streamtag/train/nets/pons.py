"""musicnn as its authors publish it.

Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging",
LBD-ISMIR 2019, with details from their package (github.com/jordipons/musicnn, models.py, the net
that the package names MSD_musicnn). The net of `fcn_musicnn_crnn` is another one, which Won et al.
trained anew: here batch normalisation follows the ReLU, every filter ends in the maximum over the
bands, and the filters along time see each band by itself. Frames are log10(10000·mel power + 1).

Deviates: filters that training has shrunk to nothing can be left out (`without_dead_filters`).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.nets.keras import EPSILON, MOMENTUM, as_keras
from streamtag.train.nets.net import Reach, StreamingNet, check_at_least, refusal

TALL, LOW = 67, 38
"""Bands that the two kinds of timbre filters see, of 96."""
TIMBRE_FRAMES = 7
LENGTHS = (128, 64, 32)
"""Frames that the filters along time see."""
FILTERS = (204, 204, 51, 51, 51)
"""Filters per block: low and tall timbre, then along time, longest first."""
CHANNELS = sum(FILTERS)
MIDDLE = 64
"""Channels of each layer in the middle."""
HIDDEN = 200
"""Width between the two dense layers."""


class BandMaximum(nn.Module):
    """Convolution, ReLU, batch normalisation, maximum over the bands."""

    def __init__(self, outputs: int, bands: int, frames: int) -> None:
        super().__init__()
        before = (frames - 1) // 2
        self.pad = nn.ZeroPad2d((before, frames - 1 - before, 0, 0))
        self.conv = nn.Conv2d(1, outputs, (bands, frames))
        self.relu = nn.ReLU()
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, bands, frames) to (n, outputs, frames)."""
        x = self.bn(self.relu(self.conv(self.pad(x))))
        return torch.amax(x, dim=2)


class MiddleConv(nn.Module):
    """1-D convolution over time, ReLU, batch normalisation."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, MIDDLE, 7, padding=3)
        self.relu = nn.ReLU()
        self.bn = nn.BatchNorm1d(MIDDLE, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, frames) to (n, 64, frames)."""
        out: Tensor = self.bn(self.relu(self.conv(x)))
        return out


class PonsMusicnn(StreamingNet):
    """(n, window_frames, width) frames, 3 s, to (n, n_tags); 787,159 weights at 50 tags.

    Args:
        n_tags: outputs.
        width: bands, at least 67.
        window_frames: any.
        filters: how many filters of each block are computed; the others have a constant answer.

    Raises:
        RecipeError: fewer bands, or other numbers of filters than the blocks have.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 96,
        window_frames: int = 187,
        filters: Sequence[int] = FILTERS,
    ) -> None:
        super().__init__()
        check_at_least("pons-musicnn", "width", width, TALL)
        check_at_least("pons-musicnn", "window_frames", window_frames, 1)
        within = all(0 < count <= most for count, most in zip(filters, FILTERS, strict=False))
        if len(filters) != len(FILTERS) or not within:
            raise refusal("pons-musicnn", "filters", f"five up to {FILTERS}", tuple(filters))
        low, tall, *along = filters
        self.input_bn = nn.BatchNorm2d(1, eps=EPSILON, momentum=MOMENTUM)
        self.front = nn.ModuleList(
            [BandMaximum(low, LOW, TIMBRE_FRAMES), BandMaximum(tall, TALL, TIMBRE_FRAMES)]
            + [BandMaximum(count, 1, frames) for count, frames in zip(along, LENGTHS, strict=True)]
        )
        self.places: Tensor
        self.constants: Tensor
        self.register_buffer("places", torch.arange(sum(filters)), persistent=False)
        self.register_buffer("constants", torch.zeros(CHANNELS), persistent=False)
        self.middle = nn.ModuleList([MiddleConv(CHANNELS), MiddleConv(MIDDLE), MiddleConv(MIDDLE)])
        pooled = 2 * (CHANNELS + 3 * MIDDLE)
        self.pool_bn = nn.BatchNorm1d(pooled, eps=EPSILON, momentum=MOMENTUM)
        self.dropout = nn.Dropout(0.5)
        self.dense_1 = nn.Linear(pooled, HIDDEN)
        self.relu = nn.ReLU()
        self.dense_1_bn = nn.BatchNorm1d(HIDDEN, eps=EPSILON, momentum=MOMENTUM)
        self.dense_2 = nn.Linear(HIDDEN, n_tags)
        self.apply(as_keras)
        self.reach = Reach(1, (LENGTHS[0] - 1) // 2, LENGTHS[0] // 2, 0)

    def embed(self, frames: Tensor) -> Tensor:
        """All filters that are computed: (n, frames, width) to (n, frames, filters)."""
        x = self.input_bn(frames.transpose(1, 2).unsqueeze(1))
        return torch.cat([block(x) for block in self.front], dim=1).transpose(1, 2)

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The middle and the dense layers."""
        n, frames = embeddings.shape[0], embeddings.shape[1]
        front = self.constants[None, :, None].repeat(n, 1, frames)
        front = torch.index_copy(front, 1, self.places, embeddings.transpose(1, 2))
        every, x = [front], front
        for i, layer in enumerate(self.middle):
            x = layer(x) if i == 0 else layer(x) + x
            every.append(x)
        z = torch.cat(every, dim=1)  # (n, 753, frames)
        pooled = torch.stack([torch.amax(z, dim=2), z.mean(dim=2)], dim=2).flatten(1)
        hidden = self.dense_1_bn(self.relu(self.dense_1(self.dropout(self.pool_bn(pooled)))))
        out: Tensor = self.dense_2(self.dropout(hidden))
        return out

    @torch.jit.unused
    @torch.no_grad()
    def without_dead_filters(self, largest: float = 1e-6) -> "PonsMusicnn":
        """The same net for evaluation without the filters whose weights are all within ±largest.

        Their answer is what batch normalisation makes of their bias. Of the published weights one
        filter in nine is left, and no probability moves by more than 1e-6.
        """
        front = [cast(BandMaximum, block) for block in self.front]
        live = [block.conv.weight.abs().amax(dim=(1, 2, 3)) > largest for block in front]
        for which in live:
            which[0] |= not which.any()  # at least one filter per block
        kept = PonsMusicnn(self.dense_2.out_features, filters=[int(w.sum()) for w in live])
        state = self.state_dict()
        for i, (block, which) in enumerate(zip(front, live, strict=True)):
            for name in block.state_dict():
                if not name.endswith("num_batches_tracked"):
                    state[f"front.{i}.{name}"] = state[f"front.{i}.{name}"][which]
        kept.load_state_dict(state)
        kept.places = torch.nonzero(torch.cat(live))[:, 0]
        kept.constants = torch.cat([_answers_to_silence(block) for block in front])
        return kept.train(self.training)


def _answers_to_silence(block: BandMaximum) -> Tensor:
    """(filters,): what batch normalisation makes of each filter's bias."""
    bn, bias = block.bn, cast(Tensor, block.conv.bias)
    rows = functional.relu(bias)[None]
    return functional.batch_norm(
        rows, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps
    )[0]
