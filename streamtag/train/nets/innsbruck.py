"""CRNN with attention, and with values beside the frames.

Mayerl, Vötter, Hung, Chen, Yang, Zangerle, "Recognizing song mood and theme using convolutional
recurrent neural networks", MediaEval 2019, section 2, and the authors' code
(github.com/dbis-uibk/MediaEval2019), where both differ: the head of the code, which made the
scores, is `head = "repo"`, that of the text `head = "paper"`. The net is that of Choi et al. 2017.

Frames are 20·log10(mel power), not scaled. Zeros are put before and behind them, as in the code.

Deviates: PyTorch's GRU has two biases where Keras' has one, exact sigmoids in its gates, and resets
after the product. The tempo, a 23rd value of the paper's text, is divided by 200.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.data.side import NAMES
from streamtag.train.nets.descriptors import OWN, Descriptors
from streamtag.train.nets.pooling import pooled, refusal

FROM_FILE = NAMES[:22]
"""The values that `side_source = "file"` takes, by their paths in AcousticBrainz' JSON."""
BLOCKS = ((64, (2, 2)), (128, (3, 3)), (128, (4, 4)), (128, (4, 4)))
"""Channels and (frequency, time) pooling per block (section 2)."""
STRIDE = 96
"""Frames per step of the recurrent layers, and bands that become 1."""
HIDDEN = 32
DENSE = 128
FASTEST = 200.0
"""Beats per minute that become 1."""


def needs(side_source: str) -> str:
    """What a bundle of this net needs on air, for its card.

    Args:
        side_source: "file", "own" or, without side values, empty.
    """
    if side_source == "file":
        return (
            "trained with 22 or 23 values per recording from AcousticBrainz' classifiers, which no "
            "live stream has: on air their means over the training set stand in for them, so it "
            "tags worse than its scores with them say"
        )
    if side_source == "own":
        return (
            "nothing but the stream: 22 descriptors of loudness, timbre and rhythm, computed from "
            "each window's own frames, take the place of the paper's high-level features"
        )
    return "nothing but the stream"


class Attention(nn.Module):
    """The mean of a sequence, weighted by what a dense layer of one output makes of each step."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, 1)

    def forward(self, steps: Tensor) -> Tensor:
        """(n, steps, size) to (n, size)."""
        weights = torch.softmax(self.dense(steps), dim=1)
        return (weights * steps).sum(dim=1)


class Last(nn.Module):
    """The last step of a sequence."""

    def forward(self, steps: Tensor) -> Tensor:
        """(n, steps, size) to (n, size)."""
        return steps[:, -1]


class RepoHead(nn.Module):
    """Tags from what was heard; with side values, tags from those tags and the values."""

    def __init__(self, n_tags: int, n_side: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.tags = nn.Linear(HIDDEN, n_tags)
        self.joint = nn.Sequential()
        if n_side:
            self.joint = nn.Sequential(
                nn.Linear(n_tags + n_side, DENSE), nn.Tanh(), nn.Linear(DENSE, n_tags)
            )
        self.n_side = n_side

    def forward(self, heard: Tensor, side: Tensor) -> Tensor:
        """(n, 32) and (n, n_side) to (n, n_tags) logits."""
        out: Tensor = self.tags(self.dropout(heard))
        if self.n_side > 0:
            out = self.joint(torch.cat([torch.sigmoid(out), side], dim=1))
        return out


class PaperHead(nn.Module):
    """Tags from what was heard and the side values together, if any."""

    def __init__(self, n_tags: int, n_side: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(HIDDEN + n_side, DENSE), nn.Tanh(), nn.Dropout(0.3), nn.Linear(DENSE, n_tags)
        )

    def forward(self, heard: Tensor, side: Tensor) -> Tensor:
        """(n, 32) and (n, n_side) to (n, n_tags) logits."""
        out: Tensor = self.layers(torch.cat([heard, side], dim=1))
        return out


def blocks() -> nn.Sequential:
    """(n, 1, width, frames) to (n, 128, width / 96, frames / 96)."""
    layers: list[nn.Module] = []
    inputs = 1
    for outputs, pool in BLOCKS:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ELU()]
        layers += [nn.MaxPool2d(pool), nn.Dropout(0.1)]
        inputs = outputs
    return nn.Sequential(*layers)


class InnsbruckCrnn(nn.Module):
    """(n, window_frames, width) frames to (n, n_tags) probabilities; 394,296 weights at 56 tags,
    411,632 with 22 side values, 33 more with attention.

    Args:
        n_tags: outputs.
        width: bands, at least 96.
        window_frames: any; zeros fill it up to a multiple of 96.
        attention: over the steps of the recurrent layers, instead of the last step.
        side: values beside the frames: 0, 22, or 23 with the tempo last.
        side_source: "file", of which training knows the values and `logits` their means alone, or
            "own": 22 descriptors of the frames themselves (`descriptors.OWN`).
        head: "repo" or "paper".

    Raises:
        RecipeError: a size or an option that cannot work.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 96,
        window_frames: int = 1366,
        attention: bool = False,
        side: int = 0,
        side_source: str = "file",
        head: str = "repo",
    ) -> None:
        super().__init__()
        _check(side, side_source, head)
        rows = pooled("innsbruck-crnn", "width", width, (pool[0] for _, pool in BLOCKS))
        missing = -window_frames % STRIDE
        self.before, self.behind = missing // 2, missing - missing // 2
        self.side, self.own = side, side > 0 and side_source == "own"
        self.blocks = blocks()
        self.gru = nn.GRU(BLOCKS[-1][0] * rows, HIDDEN, 2, batch_first=True)
        self.pick = Attention(HIDDEN) if attention else Last()
        self.head = RepoHead(n_tags, side) if head == "repo" else PaperHead(n_tags, side)
        self.descriptors = Descriptors()
        self.side_mean: Tensor
        self.side_unit: Tensor
        self.register_buffer("side_mean", torch.zeros(side))
        unit = torch.tensor([1.0] * min(side, 22) + [FASTEST] * (side - 22))
        self.register_buffer("side_unit", unit)

    def needs(self) -> str:
        """What a bundle needs on air, for its card."""
        return needs("" if self.side == 0 else "own" if self.own else "file")

    def count_side(self, side: Tensor) -> None:
        """Takes the means that stand in for the side values where there are none.

        Args:
            side: (n, n_side) of the training set.

        Raises:
            RecipeError: another number of values.
        """
        self._check_side(side)
        self.side_mean.copy_(side.mean(dim=0))

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags), with the net's own values or means beside."""
        if self.own:
            return self._joined(frames, self.descriptors(frames))
        return self._joined(frames, self.side_mean.expand(frames.shape[0], -1))

    def side_logits(self, frames: Tensor, side: Tensor) -> Tensor:
        """`logits` with values from a side file.

        Args:
            frames: (n, window_frames, width).
            side: (n, n_side), as the file has them.

        Raises:
            RecipeError: another number of values.
        """
        self._check_side(side)
        return self._joined(frames, side)

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags)."""
        return torch.sigmoid(self.logits(frames))

    def _joined(self, frames: Tensor, side: Tensor) -> Tensor:
        padded = functional.pad(frames, (0, 0, self.before, self.behind))
        x = self.blocks(padded.transpose(1, 2).unsqueeze(1))  # (n, 128, rows, steps)
        steps, _ = self.gru(x.flatten(1, 2).transpose(1, 2))
        out: Tensor = self.head(self.pick(steps), side / self.side_unit)
        return out

    def _check_side(self, side: Tensor) -> None:
        wanted = 0 if self.own else self.side
        if side.dim() != 2 or side.shape[1] != wanted:
            raise refusal(
                "innsbruck-crnn",
                "recordings.side",
                f"{wanted} values per recording, as net.side and net.side_source say,",
                tuple(side.shape)[1:],
            )


def _check(side: int, side_source: str, head: str) -> None:
    """Refuses options that do not exist or do not go together."""
    for key, value, known in (
        ("side", side, (0, 22, 23)),
        ("side_source", side_source, ("file", "own")),
        ("head", head, ("repo", "paper")),
    ):
        if value not in known:
            raise refusal("innsbruck-crnn", key, f"one of {', '.join(map(repr, known))}", value)
    if side_source == "own" and side not in (0, len(OWN)):
        raise refusal("innsbruck-crnn", "side", f"{len(OWN)} with side_source = 'own'", side)
