"""EfficientAT's MobileNetV3 of width 0.4, which tells AudioSet's 527 classes.

Schmid, Koutini and Widmer, "Efficient large-scale audio tagging via transformer-to-CNN knowledge
distillation", ICASSP 2023, section 3: MobileNetV3-Large (Howard et al. 2019, table 1) with
squeeze-excitation over channels and one input channel, distilled from transformers. The names of
the weights are those of the published checkpoint `mn04_as`. Frames are log-mel of 128 bands, about
within ±2.

Deviates: `segment_frames`, ours, lets it run over a stream. `StreamedEfficientAt` gives it a head
of our own, which pools the newest embeddings over several time scales, as `streaming` does.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from streamtag.train.nets.keras import EPSILON, MOMENTUM
from streamtag.train.nets.mobilenet import initialise
from streamtag.train.nets.net import (
    Reach,
    StreamingNet,
    check_at_least,
    past_windows,
    refusal,
    shortened,
)
from streamtag.train.nets.small import Small


class ResidualSize(NamedTuple):
    """One inverted residual."""

    kernel: int
    stride: int
    expanded: int
    outputs: int
    hardswish: bool
    """Or ReLU."""
    squeeze: int
    """Width of the squeeze-excitation; 0 is none."""


STEM = 8
"""Channels of the first convolution."""
STAGES = (
    ResidualSize(3, 1, 8, 8, False, 0),
    ResidualSize(3, 2, 24, 16, False, 0),
    ResidualSize(3, 1, 32, 16, False, 0),
    ResidualSize(5, 2, 32, 16, False, 8),
    ResidualSize(5, 1, 48, 16, False, 16),
    ResidualSize(5, 1, 48, 16, False, 16),
    ResidualSize(3, 2, 96, 32, True, 0),
    ResidualSize(3, 1, 80, 32, True, 0),
    ResidualSize(3, 1, 72, 32, True, 0),
    ResidualSize(3, 1, 72, 32, True, 0),
    ResidualSize(3, 1, 192, 48, True, 48),
    ResidualSize(3, 1, 272, 48, True, 72),
    ResidualSize(5, 2, 272, 64, True, 72),
    ResidualSize(5, 1, 384, 64, True, 96),
    ResidualSize(5, 1, 384, 64, True, 96),
)
"""MobileNetV3-Large (Howard et al. 2019, table 1) with 0.4 of its channels."""
FEATURES = 384
"""Channels at the end: the size of an embedding."""
HIDDEN = 512
"""Width between the two dense layers."""


class ConvNormAct(nn.Sequential):
    """A convolution that keeps the size but for its stride, batch normalisation, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        act: type[nn.Module] | None,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        norm = nn.BatchNorm2d(outputs, eps=EPSILON, momentum=MOMENTUM)
        super().__init__(conv, norm, *([act()] if act else []))


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor in (0, 1) that the means of all channels decide."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, squeeze)
        self.fc2 = nn.Linear(squeeze, channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, f, t) to the same shape."""
        scale = torch.sigmoid(self.fc2(self.relu(self.fc1(x.mean(dim=(2, 3))))))
        return x * scale[:, :, None, None]


class SqueezeLayers(nn.Module):
    """The place of squeeze-excitations in the published checkpoint, which could have several."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.Sequential(SqueezeExcitation(channels, squeeze))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, f, t) to the same shape."""
        out: Tensor = self.conc_se_layers(x)
        return out


class SqueezedResidual(nn.Module):
    """An inverted residual: expansion by 1×1, k×k per channel, squeeze-excitation, projection."""

    def __init__(self, inputs: int, stage: ResidualSize) -> None:
        super().__init__()
        act: type[nn.Module] = nn.Hardswish if stage.hardswish else nn.ReLU
        wide = stage.expanded
        layers: list[nn.Module] = []
        if wide != inputs:
            layers.append(ConvNormAct(inputs, wide, 1, act))
        layers.append(ConvNormAct(wide, wide, stage.kernel, act, stage.stride, groups=wide))
        if stage.squeeze:
            layers.append(SqueezeLayers(wide, stage.squeeze))
        layers.append(ConvNormAct(wide, stage.outputs, 1, None))
        self.block = nn.Sequential(*layers)
        self.skips = stage.stride == 1 and inputs == stage.outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, f, t) to (n, outputs, ⌈f / stride⌉, ⌈t / stride⌉)."""
        y: Tensor = self.block(x)
        return x + y if self.skips else y


class EfficientAt(StreamingNet):
    """(n, window_frames, width) frames, 10 s, to (n, n_tags); 983,599 weights at 527 tags.

    The answer is that of the mean of the embeddings of the window's segments. The published net
    has one segment, the whole window, and then no trunk: squeeze-excitation sees all of it.

    Args:
        n_tags: outputs.
        width: bands, any number.
        window_frames: any number.
        segment_frames: frames of a segment, a divisor of `window_frames`; 0 is the whole window.
        stride_frames: frames from one segment to the next, a divisor of `segment_frames`; 0 is the
            whole segment.

    Raises:
        RecipeError: segments do not fill the window.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 128,
        window_frames: int = 1000,
        segment_frames: int = 0,
        stride_frames: int = 0,
    ) -> None:
        super().__init__()
        check_at_least("efficientat", "width", width, 1)
        check_at_least("efficientat", "window_frames", window_frames, 1)
        if segment_frames < 0 or (segment_frames and window_frames % segment_frames):
            expected = f"0 or a divisor of window_frames = {window_frames}"
            raise refusal("efficientat", "segment_frames", expected, segment_frames)
        if stride_frames < 0 or (stride_frames and segment_frames % stride_frames):
            expected = f"0 or a divisor of segment_frames = {segment_frames}"
            raise refusal("efficientat", "stride_frames", expected, stride_frames)
        self.segment_frames = segment_frames or window_frames
        self.stride_frames = stride_frames or self.segment_frames
        later = self.segment_frames - self.stride_frames
        self.reach = (
            Reach(self.stride_frames, 0, later, later // self.stride_frames)
            if segment_frames
            else None
        )
        layers: list[nn.Module] = [ConvNormAct(1, STEM, 3, nn.Hardswish, stride=2)]
        channels = STEM
        for stage in STAGES:
            layers.append(SqueezedResidual(channels, stage))
            channels = stage.outputs
        layers.append(ConvNormAct(channels, FEATURES, 1, nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Identity(),  # pooling and flattening of the published net, which `embed` does
            nn.Identity(),
            nn.Linear(FEATURES, HIDDEN),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(HIDDEN, n_tags),
        )
        self.apply(initialise)

    def embed(self, frames: Tensor) -> Tensor:
        """(n, frames, width) to (n, segments, 384): each whole segment by itself."""
        x = self.features(self.segments(frames).unsqueeze(1)).mean(dim=(2, 3))
        embeddings: Tensor = x.reshape(frames.shape[0], -1, x.shape[1])
        return embeddings

    def segments(self, frames: Tensor) -> Tensor:
        """(n, frames, width) to (n * segments, width, segment_frames)."""
        if self.stride_frames == self.segment_frames:
            return frames.reshape(-1, self.segment_frames, frames.shape[2]).transpose(1, 2)
        segments = frames.unfold(1, self.segment_frames, self.stride_frames)
        return segments.reshape(-1, frames.shape[2], self.segment_frames)

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The mean over the embeddings of a window, and the dense layers."""
        out: Tensor = self.classifier(embeddings.mean(dim=1))
        return out


Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits and targets, (n, n_tags) each, to a loss."""
TAUGHT_WEIGHT = 0.3
"""Weight of the loss against the logits of the published net."""
TAUGHT_SCALE = 1.5
"""About the deviation of these logits over music."""


class AttentivePooling(nn.Module):
    """Means of embeddings, weighted by how much each is like the newest one.

    After a cut the newest embedding is like few others, so the past is forgotten. It is scaled
    dot-product attention with one query (Vaswani et al., "Attention is all you need", 2017, section
    3.2), with a learned weight per age instead of an encoding of positions. Values are the
    embeddings.

    Args:
        size: of an embedding.
        columns: embeddings of a window.
        heads: means.
        width: of a key.
    """

    def __init__(self, size: int, columns: int, heads: int, width: int = 48) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, heads * width)
        self.key = nn.Linear(size, heads * width)
        self.age = nn.Parameter(torch.zeros(heads, columns))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(n, columns, size) to the weights of each mean, (n, heads, columns)."""
        n, columns, _ = embeddings.shape
        x = self.norm(embeddings)
        query = self.query(x[:, columns - 1]).view(n, self.heads, 1, self.width)
        key = self.key(x).view(n, columns, self.heads, self.width).transpose(1, 2)
        alike = (query * key).sum(dim=3) / self.width**0.5 + self.age
        return torch.softmax(alike, dim=2)


class SegmentFamilies(nn.Module):
    """A small net that hears families of instruments in each segment: its logits.

    Args:
        families: outputs.
        width: bands, a multiple of 16.
        segment_frames: frames of a segment.
    """

    def __init__(self, families: int, width: int, segment_frames: int) -> None:
        super().__init__()
        self.net = Small(families, width=width, window_frames=segment_frames)

    def forward(self, segments: Tensor) -> Tensor:
        """(n, width, segment_frames) to (n, families)."""
        out: Tensor = self.net.logits_of(self.net.embed(segments.transpose(1, 2)))
        return out


class StreamedEfficientAt(StreamingNet):
    """(n, window_frames, width) frames to (n, n_tags): EfficientAT's trunk and a head of our own.

    The trunk gives an embedding per segment. The head takes the means of the newest embeddings at
    each scale, the maximum at the longest one, and attentive means, each through the published
    net's first dense layer.

    The trunk learned kinds of sound from videos, and tells little of the instruments of an
    arrangement. So a small net that learned them from mixtures may stand beside it: its logits are
    further values of each embedding, and the head takes their means beside those of the trunk's.

    It learns from windows, or from programmes longer than a window, which have targets for every
    embedding: (n, embeddings, targets). Targets may have further columns at their end: the
    published net's logits for the whole window. They keep what it knows beyond the tags, and are no
    output.

    Args:
        n_tags: outputs.
        width: bands, any number.
        window_frames: a multiple of `segment_frames`.
        segment_frames: frames of an embedding.
        stride_frames: frames from one embedding to the next; 0 is `segment_frames`.
        scales: frames that each pooling covers.
        attention: attentive means.
        families: outputs of the small net; 0 for none.
        taught: columns of the published net's logits at the end of the targets; its classes.

    Raises:
        RecipeError: segments do not fill the window.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 128,
        window_frames: int = 960,
        segment_frames: int = 192,
        stride_frames: int = 0,
        scales: Sequence[int] = (192, 384, 960),
        attention: int = 0,
        families: int = 0,
        taught: int = 527,
    ) -> None:
        super().__init__()
        self.base = EfficientAt(
            taught,
            width=width,
            window_frames=window_frames,
            segment_frames=segment_frames,
            stride_frames=stride_frames,
        )
        self.reach = self.base.reach
        stride = self.base.stride_frames
        self.columns = (window_frames - self.base.segment_frames) // stride + 1
        if not scales or min(scales) < 1:
            raise refusal("efficientat-stream", "scales", "numbers of frames", scales)
        if attention < 0:
            raise refusal("efficientat-stream", "attention", "0 or more", attention)
        if families < 0 or (families and width % 16):
            expected = "0, or a number and bands that 16 divides"
            raise refusal("efficientat-stream", "families", expected, families)
        later = self.base.segment_frames - stride
        self.scales = sorted({min(self.columns, max(1, (s - later) // stride)) for s in scales})
        self.taught, self.attention, self.families = taught, attention, families
        self.size = FEATURES
        self.dropout = nn.Dropout(0.2)
        pooling = AttentivePooling(FEATURES, self.columns, attention) if attention else None
        self.attend = pooling or nn.Identity()
        pooled = len(self.scales) + 1 + attention
        self.dense = nn.Linear(pooled * (HIDDEN + families), n_tags)
        nn.init.zeros_(self.dense.bias)
        self.beside: nn.Module = nn.Identity()
        if families:
            nn.init.zeros_(self.dense.weight[:, pooled * HIDDEN :])
            self.beside = SegmentFamilies(families, width, self.base.segment_frames)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast

    def embed(self, frames: Tensor) -> Tensor:
        """(n, frames, width) to (n, segments, 384 + families): each segment by itself."""
        out: Tensor = self.base.embed(frames)
        if self.families:
            told = self.beside(self.base.segments(frames)).detach()
            told = told.reshape(out.shape[0], out.shape[1], -1)
            # side by side: oneDNN's graph compiler (torch 2.13) fails with torch.cat here
            pad = nn.functional.pad
            out = pad(out, [0, self.families]) + pad(told, [self.size, 0])
        return out

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The pooled embeddings through the published dense layer, then ours."""
        weights = self.attend(embeddings[:, :, : self.size]) if self.attention else embeddings
        pooled = self._pooled(embeddings[:, :, : self.size], weights)
        hidden = [self.base.classifier[3](self.base.classifier[2](part)) for part in pooled]
        found = self.dropout(torch.cat(hidden, dim=1))
        if self.families:
            told = self._pooled(embeddings[:, :, self.size :], weights)
            found = torch.cat([found, torch.cat(told, dim=1)], dim=1)
        out: Tensor = self.dense(found)
        return out

    def _pooled(self, embeddings: Tensor, weights: Tensor) -> list[Tensor]:
        """Means at each scale, the maximum, and the means by (n, attention, columns) weights, of
        (n, columns, m): (n, m) each."""
        pooled = [embeddings[:, embeddings.shape[1] - s :].mean(dim=1) for s in self.scales]
        pooled.append(embeddings[:, embeddings.shape[1] - self.scales[-1] :].amax(dim=1))
        if self.attention:
            pooled.extend(torch.bmm(weights, embeddings).unbind(dim=1))
        return pooled

    def losses(self, frames: Tensor, targets: Tensor, criterion: Criterion) -> Tensor:
        """The loss of windows some of which are as short as at the beginning of a stream, of
        programmes, or of segments with families, from which the small net alone learns."""
        if self.families and targets.shape[2:] == (self.families,):
            return self._family_loss(frames, targets)
        embeddings = self.embed(frames)
        if targets.dim() == 3:
            whole = past_windows(embeddings, self.columns).flatten(0, 1)
            own, targets = whole, targets.flatten(0, 1)
        else:
            whole, own = embeddings, shortened(embeddings, 1)
        end = targets.shape[1] - self.taught
        if end < 1:  # targets of the tags alone
            return criterion(self.logits_of(own), targets)
        loss = criterion(self.logits_of(own), targets[:, :end])
        taught = targets[:, end:]
        known = ~torch.isnan(taught).any(dim=1)
        if bool(known.any()):
            said = self.base.logits_of(whole[known][:, :, : self.size])
            wrong = nn.functional.smooth_l1_loss(said / TAUGHT_SCALE, taught[known] / TAUGHT_SCALE)
            loss = loss + TAUGHT_WEIGHT * wrong
        return loss

    def _family_loss(self, segments: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy over the known families, (n, m, families), of (n, m * segment_frames,
        width) frames of m segments."""
        self.beside.train()
        own = segments.reshape(-1, self.base.segment_frames, segments.shape[2])
        logits = self.beside(own.transpose(1, 2)).view_as(targets)
        known = ~torch.isnan(targets)
        self.beside.eval()
        return nn.functional.binary_cross_entropy_with_logits(logits[known], targets[known])

    def train(self, mode: bool = True) -> Self:
        """The small net is only in training while it learns."""
        super().train(mode)
        self.beside.eval()
        return self

    def begin_dense(self, weight: Tensor, bias: Tensor) -> None:
        """Begins with combinations of the published net's classes: of an attentive mean, or at the
        longest scale.

        Args:
            weight: (n, taught) of each class in the first n outputs.
            bias: (n,).
        """
        last = cast(nn.Linear, self.base.classifier[5])
        part = len(self.scales) + 1 if self.attention else len(self.scales) - 1
        at, n = part * HIDDEN, len(weight)
        with torch.no_grad():
            self.dense.weight.zero_()
            self.dense.weight[:n, at : at + HIDDEN] = weight @ last.weight
            self.dense.bias[:n] = weight @ last.bias + bias

    def drop_training_parts(self) -> None:
        """Leaves out what only the training needs: the published classes."""
        self.base.classifier[5] = nn.Identity()
