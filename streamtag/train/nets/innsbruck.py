"""CRNN with attention, and with side values beside the frames.

Mayerl, Vötter, Hung, Chen, Yang, Zangerle, "Recognizing song mood and theme using convolutional
recurrent neural networks", MediaEval 2019, section 2, and the authors' code
(github.com/dbis-uibk/MediaEval2019). Where both differ, `head = "repo"` is the code, which made the
scores, and `head = "paper"` the text. The net is that of Choi et al. 2017.

Frames are 20·log10(mel power), not scaled. Zeros are padded at both ends, as in the code.
`Descriptors` replaces side values live: 22 numbers from the window's own frames. Timbre is measured
over mel bands instead of FFT bins (centroid, spread, flatness, roll-off, flux and crest: Peeters,
"A large set of audio features for sound description", 2004, sections 6 and 11; share of quiet
frames: Tzanetakis and Cook 2002, section 2.1). Scales are ours: music is roughly in [-1, 1].
Initial weights and batch normalisations are Keras'.

Deviates: see `deviates` of the recipes (`streamtag recipes innsbruck-run-1`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.train.data.side_values import NAMES
from streamtag.train.nets.keras import as_keras
from streamtag.train.nets.net import StreamingNet, pooled_size, reach_of, refusal

FROM_FILE = NAMES[:22]
"""The values that `side_source = "file"` uses, by their paths in AcousticBrainz' JSON."""
BLOCKS = ((64, (2, 2)), (128, (3, 3)), (128, (4, 4)), (128, (4, 4)))
"""Channels and (frequency, time) pooling per block (section 2)."""
STRIDE = 96
"""Frames per step of the recurrent layers; also the number of bands that become 1."""
HIDDEN = 32
DENSE = 128
FASTEST = 200.0
"""Beats per minute that are scaled to 1."""


def needs(side_source: str) -> str:
    """What a bundle of this net needs live, for its card.

    Args:
        side_source: "file", "own" or, without side values, empty.
    """
    if side_source == "file":
        return (
            "trained with 22 or 23 values per recording from AcousticBrainz' classifiers, which no "
            "live stream has: live, their means over the training set replace them, so it "
            "tags worse than its scores with them suggest"
        )
    if side_source == "own":
        return (
            "nothing but the stream: 22 descriptors of loudness, timbre and rhythm, computed from "
            "each window's own frames, replace the paper's high-level features"
        )
    return "nothing but the stream"


class Attention(nn.Module):
    """The mean of a sequence, weighted by a dense layer with one output per step."""

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
    """Tags from the hidden state; with side values, tags from those tags and the values."""

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

    def forward(self, hidden: Tensor, side: Tensor) -> Tensor:
        """(n, 32) and (n, n_side) to (n, n_tags) logits."""
        out: Tensor = self.tags(self.dropout(hidden))
        if self.n_side > 0:
            out = self.joint(torch.cat([torch.sigmoid(out), side], dim=1))
        return out


class PaperHead(nn.Module):
    """Tags from the hidden state and the side values, if any."""

    def __init__(self, n_tags: int, n_side: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(HIDDEN + n_side, DENSE), nn.Tanh(), nn.Dropout(0.3), nn.Linear(DENSE, n_tags)
        )

    def forward(self, hidden: Tensor, side: Tensor) -> Tensor:
        """(n, 32) and (n, n_side) to (n, n_tags) logits."""
        out: Tensor = self.layers(torch.cat([hidden, side], dim=1))
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


class InnsbruckCrnn(StreamingNet):
    """(n, window_frames, width) frames to (n, n_tags) probabilities; 394,296 weights at 56 tags,
    411,632 with 22 side values, 33 more with attention.

    It sees whole windows only if zeros fill them up, or if descriptors are made of their frames.

    Args:
        n_tags: outputs.
        width: bands, at least 96.
        window_frames: any; zeros fill it up to a multiple of 96.
        attention: over the steps of the recurrent layers, instead of the last step.
        side: values beside the frames: 0, 22, or 23 with the tempo last.
        side_source: "file", whose values are known in training only (`logits` uses their means),
            or "own": 22 descriptors of the frames themselves (`DESCRIPTOR_NAMES`).
        head: "repo" or "paper".

    Raises:
        RecipeError: a size or an option cannot work.
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
        rows = pooled_size("innsbruck-crnn", "width", width, (pool[0] for _, pool in BLOCKS))
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
        early = [layer for _, (_, time) in BLOCKS[:3] for layer in ((3, 1, 1), (time, time, 0))]
        self.reach = None if missing or self.own else reach_of(early)
        self.apply(as_keras)

    def needs(self) -> str:
        """What a bundle needs live, for its card."""
        return needs("" if self.side == 0 else "own" if self.own else "file")

    def count_side(self, side: Tensor) -> None:
        """Stores the means that replace side values live.

        Args:
            side: (n, n_side) of the training set.

        Raises:
            RecipeError: another number of values.
        """
        self._check_side(side)
        self.side_mean.copy_(side.mean(dim=0))

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags), with descriptors or means as side values."""
        if self.own:
            return self._joined(self.embed(frames), self.descriptors(frames))
        return self.logits_of(self.embed(frames))

    def embed(self, frames: Tensor) -> Tensor:
        """Three blocks, 99 % of the work: (n, frames, width) to (n, frames / 24, 128 * rows)."""
        padded = functional.pad(frames, (0, 0, self.before, self.behind))
        x = padded.transpose(1, 2).unsqueeze(1)
        for i, layer in enumerate(self.blocks):
            if i < 15:
                x = layer(x)
        columns: Tensor = x.flatten(1, 2).transpose(1, 2)
        return columns

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """The last block, the recurrence and the head, with means as side values."""
        return self._joined(embeddings, self.side_mean.expand(embeddings.shape[0], -1))

    def side_logits(self, frames: Tensor, side: Tensor) -> Tensor:
        """`logits` with values from a side file.

        Args:
            frames: (n, window_frames, width).
            side: (n, n_side), as the file has them.

        Raises:
            RecipeError: another number of values.
        """
        self._check_side(side)
        return self._joined(self.embed(frames), side)

    def _joined(self, embeddings: Tensor, side: Tensor) -> Tensor:
        x = embeddings.transpose(1, 2)
        x = x.reshape(x.shape[0], 128, -1, x.shape[2])
        for i, layer in enumerate(self.blocks):
            if i >= 15:
                x = layer(x)
        steps, _ = self.gru(x.flatten(1, 2).transpose(1, 2))
        out: Tensor = self.head(self.pick(steps), side / self.side_unit)
        return out

    def _check_side(self, side: Tensor) -> None:
        wanted = 0 if self.own else self.side
        if side.dim() != 2 or side.shape[1] != wanted:
            raise refusal(
                "innsbruck-crnn",
                "recordings.side",
                f"{wanted} values per recording, as net.side and net.side_source demand,",
                tuple(side.shape)[1:],
            )


def _check(side: int, side_source: str, head: str) -> None:
    """Refuses unknown options and combinations that do not work."""
    for key, value, known in (
        ("side", side, (0, 22, 23)),
        ("side_source", side_source, ("file", "own")),
        ("head", head, ("repo", "paper")),
    ):
        if value not in known:
            raise refusal("innsbruck-crnn", key, f"one of {', '.join(map(repr, known))}", value)
    if side_source == "own" and side not in (0, len(DESCRIPTOR_NAMES)):
        raise refusal(
            "innsbruck-crnn", "side", f"{len(DESCRIPTOR_NAMES)} with side_source = 'own'", side
        )


DESCRIPTOR_NAMES = (
    "level",                  # mean over time, (dB + 40) / 40
    "level deviation",        # over time, dB / 10
    "dynamic range",          # between the 10th and 95th percentile of frames, dB / 40
    "quiet frames",           # share below the window's mean power, over a slope of 3 dB
    "centroid",               # of the power over bands; 0 the lowest, 1 the highest band
    "centroid deviation",     # over time, times 4
    "spread",                 # around the centroid, times 4
    "flatness",               # geometric over arithmetic mean over bands, dB / 40; 0 is noise
    "roll-off",               # share of the bands that hold 85 % of the power
    "crest",                  # loudest band over the mean of bands, dB / 20
    "flux",                   # mean rise from frame to frame, dB / 5
    "flux deviation",         # over time, dB / 5
    "onsets",                 # share of frames that rise more than the mean and a deviation
    "low bands",              # this and the next four: power of a fifth of the bands over all,
    "low middle bands",       # dB / 20
    "middle bands",
    "high middle bands",
    "high bands",
    "balance",                # lower half of the bands over the upper half, dB / 40
    "fast modulation",        # of the level: deviation from its mean over 5 frames, dB / 5
    "medium modulation",      # of that from the mean over 23 frames
    "slow modulation",        # of that from the mean over 93 frames
)  # fmt: skip
"""The descriptors in the order of `Descriptors`."""


class Descriptors(nn.Module):
    """(n, window_frames, width) frames of 20·log10(mel power) to the 22 values of
    `DESCRIPTOR_NAMES`."""

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, 22)."""
        db = 0.5 * frames  # MTG-Jamendo's values are twice the dB of a power
        power = torch.pow(10.0, 0.1 * db.clamp(-120.0, 120.0)) + 1e-12
        db = 10.0 * torch.log10(power)
        level = decibel(power.mean(dim=2))  # (n, t)
        parts = [loudness(level), timbre(power, db), rhythm(db), balance(power), modulation(level)]
        return torch.cat(parts, dim=1)


def decibel(power: Tensor) -> Tensor:
    """10·log10 of a power."""
    return 10.0 * torch.log10(power)


def deviation(x: Tensor) -> Tensor:
    """(n, t) to (n,): standard deviation over time; 0 for a single frame."""
    return (x - x.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt()


def loudness(level: Tensor) -> Tensor:
    """(n, t) dB to (n, 4): level, its deviation, its range, quiet frames."""
    whole = decibel(torch.pow(10.0, 0.1 * level).mean(dim=1, keepdim=True))
    spread = torch.quantile(level, 0.95, dim=1) - torch.quantile(level, 0.10, dim=1)
    quiet = torch.sigmoid((whole - level) / 3.0).mean(dim=1)
    mean = (level.mean(dim=1) + 40.0) / 40.0
    return torch.stack([mean, deviation(level) / 10.0, spread / 40.0, quiet], dim=1)


def timbre(power: Tensor, db: Tensor) -> Tensor:
    """(n, t, bands) powers, and in dB, to (n, 6): centroid to crest."""
    bands = power.shape[2]
    place = torch.arange(bands, device=power.device) / max(1, bands - 1)  # of a band, in [0, 1]
    share = power / power.sum(dim=2, keepdim=True)
    centroid = (share * place).sum(dim=2)
    spread = (share * (place - centroid.unsqueeze(2)).square()).sum(dim=2).sqrt()
    mean = decibel(power.mean(dim=2))
    flatness = db.mean(dim=2) - mean
    rolloff = torch.sigmoid((0.85 - share.cumsum(dim=2)) / 0.02).mean(dim=2)
    crest = db.amax(dim=2) - mean
    return torch.stack([
        centroid.mean(dim=1), 4.0 * deviation(centroid), 4.0 * spread.mean(dim=1),
        flatness.mean(dim=1) / 40.0, rolloff.mean(dim=1), crest.mean(dim=1) / 20.0,
    ], dim=1)  # fmt: skip


def rhythm(db: Tensor) -> Tensor:
    """(n, t, bands) dB to (n, 3): flux, its deviation, onsets; rises below -80 dB do not count."""
    peak = db.amax(dim=2, keepdim=True).amax(dim=1, keepdim=True)
    limited = torch.maximum(db, peak - 80.0)
    before = torch.cat([limited[:, :1], limited[:, :-1]], dim=1)  # nothing rises in the first frame
    flux = functional.relu(limited - before).mean(dim=2)
    mean, scatter = flux.mean(dim=1), deviation(flux)
    over = (flux - (mean + scatter).unsqueeze(1) - 0.05) / (0.25 * scatter.unsqueeze(1) + 0.01)
    return torch.stack([mean / 5.0, scatter / 5.0, torch.sigmoid(over).mean(dim=1)], dim=1)


def balance(power: Tensor) -> Tensor:
    """(n, t, bands) powers to (n, 6): five fifths of the bands, low over high half."""
    bands = power.mean(dim=1)  # (n, bands)
    size = bands.shape[1]
    whole = decibel(bands.sum(dim=1))
    fifths = [
        decibel(bands[:, size * i // 5 : size * (i + 1) // 5].sum(dim=1)) - whole for i in range(5)
    ]
    low, high = bands[:, : size // 2].sum(dim=1), bands[:, size // 2 :].sum(dim=1)
    halves = (decibel(low) - decibel(high)) / 40.0
    return torch.cat([torch.stack(fifths, dim=1) / 20.0, halves.unsqueeze(1)], dim=1)


def modulation(level: Tensor) -> Tensor:
    """(n, t) dB to (n, 3): changes of the level within 0.1 s, 0.5 s and 2 s."""
    out: list[Tensor] = []
    before = level
    for size in (5, 23, 93):
        smooth = moving_mean(before, size)
        out.append(deviation(before - smooth) / 5.0)
        before = smooth
    return torch.stack(out, dim=1)


def moving_mean(x: Tensor, size: int) -> Tensor:
    """(n, t): mean over `size` values around each one, fewer at the ends."""
    half = min(size // 2, (x.shape[1] - 1) // 2)
    pooled = functional.avg_pool1d(
        x.unsqueeze(1), 2 * half + 1, 1, padding=half, count_include_pad=False
    )
    return pooled.squeeze(1)
