"""Small streaming nets for the tests of the engine."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from streamtag.model.tagger import Tagger
from streamtag.train.nets.model import model_of
from streamtag.train.nets.net import Reach, StatefulNet, StreamingNet, reach_of
from support.toy import FEATURES, TAGS, tagger


class Patches(StreamingNet):
    """Means of five frames, a mix of bands, and the mean over the window; no context."""

    def __init__(self, context: int = 0) -> None:
        super().__init__()
        torch.manual_seed(3)
        width = FEATURES.width
        self.conv = nn.Conv1d(width, 6, 2 * context + 1, padding=context)
        self.pool = nn.AvgPool1d(5)
        self.dense = nn.Linear(6, len(TAGS))
        nn.init.normal_(self.dense.weight, 0, 3.0)
        self.reach = reach_of([(2 * context + 1, 1, context), (5, 5, 0)])

    def embed(self, frames: Tensor) -> Tensor:
        x = self.pool(torch.tanh(self.conv(frames.transpose(1, 2) / 25.0)))
        columns: Tensor = x.transpose(1, 2)
        return columns

    def logits_of(self, embeddings: Tensor) -> Tensor:
        out: Tensor = self.dense(embeddings.mean(dim=1))
        return out


class Boastful(Patches):
    """Says that it needs less context than it does."""

    def __init__(self) -> None:
        super().__init__(context=7)
        self.reach = Reach(5, 0, 0, 0)


class Segments(Patches):
    """Embeddings of half a second each, whose channels are weighted by the means of the segment
    (squeeze-excitation, as in EfficientAT)."""

    def __init__(self) -> None:
        super().__init__()
        self.excite = nn.Linear(FEATURES.width, FEATURES.width)
        self.segment, self.reach = SEGMENT, Reach(SEGMENT, 0, 0, 0)

    def embed(self, frames: Tensor) -> Tensor:
        n, n_frames, width = frames.shape
        count = n_frames // self.segment
        parts = frames[:, : count * self.segment].reshape(n * count, self.segment, width) / 25.0
        weighted = parts * torch.sigmoid(self.excite(parts.mean(dim=1, keepdim=True)))
        means = torch.tanh(self.conv(weighted.transpose(1, 2))).mean(dim=2)
        return means.reshape(n, count, 6)


SEGMENT = 50


class Leaky(StatefulNet):
    """Means of five frames, mixed and added up with a leak: each depends on the whole past.

    Args:
        kept: part of the state that is returned; less than 1 is wrong.
    """

    def __init__(self, kept: float = 1.0) -> None:
        super().__init__()
        self.kept, patches = kept, Patches()
        self.conv, self.pool, self.dense = patches.conv, patches.pool, patches.dense
        self.remember(5, [(6, 1, 1)])

    def advance(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pool(torch.tanh(self.conv(frames.transpose(1, 2) / 25.0)))
        sums = self.pasts(state)[0].flatten(1)
        out: list[Tensor] = []
        for k in range(x.shape[2]):
            sums = 0.97 * sums + 0.06 * x[:, :, k]
            out.append(sums)
        return torch.stack(out, dim=1), sums * self.kept

    def logits_of(self, embeddings: Tensor) -> Tensor:
        out: Tensor = self.dense(embeddings.mean(dim=1))
        return out


def streaming_tagger(
    folder: Path, context: int = 0, net: StreamingNet | None = None, **changes: Any
) -> Tagger:
    """A bundle of a net, `Patches` if none is given, exported and loaded."""
    model = model_of((net or Patches(context)).eval(), len(TAGS), FEATURES.width)
    return tagger(folder, model.eval(), **changes)
