"""The nets: sizes as counted by others, probabilities out. `test_import` holds scripted = eager."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from streamtag.train.nets import NETS
from streamtag.train.published import KINDS

FRAMES = {kind.net: kind.window_frames for kind in KINDS.values()}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make these tests three times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def net_with_history(name: str, n_tags: int, seed: int = 0) -> nn.Module:
    """A net whose batch normalisations have statistics, as after training."""
    torch.manual_seed(seed)
    net = NETS[name](n_tags).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    net.get_submodule("bn_init" if name == "vggish" else "spec_bn").running_var.fill_(400.0)
    return net


def windows(name: str, n: int, seed: int = 1) -> torch.Tensor:
    return 20 * torch.randn(n, FRAMES[name], 96, generator=torch.Generator().manual_seed(seed)) - 30


@pytest.mark.parametrize(
    ("name", "n_tags", "parameters"),
    [
        ("vggish", 56, 448_122),  # MTG-Jamendo baseline, and its published checkpoint
        ("musicnn", 50, 784_300),  # this and the next two: counted in the published checkpoints
        ("fcn", 50, 447_732),
        ("crnn", 50, 394_100),
    ],
)
def test_parameters(name: str, n_tags: int, parameters: int) -> None:
    assert sum(p.numel() for p in NETS[name](n_tags).parameters()) == parameters


@pytest.mark.parametrize("name", FRAMES)
def test_probabilities_that_do_not_depend_on_the_batch(name: str) -> None:
    net, inputs = net_with_history(name, 7), windows(name, 2)
    with torch.inference_mode():
        together = net(inputs)
        alone = net(inputs[1:])
    assert together.shape == (2, 7)
    assert ((together > 0) & (together < 1)).all()
    assert (together[0] - together[1]).abs().max() > 1e-6
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FRAMES)
def test_every_weight_learns(name: str) -> None:
    net = net_with_history(name, 7).train()
    nn.functional.binary_cross_entropy(net(windows(name, 2)), torch.ones(2, 7)).backward()
    idle = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias before batch normalisation has no effect; its gradient is rounding or zero.
    assert [k for k in idle if not k.endswith("bias")] == []
