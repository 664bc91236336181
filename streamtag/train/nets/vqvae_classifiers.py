"""Taggers on the codes of a VQ-VAE: recurrent and convolutional classifiers.

Hung, Chen, Mayerl, Vötter, Zangerle, Yang, "MediaEval 2019 emotion and theme recognition task: A
VQ-VAE based approach", section 2, and the authors' code (github.com/annahung31/moodtheme-tagging).
Where both differ, `head = "repo"` is the recurrent net of the code, which made the scores, and
`head = "paper"` the smaller one of the text.

The paper takes its CNN from a reference that its list lacks. `back_end = "2d"` is the only CNN of
the authors' code. `back_end = "1d"` is the residual back end of Pons et al., "End-to-end learning
for music audio tagging at scale", 2018, figure 3, halved: the other candidate.

Deviates: see `deviates` of the recipes (`streamtag recipes taiwan-run-3`).
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.nets.net import StreamingNet, refusal
from streamtag.train.nets.vqvae import (
    CHANNELS,
    Vqvae,
    codebook_loss,
    encoder_reach,
    straight_through,
)

HIDDEN = 256
"""Width of a recurrent layer in each direction."""
POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 3))
"""(steps, features) per block: 512×1024 becomes 5×1."""
BLOCKS = (64, 128, 256, 512, 256)
"""Channels per block."""
SMALLEST_STEPS = 96
"""Number of steps that `POOLS` reduce to 1."""
SMALLEST_FEATURES = 960
"""Number of features that `POOLS` reduce to 1."""


class DeepGru(nn.Module):
    """Two bidirectional GRUs of two layers and three dense layers, as in the authors' code.

    Args:
        n_tags: outputs.
        steps: length of the sequence, which the normalisation between the GRUs depends on.
        features: per step.
    """

    def __init__(self, n_tags: int, steps: int, features: int) -> None:
        super().__init__()
        both = 2 * HIDDEN
        self.first = nn.GRU(features, HIDDEN, 2, batch_first=True, dropout=0.3, bidirectional=True)
        self.norm_first = nn.LayerNorm((steps, both))
        self.last = nn.GRU(both, HIDDEN, 2, batch_first=True, dropout=0.3, bidirectional=True)
        self.norm_last = nn.LayerNorm((4, HIDDEN))
        self.dense = nn.Sequential(
            nn.Linear(4 * HIDDEN, 512), nn.Dropout(0.05), nn.ReLU(),
            nn.Linear(512, 256), nn.Dropout(0.05), nn.ReLU(),
            nn.Linear(256, n_tags),
        )  # fmt: skip

    def forward(self, sequence: Tensor) -> Tensor:
        """(n, steps, features) to (n, n_tags) logits."""
        hidden, _ = self.first(sequence)
        _, states = self.last(self.norm_first(hidden))  # (layers · directions, n, 256)
        out: Tensor = self.dense(self.norm_last(states.transpose(0, 1)).flatten(1))
        return out


class PlainGru(nn.Module):
    """Two bidirectional GRUs of one layer and one dense layer: our reading of section 2.

    Args:
        n_tags: outputs.
        features: per step.
    """

    def __init__(self, n_tags: int, features: int) -> None:
        super().__init__()
        both = 2 * HIDDEN
        self.first = nn.GRU(features, HIDDEN, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(both)
        self.last = nn.GRU(both, HIDDEN, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(both, n_tags)

    def forward(self, sequence: Tensor) -> Tensor:
        """(n, steps, features) to (n, n_tags) logits."""
        hidden, _ = self.first(sequence)
        _, states = self.last(self.norm(hidden))
        out: Tensor = self.dense(states.transpose(0, 1).flatten(1))
        return out


class ImageCnn(nn.Module):
    """3×3 convolutions over the image of codes, as in the authors' code.

    Args:
        n_tags: outputs.
        steps: at least 96.
        features: per step, at least 960.
    """

    def __init__(self, n_tags: int, steps: int, features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm2d(1)]
        inputs = 1
        for outputs, pool in zip(BLOCKS, POOLS, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
            layers += [nn.ELU(), nn.MaxPool2d(pool)]
            inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.5)
        left = (steps // SMALLEST_STEPS) * (features // SMALLEST_FEATURES)
        self.dense = nn.Linear(inputs * left, n_tags)
        self.norm = nn.BatchNorm1d(n_tags)

    def forward(self, sequence: Tensor) -> Tensor:
        """(n, steps, features) to (n, n_tags) logits."""
        x = self.blocks(sequence.unsqueeze(1))
        out: Tensor = self.norm(self.dense(self.dropout(x.flatten(1))))
        return out


class SequenceCnn(nn.Module):
    """Convolutions over time alone, two of them with a skip connection (Pons et al. 2018, figure
    3).

    Args:
        n_tags: outputs.
        features: per step.
    """

    def __init__(self, n_tags: int, features: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs, 256, 7, padding=3) for inputs in (features, 256, 256)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(256) for _ in range(3))
        self.dense = nn.Sequential(
            nn.Linear(512, 500), nn.BatchNorm1d(500), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(500, n_tags),
        )  # fmt: skip

    def forward(self, sequence: Tensor) -> Tensor:
        """(n, steps, features) to (n, n_tags) logits."""
        x = sequence.transpose(1, 2)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):  # noqa: B905  TorchScript
            hidden = functional.relu(norm(conv(x)))
            x = hidden if i == 0 else x + hidden
            if i == 1:
                x = functional.max_pool1d(x, 2)
        out: Tensor = self.dense(torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1))
        return out


class CodeTagger(StreamingNet):
    """A codec whose codes go to a classifier as a sequence.

    Args:
        codec: without a decoder.
        classifier: (n, steps, features) to (n, n_tags) logits.
        frozen: the codec does not change, batch statistics included, in training either.
    """

    def __init__(self, codec: Vqvae, classifier: nn.Module, *, frozen: bool) -> None:
        super().__init__()
        self.codec, self.classifier, self.frozen = codec, classifier, frozen
        self.codec.requires_grad_(not frozen)
        self.reach = encoder_reach()
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen codec stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.codec.eval()
        return self

    def sequence(self, codes: Tensor) -> Tensor:
        """(n, 256, rows, steps) to (n, steps, 256 · rows), channel by channel."""
        return codes.flatten(1, 2).transpose(1, 2)

    def embed(self, frames: Tensor) -> Tensor:
        """The codec: (n, frames, width) to the indices of the codes, (n, frames / 2, rows)."""
        found = self.codec.codebook.nearest(self.codec.encoder(self.codec.scaled(frames)))
        return found.transpose(1, 2).to(frames.dtype)  # exact: there are 1024 codes

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The classifier on the codes."""
        codes = self.codec.codebook.entries(embeddings.transpose(1, 2).long())
        out: Tensor = self.classifier(self.sequence(codes))
        return out

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags); the codec learns too, if it is not frozen."""
        z, code = self.codec.encode(frames)
        out: Tensor = self.classifier(self.sequence(straight_through(z, code)))
        return out

    def losses(
        self, frames: Tensor, targets: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """The loss of the tags, plus that of the codebook if the codec is not frozen (section
        3).

        Args:
            frames: (n, window_frames, width).
            targets: (n, n_tags).
            criterion: of logits and targets.
        """
        z, code = self.codec.encode(frames)
        loss = criterion(self.classifier(self.sequence(straight_through(z, code))), targets)
        return loss if self.frozen else loss + codebook_loss(z, code, 1.0)


class VqvaeGru(CodeTagger):
    """(n, window_frames, width) frames to (n, n_tags) probabilities; classifier of 6,714,168
    weights on type 1, 5,534,520 on type 2; 3,181,624 and 2,001,976 as in the paper's text.

    Args:
        n_tags: outputs.
        width: bands, a multiple of 16.
        window_frames: an even number.
        kind: type 1 or 2 of the codec.
        head: "repo" or "paper".
        frozen: only the classifier is trained.

    Raises:
        RecipeError: a size or an option cannot work.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 128,
        window_frames: int = 1024,
        kind: int = 1,
        head: str = "repo",
        frozen: bool = False,
    ) -> None:
        if head not in ("repo", "paper"):
            raise refusal("vqvae-gru", "head", "'repo' or 'paper'", head)
        codec = Vqvae(n_tags, width=width, window_frames=window_frames, kind=kind, decoder=False)
        features = CHANNELS * codec.rows
        classifier = (
            DeepGru(n_tags, codec.steps, features) if head == "repo" else PlainGru(n_tags, features)
        )
        super().__init__(codec, classifier, frozen=frozen)


class VqvaeCnn(CodeTagger):
    """(n, window_frames, width) frames to (n, n_tags) probabilities; classifier of 2,804,010
    weights, or 3,040,372 as "1d", both on type 1.

    Args:
        n_tags: outputs.
        width: bands, a multiple of 16.
        window_frames: an even number, at least 192 for "2d", 4 for "1d".
        kind: type 1 or 2 of the codec; the codes of 2 have too few rows for "2d".
        back_end: "2d" or "1d".
        frozen: only the classifier is trained.

    Raises:
        RecipeError: a size or an option cannot work.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 128,
        window_frames: int = 1024,
        kind: int = 1,
        back_end: str = "2d",
        frozen: bool = False,
    ) -> None:
        if back_end not in ("2d", "1d"):
            raise refusal("vqvae-cnn", "back_end", "'2d' or '1d'", back_end)
        smallest = 2 * SMALLEST_STEPS if back_end == "2d" else 4
        if window_frames < smallest:
            raise refusal("vqvae-cnn", "window_frames", f"at least {smallest}", window_frames)
        codec = Vqvae(n_tags, width=width, window_frames=window_frames, kind=kind, decoder=False)
        features = CHANNELS * codec.rows
        if back_end == "2d" and features < SMALLEST_FEATURES:
            lowest = -(-SMALLEST_FEATURES // CHANNELS)
            expected = f"'1d' where there are fewer than {lowest} rows of codes"
            got = f"2d with {codec.rows}"
            raise refusal("vqvae-cnn", "back_end", expected, got, "kind 1 has 4 of 128 bands")
        classifier = (
            ImageCnn(n_tags, codec.steps, features)
            if back_end == "2d"
            else SequenceCnn(n_tags, features)
        )
        super().__init__(codec, classifier, frozen=frozen)
