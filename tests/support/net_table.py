"""The nets' table: every variant, the windows it was published with, and its number of weights.

Weights are what PyTorch trains: batch statistics do not count.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from streamtag.train.nets import NETS


@dataclass(frozen=True)
class Row:
    """One variant of one net."""

    net: str
    shape: tuple[int, int]
    """Published frames and bands."""
    parameters: int
    small: tuple[int, int]
    """Frames and bands that tests can bear, if nets are narrow (`support.narrow_nets`)."""
    tags: int = 56
    part: str = ""
    """Whose weights these are; empty is the net."""
    options: dict[str, Any] = field(default_factory=dict)
    scale: tuple[float, float] = (20.0, -30.0)
    """Deviation and mean of frames like the net's own."""

    def __str__(self) -> str:
        options = [f"{key}={value}" for key, value in self.options.items()]
        return " ".join([self.net, *options, self.part]).strip()

    def new(self, *, small: bool = False, tags: int = 0) -> nn.Module:
        """The net, of its published size unless `small`."""
        size = {"window_frames": self.small[0], "width": self.small[1]} if small else {}
        return NETS[self.net](tags or self.tags, **size, **self.options)

    def windows(self, n: int, seed: int = 1) -> Tensor:
        """(n, frames, bands) of the small size, each louder than the one before."""
        generator = torch.Generator().manual_seed(seed)
        deviation, mean = self.scale
        x = torch.randn(n, *self.small, generator=generator)
        return deviation * (x + torch.linspace(-0.5, 0.5, n)[:, None, None]) + mean


LN = (3.0, 9.0)
"""ln(10000·mel + 1)."""
UNIT = (1.0, 0.0)


def vqvae(net: str, parameters: int, part: str, **options: Any) -> Row:
    """A row of the VQ-VAE or one of its taggers."""
    return Row(net, (1024, 128), parameters, (32, 128), part=part, options=options, scale=LN)


def innsbruck(parameters: int, **options: Any) -> Row:
    """A row of the CRNN with or without side values."""
    return Row("innsbruck-crnn", (1366, 96), parameters, (250, 96), options=options)


def cpjku(net: str, *parameters: int) -> list[Row]:
    """Rows of a ResNet at ρ = 4, 5, 6, 7."""
    return [
        Row(net, (861, 256), count, (64, 64), options={"rho": rho}, scale=UNIT)
        for rho, count in enumerate(parameters, 4)
    ]


TABLE = (
    Row("popularity", (1366, 96), 0, (10, 96)),
    Row("vggish", (1366, 96), 448_122, (1280, 96)),  # its published checkpoint has as many
    Row("musicnn", (188, 96), 784_300, (50, 96), tags=50),  # so do these three
    Row("fcn", (1813, 96), 447_732, (1280, 96), tags=50),
    Row("crnn", (1813, 96), 394_100, (250, 96), tags=50),
    Row("small", (128, 80), 287_544, (40, 80), tags=56, scale=(4.0, -8.0)),
    Row("streaming", (432, 80), 316_216, (48, 80), tags=56, scale=(4.0, -8.0)),
    vqvae("vqvae", 4_990_208, "encoder", kind=1),
    vqvae("vqvae", 262_144, "codebook", kind=1),
    vqvae("vqvae", 4_727_809, "decoder", kind=1),
    vqvae("vqvae", 9_980_161, "", kind=1),
    vqvae("vqvae", 5_776_640, "encoder", kind=2),
    vqvae("vqvae", 262_144, "codebook", kind=2),
    vqvae("vqvae", 5_514_241, "decoder", kind=2),
    vqvae("vqvae", 11_553_025, "", kind=2),
    vqvae("vqvae-gru", 6_714_168, "classifier", kind=1, head="repo"),
    vqvae("vqvae-gru", 5_534_520, "classifier", kind=2, head="repo"),
    vqvae("vqvae-gru", 3_181_624, "classifier", kind=1, head="paper"),
    vqvae("vqvae-gru", 2_001_976, "classifier", kind=2, head="paper"),
    vqvae("vqvae-gru", 6_714_168, "", kind=1, head="repo", frozen=True),
    vqvae("vqvae-cnn", 2_804_010, "classifier", kind=1, back_end="2d"),
    vqvae("vqvae-cnn", 3_040_372, "classifier", kind=1, back_end="1d"),
    vqvae("vqvae-cnn", 2_804_010, "", kind=1, back_end="2d", frozen=True),
    innsbruck(394_296),
    innsbruck(394_329, attention=True),
    innsbruck(411_632, side=22),
    innsbruck(411_665, side=22, attention=True),
    innsbruck(411_632, side=22, side_source="own"),
    innsbruck(403_896, head="paper"),
    innsbruck(403_929, head="paper", attention=True),
    innsbruck(406_712, head="paper", side=22),
    innsbruck(406_840, head="paper", side=23),
    innsbruck(406_873, head="paper", side=23, attention=True),
    Row("mobilenet", (6590, 96), 2_295_663, (64, 96)),
    # 11,274,895 in the authors' code, of which 1,281,000 are a classifier that is never called.
    Row("mobilenet-attention", (4096, 96), 11_274_895 - 1_281_000, (512, 96)),
    Row("samplecnn", (465_984, 1), 2_119_858, (19_683, 1), tags=50, scale=(0.3, 0.0)),
    Row("cnn2d", (261, 128), 361_970, (64, 64), tags=50),
    Row("bilstm", (227, 128), 1_023_300, (24, 128), tags=50),
    *cpjku("cp-resnet", 3_455_984, 3_587_056, 3_718_128, 3_980_272),
    *cpjku("fa-resnet", 3_468_272, 3_600_368, 3_732_464, 3_996_656),
    *cpjku("shake-fa-resnet", 6_738_928, 7_003_120, 7_267_312, 7_795_696),
    Row("resnet34", (861, 256), 21_307_128, (64, 64), scale=UNIT),
    Row("choi-crnn", (1366, 96), 394_488, (250, 96)),
    Row("efficientat", (1000, 128), 983_599, (64, 48), tags=527, scale=UNIT),  # as published
    Row(
        "efficientat-stream",
        (960, 128),
        1_094_263,
        (192, 48),
        tags=72,
        scale=UNIT,
        options={"scales": (192, 960)},
    ),
    Row("pons-musicnn", (187, 96), 787_159, (140, 70), tags=50, scale=(1.0, 2.0)),  # as published
)
ROWS = tuple(row for row in TABLE if row.net in NETS)
VARIANTS = tuple(
    row
    for row in ROWS
    if row.part in ("", "classifier")
    and row.options.get("rho", 5) == 5
    and not row.options.get("frozen")
)
"""One row for each that differs in more than a size or in what learns."""
