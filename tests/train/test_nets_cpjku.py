"""CP-ResNet, FA-ResNet and Shake-Shake FA-ResNet (Koutini et al. 2019)."""

import math

import numpy as np
import pytest
import torch
from support.trained_nets import assert_frozen_is_eager, count, with_trained_statistics
from torch import Tensor, nn

from streamtag.errors import RecipeError
from streamtag.train.nets.cpjku import (
    CpjkuStage,
    CpResnet,
    FaResnet,
    FrequencyAwareResidual,
    Residual,
    ShakeFaResnet,
    ShakeShakeResidual,
    Shortcut,
    shake_shake,
    with_position,
)

pytestmark = pytest.mark.usefixtures("one_thread")

RESNETS = (CpResnet, FaResnet, ShakeFaResnet)
FIELDS = (23, 31, 39, 55, 71, 87, 103, 135, 167, 199, 231, 263, 295)
"""Receptive field in bins or frames by ρ."""


def frames_of(n: int, frames: int, bands: int, seed: int = 1) -> Tensor:
    """Bands of deviation 1, each window louder than the one before."""
    noise = torch.randn(n, frames, bands, generator=torch.Generator().manual_seed(seed))
    return noise + 0.5 * torch.arange(n)[:, None, None]


@pytest.mark.parametrize(
    ("make", "counts"),
    [
        (CpResnet, (3_455_984, 3_587_056, 3_718_128, 3_980_272)),
        (FaResnet, (3_468_272, 3_600_368, 3_732_464, 3_996_656)),
        (ShakeFaResnet, (6_738_928, 7_003_120, 7_267_312, 7_795_696)),
    ],
)
def test_weights(make: type[CpResnet], counts: tuple[int, ...]) -> None:
    with torch.device("meta"):
        assert tuple(count(make(56, rho=rho)) for rho in (4, 5, 6, 7)) == counts
        assert count(make(56, rho=4, width=512, channels=2)) == counts[0] + 3_200
        assert count(make(56)) == counts[1]


def linear(net: CpResnet) -> CpResnet:
    """The net with positive weights and means for maxima: a gradient reaches all it can see."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(2))
    with torch.no_grad():
        for conv in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
            conv.weight.fill_(1 / conv.weight[0].numel())
        for residual in (m for m in net.modules() if isinstance(m, FrequencyAwareResidual)):
            for conv in (residual.conv1, residual.conv2):
                conv.weight[:, -1] = 0  # the position says nothing of the input
    return net.eval()


def receptive_field(net: CpResnet, axis: int) -> int:
    """Frames (axis 1) or bins (axis 2) that one value of the last feature map depends on."""
    shape = [1, 17, 17]
    shape[axis] = 480
    frames = torch.ones(shape, requires_grad=True)
    features = linear(net).features(frames)
    assert sorted(features.shape[2:]) == [1, 29]
    middle = features.flatten(2)[0, 0, 14]
    (gradient,) = torch.autograd.grad(middle, frames)
    seen = gradient.ne(0).any(dim=3 - axis)[0].nonzero()[:, 0]
    assert seen[0] > 0  # not cut by the border
    assert seen[-1] < 479
    assert seen[-1] - seen[0] + 1 == len(seen)  # no holes
    return len(seen)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("rho", range(13))
def test_receptive_field(rho: int, axis: int) -> None:
    assert receptive_field(CpResnet(2, rho=rho), axis) == FIELDS[rho]


@pytest.mark.parametrize("make", RESNETS)
@pytest.mark.parametrize(("rho_freq", "rho_time"), [(5, 8), (3, 0)])
def test_receptive_field_of_each_axis(make: type[CpResnet], rho_freq: int, rho_time: int) -> None:
    options = {"rho": 1, "rho_freq": rho_freq, "rho_time": rho_time}  # 0 is ρ
    assert receptive_field(make(2, **options), 2) == FIELDS[rho_freq]
    assert receptive_field(make(2, **options), 1) == FIELDS[rho_time or 1]


def test_kernels_of_rho_5() -> None:
    residuals = [m for m in CpResnet(2, rho=5).modules() if isinstance(m, Residual)]
    sizes = [(r.conv1.kernel_size[0], r.conv2.kernel_size[1]) for r in residuals]
    assert sizes == [(3, 1), (3, 3), (3, 3), (3, 1), *[(1, 1)] * 8]
    widths = [(r.conv1.in_channels, r.conv2.out_channels) for r in residuals]
    assert widths[3:6] == [(128, 128), (128, 256), (256, 256)]
    assert widths[7:9] == [(256, 256), (256, 512)]


@pytest.mark.parametrize("make", RESNETS)
def test_ten_seconds_become_15_by_53(make: type[CpResnet]) -> None:
    net = make(2, rho=1).eval()
    with torch.inference_mode():
        assert net.features(torch.zeros(1, 861, 256)).shape == (1, 512, 15, 53)


def test_longer_windows_than_it_was_made_for() -> None:
    short = with_trained_statistics(
        CpResnet(3, window_frames=40, width=40), frames_of(4, 40, 40, seed=2)
    )
    long = CpResnet(3, window_frames=300, width=40).eval()
    long.load_state_dict(short.state_dict())
    frames = frames_of(2, 300, 40)
    torch.testing.assert_close(short(frames), long(frames), rtol=0, atol=0)


def test_channels_of_a_frame_follow_each_other() -> None:
    torch.manual_seed(0)
    net = CpResnet(2, width=60, window_frames=40, channels=2, rho=2).eval()
    frames, seen = torch.randn(1, 40, 60), []
    net.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(frames)
    expected = torch.stack([frames[0, :, :30].T, frames[0, :, 30:].T])[None]
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("bins", [15, 31, 63, 127])
def test_position(bins: int) -> None:
    x = torch.randn(2, 3, bins, 5)
    out = with_position(x)
    assert out.shape == (2, 4, bins, 5)
    torch.testing.assert_close(out[:, :3], x, rtol=0, atol=0)
    column = np.array([2 * f / bins - 1 for f in range(bins)], np.float32)
    assert np.abs(out[:, 3].numpy() - column[None, :, None]).max() < 1e-6


def test_every_block_of_fa_resnet_sees_the_position_twice() -> None:
    """In every convolution of a residual; not in the stem, the shortcuts and the head."""
    net, seen = FaResnet(2, rho=1).eval(), []
    for conv in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        net(frames_of(1, 17, 256))
    assert len(seen) == 1 + 24 + 2 + 1
    aware = [x for x in seen if x.shape[1] % 2]  # one more than 128, 256 or 512; the stem has 1
    assert [x.shape[1] for x in aware] == [1, *[129] * 9, *[257] * 8, *[513] * 7]
    assert [x.shape[2] for x in aware[1:]] == [127] * 2 + [63] * 2 + [31] * 4 + [15] * 16
    for x in aware[1:]:
        bins = torch.arange(x.shape[2]) * 2 / x.shape[2] - 1
        torch.testing.assert_close(x[0, -1], bins[:, None].expand(x.shape[2:]))


@pytest.mark.parametrize("make", RESNETS)
def test_fixup(make: type[CpResnet]) -> None:
    torch.manual_seed(0)
    net = make(6, rho=4, rho_time=7, width=64, window_frames=32)
    residuals = [m for m in net.modules() if isinstance(m, Residual)]
    assert len(residuals) == (24 if make is ShakeFaResnet else 12)
    for residual in residuals:
        n = math.prod(residual.conv1.kernel_size) * residual.conv1.out_channels
        expected = math.sqrt(2 / n / 12)
        assert residual.conv1.weight.std().item() == pytest.approx(expected, rel=0.02)
        assert not residual.conv2.weight.any()
    shortcuts = [m for m in net.modules() if isinstance(m, Shortcut)]
    assert [s.conv.out_channels for s in shortcuts] == [256, 512]
    for shortcut in shortcuts:
        expected = math.sqrt(2 / shortcut.conv.out_channels)
        assert shortcut.conv.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert net.stem.weight.std().item() == pytest.approx(math.sqrt(2 / 25), rel=0.05)
    assert not net.head.weight.any()
    with torch.inference_mode():
        assert (net.eval()(frames_of(2, 32, 64)) == 0.5).all()


def test_a_block_adds_its_shortcut_before_the_relu() -> None:
    torch.manual_seed(0)
    block = CpjkuStage(Residual(4, 6, (3, 1), (1, 3)), 4, 6).eval()
    x = torch.randn(2, 4, 5, 7)
    with torch.no_grad():
        inner = torch.relu(block.residual.bn1(block.residual.conv1(x)))
        sum_of_both = block.residual.bn2(block.residual.conv2(inner)) + block.shortcut(x)
        assert (sum_of_both < 0).any()
        torch.testing.assert_close(block(x), sum_of_both.clamp(min=0))


@pytest.mark.parametrize("scripted", [False, True])
def test_shakes_forward_and_backward_are_independent(scripted: bool) -> None:
    """α from the output, β from the gradients; each sample has its own."""
    from scipy import stats

    torch.manual_seed(5)
    n = 5000
    first = torch.randn(n, 2, 3, 1, dtype=torch.float64, requires_grad=True)
    second = torch.randn(n, 2, 3, 1, dtype=torch.float64, requires_grad=True)
    mix = torch.jit.script(shake_shake) if scripted else shake_shake
    out = mix(first, second, True)
    out.sum().backward()
    alphas = ((out - second) / (first - second)).detach().flatten(1)
    betas = first.grad.flatten(1)
    torch.testing.assert_close(second.grad.flatten(1), 1 - betas)
    alpha, beta = alphas[:, 0], betas[:, 0]
    for share, all_of_it in ((alpha, alphas), (beta, betas)):
        torch.testing.assert_close(all_of_it, share[:, None].expand_as(all_of_it))
        assert stats.kstest(share.numpy(), "uniform").pvalue > 0.01
    correlation = np.corrcoef(alpha.numpy(), beta.numpy())[0, 1]
    assert abs(correlation) < 3 / math.sqrt(n)


def test_shakes_other_shares_each_time() -> None:
    torch.manual_seed(0)
    first, second = torch.ones(4, 1, 1, 1), torch.zeros(4, 1, 1, 1)
    draws = torch.cat([shake_shake(first, second, True) for _ in range(3)])
    assert len(draws.unique()) == 12


def test_shake_shake_is_the_mean_of_its_branches_in_evaluation() -> None:
    net = with_trained_statistics(ShakeShakeResidual(3, 4, (3, 3), (1, 1)), torch.randn(4, 3, 6, 5))
    x, state = torch.randn(2, 3, 6, 5), torch.get_rng_state()
    with torch.inference_mode():
        expected = (net.branch_1(x) + net.branch_2(x)) / 2
        assert (net.branch_1(x) - net.branch_2(x)).abs().max() > 0.1
        torch.testing.assert_close(net(x), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_branches_of_a_training_net_are_shaken() -> None:
    """Scripted too: the same window twice gives two answers, and one in evaluation."""
    net = with_trained_statistics(
        ShakeFaResnet(3, width=24, window_frames=24), frames_of(4, 24, 24)
    )
    for module in (net, torch.jit.script(net)):
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = 0.0  # the statistics stay
        x = frames_of(1, 24, 24).expand(4, -1, -1)
        with torch.no_grad():
            shaking = module.train()(x)
            steady = module.eval()(x)
        assert (shaking[0] - shaking[1]).abs().max() > 1e-4
        torch.testing.assert_close(steady[:1].expand_as(steady), steady)


@pytest.mark.parametrize("make", RESNETS)
def test_the_daemons_version(make: type[CpResnet]) -> None:
    net = with_trained_statistics(make(5, width=48, window_frames=40), frames_of(6, 40, 48, seed=2))
    assert_frozen_is_eager(net, frames_of(3, 40, 48), 5)


@pytest.mark.parametrize("make", RESNETS)
def test_what_cannot_work(make: type[CpResnet]) -> None:
    with torch.device("meta"):
        make(2, width=17, window_frames=17)
        for key in ("width", "window_frames"):
            with pytest.raises(RecipeError, match=rf"^{key}: .*at least 17 .*resnet.*got 16"):
                make(2, **{key: 16})
        for key in ("rho", "rho_freq", "rho_time"):
            with pytest.raises(RecipeError, match=rf"^{key}: expected 0 to 22 .*got 23"):
                make(2, **{key: 23})
        with pytest.raises(RecipeError, match=r"^width: .*multiple of channels = 3 .*got 256"):
            make(2, channels=3)
