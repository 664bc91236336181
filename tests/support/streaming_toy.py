"""Small streaming nets for the tests of the engine."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from streamtag.model.tagger import Tagger
from streamtag.train.nets.model import StreamingModel
from streamtag.train.nets.net import Reach, StreamingNet, reach_of
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


def streaming_tagger(folder: Path, context: int = 0, **changes: Any) -> Tagger:
    """A bundle of `Patches`, exported and loaded."""
    net = Patches(context).eval()
    return tagger(folder, StreamingModel(net, len(TAGS), FEATURES.width).eval(), **changes)
