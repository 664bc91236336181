"""ResNet-34 and Choi's CRNN, submissions 5 and 4 of Koutini et al. 2019."""

import pytest
import torch
from support.trained_nets import assert_frozen_is_eager, count, with_trained_statistics
from torch import Tensor, nn

from streamtag.errors import RecipeError
from streamtag.train.nets.cpjku import ChoiCrnn, Resnet34, Shortcut

pytestmark = pytest.mark.usefixtures("one_thread")


def frames_of(n: int, frames: int, bands: int, seed: int = 1) -> Tensor:
    """Bands of deviation 1, each window louder than the one before."""
    noise = torch.randn(n, frames, bands, generator=torch.Generator().manual_seed(seed))
    return noise + 0.5 * torch.arange(n)[:, None, None]


def test_weights_of_resnet34() -> None:
    with torch.device("meta"):
        counts = [count(Resnet34(56, width=256 * n, channels=n)) for n in (1, 2, 3)]
        imagenet = count(Resnet34(1000, width=3 * 224, window_frames=224, channels=3))
    assert counts == [21_307_128, 21_310_264, 21_313_400]
    assert imagenet == 21_797_672


def test_resnet34_is_a_32nd_of_its_picture() -> None:
    net, seen = Resnet34(3, width=58, window_frames=90).eval(), []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
    with torch.inference_mode():
        net(frames_of(1, 90, 58))
    assert seen == [(64, 15, 23)] * 3 + [(128, 8, 12)] * 4 + [(256, 4, 6)] * 6 + [(512, 2, 3)] * 3
    shortcuts = [block for block in net.blocks if isinstance(block.shortcut, Shortcut)]
    assert len(shortcuts) == 3


@pytest.mark.parametrize(
    ("bands", "frames", "padded", "steps"),
    [(96, 1366, 1440, 15), (256, 288, 288, 3), (128, 100, 192, 2), (300, 1, 96, 1)],
)
def test_choi_pads_and_pools(bands: int, frames: int, padded: int, steps: int) -> None:
    net, seen = ChoiCrnn(2, width=bands, window_frames=frames).eval(), []
    net.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net.gru.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = frames_of(2, frames, bands)
    with torch.inference_mode():
        net(x)
    assert seen[0].shape == (2, bands, padded)
    left = (padded - frames) // 2
    torch.testing.assert_close(seen[0][:, :, left : left + frames], x.transpose(1, 2))
    assert not seen[0][:, :, :left].any()
    assert not seen[0][:, :, left + frames :].any()
    assert seen[1].shape == (2, steps, 128)


def test_choi_normalises_each_band_first() -> None:
    """Bands at other levels and deviations make no difference in training."""
    torch.manual_seed(0)
    net = ChoiCrnn(3, window_frames=96).train()
    for dropout in (m for m in net.modules() if isinstance(m, nn.Dropout)):
        dropout.p = 0.0
    x = frames_of(3, 96, 96)
    moved = x * torch.linspace(0.5, 9, 96) + torch.linspace(-90, 30, 96)
    torch.testing.assert_close(net(moved), net(x), rtol=0, atol=1e-4)
    assert (net(x)[0] - net(x)[2]).abs().max() > 1e-3


@pytest.mark.parametrize("bands", [95, 192, 255, 512])
def test_bands_of_which_choi_would_not_leave_one(bands: int) -> None:
    with pytest.raises(RecipeError, match=rf"^width: .*96 to 191 or 256 to 511.*got {bands};"):
        ChoiCrnn(2, width=bands)


@pytest.mark.parametrize(
    ("make", "frames", "bands"),
    [
        (Resnet34, 64, 64),
        (ChoiCrnn, 250, 96),
        (ChoiCrnn, 100, 256),
    ],
)
def test_the_daemons_version(make: type[nn.Module], frames: int, bands: int) -> None:
    net = make(5, width=bands, window_frames=frames)
    frames_seen = frames_of(6, frames, bands, seed=2)
    assert_frozen_is_eager(
        with_trained_statistics(net, frames_seen), frames_of(3, frames, bands), 5
    )
