"""A bundle with its own front end: one TorchScript module from raw audio to probabilities.

For use outside the daemon, where neither streamtag nor torchaudio is: `torch.jit.load` is enough.

    tagger = torch.jit.load("tagger.pt")
    probabilities = tagger(samples)            # (batch, n) float32 at tagger.rate Hz
    tagger.tags                                # names of the last axis; see `outputs` too
    tagger.seconds(samples.shape[1])           # (n_windows, 2): from when to when
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from streamtag.audio.block import Block, Resampler
from streamtag.engine.offline import tag_blocks
from streamtag.errors import BundleError
from streamtag.model.bundle import (
    golden_signal,
    golden_window,
    read_card,
    save_script,
    silence_frame,
)
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger, flush_denormal_weights, read_module
from streamtag.model.threads import one_thread
from streamtag.train.exporting.bundle import script
from streamtag.train.exporting.spectra import FrontEndModule, ResampleModule

CARD = "audio_card.json"
"""Member of the file with the card. It is not a bundle's `card.json`: the daemon has its own front
end and refuses a file that does not take frames."""
TOLERANCE = 1e-3
"""Largest difference in probability from the daemon's."""


class AudioTagger(nn.Module):
    """(batch, n) samples to (batch, n_windows, n_outputs) probabilities, and dimensions if any.

    The windows are those that the daemon tags: one every hop, the first ones padded, the last one
    at the end.

    Args:
        model: a bundle's, (n, window_frames, width) to (n, n_outputs).
        card: the bundle's.
        rate: Hz of the samples.
    """

    def __init__(self, model: nn.Module, card: Card, rate: int) -> None:
        super().__init__()
        self.rate, self.model_rate = rate, card.features.sample_rate
        self.tags, self.outputs = list(card.tags), list(card.outputs)
        same = rate == self.model_rate
        self.resampled = nn.Identity() if same else ResampleModule(rate, self.model_rate)
        self.frames = FrontEndModule(card.features)
        self.model = model
        self.window, self.hop = card.window_frames, card.hop_frames
        self.first_end = -(-card.first_frames // card.hop_frames) * card.hop_frames
        self.padding = str(card.padding)
        self.silence: Tensor
        self.register_buffer("silence", torch.from_numpy(silence_frame(card.features)))
        self.frame_hop, self.delay = card.features.frame_hop, card.features.delay
        self.frame_size = card.features.span(0, 1)[1] + self.delay

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, n) float to (batch, n_windows, n_outputs); NaN and infinity count as 0."""
        if samples.dim() != 2 or not samples.is_floating_point():
            raise ValueError(
                f"samples: expected floats within -1 to 1 of shape (batch, n), got {samples.shape}"
            )
        finite = torch.nan_to_num(samples.float(), 0.0, 0.0, 0.0)
        frames: Tensor = self.frames(self.resampled(finite))
        scores: list[Tensor] = []
        for end in self.ends(frames.shape[1]):
            scores.append(self.model(self.row(frames, end)))
        if len(scores) == 0:
            return frames.new_zeros((frames.shape[0], 0, len(self.outputs)))
        return torch.stack(scores, dim=1)

    @torch.jit.export
    def seconds(self, n_samples: int) -> Tensor:
        """Begin and end of each window of `n_samples` samples, (n_windows, 2) in seconds."""
        n = (2 * n_samples * self.model_rate + self.rate) // (2 * self.rate)
        n_frames = self.frames.n_frames(n)
        spans: list[int] = []  # first and last samples at the model's rate
        for end in self.ends(n_frames):
            start = max(end - self.window, 0) * self.frame_hop - self.delay
            stop = (end - 1) * self.frame_hop - self.delay + self.frame_size
            spans += [max(start, 0), stop]
        seconds = torch.tensor(spans).double().reshape(-1, 2) / self.model_rate
        return seconds.clamp(max=n_samples / self.rate)

    def ends(self, n_frames: int) -> list[int]:
        """One past the last frame of each window, as the engine has them."""
        ends: list[int] = []
        for end in range(self.first_end, n_frames + 1, self.hop):
            ends.append(end)
        if n_frames > 0 and (len(ends) == 0 or ends[-1] < n_frames):
            ends.append(n_frames)
        return ends

    def row(self, frames: Tensor, end: int) -> Tensor:
        """The window that ends before frame `end`, (batch, window, width), padded as in the
        engine."""
        known = frames[:, max(end - self.window, 0) : end]
        count = known.shape[1]
        missing = self.window - count
        if missing == 0:
            return known
        shape = [known.shape[0], missing, known.shape[2]]
        if self.padding == "silence":
            past = self.silence.expand(shape)
        elif self.padding == "minimum":
            past = known.amin(dim=[1, 2], keepdim=True).expand(shape)
        elif self.padding == "wrap":
            past = known.index_select(1, torch.arange(-missing, 0, device=known.device) % count)
        else:
            past = known.new_zeros(shape)
        return torch.cat([past, known], dim=1)


@one_thread()
def with_front_end(bundle: Path, out: Path, *, rate: int | None = None) -> None:
    """Writes a bundle's model with its front end inside, and checks that both give the same.

    No file is left behind if they do not.

    Args:
        bundle: the file that the daemon would load.
        out: the TorchScript file to write.
        rate: Hz of the audio that it will take; None means the model's own.

    Raises:
        BundleError: the bundle cannot be read, the rate is invalid, the module differs from
            the daemon, or the file cannot be written.
    """
    tagger = Tagger.load(bundle, "cpu")
    card = read_card(bundle)
    wanted = card.features.sample_rate if rate is None else rate
    if wanted < 1:
        raise BundleError(f"{bundle}: rate: expected at least 1 Hz, got {wanted} Hz")
    if out.exists() and out.resolve() == bundle.resolve():
        raise BundleError(f"{out}: expected another file than the bundle, got the same")
    model = read_module(bundle, torch.device("cpu"))
    flush_denormal_weights(model)
    module = AudioTagger(model, card, wanted).eval()
    scripted = script(module, f"{bundle}: with its front end, it")
    about = card.to_dict() | {"rate": wanted, "bundle": bundle.name, "sha256": tagger.checksum}
    trial = out.with_name(f"{out.name}.trial")
    try:
        save_script(trial, scripted, {CARD: about})
        # It has just been written here, and it is no bundle.
        written = torch.jit.load(str(trial), map_location="cpu")  # type: ignore[no-untyped-call]
        _compare(written, tagger, wanted, out)
        trial.replace(out)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter
        raise BundleError(f"{out}: expected a place to write to, got: {error}") from error
    finally:
        with suppress(OSError):
            trial.unlink()


def _compare(module: torch.jit.ScriptModule, tagger: Tagger, rate: int, out: Path) -> None:
    """Checks a module against the daemon, for a full window and for the beginning of a stream."""
    card = tagger.card
    config = card.features
    with torch.inference_mode():
        window = golden_window(card)
        own_rate = config.sample_rate
        signal = golden_signal(own_rate, config.span(0, card.window_frames)[1] / own_rate + 0.5)
        frames = module.frames(torch.from_numpy(signal)[None])[:, : card.window_frames]
        _check_equal(module.model(frames).numpy(), tagger.outputs(window), "a full window", out)
        frames_end = config.span(0, card.first_frames + 2 * card.hop_frames)[1]
        samples = _signal(own_rate, rate, frames_end / own_rate)
        rows = tag_blocks([Block(samples, 0, rate)], rate, {"daemon": tagger})["daemon"].scores
        scores = module(torch.from_numpy(samples)[None])[0].numpy()
        expected = np.array([(*row.values, *row.dimensions) for row in rows])
        _check_equal(scores, expected, "a beginning", out)


def _signal(own_rate: int, rate: int, seconds: float) -> np.ndarray:
    """The golden signal, (n,) at `rate`, limited to what the model's rate can represent.

    What resampling leaves of the rest, 120 dB down, is rounding, which differs between programs.
    """
    samples = golden_signal(min(rate, own_rate), seconds)
    if rate <= own_rate:
        return samples
    resampler = Resampler(own_rate, rate)
    return np.concatenate([resampler.push(samples), resampler.close()])


def _check_equal(got: np.ndarray, expected: np.ndarray, what: str, out: Path) -> None:
    if got.shape != expected.shape:
        raise BundleError(
            f"{out}: expected the daemon's {len(expected)} windows of {what}, got {len(got)}"
        )
    difference = float(np.abs(got - expected).max())
    if not difference <= TOLERANCE:
        raise BundleError(
            f"{out}: with its front end, the model differs from the daemon: {what} "
            f"differs by {difference:.2g}, expected at most {TOLERANCE:g}; it is too sensitive to "
            "rounding to run outside the daemon"
        )
