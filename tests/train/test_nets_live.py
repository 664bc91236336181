"""Every net: exported, loaded and streamed, it says what it says offline to the same windows."""

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from support.narrow_nets import narrow_nets
from support.toy import cut
from torch import nn

from streamtag.audio.block import Resampler
from streamtag.audio.feature_config import (
    FeatureConfig,
    FrameKind,
    Framing,
    Log,
    Order,
    Weighting,
)
from streamtag.audio.front_end import frames_of
from streamtag.engine.engine import Engine
from streamtag.engine.events import WindowScored
from streamtag.errors import RecipeError
from streamtag.model.card import Card, PastPadding
from streamtag.model.shipped import demo_piece
from streamtag.model.tagger import Tagger
from streamtag.train.data.corpora.jamendo import JAMENDO_MEL
from streamtag.train.exporting.bundle import export
from streamtag.train.importing.published import SOTA_MEL
from streamtag.train.nets import NETS
from streamtag.train.nets.model import Model

pytestmark = pytest.mark.usefixtures("one_thread", "loaded_once")

LIBROSA = FeatureConfig(
    sample_rate=22050, n_fft=2048, hop=512, n_mels=128, framing=Framing.CENTERED
)
DECIBEL = replace(LIBROSA, sample_rate=16000, log=Log.DB)
CP_JKU = FeatureConfig(
    sample_rate=44100,
    n_fft=2048,
    hop=512,
    n_mels=256,
    order=Order.LOG_MEL,
    weighting=Weighting.A,
    log=Log.DB,
    top_db=80.0,
    framing=Framing.CENTERED,
)
RAW = FeatureConfig(kind=FrameKind.RAW, sample_rate=16000)
BY_WIDTH = {
    1: RAW,
    80: FeatureConfig(n_fft=1024, hop=512, n_mels=80, log_floor=1e-30, log_offset=1e-6),
    96: JAMENDO_MEL,
    128: replace(LIBROSA, log=Log.LN1P),
    256: CP_JKU,
}
"""Front ends by how wide the nets' frames are; in the papers that says nearly all."""
BY_NET = {
    "fcn": SOTA_MEL,
    "musicnn": SOTA_MEL,
    "crnn": SOTA_MEL,
    "cnn2d": replace(DECIBEL, hop=1792),
    "bilstm": DECIBEL,
}
WINDOWS = (64, 96, 192, 256, 512, 1024)
"""Frames; the first of which a net's layers leave something is enough here."""
RAW_WINDOWS = (19_683, 59_049)
SAME = 1e-5
CONSTANT = {"popularity"}
"""Nets that say the same to everything."""
OPTIONS: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in NETS if name != "vqvae"]
OPTIONS += [
    (name, options)
    for name, options in (
        ("vqvae-gru", {"kind": 2, "head": "paper"}),
        ("vqvae-cnn", {"back_end": "1d"}),
        ("innsbruck-crnn", {"attention": True, "side": 22, "side_source": "own"}),
        ("innsbruck-crnn", {"side": 22, "side_source": "file"}),
        ("innsbruck-crnn", {"side": 23, "head": "paper"}),
        ("cp-resnet", {"rho_freq": 4, "rho_time": 7}),
    )
    if name in NETS
]


@pytest.fixture(scope="module")
def piece() -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(demo_piece(), dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples[5 * rate :].mean(1)), rate


@dataclass
class OnAir:
    """A net with the front end and the window that it gets here."""

    model: Model
    config: FeatureConfig
    window_frames: int

    @property
    def hop_frames(self) -> int:
        return max(1, self.window_frames // 3)


def new(name: str, options: dict[str, Any]) -> OnAir:
    """The net with the shortest of our windows that it takes, or else its published one."""
    defaults = inspect.signature(NETS[name]).parameters
    width = defaults["width"].default
    config = BY_NET.get(name, BY_WIDTH[width])
    assert config.width == width
    torch.manual_seed(1)
    for window in (*(RAW_WINDOWS if width == 1 else WINDOWS), defaults["window_frames"].default):
        try:
            net = NETS[name](5, width=width, window_frames=window, **options)
        except RecipeError:
            continue
        return OnAir(Model(net, 5, width), config, window)
    raise AssertionError(f"{name} takes none of our windows, nor its own")


def enliven(air: OnAir, windows: torch.Tensor) -> None:
    """Gives batch normalisations the statistics of real windows, and the rest some noise, so that
    answers depend on what is heard."""
    model = air.model
    if air.config == CP_JKU:  # the others scale what they hear themselves
        model.normalise(windows.mean((0, 1)), windows.std((0, 1)) + 1e-3)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weights in model.parameters():
            spread = 0.3 * float(weights.std()) if weights.numel() > 1 else 0.0
            weights += torch.randn(weights.shape, generator=generator) * (spread or 0.1)
        measure(model, windows)
        if hasattr(model.net, "codec"):  # codes are among what they stand for, as after training
            z = model.net.codec.encode(windows)[0].permute(0, 2, 3, 1).flatten(0, 2)
            codes = model.net.codec.codebook.codes
            codes.copy_(z[torch.randint(len(z), (len(codes),), generator=generator)])
            measure(model, windows)
    model.calibrate(torch.linspace(0.7, 1.5, 5))


def measure(model: Model, windows: torch.Tensor) -> None:
    """Batch statistics of the windows, forwards, backwards and upside down."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
    model.train()
    model.logits(torch.cat([windows, windows.flip(1), windows.flip(2)]))
    model.eval()


def ends_of(air: OnAir, n_frames: int) -> list[int]:
    """One past the last frame of every window that a stream of so many frames gets."""
    hop = air.hop_frames
    ends = list(range(-(-air.window_frames // hop) * hop, n_frames + 1, hop))
    return ends if ends[-1] == n_frames else [*ends, n_frames]


def on_air(air: OnAir, samples: np.ndarray, path: Path) -> list[WindowScored]:
    """What the engine says to a stream, from a bundle and in blocks of odd sizes."""
    card = Card(
        name="net",
        net="net",
        features=air.config,
        window_frames=air.window_frames,
        hop_frames=air.hop_frames,
        first_frames=air.window_frames,
        padding=PastPadding.SILENCE,
        tags=tuple("abcde"),
        on_thresholds=(0.5,) * 5,
        off_thresholds=(0.4,) * 5,
    )
    export(air.model, card, path)
    engine = Engine({"net": Tagger.load(path, "cpu")})
    events = engine.open("piece", air.config.sample_rate)
    for block in cut(samples, air.config.sample_rate, [4801, 1, 9973]):
        events += engine.feed("piece", block)
    events += engine.close("piece")
    return [event for event in events if isinstance(event, WindowScored)]


@pytest.mark.parametrize(
    ("name", "options"),
    OPTIONS,
    ids=lambda value: value if isinstance(value, str) else ",".join(map(str, value.values())),
)
def test_live_as_offline(
    name: str, options: dict[str, Any], piece: tuple[np.ndarray, int], tmp_path: Path
) -> None:
    with narrow_nets():
        air = new(name, options)
    rate = air.config.sample_rate
    n = air.config.span(0, air.window_frames + 2 * air.hop_frames)[1] + 777
    resampler = Resampler(piece[1], rate)
    samples = np.ascontiguousarray(resampler.push(piece[0])[:n])
    frames = frames_of(samples, air.config)
    ends = ends_of(air, len(frames))
    windows = torch.from_numpy(np.stack([frames[e - air.window_frames : e] for e in ends]))
    enliven(air, windows)
    with torch.inference_mode():
        offline = np.concatenate([air.model(window[None]).numpy() for window in windows])
    assert name in CONSTANT or np.ptp(offline, axis=0).max() > 20 * SAME
    live = on_air(air, samples, tmp_path / "net.pt")
    assert len(live) == len(ends) >= 3
    assert not any(event.provisional for event in live)
    got = np.array([event.values for event in live])
    np.testing.assert_allclose(got, offline, rtol=0, atol=SAME)
