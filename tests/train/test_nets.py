"""What holds of every net: published sizes, and the contract in `streamtag.train.nets.model`.

`test_import` holds the published checkpoints against their authors' answers.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.narrow_nets import narrow_nets
from support.net_table import ROWS, TABLE, VARIANTS, Row
from torch import Tensor, nn

from streamtag.errors import RecipeError
from streamtag.train.importing.published import KINDS
from streamtag.train.nets import NETS
from streamtag.train.nets.model import Model
from streamtag.train.nets.vqvae import Codebook

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES = {kind.net: kind.window_frames for kind in KINDS.values()}
WIDTHS = {kind.net: kind.features.width for kind in KINDS.values()}
FIRST_NORMS = {
    "vggish": "bn_init",
    "efficientat": "features.0.1",
    "efficientat-stream": "base.features.0.1",
    "pons-musicnn": "input_bn",
}
"""Names of the first batch normalisation, where it is not `spec_bn`."""
TAGS = 7
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
FOR_NOTHING = ("pick.dense.bias", "key.bias")
"""A softmax follows that takes out what is added to all of its inputs."""
TAUGHT = "base.classifier.5."
"""Learns from targets that the tests here lack: see test_evidence."""


def net_with_history(name: str, n_tags: int, seed: int = 0) -> nn.Module:
    """A net of 29 or 3 s whose batch normalisations have statistics, as after training."""
    torch.manual_seed(seed)
    net = NETS[name](n_tags).eval()
    for module in net.modules():
        if isinstance(module, NORMS):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    net.get_submodule(FIRST_NORMS.get(name, "spec_bn")).running_var.fill_(400.0)
    return net


def windows(name: str, n: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 20 * torch.randn(n, FRAMES[name], WIDTHS[name], generator=generator) - 30


@dataclass
class Settled:
    """A small net as in the middle of its training: nothing is zero, statistics are measured."""

    row: Row
    model: Model
    x: Tensor
    """(3, frames, bands)."""
    said: Tensor
    """To those."""

    @property
    def answering(self) -> nn.Module:
        """What is scripted: an autoencoder has no probabilities."""
        return self.model.net if self.row.net == "vqvae" else self.model


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def settled(request: pytest.FixtureRequest) -> Settled:
    row: Row = request.param
    torch.manual_seed(0)
    with narrow_nets():
        model = Model(row.new(small=True, tags=TAGS), TAGS, row.small[1])
    for parameter in model.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, 0, 0.05)
    for module in model.modules():
        if isinstance(module, Codebook):
            nn.init.normal_(module.codes)
        if isinstance(module, NORMS):
            module.momentum = None
    x = row.windows(3)
    with torch.no_grad():
        model.net(x)
        made = Settled(row, model.eval(), x, x)
        made.said = made.answering(x)
    return made


@pytest.fixture
def no_chance() -> Iterator[None]:
    """Holds that nothing draws a random number."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def test_the_table_has_every_net() -> None:
    assert set(NETS) - {"plain"} == {row.net for row in TABLE}  # "plain" is of other tests


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_parameters(row: Row) -> None:
    with torch.device("meta"):
        net = row.new()
    parameters = [p for p in net.get_submodule(row.part).parameters() if p.requires_grad]
    assert sum(p.numel() for p in parameters) == row.parameters


@pytest.mark.parametrize("row", [row for row in VARIANTS if row.net != "vqvae-gru"], ids=str)
def test_shapes_of_published_windows(row: Row) -> None:
    """Of vqvae-gru, whose 512 steps take too long this way, see `test_nets_vqvae`."""
    with torch.device("cpu" if row.net == "bilstm" else "meta"):
        net = row.new().eval()
        out = net(torch.zeros(3, *row.shape))
    assert out.shape == ((3, *row.shape) if row.net == "vqvae" else (3, row.tags))
    assert out.dtype == torch.float32


def agree(one: Tensor, other: Tensor) -> None:
    """To 1e-5, in parts of the value where it is larger than 1."""
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_scores(settled: Settled) -> None:
    said, net = settled.said, settled.model.net
    assert torch.isfinite(said).all()
    if settled.row.net != "popularity":
        assert (said[0] - said[2]).abs().max() > 2e-4
    if settled.row.net != "vqvae":
        assert ((said > 0) & (said < 1)).all()
        with torch.inference_mode():
            agree(said, torch.sigmoid(net.logits(settled.x)))


@pytest.mark.usefixtures("no_chance")
def test_scripted_is_eager(settled: Settled) -> None:
    scripted = torch.jit.script(settled.answering)
    with torch.inference_mode():
        for n in (3, 3, 1):  # TorchScript specialises itself in its first runs
            agree(scripted(settled.x[:n]), settled.said[:n])


@pytest.mark.usefixtures("no_chance")
def test_a_row_of_a_batch_is_that_row_alone(settled: Settled) -> None:
    with torch.inference_mode():
        agree(settled.answering(settled.x[1:2]), settled.said[1:2])


@pytest.mark.usefixtures("no_chance")
def test_the_same_again(settled: Settled) -> None:
    with torch.inference_mode():
        assert torch.equal(settled.answering(settled.x), settled.said)


def gradients(model: Model, row: Row, x: Tensor) -> dict[str, float]:
    """Of the loss of a batch, in parts of the largest one."""
    generator = torch.Generator().manual_seed(3)
    targets = (torch.rand(len(x), TAGS, generator=generator) < 0.4).float()
    wants_side = row.options.get("side") and row.options.get("side_source") != "own"
    side = torch.rand(len(x), row.options["side"], generator=generator) if wants_side else None
    model.zero_grad(set_to_none=True)
    loss = model.loss(x, targets, side, nn.functional.binary_cross_entropy_with_logits)
    assert loss.shape == ()
    loss.backward()
    found = {
        name: p.grad
        for name, p in model.named_parameters()
        if p.requires_grad and TAUGHT not in name
    }
    assert [name for name, grad in found.items() if grad is None] == []
    assert [name for name, grad in found.items() if not torch.isfinite(grad).all()] == []
    largest = max(float(grad.norm()) for grad in found.values())
    return {name: float(grad.norm()) / largest for name, grad in found.items()}


@pytest.mark.parametrize("training", [True, False], ids=["in training", "with fixed statistics"])
def test_every_weight_learns(settled: Settled, training: bool) -> None:
    model = copy.deepcopy(settled.model).train(training)
    if settled.row.net == "popularity":
        assert list(model.parameters()) == []
        return
    torch.manual_seed(4)
    share = gradients(model, settled.row, settled.x)
    # A bias before batch normalisation has no effect but with fixed statistics.
    never = "bias" if training else FOR_NOTHING
    assert {k: x for k, x in share.items() if not k.endswith(never) and x < 1e-8} == {}


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vggish", {"window_frames": 1279}, "window_frames: expected at least 1280.*got 1279"),
        ("vggish", {"width": 80}, "width: expected at least 96.*got 80"),
        ("fcn", {"window_frames": 1000}, "window_frames: expected at least 1280.*'fcn', got 1000"),
        ("crnn", {"window_frames": 95}, "window_frames: expected at least 96.*'crnn', got 95"),
        ("musicnn", {"width": 2}, "width: expected at least 3 for 'musicnn', got 2"),
        ("small", {"width": 90}, "width: expected a multiple of 16.*'small', got 90"),
    ],
)
def test_sizes_that_cannot_work(name: str, size: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        NETS[name](TAGS, **size)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vggish", {"window_frames": 2600, "width": 200}),
        ("fcn", {"window_frames": 2561, "width": 128}),
        ("crnn", {"window_frames": 96, "width": 193}),
        ("musicnn", {"window_frames": 9, "width": 3}),
        ("small", {"window_frames": 1, "width": 16}),
    ],
)
def test_other_sizes(name: str, size: dict[str, int]) -> None:
    with torch.device("meta"):
        frames = torch.empty(2, size["window_frames"], size.get("width", 96))
        assert NETS[name](TAGS, **size).eval()(frames).shape == (2, TAGS)


class TestPopularity:
    """The baseline that is counted."""

    def test_predicts_the_most_frequent_tag(self) -> None:
        net: Any = NETS["popularity"](3)
        net.count(torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 1, float("nan")], [1, 0, 1]]))
        scores = net(torch.empty(2, 5, 96))
        assert torch.equal(scores[0], scores[1])
        assert scores[0].tolist() == pytest.approx([0.982, 0.018, 0.018], abs=1e-3)  # first of 3
        net.count(torch.tensor([[0.0, 0, 1]]))
        assert net(torch.empty(1, 5, 96)).argmax() == 2

    def test_counts_outlive_a_checkpoint(self) -> None:
        net: Any = NETS["popularity"](2)
        net.count(torch.tensor([[0.0, 1]]))
        other: Any = NETS["popularity"](2)
        other.load_state_dict(net.state_dict())
        assert torch.equal(other.answer, net.answer)
