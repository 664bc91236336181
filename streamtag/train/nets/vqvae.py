"""VQ-VAE: an autoencoder whose code is an image of entries of a learned codebook.

Hung, Chen, Mayerl, Vötter, Zangerle, Yang, "MediaEval 2019 emotion and theme recognition task: A
VQ-VAE based approach", section 2, with details from the authors' code
(github.com/annahung31/moodtheme-tagging, after ritheshkumar95/pytorch-vqvae): 1024 codes, weight 1
of the commitment, the scaling of the input. The method is that of van den Oord et al. 2017.

Frames are ln(10000·mel + 1).

In the paper the dilation of every layer equals its padding, which is impossible for the fifth
(padding 0). The code has 1 there, as we do.

Deviates: see `deviates` of the recipes (`streamtag recipes taiwan-vqvae-2`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.errors import RecipeError
from streamtag.train.nets.net import Reach, reach_of, refusal

CHANNELS = 256
"""Channels of every layer, and values per code (section 2)."""
CODES = 1024
"""Number of codes in the codebook (authors' code)."""
DILATIONS = (2, 4, 8, 16)
"""Dilations in time of the first four convolutions (section 2)."""
TALL = {1: 5, 2: 8}
"""Height of the fifth kernel by type: of 8 rows it leaves 4 or 1 (section 2)."""
HIGHEST = 19.0114
"""The frame value that is scaled to REACH, as 0 is scaled to -REACH (authors' code)."""
REACH = 0.9
"""Largest absolute value of the scaled input (authors' code)."""


class VqvaeResidual(nn.Module):
    """ReLU, 3×3, normalisation, ReLU, 1×1, normalisation, and a skip connection.

    In the authors' code the first ReLU works in place, so the skip connection has its result too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 1),
            nn.BatchNorm2d(CHANNELS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, 256, rows, steps) to the same shape."""
        x = functional.relu(x)
        out: Tensor = x + self.block(x)
        return out


def encoder(kind: int) -> nn.Sequential:
    """(n, 1, width, window_frames) to (n, 256, rows, window_frames / 2)."""
    layers: list[nn.Module] = []
    for i, d in enumerate(DILATIONS):
        inputs = CHANNELS if i else 1
        conv = nn.Conv2d(inputs, CHANNELS, (4, 3), (2, 1), padding=(1, d), dilation=(1, d))
        layers += [conv, nn.BatchNorm2d(CHANNELS), nn.ReLU()]
    layers.append(nn.Conv2d(CHANNELS, CHANNELS, (TALL[kind], 4), (1, 2), padding=(0, 1)))
    return nn.Sequential(*layers, VqvaeResidual(), VqvaeResidual())


def encoder_reach() -> Reach:
    """Of the encoder, in frames."""
    dilated = [(2 * d + 1, 1, d) for d in DILATIONS]
    return reach_of([*dilated, (4, 2, 1), (3, 1, 1), (3, 1, 1)])


def decoder(kind: int) -> nn.Sequential:
    """(n, 256, rows, window_frames / 2) to (n, 1, width, window_frames)."""
    layers: list[nn.Module] = [VqvaeResidual(), VqvaeResidual(), nn.ReLU()]
    shapes = (
        ((TALL[kind] - 1, 4), (1, 2), (0, 1), CHANNELS),
        ((4, 3), (2, 1), (0, 1), CHANNELS),
        ((4, 3), (2, 1), (1, 1), CHANNELS),
        ((4, 3), (2, 1), (1, 1), CHANNELS),
        ((4, 3), (2, 1), (1, 1), 1),
    )
    for kernel, stride, padding, outputs in shapes:
        layers.append(nn.ConvTranspose2d(CHANNELS, outputs, kernel, stride, padding))
        if outputs > 1:
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Tanh())


class Codebook(nn.Module):
    """The codes that replace the output of the encoder, position by position."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.empty(CODES, CHANNELS).uniform_(-1 / CODES, 1 / CODES))

    def nearest(self, z: Tensor) -> Tensor:
        """The index of the nearest code (squared Euclidean distance), the first one of several.

        It works window by window and without differences of vectors, so that it needs 8 MB. It is
        computed in single precision even under autocast.

        Args:
            z: (n, 256, rows, steps).

        Returns:
            (n, rows, steps) int64 in [0, 1024).
        """
        codes = self.codes.detach()
        halves = 0.5 * (codes * codes).sum(dim=1)  # |z - e|² = |z|² + 2 (|e|² / 2 - z·e)
        rows = z.detach().float().flatten(2).transpose(1, 2)  # (n, positions, 256)
        scores = torch.empty(rows.shape[1], codes.shape[0], device=z.device)
        found: list[Tensor] = []
        for i in range(rows.shape[0]):
            torch.addmm(halves, rows[i], codes.t(), alpha=-1, out=scores)
            found.append(scores.argmin(dim=1))
        return torch.stack(found).reshape(z.shape[0], z.shape[2], z.shape[3])

    def forward(self, z: Tensor) -> Tensor:
        """(n, 256, rows, steps) to the codes in their place, which pass no gradient on to z."""
        return self.entries(self.nearest(z))

    def entries(self, indices: Tensor) -> Tensor:
        """(n, rows, steps) indices of codes to the codes, (n, 256, rows, steps)."""
        return functional.embedding(indices, self.codes).permute(0, 3, 1, 2)


def straight_through(z: Tensor, code: Tensor) -> Tensor:
    """The code, whose gradient goes to z unchanged and not to the codebook.

    Args:
        z: output of the encoder.
        code: of the same shape.
    """
    return code.detach() + (z - z.detach())


def codebook_loss(z: Tensor, code: Tensor, beta: float) -> Tensor:
    """Moves codes to the encodings and, times beta, encodings to the codes.

    Args:
        z: output of the encoder.
        code: of the same shape.
        beta: weight of the commitment (van den Oord et al. 2017, equation 3).
    """
    return functional.mse_loss(code, z.detach()) + beta * functional.mse_loss(z, code.detach())


class Vqvae(nn.Module):
    """(n, window_frames, width) frames to the same again, through a code.

    9,980,161 weights as type 1 (encoder 4,990,208, codebook 262,144, decoder 4,727,809), 11,553,025
    as type 2.

    Args:
        n_tags: not used; all nets have it.
        width: bands, a multiple of 16: 128 leave 4 rows of codes as type 1, 1 as type 2.
        window_frames: an even number, twice the steps of the code.
        kind: type 1 or 2 of the paper.
        beta: weight of the commitment in the loss.
        decoder: without one it only encodes; weights of a decoder are ignored when loading.

    Raises:
        RecipeError: the width, the window or the type cannot work.
    """

    def __init__(
        self,
        n_tags: int,
        *,
        width: int = 128,
        window_frames: int = 1024,
        kind: int = 1,
        beta: float = 1.0,
        decoder: bool = True,
    ) -> None:
        super().__init__()
        _check(width, window_frames, kind)
        self.beta, self.highest, self.reach = beta, HIGHEST, REACH  # TorchScript has no globals
        self.rows = width // 16 - TALL[kind] + 1
        self.steps = window_frames // 2
        self.encoder = encoder(kind)
        self.codebook = Codebook()
        self.decoder: nn.Sequential | None = _decoder(kind) if decoder else None
        self.apply(_initialise)

    def scaled(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) frames to (n, 1, width, window_frames) in ±0.9."""
        image = frames.transpose(1, 2).unsqueeze(1)
        return self.reach * (2 * image / self.highest - 1)

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The output of the encoder, and the codes that replace it.

        Args:
            frames: (n, window_frames, width).

        Returns:
            (n, 256, rows, steps) each.
        """
        z = self.encoder(self.scaled(frames))
        return z, self.codebook(z)

    def reconstruct(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) frames to what the decoder makes of their code."""
        if self.decoder is None:
            raise RuntimeError("this part of a tagger has no decoder")
        z, code = self.encode(frames)
        out: Tensor = self.decoder(straight_through(z, code))
        return (0.5 * self.highest * (out / self.reach + 1)).squeeze(1).transpose(1, 2)

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to the same shape."""
        return self.reconstruct(frames)

    def losses(
        self, frames: Tensor, targets: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Of the reconstruction, the codebook and the commitment (section 2).

        Args:
            frames: (n, window_frames, width).
            targets: not used.
            criterion: not used.
        """
        assert self.decoder is not None
        z, code = self.encode(frames)
        error = functional.mse_loss(self.decoder(straight_through(z, code)), self.scaled(frames))
        return error + codebook_loss(z, code, self.beta)

    @torch.jit.unused
    def logits(self, frames: Tensor) -> Tensor:
        """Not available: this net has no tags.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            "net 'vqvae': expected task = 'reconstruct', got a request for tags: it has no tags; "
            "use vqvae-gru or vqvae-cnn with this recipe as pretrained"
        )

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Loads weights; without a decoder, weights of one are ignored."""
        if self.decoder is None:
            state_dict = {k: v for k, v in state_dict.items() if not k.startswith("decoder.")}
        return super().load_state_dict(state_dict, strict, assign)


_decoder = decoder  # whose name is an argument above


def _check(width: int, window_frames: int, kind: int) -> None:
    """Refuses sizes that the layers do not fit."""
    if kind not in TALL:
        raise refusal("vqvae", "kind", "1 or 2", kind)
    lowest = 16 * TALL[kind]
    if width % 16 or width < lowest:
        expected = f"a multiple of 16, at least {lowest} as type {kind},"
        raise refusal("vqvae", "width", expected, width)
    if window_frames % 2 or window_frames < 2:
        raise refusal("vqvae", "window_frames", "an even number, at least 2,", window_frames)


def _initialise(module: nn.Module) -> None:
    """Glorot's uniform weights and no bias (authors' code)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
