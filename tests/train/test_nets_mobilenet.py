"""MobileNetV2 with and without self-attention (Sukhavasi and Adapa 2019)."""

import math

import pytest
import torch
from support.trained_nets import assert_frozen_is_eager, count, with_trained_statistics
from torch import Tensor, nn
from torch.nn import functional

from streamtag.errors import RecipeError
from streamtag.train.nets.mobilenet import (
    BertLayer,
    InvertedResidual,
    Mobilenet,
    MobilenetAttention,
    MobileNetV2,
    logit_of_mean,
    mobilenet_features,
    sinusoids,
)
from streamtag.train.nets.model import Model, selection_model

pytestmark = pytest.mark.usefixtures("one_thread")


def mels(n: int, frames: int, bands: int = 96, seed: int = 1) -> Tensor:
    """20·log10(mel power), each window louder than the one before."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, frames, bands, generator=generator)
    return 20 * noise - 60 + 40 * torch.arange(n)[:, None, None]


def attention_net(window_frames: int, *, n_tags: int = 5) -> MobilenetAttention:
    """With the batch statistics of such windows."""
    torch.manual_seed(0)  # some weights make embeddings that hardly differ
    net = MobilenetAttention(n_tags, window_frames=window_frames)
    with_trained_statistics(net, mels(4, window_frames, seed=2))
    return net


def test_mobilenet_v2_is_that_of_imagenet() -> None:
    net = MobileNetV2(1000)
    assert count(net) == 3_504_872
    assert count(net.features) == 2_223_872
    skips = [block.skips for block in net.features if isinstance(block, InvertedResidual)]
    first = {0, 1, 3, 6, 10, 13, 16}  # of its stage: other width
    assert skips == [i not in first for i in range(17)]


def test_parts_add_up_to_the_authors() -> None:
    single, net = Mobilenet(56), MobilenetAttention(56)
    assert (count(single.stem), count(single.body.dense)) == (55, 71_736)
    assert (count(net.attention), count(net.alone)) == (1_659_704, 80_184)
    cnn = count(net.stem) + count(net.features) + count(net.narrow)
    unused = count(MobileNetV2(1000).dense)  # of ImageNet: in the authors' net, but never called
    assert cnn + unused == 9_535_007
    assert count(net) + unused == 11_274_895


@pytest.mark.parametrize(("frames", "shape"), [(6590, (3, 206)), (256, (3, 8))])
def test_stride_is_32(frames: int, shape: tuple[int, int]) -> None:
    with torch.inference_mode():
        out = mobilenet_features().eval()(torch.zeros(1, 3, 96, frames))
    assert out.shape == (1, 1280, *shape)


@pytest.mark.parametrize("skips", [True, False])
def test_an_inverted_residual_is_linear_at_its_end(skips: bool) -> None:
    block = InvertedResidual(4, 4 if skips else 5, 1, 6).eval()
    x = torch.randn(2, 4, 6, 7)
    last = block.layers[-1]
    assert isinstance(last, nn.BatchNorm2d)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(-9.0)
        torch.testing.assert_close(block(x), x - 9 if skips else torch.full((2, 5, 6, 7), -9.0))


@pytest.mark.parametrize("make", [Mobilenet, MobilenetAttention])
def test_frames_are_divided_by_a_hundred(make: type[nn.Module]) -> None:
    net, seen = make(3, window_frames=256).eval(), []
    stem = net.get_submodule("stem")
    stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frames = mels(2, 256)
    net(frames)
    torch.testing.assert_close(seen[0], frames.transpose(1, 2)[:, None] / 100, rtol=0, atol=0)


def test_slices_are_processed_one_by_one_in_order() -> None:
    both, one = attention_net(512), attention_net(256)
    one.load_state_dict({**both.state_dict(), "attention.positions": sinusoids(1, 256)})
    frames = mels(2, 512)
    with torch.inference_mode():
        together = both.embed(frames)
        apart = [one.embed(frames[:, start : start + 256])[:, 0] for start in (0, 256)]
    assert together.shape == (2, 2, 256)
    assert (together[:, 0] - together[:, 1]).abs().max() > 1e-3
    torch.testing.assert_close(together, torch.stack(apart, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("window_frames", "slices", "length"),
    [(65, 1, 65), (256, 1, 256), (511, 1, 511), (4096, 16, 256), (1000, 3, 333)],
)
def test_other_windows_have_other_slices(window_frames: int, slices: int, length: int) -> None:
    net = MobilenetAttention(2, window_frames=window_frames)
    assert (net.slices, net.slice_frames) == (slices, length)
    assert net.attention.positions.shape == (slices, 256)


def test_only_the_oldest_frames_are_left_over() -> None:
    net = attention_net(513)  # two slices of 256
    frames = mels(1, 513)
    with torch.inference_mode():
        before = net.logits(frames)
        frames[:, 0] = torch.nan
        torch.testing.assert_close(net.logits(frames), before, rtol=0, atol=0)
        frames[:, 1] = torch.nan
        assert net.logits(frames).isnan().all()


def test_positions() -> None:
    table = sinusoids(16, 256)
    assert not table[0].any()
    for position, i in ((1, 0), (1, 255), (7, 12), (7, 13), (15, 128)):
        angle = position / 10000 ** (2 * (i // 2) / 256)
        value = math.cos(angle) if i % 2 else math.sin(angle)
        assert table[position, i].item() == pytest.approx(value, abs=1e-6)


def test_bert_layer_is_torchs_transformer_layer() -> None:
    torch.manual_seed(0)
    ours = BertLayer().eval()
    theirs = nn.TransformerEncoderLayer(
        256, 4, 1024, activation=functional.gelu, layer_norm_eps=1e-12, batch_first=True
    ).eval()
    names = {"out_proj": "output", "linear1": "widen", "linear2": "narrow",
             "norm1": "norm_1", "norm2": "norm_2"}  # fmt: skip
    state = {}
    for kind in ("weight", "bias"):
        thirds = [getattr(getattr(ours, name), kind) for name in ("query", "key", "value")]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(thirds)
        for name, own in names.items():
            place = f"self_attn.{name}" if name == "out_proj" else name
            state[f"{place}.{kind}"] = getattr(getattr(ours, own), kind)
    theirs.load_state_dict(state)
    x = 2 * torch.randn(3, 16, 256)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_dropouts_are_the_authors() -> None:
    net = MobilenetAttention(3)
    rates = {name: m.p for name, m in net.named_modules() if isinstance(m, nn.Dropout)}
    attention = {name for name, rate in rates.items() if rate == 0.1}
    assert attention == {f"attention.layers.{i}.dropout_weights" for i in (0, 1)}
    assert {rate for name, rate in rates.items() if name not in attention} == {0.2}
    assert len(rates) == 2 + 2 + 1 + 2


def test_order_matters_to_the_attention_alone() -> None:
    torch.manual_seed(0)
    net = attention_net(1024)
    features = torch.randn(1, 4, 256)
    swapped = features[:, [0, 3, 2, 1]]  # the first one stays the summary
    with torch.inference_mode():
        assert (net.attention(features) - net.attention(swapped)).abs().max() > 1e-4
        alone, alone_swapped = (logit_of_mean(net.alone(x)) for x in (features, swapped))
    torch.testing.assert_close(alone, alone_swapped, rtol=0, atol=1e-6)


def test_a_slice_is_the_largest_of_its_map() -> None:
    net, frames, seen = attention_net(256), mels(2, 256), []
    net.narrow.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.inference_mode():
        features = net.embed(frames)
    assert seen[0].shape == (2, 256, 1, 6)
    torch.testing.assert_close(features[:, 0], seen[0].flatten(2).max(dim=2).values, rtol=0, atol=0)


def test_the_first_position_is_the_summary() -> None:
    net, seen = attention_net(1024).attention, []
    net.layers.register_forward_hook(lambda _, __, out: seen.append(out))
    x = torch.randn(3, 4, 256, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        out = net(x)
        expected = net.dense(torch.tanh(net.pool(seen[0].select(1, 0))))
    torch.testing.assert_close(out, expected, rtol=0, atol=0)


def of_different_minds(window_frames: int) -> MobilenetAttention:
    """A net whose slices disagree."""
    net = attention_net(window_frames)
    with torch.no_grad():
        for last in (net.attention.dense, net.alone[3]):
            last.weight.mul_(20)
    return net


def test_score_is_the_mean_of_both_branches() -> None:
    net, frames = of_different_minds(512), mels(3, 512)
    with torch.inference_mode():
        features = net.embed(frames)
        scores = torch.sigmoid(net.alone(features))
        assert (scores[:, 0] - scores[:, 1]).abs().max() > 0.05
        sequence = torch.sigmoid(net.attention(features))
        slices = torch.sigmoid(net.alone(features)).mean(dim=1)
        torch.testing.assert_close(net(frames), (sequence + slices) / 2)
        torch.testing.assert_close(torch.sigmoid(net.logits(frames)), net(frames))


def test_losses_are_the_mean_of_both_cross_entropies() -> None:
    net, frames = of_different_minds(512), mels(3, 512)
    targets = torch.rand(3, 5)
    with torch.no_grad():
        features = net.embed(frames)
        sequence, slices = (x.double() for x in (net.attention(features), net.alone(features)))
        scores = torch.sigmoid(sequence), torch.sigmoid(slices).mean(dim=1)
        both = [functional.binary_cross_entropy(score, targets.double()) for score in scores]
        got = net.losses(frames, targets, functional.binary_cross_entropy_with_logits)
    torch.testing.assert_close(got, (sum(both) / 2).float())


def test_logit_of_mean_is_exact_where_floats_end() -> None:
    logits = torch.tensor([[-200.0, 90.0, 1.0, -90.0], [-200.0, 90.0, -3.0, 90.0]])[None]
    got = logit_of_mean(logits)[0]
    scores = torch.sigmoid(logits[0, :, 2].double()).mean()
    expected = [-200.0, 90.0, torch.logit(scores).item(), 0.0]
    torch.testing.assert_close(got, torch.tensor(expected))


@pytest.mark.parametrize(
    ("make", "frames", "bands"),
    [(Mobilenet, 200, 96), (MobilenetAttention, 513, 96), (MobilenetAttention, 70, 80)],
)
def test_the_daemons_version(make: type[nn.Module], frames: int, bands: int) -> None:
    net = make(5, window_frames=frames, width=bands)
    assert_frozen_is_eager(
        with_trained_statistics(net, mels(4, frames, bands, seed=2)), mels(3, frames, bands), 5
    )


@pytest.mark.parametrize("sizes", [{"window_frames": 64}, {"width": 64}])
def test_sizes_that_leave_nothing(sizes: dict[str, int]) -> None:
    key = next(iter(sizes))
    with pytest.raises(RecipeError, match=rf"^{key}: expected at least 65 .*attention.*got 64"):
        MobilenetAttention(2, **sizes)


def test_the_attention_alone_chooses_the_best_epoch() -> None:
    """With the weights as they are at that moment; everything else uses both branches."""
    net = MobilenetAttention(3, window_frames=512).eval()
    model = Model(net, 3, 96).eval()
    model.normalise(torch.full((96,), -50.0), torch.full((96,), 2.0))
    chooser = selection_model(model)
    with torch.inference_mode():
        net.attention.dense.bias += 1.0
        frames = mels(2, 512)
        sequence, slices = net.branches(net.embed((frames + 50) / 2))
        torch.testing.assert_close(chooser.logits(frames), sequence)
        both = torch.sigmoid(sequence) + torch.sigmoid(slices)
        torch.testing.assert_close(torch.sigmoid(model.logits(frames)), both / 2)
    assert selection_model(other := Model(Mobilenet(3), 3, 96)) is other
