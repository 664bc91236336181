"""The CRNN of the Innsbruck team, and what stands beside its frames."""

from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.model.shipped import demo_piece
from streamtag.train.data.corpora.jamendo import JAMENDO_MEL
from streamtag.train.nets.innsbruck import (
    DESCRIPTOR_NAMES,
    FROM_FILE,
    Attention,
    Descriptors,
    InnsbruckCrnn,
    needs,
)

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 12000
T = 200
"""Frames of most windows here, 4.3 s."""


def new(seed: int = 0, **options: Any) -> InnsbruckCrnn:
    """A net whose batch normalisations have statistics."""
    torch.manual_seed(seed)
    net = InnsbruckCrnn(5, **({"window_frames": T} | options))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.blocks(frames(4).transpose(1, 2).unsqueeze(1))
    return net.eval()


def frames(n: int, length: int = T, seed: int = 1) -> Tensor:
    return 20 * torch.randn(n, length, 96, generator=torch.Generator().manual_seed(seed)) - 30


class TestFrames:
    @pytest.mark.parametrize(
        ("length", "before", "behind"),
        [(1366, 37, 37), (1365, 37, 38), (1440, 0, 0), (96, 0, 0), (1, 47, 48)],
    )
    def test_zeros_around_them(self, length: int, before: int, behind: int) -> None:
        net, x = new(window_frames=length), frames(1, length)
        whole = InnsbruckCrnn(5, window_frames=before + length + behind).eval()
        whole.load_state_dict(net.state_dict())
        with torch.inference_mode():
            padded = torch.cat([torch.zeros(1, before, 96), x, torch.zeros(1, behind, 96)], dim=1)
            torch.testing.assert_close(net.logits(x), whole.logits(padded), rtol=0, atol=1e-6)

    def test_steps(self) -> None:
        with torch.device("meta"):
            net = InnsbruckCrnn(5).eval()
            picture = net.blocks(torch.empty(1, 1, 96, 1440))
        assert picture.shape == (1, 128, 1, 15)
        dropouts = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
        assert dropouts == [0.1] * 4 + [0.3]

    @pytest.mark.parametrize("width", [97, 192, 256])
    def test_other_widths(self, width: int) -> None:
        with torch.device("meta"):
            net = InnsbruckCrnn(
                5, width=width, window_frames=300, side=22, side_source="own"
            ).eval()
            assert net(torch.empty(2, 300, width)).shape == (2, 5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"width": 80}, "width: expected at least 96.*'innsbruck-crnn', got 80"),
            ({"side": 21}, "side: expected one of 0, 22, 23 for .*got 21"),
            ({"side": 23, "side_source": "own"}, "side: expected 22 with side_source = 'own'.* 23"),
            ({"side_source": "net"}, "side_source: expected one of 'file', 'own'.*got 'net'"),
            ({"head": "authors"}, "head: expected one of 'repo', 'paper'.*got 'authors'"),
        ],
    )
    def test_what_cannot_work(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            InnsbruckCrnn(5, **options)


def test_it_begins_as_keras_does() -> None:
    torch.manual_seed(0)
    net = InnsbruckCrnn(56, attention=True, side=22)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-3, pytest.approx(0.01))
        if isinstance(module, nn.Conv2d | nn.Linear):
            fans = sum(module.weight.shape[:2]) * module.weight[0, 0].numel()
            limit = (6 / fans) ** 0.5  # Glorot and Bengio 2010, equation 16
            assert 0.9 * limit < module.weight.abs().max() <= limit
            assert not module.bias.any()
    for layer in range(2):
        inputs, recurrent, *biases = net.gru.all_weights[layer]
        assert inputs.abs().max() <= (6 / sum(inputs.shape)) ** 0.5
        torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(32), atol=1e-5, rtol=0)
        assert not torch.cat(biases).any()


class TestHeads:
    """What follows the recurrent layers, computed again by hand."""

    def heard(self, net: InnsbruckCrnn, x: Tensor) -> Tensor:
        padded = functional.pad(x, (0, 0, 44, 44))
        picture = net.blocks(padded.transpose(1, 2).unsqueeze(1))
        steps, _ = net.gru(picture.squeeze(2).transpose(1, 2))
        return steps

    def test_mel_alone(self) -> None:
        net: Any = new()
        x = frames(2)
        with torch.inference_mode():
            expected = net.head.tags(self.heard(net, x)[:, -1])
            torch.testing.assert_close(net.logits(x), expected)
        assert not any("joint" in name for name in net.state_dict())

    def test_repo_with_values(self) -> None:
        net: Any = new(side=22)
        x, side = frames(2), torch.rand(2, 22)
        with torch.inference_mode():
            first = torch.sigmoid(net.head.tags(self.heard(net, x)[:, -1]))
            both = torch.cat([first, side], dim=1)
            hidden = torch.tanh(both @ net.head.joint[0].weight.T + net.head.joint[0].bias)
            expected = hidden @ net.head.joint[2].weight.T + net.head.joint[2].bias
            torch.testing.assert_close(net.side_logits(x, side), expected)

    def test_paper_with_tempo(self) -> None:
        net: Any = new(side=23, head="paper")
        x, side = frames(2), torch.cat([torch.rand(2, 22), torch.tensor([[90.0], [170.0]])], dim=1)
        scaled = torch.cat([side[:, :22], side[:, 22:] / 200], dim=1)
        with torch.inference_mode():
            both = torch.cat([self.heard(net, x)[:, -1], scaled], dim=1)
            hidden = torch.tanh(both @ net.head.layers[0].weight.T + net.head.layers[0].bias)
            expected = hidden @ net.head.layers[3].weight.T + net.head.layers[3].bias
            torch.testing.assert_close(net.side_logits(x, side), expected)
        assert [m.p for m in net.head.modules() if isinstance(m, nn.Dropout)] == [0.3]

    def test_attention(self) -> None:
        torch.manual_seed(0)
        pick, steps = Attention(32), torch.randn(3, 15, 32)
        scores = (steps @ pick.dense.weight.T + pick.dense.bias).squeeze(2).detach().double()
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        expected = torch.einsum("nt,ntc->nc", weights, steps.double()).float()
        torch.testing.assert_close(pick(steps).detach(), expected)
        net: Any = new(attention=True)
        x = frames(2)
        with torch.inference_mode():
            expected = net.head.tags(net.pick(self.heard(net, x)))
            torch.testing.assert_close(net.logits(x), expected)


class TestValuesFromAFile:
    def test_names(self) -> None:
        assert len(FROM_FILE) == len(set(FROM_FILE)) == 22
        assert FROM_FILE[0] == "lowlevel.average_loudness"
        assert sum("genre_tzanetakis" in name for name in FROM_FILE) == 10
        assert "rhythm.bpm" not in FROM_FILE

    @pytest.mark.parametrize("side", [22, 23])
    def test_live_their_means_replace_them(self, side: int) -> None:
        net, x = new(side=side, side_source="file"), frames(2)
        table = 50 * torch.rand(40, side, generator=torch.Generator().manual_seed(5))
        with torch.inference_mode():
            before = net.logits(x)
            net.count_side(table)
            expected = net.side_logits(x, table.mean(0).expand(2, -1))
            torch.testing.assert_close(net.logits(x), expected)
            assert (net.logits(x) - before).abs().max() > 1e-3
            assert (net.side_logits(x, table[:2]) - expected).abs().max() > 1e-3

    def test_means_outlive_a_checkpoint(self) -> None:
        net, other = new(side=22), new(7, side=22)
        net.count_side(torch.rand(9, 22))
        other.load_state_dict(net.state_dict())
        with torch.inference_mode():
            assert torch.equal(other(frames(2)), net(frames(2)))

    @pytest.mark.parametrize(
        ("options", "count", "wanted"),
        [({"side": 22}, 23, 22), ({}, 22, 0), ({"side": 22, "side_source": "own"}, 22, 0)],
    )
    def test_another_number_of_them(self, options: dict[str, Any], count: int, wanted: int) -> None:
        net = new(**options)
        message = rf"recordings.side: expected {wanted} values per recording.*got \({count},\)"
        with pytest.raises(RecipeError, match=message):
            net.side_logits(frames(2), torch.rand(2, count))
        with pytest.raises(RecipeError, match=message):
            net.count_side(torch.rand(2, count))

    def test_the_card_lists_what_is_needed(self) -> None:
        assert "no live stream has" in new(side=22).needs() == needs("file")
        assert "22 descriptors" in new(side=22, side_source="own").needs() == needs("own")
        assert new().needs() == new(side_source="own").needs() == "nothing but the stream"


def described(samples: np.ndarray) -> dict[str, float]:
    """The descriptors of 4 s or more, by name."""
    heard = frames_of(samples.astype(np.float32), JAMENDO_MEL)[4:-4]
    values = Descriptors()(torch.from_numpy(heard).unsqueeze(0))
    assert values.shape == (1, len(DESCRIPTOR_NAMES))
    assert torch.isfinite(values).all()
    return dict(zip(DESCRIPTOR_NAMES, values[0].tolist(), strict=True))


def noise(seconds: float = 5.0) -> np.ndarray:
    return 0.1 * np.random.default_rng(3).standard_normal(int(seconds * RATE))


def tone(hertz: float, seconds: float = 5.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


def swelling(hertz: float) -> np.ndarray:
    """Noise whose amplitude goes up and down so many times a second."""
    t = np.arange(10 * RATE) / RATE
    return noise(10) * (1 + 0.9 * np.sin(2 * np.pi * hertz * t))


class TestDescriptors:
    """What the front end's own frames say, on sounds of which one knows what they are."""

    def test_names(self) -> None:
        assert len(DESCRIPTOR_NAMES) == len(set(DESCRIPTOR_NAMES)) == 22

    def test_level(self) -> None:
        soft, loud = described(noise()), described(10 * noise())
        assert loud.pop("level") - soft.pop("level") == pytest.approx(20 / 40, abs=1e-3)
        assert loud == pytest.approx(soft, abs=2e-3)  # the others do not depend on it

    def test_noise_is_flat_and_a_tone_is_not(self) -> None:
        hiss, whistle = described(noise()), described(tone(1000))
        assert hiss["flatness"] == pytest.approx(0, abs=0.05)
        assert whistle["flatness"] < -0.5
        assert whistle["crest"] > 0.5 > hiss["crest"]
        assert whistle["spread"] < 0.1 < hiss["spread"]

    def test_places(self) -> None:
        by_pitch = [described(tone(hertz)) for hertz in (100, 800, 1500, 2600, 4500)]
        for name in ("centroid", "roll-off"):
            places = [one[name] for one in by_pitch]
            assert places == sorted(places)
            assert 0 <= places[0] < 0.2
            assert 0.8 < places[-1] <= 1
        fifths = (
            "low bands",
            "low middle bands",
            "middle bands",
            "high middle bands",
            "high bands",
        )
        for i, one in enumerate(by_pitch):
            assert max(fifths, key=lambda name: one[name]) == fifths[i]
        assert by_pitch[0]["balance"] > 0.5
        assert by_pitch[4]["balance"] < -0.5

    def test_a_glide_moves_the_centroid(self) -> None:
        t = np.arange(5 * RATE) / RATE
        glide = 0.3 * np.sin(2 * np.pi * (300 * t + 300 * t**2))
        still, moving = (described(x)["centroid deviation"] for x in (tone(1000), glide))
        assert still < 0.02
        assert moving > 0.3

    def test_clicks_are_onsets(self) -> None:
        clicks = 1e-3 * noise()
        clicks[:: RATE // 2] += 0.5  # twice a second
        steady, ticking = described(1e-3 * noise()), described(clicks)
        assert ticking["flux deviation"] > 2 * steady["flux deviation"]
        assert ticking["dynamic range"] > steady["dynamic range"]
        assert ticking["quiet frames"] > 0.85
        assert 2 / 47 * 0.7 < ticking["onsets"] < 4 / 47 * 1.5

    def test_modulations(self) -> None:
        fast, medium, slow = (described(swelling(hertz)) for hertz in (12, 2.5, 0.6))
        names = ("fast modulation", "medium modulation", "slow modulation")
        for one, loudest in zip((fast, medium, slow), names, strict=True):
            assert max(names, key=lambda name: one[name]) == loudest
        assert described(noise())["medium modulation"] < 0.2 < medium["level deviation"]

    @pytest.mark.parametrize("length", [1, 2, 5, 94])
    @pytest.mark.parametrize("value", [-200.0, 0.0, 60.0])
    def test_constant_frames_of_any_length(self, length: int, value: float) -> None:
        x = Descriptors()(torch.full((2, length, 96), value))
        assert torch.isfinite(x).all()
        assert x.abs().max() < 3
        still = dict(zip(DESCRIPTOR_NAMES, x[0].tolist(), strict=True))
        for name in ("level deviation", "flux", "flux deviation", "fast modulation", "flatness"):
            assert still[name] == pytest.approx(0, abs=1e-3)

    def test_music_is_within_comparable_ranges(self) -> None:
        samples, rate = soundfile.read(demo_piece(), dtype="float32", always_2d=True)
        music = soxr.resample(samples.mean(1), rate, RATE)
        windows = [described(music[i : i + 29 * RATE]) for i in range(0, 46 * RATE, 11 * RATE)]
        for name in DESCRIPTOR_NAMES:
            values = [one[name] for one in windows]
            assert max(map(abs, values)) < 1.5
            assert max(values) - min(values) > 0.005

    def test_the_net_uses_its_own(self) -> None:
        net, x = new(side=22, side_source="own"), frames(2)
        other = new(side=22, side_source="file")
        other.load_state_dict(net.state_dict())
        with torch.inference_mode():
            torch.testing.assert_close(
                net.logits(x), other.side_logits(x, Descriptors()(x)), rtol=0, atol=1e-6
            )
