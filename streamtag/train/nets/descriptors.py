"""What a window of log-mel frames says about loudness, timbre and rhythm, in 22 numbers.

They stand in for values that no live stream has (see `innsbruck`). Each is computed from the
window's own frames inside the net, so they are on air what they were in training. Timbre is
measured over mel bands instead of FFT bins (centroid, spread, flatness, roll-off, flux and crest:
Peeters, "A large set of audio features for sound description", 2004, sections 6 and 11; share of
quiet frames: Tzanetakis and Cook 2002, section 2.1). Scales are ours: music lies roughly in
[-1, 1].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

OWN = (
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
"""In the order of `Descriptors`."""


class Descriptors(nn.Module):
    """(n, window_frames, width) frames of 20·log10(mel power) to (n, 22), see `OWN`."""

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, 22)."""
        db = 0.5 * frames  # MTG-Jamendo's values are twice the dB of a power
        power = torch.pow(10.0, 0.1 * db.clamp(-120.0, 120.0)) + 1e-12
        db = 10.0 * torch.log10(power)
        level = decibel(power.mean(dim=2))  # (n, t)
        parts = [loudness(level), timbre(power, db), rhythm(db), balance(power), modulation(level)]
        return torch.cat(parts, dim=1)


def decibel(power: Tensor) -> Tensor:
    """10·log10."""
    return 10.0 * torch.log10(power)


def deviation(x: Tensor) -> Tensor:
    """(n, t) to (n,), over time; a single frame has none."""
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
    heard = torch.maximum(db, peak - 80.0)
    before = torch.cat([heard[:, :1], heard[:, :-1]], dim=1)  # nothing rises in the first frame
    flux = functional.relu(heard - before).mean(dim=2)
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
    """(n, t) dB to (n, 3): how much the level moves within 0.1 s, 0.5 s and 2 s."""
    out: list[Tensor] = []
    before = level
    for size in (5, 23, 93):
        smooth = moving_mean(before, size)
        out.append(deviation(before - smooth) / 5.0)
        before = smooth
    return torch.stack(out, dim=1)


def moving_mean(x: Tensor, size: int) -> Tensor:
    """(n, t), each value the mean over `size` of them around it, fewer at the ends."""
    half = min(size // 2, (x.shape[1] - 1) // 2)
    pooled = functional.avg_pool1d(
        x.unsqueeze(1), 2 * half + 1, 1, padding=half, count_include_pad=False
    )
    return pooled.squeeze(1)
