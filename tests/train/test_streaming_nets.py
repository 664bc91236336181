"""What holds of every net that can stream: its trunk and its head, and the reach it names."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from support.toy import card, music
from support.trained_nets import with_trained_statistics
from torch import Tensor, nn

from streamtag.audio.block import Block
from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import frames_of
from streamtag.engine.engine import Engine
from streamtag.engine.events import WindowScored
from streamtag.model.optimise import fuse
from streamtag.model.tagger import Tagger
from streamtag.train.exporting.bundle import export
from streamtag.train.nets import NETS
from streamtag.train.nets.efficientat import StreamedEfficientAt
from streamtag.train.nets.model import StatefulModel, StreamingModel, model_of
from streamtag.train.nets.net import Reach, StatefulNet, StreamingNet
from streamtag.train.nets.vqvae_classifiers import CodeTagger

pytestmark = pytest.mark.usefixtures("one_thread", "loaded_once")

TAGS = 3
NEAR, EXACT = 1e-5, 1e-10
LOUD = 1e6


class Case(NamedTuple):
    """A small net."""

    net: str
    frames: int
    width: int
    options: Mapping[str, Any] = MappingProxyType({})
    scale: float = 20.0
    """Deviation of its frames."""

    def new(self) -> nn.Module:
        torch.manual_seed(1)
        return NETS[self.net](TAGS, width=self.width, window_frames=self.frames, **self.options)

    def windows(self, n: int, frames: int = 0, seed: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return self.scale * torch.randn(n, frames or self.frames, self.width, generator=generator)

    def trained(self) -> StreamingModel:
        net = with_trained_statistics(self.new(), self.windows(3))
        model = model_of(net, TAGS, self.width).eval()
        assert isinstance(model, StreamingModel)
        return model


STREAMING = (
    Case("vggish", 1290, 96),
    Case("fcn", 1290, 96),
    Case("crnn", 192, 96),
    Case("musicnn", 20, 16),
    Case("small", 48, 16),
    Case("innsbruck-crnn", 192, 96),
    Case("innsbruck-crnn", 192, 96, {"side": 22, "attention": True}),
    Case("vqvae-gru", 128, 80),
    Case("vqvae-cnn", 32, 80, {"back_end": "1d"}),
    Case("mobilenet", 560, 16),
    Case("mobilenet-attention", 512, 65),
    Case("samplecnn", 21_870, 1, {}, 0.3),
    Case("cp-resnet", 170, 24, {"rho": 7}, 1.0),
    Case("cp-resnet", 70, 48, {"channels": 2, "rho_time": 3}, 1.0),
    Case("fa-resnet", 70, 24, {}, 1.0),
    Case("shake-fa-resnet", 70, 24, {}, 1.0),
    Case("choi-crnn", 192, 96),
    Case("efficientat", 128, 40, {"segment_frames": 64}, 1.0),
    Case("efficientat-stream", 128, 40, {"segment_frames": 64, "scales": (64, 128)}, 1.0),
    Case(
        "efficientat-stream",
        128,
        40,
        {"segment_frames": 64, "stride_frames": 32, "attention": 2, "scales": (64, 128)},
        1.0,
    ),
    Case(
        "efficientat-stream",
        128,
        48,
        {"segment_frames": 64, "attention": 1, "families": 3, "scales": (64, 128)},
        1.0,
    ),
    Case("pons-musicnn", 140, 68, {}, 1.0),
)
STATEFUL = (
    Case("streaming", 48, 16),
    Case("streaming", 100, 32, {"deeper": 1, "scales": [16, 80]}),
)
WHOLE = (
    Case("popularity", 10, 16),
    Case("cnn2d", 64, 64),
    Case("bilstm", 24, 16),
    Case("innsbruck-crnn", 200, 96),
    Case("innsbruck-crnn", 192, 96, {"side": 22, "side_source": "own"}),
    Case("choi-crnn", 200, 96),
    Case("mobilenet-attention", 513, 65),
    Case("resnet34", 70, 24, {}, 1.0),
    Case("efficientat", 64, 40, {}, 1.0),
)

streaming = pytest.mark.parametrize("case", STREAMING, ids=lambda c: f"{c.net} {c.options or ''}")


def test_every_net_is_here() -> None:
    ours = {name for name, net in NETS.items() if net.__module__.startswith("streamtag.")}
    assert {case.net for case in (*STREAMING, *STATEFUL, *WHOLE)} == ours - {"vqvae"}


@pytest.mark.parametrize(
    "case", [*STREAMING, *STATEFUL], ids=lambda c: f"{c.net} {c.options or ''}"
)
def test_head_of_trunk_is_the_whole_window(case: Case) -> None:
    model, x = case.trained(), case.windows(3, seed=5)
    with torch.inference_mode():
        expected = model(x)
        assert (expected[0] - expected[-1]).abs().max() > NEAR
        for one in (model, torch.jit.script(model)):
            torch.testing.assert_close(one.head(one.trunk(x)), expected, rtol=0, atol=NEAR)


@pytest.mark.parametrize("case", STATEFUL, ids=lambda c: f"{c.net} {c.options or ''}")
def test_a_state_carries_on(case: Case) -> None:
    """Pieces give what the whole gives, in any company."""
    model, rng = case.trained(), np.random.default_rng(3)
    assert isinstance(model, StatefulModel)
    assert model.net.reach is not None
    stride, frames = model.net.reach.stride, case.windows(3, 320)
    with torch.inference_mode():
        expected = model.trunk(frames)
        for one in (model, torch.jit.script(model)):
            state, found, at = torch.zeros(3, model.net.state_size), [], 0
            while at < frames.shape[1]:
                end = at + stride * int(rng.integers(1, 5))
                values, state = one.advance(frames[:, at:end], state)
                found.append(values)
                at = end
            atol = NEAR * float(expected.abs().max())
            torch.testing.assert_close(torch.cat(found, dim=1), expected, rtol=0, atol=atol)
            assert state.abs().max() > 0


@pytest.mark.parametrize("case", STATEFUL, ids=lambda c: f"{c.net} {c.options or ''}")
def test_no_embedding_depends_on_later_frames(case: Case) -> None:
    net = positive(case.new())
    assert isinstance(net, StatefulNet)
    silent = torch.zeros(1, 10 * net.stride, case.width, dtype=torch.float64)
    loud = silent.clone()
    loud[:, 5 * net.stride] = LOUD
    with torch.inference_mode():
        differ = (net.embed(loud) != net.embed(silent)).any(dim=2)[0]
    assert differ.tolist() == [False] * 5 + [True] * 5


def around(reach: Reach) -> tuple[int, int]:
    """The strides of context before an embedding, and those needed after it."""
    after = max(reach.short, -(-reach.right // reach.stride))
    return -(-reach.left // reach.stride), after


@streaming
def test_an_embedding_alone_equals_that_inside_a_stream(case: Case) -> None:
    """In double precision: random weights amplify roundings, which depend on the processor. Codes
    are looked up in single precision."""
    double = not case.net.startswith("vqvae")
    model = case.trained().to(torch.float64 if double else torch.float32)
    reach = model.net.reach
    before, after = around(reach)
    k = before + 2
    frames = case.windows(1, (k + 1 + after + 2) * reach.stride).to(model.mean.dtype)
    first, end = (k - before) * reach.stride, (k + 1 + after) * reach.stride
    with torch.inference_mode():
        inside, alone = model.trunk(frames), model.trunk(frames[:, first:end])
    assert inside.shape[1] == frames.shape[1] // reach.stride - reach.short
    assert inside.shape[2] == alone.shape[2]
    expected = inside[:, k]
    atol = (EXACT if double else NEAR) * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(alone[:, before], expected, rtol=0, atol=atol)


def positive(net: nn.Module) -> nn.Module:
    """Nothing cancels: every layer takes means. The net has no batch statistics yet."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                module.weight.fill_(1 / module.weight[0].numel())
                if module.bias is not None:
                    module.bias.zero_()
    return net.double().eval()


def columns(net: StreamingNet, frames: Tensor) -> Tensor:
    """The embeddings; those of a codec before each becomes a code."""
    with torch.inference_mode():
        if isinstance(net, CodeTagger):
            z: Tensor = net.codec.encoder(net.codec.scaled(frames))
            return z.flatten(1, 2).transpose(1, 2)
        return net.embed(frames)


@streaming
def test_the_reach_is_exactly_what_an_embedding_depends_on(case: Case) -> None:
    """To a stride: only strides can be left out."""
    net = positive(case.new())
    assert isinstance(net, StreamingNet)
    assert net.reach is not None
    stride, left, right, _ = net.reach
    before, after = around(net.reach)
    k = before + 1
    first, end = k * stride - left, (k + 1) * stride + right
    silent = torch.zeros(1, (k + after + 3) * stride, case.width, dtype=torch.float64)
    expected = columns(net, silent)[0, k]

    def changed(begin: int, stop: int) -> bool:
        frames = silent.clone()
        frames[:, begin:stop] = LOUD
        return not torch.equal(columns(net, frames)[0, k], expected)

    assert not changed(0, first)
    assert not changed(end, silent.shape[1])
    assert changed(first, first + stride)
    assert changed(end - stride, end)


@pytest.mark.parametrize("case", WHOLE, ids=lambda c: f"{c.net} {c.frames} {c.options or ''}")
def test_nets_without_a_trunk_say_so(case: Case) -> None:
    model = model_of(case.new(), TAGS, case.width).eval()
    assert not isinstance(model, StreamingModel)
    assert model(case.windows(2)).shape == (2, TAGS)
    assert model(case.windows(2)).isfinite().all()


RATE = 8000
PLAYED = {
    "crnn": (24, 0.01),
    "mobilenet": (30, 0.03),
    "mobilenet-attention": (256, 1e-4),
    "samplecnn": (2187, 0.1),
    "cp-resnet": (16, 0.01),
    "vqvae-gru": (8, 0.01),
}
"""Frames of a hop, and the largest difference from whole windows on a steady tone."""


def test_a_reach_longer_than_the_window_makes_no_trunk(tmp_path: Path) -> None:
    tagger = bundle(tmp_path, Case("mobilenet", 70, 16), 30)
    assert tagger.card.trunk is None
    assert tagger(np.zeros((1, 70, 16), np.float32)).shape == (1, TAGS)


def bundle(folder: Path, case: Case, hop: int) -> Tagger:
    """The net, exported and loaded."""
    path = folder / f"{case.net}.pt"
    kind: dict[str, Any] = {"kind": "raw"} if case.width == 1 else {"n_mels": case.width}
    if case.width > 1:
        kind.update(n_fft=512, hop=80, f_max=4000)
    export(
        case.trained(),
        card(
            net=case.net, features=FeatureConfig(sample_rate=RATE, **kind),
            window_frames=case.frames, hop_frames=hop, first_frames=case.frames,
            tags=tuple("abc"),
        ),
        path,
    )  # fmt: skip
    return Tagger.load(path, "cpu")


def scores(tagger: Tagger, samples: np.ndarray, *, exact: bool) -> np.ndarray:
    """(n_windows, n_tags) probabilities of a stream."""
    engine = Engine({"x": tagger}, exact=exact, sizes=[1])
    events = engine.open("a", RATE)
    for i in range(0, len(samples), 800):
        events += engine.feed("a", Block(samples[i : i + 800], i, RATE)) + engine.step()
    return np.array([e.values for e in events if isinstance(e, WindowScored)])


@pytest.mark.parametrize("name", PLAYED)
def test_in_the_engine(tmp_path: Path, name: str) -> None:
    """Windows of a stream see their real neighbours, and on a steady tone that changes little."""
    case = next(one for one in STREAMING if one.net == name)
    hop, tolerance = PLAYED[name]
    tagger = bundle(tmp_path, case, hop)
    trunk = tagger.card.trunk
    assert trunk is not None
    step = 80 if case.width > 1 else 1
    n_samples = (case.frames + 6 * hop + 2 * trunk.stride) * step + 512
    samples = music(n_samples / RATE, seed=3)
    frames = frames_of(samples, tagger.card.features)
    streamed = 0
    for i, values in enumerate(scores(tagger, samples, exact=False)):
        strides = (-(-case.frames // hop) + i) * hop // trunk.stride
        if strides - trunk.short >= trunk.columns:
            streamed += 1
            every = tagger.trunk(frames[None, : strides * trunk.stride])[:, -trunk.columns :]
            expected = tagger.head(np.ascontiguousarray(every))[0]
            np.testing.assert_allclose(values, expected, atol=NEAR)
    assert streamed >= 4
    tone = sum(np.sin(2 * np.pi * f * np.arange(n_samples) / RATE) for f in (200, 900, 2500))
    steady = (0.1 * tone).astype(np.float32)
    found = [scores(tagger, steady, exact=exact) for exact in (False, True)]
    assert np.abs(found[0][3:] - found[1][3:]).max() <= tolerance


@pytest.mark.parametrize("families", [0, 3])
def test_its_parts_can_be_compiled_for_single_windows_and_batches(families: int) -> None:
    """With a second linear layer on the head, oneDNN's graph compiler damaged memory."""
    model = model_of(StreamedEfficientAt(5, width=48, families=families, attention=1), 5, 48).eval()
    scripted = torch.jit.script(model)
    for part in (Trunk(scripted), Head(scripted)):
        for n in (1, 2, 8):
            size = (n, 192, 48) if isinstance(part, Trunk) else (n, 5, 384 + families)
            example = torch.randn(size, generator=torch.Generator().manual_seed(n))
            made = fuse(torch.jit.script(part.eval()), example)
            with torch.inference_mode():
                torch.testing.assert_close(made(example), part(example), atol=1e-4, rtol=1e-4)


class Trunk(nn.Module):
    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model.trunk(x)
        return out


class Head(nn.Module):
    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model.head(x)
        return out
