"""SampleCNN, 2D-CNN and BiLSTM (MusicTagger, 2018)."""

import pytest
import torch
from support.trained_nets import assert_frozen_is_eager, count, statistics, with_trained_statistics
from torch import Tensor, nn
from torch.nn import functional

from streamtag.errors import RecipeError
from streamtag.train.nets.polimi import BiLstm, Cnn2d, SampleBlock, SampleCnn

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {SampleCnn: (20_000, 1), Cnn2d: (50, 48), BiLstm: (30, 40)}
"""Frames and bands of each that tests can bear."""


def windows(make: type[nn.Module], n: int, seed: int = 1) -> Tensor:
    """Samples, or mel bands in dB; each window louder than the one before."""
    noise = torch.randn(n, *SMALL[make], generator=torch.Generator().manual_seed(seed))
    louder = torch.arange(n)[:, None, None]
    return 0.05 * noise * (1 + louder) if make is SampleCnn else 15 * noise - 40 + 10 * louder


def small(make: type[nn.Module], n_tags: int = 5) -> nn.Module:
    frames, width = SMALL[make]
    return with_trained_statistics(
        make(n_tags, window_frames=frames, width=width), windows(make, 4, seed=2)
    )


def test_keras_counts_as_many_weights() -> None:
    """Keras also counts batch statistics, and its LSTM has one bias: the paper's figures."""
    raw, mel, lstm = SampleCnn(50), Cnn2d(50), BiLstm(50)
    assert count(raw) + statistics(raw) == 2_124_466
    assert count(mel) + statistics(mel) == 362_418
    second_biases = [p for name, p in lstm.named_parameters() if "bias_hh" in name]
    assert count(lstm) - sum(bias.numel() for bias in second_biases) == 1_021_700


def shapes(net: nn.Module, kind: type[nn.Module], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What each module of a kind gives, without its first two axes, for one window."""
    seen: list[tuple[int, ...]] = []
    for module in (m for m in net.modules() if isinstance(m, kind)):
        module.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[2:])))
    with torch.no_grad():
        net.eval()(torch.zeros(1, *shape))
    return seen


def test_sizes_of_the_paper() -> None:
    raw = shapes(SampleCnn(50), SampleBlock, (465_984, 1))
    convs = shapes(Cnn2d(50), nn.Conv2d, (261, 128))
    pools = shapes(Cnn2d(50), nn.MaxPool2d, (261, 128))
    ends = shapes(BiLstm(50), nn.Conv1d, (227, 128))
    assert [t for _, t in raw] == [155_328, 51_776, 17_258, 5_752, 1_917, 639, 213, 71, 23]
    assert convs == [(126, 259), (61, 127), (28, 61), (12, 28)]
    assert pools == [(63, 129), (30, 63), (14, 30), (6, 14)]
    assert ends == [(225,), (223,), (221,)]


def test_a_sample_block_is_the_papers() -> None:
    """Conv1d, batch normalisation, ReLU and max-pooling, in this order."""
    torch.manual_seed(0)
    block, x = SampleBlock(3, 4), torch.randn(2, 3, 14)
    nn.init.uniform_(block.norm.weight, -1, 1)
    nn.init.uniform_(block.norm.bias, -1, 1)
    norm = block.norm
    conv = functional.conv1d(x, block.conv.weight[:, :, 0], block.conv.bias, padding=1)
    normed = functional.batch_norm(conv, None, None, norm.weight, norm.bias, training=True)
    expected = functional.max_pool1d(functional.relu(normed), 3)
    torch.testing.assert_close(block(x[:, :, None])[:, :, 0], expected)
    assert expected.shape == (2, 4, 4)


def test_the_first_block_has_stride_3() -> None:
    torch.manual_seed(0)
    block, x = SampleBlock(1, 4, strided=True), torch.randn(2, 1, 1, 14)
    triples = x[:, 0, 0, :12].reshape(2, 4, 3)
    heard = triples @ block.conv.weight[:, 0, 0].T + block.conv.bias
    normed = functional.batch_norm(heard.transpose(1, 2), None, None, training=True)
    torch.testing.assert_close(block(x)[:, :, 0], functional.relu(normed))


def test_a_mel_block_is_the_papers() -> None:
    """Conv2d, batch normalisation, ReLU, max-pooling and dropout, in this order."""
    net = Cnn2d(5, width=46, window_frames=46)
    nn.init.uniform_(net.layers[1].weight, -1, 1)
    conv, norm = net.layers[:2]
    x = torch.randn(2, 1, 12, 14)
    weights = (norm.weight, norm.bias)
    normed = functional.batch_norm(conv(x), None, None, *weights, training=True, eps=1e-3)
    expected = functional.max_pool2d(functional.relu(normed), 2)
    torch.testing.assert_close(net.layers[:4](x), expected)
    assert [m.p for m in net.layers if isinstance(m, nn.Dropout)] == [0.1] * 4


@pytest.mark.parametrize("make", [Cnn2d, BiLstm])
def test_a_window_is_limited_to_80_db_below_its_loudest(make: type[nn.Module]) -> None:
    net, frames = small(make), torch.full((2, *SMALL[make]), -20.0)
    frames[0, 10, 10], frames[1, 10, 10] = 0.0, 30.0  # each window has a limit of its own
    with torch.inference_mode():
        frames[:, 20:, :] = torch.tensor([-80.0, -50.0])[:, None, None]
        at_limit = net(frames)
        frames[:, 20:, :] = -200.0
        torch.testing.assert_close(net(frames), at_limit, rtol=0, atol=0)
        frames[:, 20:, :] = torch.tensor([-79.0, -49.0])[:, None, None]
        assert ((net(frames) - at_limit).abs().amax(dim=1) > 1e-6).all()


@pytest.mark.parametrize("make", [Cnn2d, BiLstm])
def test_the_limit_is_an_option(make: type[nn.Module]) -> None:
    frames, width = SMALL[make]
    torch.manual_seed(0)
    wide = make(3, window_frames=frames, width=width).eval()
    narrow = make(3, window_frames=frames, width=width, top_db=30).eval()
    narrow.load_state_dict(wide.state_dict())
    x = windows(make, 2)
    clipped = torch.maximum(x, x.amax(dim=(1, 2), keepdim=True) - 30)
    with torch.inference_mode():
        assert not torch.equal(narrow(x), wide(x))
        torch.testing.assert_close(narrow(x), wide(clipped), rtol=0, atol=0)


@pytest.mark.parametrize("make", [SampleCnn, Cnn2d, BiLstm])
def test_weights_begin_as_keras_does(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = make(50)
    for module in net.modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            continue
        receptive = module.weight[0, 0].numel()
        fans = sum(module.weight.shape[:2]) * receptive
        limit = (6 / fans) ** 0.5  # Glorot and Bengio 2010, equation 16
        assert module.weight.abs().max() <= limit
        assert module.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.15)
        assert not module.bias.any()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, round(norm.momentum, 9)) for norm in norms} <= {(1e-3, 0.01)}


def test_lstm_begins_as_keras_does() -> None:
    torch.manual_seed(0)
    lstm = BiLstm(50).lstm
    for name, weights in lstm.named_parameters():
        if name.startswith("weight_ih"):
            limit = (6 / sum(weights.shape)) ** 0.5
            assert 0.99 * limit < weights.abs().max() <= limit
        if name.startswith("weight_hh"):
            torch.testing.assert_close(weights.T @ weights, torch.eye(100), rtol=0, atol=1e-5)
        if name.startswith("bias"):
            assert weights.sum() == (100 if name.startswith("bias_ih") else 0)


def test_forget_gates_begin_open() -> None:
    """A cell that hears nothing keeps σ(1) of what it knew (Jozefowicz et al. 2015)."""
    lstm = BiLstm(2).lstm
    for name, weights in lstm.named_parameters():
        if name.startswith("weight"):
            nn.init.zeros_(weights)
    with torch.no_grad():
        _, (_, cells) = lstm(
            torch.zeros(1, 1, 128), (torch.zeros(4, 1, 100), torch.ones(4, 1, 100))
        )
    torch.testing.assert_close(cells, torch.sigmoid(torch.ones(4, 1, 100)))


def test_lstm_reads_both_ways() -> None:
    """What is heard last changes the first steps, and the other way round."""
    lstm = BiLstm(2).lstm.eval()
    x = torch.randn(1, 20, 128, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        before, _ = lstm(x)
        x[:, -1] += 1
        later, _ = lstm(x)
    assert before.shape == (1, 20, 200)
    assert (before[:, 0] - later[:, 0]).abs().max() > 0


@pytest.mark.parametrize("make", [SampleCnn, Cnn2d, BiLstm])
def test_the_daemons_version(make: type[nn.Module]) -> None:
    assert_frozen_is_eager(small(make), windows(make, 3), 5)


@pytest.mark.parametrize(
    ("make", "width", "window_frames"),
    [(SampleCnn, 1, 3**9), (Cnn2d, 46, 46), (BiLstm, 1, 7)],
)
def test_smallest_windows(make: type[nn.Module], width: int, window_frames: int) -> None:
    net = make(2, width=width, window_frames=window_frames).eval()
    assert net(torch.zeros(1, window_frames, width)).shape == (1, 2)
    with pytest.raises(RecipeError, match=rf"^window_frames: .*at least {window_frames} for "):
        make(2, width=width, window_frames=window_frames - 1)
    if make is Cnn2d:
        with pytest.raises(RecipeError, match=r"^width: .*at least 46 for 'cnn2d', got 45"):
            make(2, width=45, window_frames=261)


def test_samples_have_no_bands() -> None:
    with pytest.raises(RecipeError, match=r"^width: .*samplecnn.*got 128; set features\.kind"):
        SampleCnn(2, width=128)
