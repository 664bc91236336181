"""The VQ-VAE of the Taiwanese team and its taggers. `test_nets` holds what is so for all nets."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.errors import RecipeError
from streamtag.train.nets.vqvae import (
    Codebook,
    Vqvae,
    VqvaeResidual,
    codebook_loss,
    straight_through,
)
from streamtag.train.nets.vqvae_classifiers import VqvaeCnn, VqvaeGru

pytestmark = pytest.mark.usefixtures("one_thread")

entropy = functional.binary_cross_entropy_with_logits


def frames(n: int, length: int = 32, seed: int = 0) -> Tensor:
    """Like ln(10000·mel + 1)."""
    return 19 * torch.rand(n, length, 128, generator=torch.Generator().manual_seed(seed))


class TestCodebook:
    """Vector quantisation (van den Oord et al. 2017, section 3)."""

    def book(self) -> Codebook:
        torch.manual_seed(1)
        return Codebook()

    def test_nearest_is_that_of_all_distances(self) -> None:
        book, z = self.book(), torch.randn(2, 256, 4, 9, generator=torch.Generator().manual_seed(2))
        nn.init.normal_(book.codes)
        every = z.double().permute(0, 2, 3, 1).unsqueeze(3) - book.codes.detach().double()
        expected = every.square().sum(4).argmin(3)
        assert torch.equal(book.nearest(z), expected)
        assert len(expected.unique()) > 20

    def test_beginning(self) -> None:
        codes = self.book().codes.detach()
        assert codes.abs().max() <= 1 / 1024
        assert codes.std() == pytest.approx(1 / 1024 / 3**0.5, rel=0.01)

    def test_the_first_of_several(self) -> None:
        book = self.book()
        with torch.no_grad():
            book.codes[[7, 300]] = 1.0
        assert (book.nearest(torch.ones(1, 256, 1, 3)) == 7).all()

    def test_half_precision_around_it_changes_nothing(self) -> None:
        book, z = self.book(), torch.randn(1, 256, 4, 50)
        exact = book.nearest(z)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(book.nearest(z), exact)

    def test_codes_keep_their_positions(self) -> None:
        book, z = self.book(), torch.randn(2, 256, 4, 5)
        index, code = book.nearest(z), book(z)
        assert torch.equal(code[1, :, 2, 3], book.codes[index[1, 2, 3]])

    def test_gradient_goes_straight_through(self) -> None:
        book, z = self.book(), torch.randn(1, 256, 4, 5, requires_grad=True)
        code = book(z)
        through = straight_through(z, code)
        assert torch.equal(through, code)
        weights = torch.randn(1, 256, 4, 5)
        (weights * through).sum().backward()
        assert torch.equal(z.grad, weights)
        assert book.codes.grad is None

    def test_each_term_draws_one_side(self) -> None:
        book, z = self.book(), torch.randn(1, 256, 4, 5, requires_grad=True)
        loss = codebook_loss(z, book(z), 0.25)
        difference = (z - book(z)).detach()
        assert float(loss.detach()) == pytest.approx(
            1.25 * float(difference.square().mean()), rel=1e-5
        )
        loss.backward()
        torch.testing.assert_close(z.grad, 0.25 * 2 * difference / difference.numel())
        assert book.codes.grad is not None
        expected = -2 * difference.sum((0, 2, 3)) / difference.numel()
        torch.testing.assert_close(book.codes.grad.sum(0), expected)


class TestAutoencoder:
    @pytest.mark.parametrize(("kind", "rows", "last"), [(1, 4, (5, 4)), (2, 1, (8, 4))])
    def test_shapes(self, kind: int, rows: int, last: tuple[int, int]) -> None:
        with torch.device("meta"):
            net = Vqvae(1, kind=kind)
            z, code = net.encode(torch.empty(2, 1024, 128))
            assert z.shape == code.shape == (2, 256, rows, 512)
            assert net.reconstruct(torch.empty(2, 1024, 128)).shape == (2, 1024, 128)
        convs = [layer for layer in net.encoder if isinstance(layer, nn.Conv2d)]
        assert [conv.dilation for conv in convs] == [(1, 2), (1, 4), (1, 8), (1, 16), (1, 1)]
        assert [conv.kernel_size for conv in convs] == [(4, 3)] * 4 + [last]
        assert not isinstance(net.encoder[13], nn.BatchNorm2d)  # nothing between conv 5 and blocks

    @pytest.mark.parametrize(
        ("kind", "width", "frames", "rows"), [(1, 96, 2, 2), (1, 80, 30, 1), (2, 160, 8, 3)]
    )
    def test_other_sizes(self, kind: int, width: int, frames: int, rows: int) -> None:
        with torch.device("meta"):
            net = Vqvae(1, kind=kind, width=width, window_frames=frames)
            x = torch.empty(1, frames, width)
            assert (net.rows, net.steps) == (rows, frames // 2)
            assert net.encode(x)[0].shape == (1, 256, rows, frames // 2)
            assert net(x).shape == x.shape

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": 3}, "kind: expected 1 or 2 for 'vqvae', got 3"),
            ({"width": 100}, "width: expected a multiple of 16, at least 80 as type 1.*got 100"),
            ({"width": 112, "kind": 2}, "width: .*at least 128 as type 2.*got 112"),
            ({"window_frames": 33}, "window_frames: expected an even number.*got 33"),
            ({"window_frames": 0}, "window_frames: expected an even number, at least 2.*got 0"),
        ],
    )
    def test_what_cannot_work(self, options: dict[str, int], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            Vqvae(1, **options)  # type: ignore[arg-type]

    def test_the_way_around_a_block_carries_a_relu(self) -> None:
        block, x = VqvaeResidual().eval(), torch.randn(1, 256, 2, 3)
        nn.init.zeros_(block.block[4].weight)
        before = x.clone()
        assert torch.equal(block(x), x.clamp(min=0))
        assert torch.equal(x, before)

    def test_beginning(self) -> None:
        torch.manual_seed(0)
        net = Vqvae(1)
        convs = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        assert len(convs) == 5 + 4 + 4 + 5
        for conv in convs:
            assert not conv.bias.any()
            fan = (conv.weight.shape[0] + conv.weight.shape[1]) * conv.weight[0, 0].numel()
            largest = float(conv.weight.detach().abs().max())
            assert largest == pytest.approx((6 / fan) ** 0.5, rel=0.02)

    def test_scale(self) -> None:
        net = Vqvae(1, window_frames=2)
        ends = torch.tensor([0.0, 19.0114]).reshape(1, 2, 1).expand(1, 2, 128)
        assert net.scaled(ends)[0, 0, 5].tolist() == pytest.approx([-0.9, 0.9])
        assert net.scaled(torch.arange(256.0).reshape(1, 2, 128))[0, 0].argmax() == 255
        assert net.scaled(frames(1, 2))[0, 0, 7, 1] == 0.9 * (
            2 * frames(1, 2)[0, 1, 7] / 19.0114 - 1
        )

    def test_loss_is_of_the_scaled_picture(self) -> None:
        torch.manual_seed(0)
        net, x = Vqvae(1, window_frames=32, beta=0.5).eval(), frames(2)
        with torch.no_grad():
            loss = net.losses(x, x, entropy)
            error = (net.reconstruct(x) - x).square().mean() * (1.8 / 19.0114) ** 2
            z, code = net.encode(x)
        distance = (z - code).square().mean()
        assert float(loss) == pytest.approx(float(error + 1.5 * distance), rel=1e-5)

    def test_a_hyperbolic_tangent_bounds_it(self) -> None:
        torch.manual_seed(0)
        net = Vqvae(1, window_frames=32).eval()
        with torch.no_grad():
            net.codebook.codes.normal_()
            net.decoder[-2].weight *= 1e6
            said = net(frames(1))
        assert [float(said.min()), float(said.max())] == pytest.approx(
            [19.0114 / 2 * (1 - 1 / 0.9), 19.0114 / 2 * (1 + 1 / 0.9)], rel=1e-5
        )

    def test_it_tags_nothing(self) -> None:
        with pytest.raises(RecipeError, match=r"task = 'reconstruct'.*use vqvae-gru or vqvae-cnn"):
            Vqvae(1, window_frames=2).logits(frames(1, 2))


class TestTaggers:
    def test_weights_of_the_autoencoder_fit(self) -> None:
        torch.manual_seed(0)
        first = Vqvae(1, window_frames=32)
        tagger = VqvaeGru(3, window_frames=32)
        assert not any(name.startswith("codec.decoder") for name in tagger.state_dict())
        tagger.codec.load_state_dict(first.state_dict())
        x = frames(2)
        for one, other in zip(first.eval().encode(x), tagger.eval().codec.encode(x), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize("kind", [1, 2])
    def test_other_weights_do_not(self, kind: int) -> None:
        tagger = VqvaeGru(3, window_frames=32, kind=kind)
        weights = Vqvae(1, kind=3 - kind).state_dict()
        with pytest.raises(RuntimeError, match="size mismatch"):
            tagger.codec.load_state_dict(weights)
        with pytest.raises(RuntimeError, match=r"Missing key.*codebook.codes"):
            tagger.codec.load_state_dict({"decoder.3.weight": torch.zeros(1)})

    def test_steps_are_halves_of_frames_and_features_go_channel_by_channel(self) -> None:
        tagger = VqvaeGru(3, window_frames=32)
        codes = torch.arange(256 * 4 * 16.0).reshape(1, 256, 4, 16)
        sequence = tagger.sequence(codes)
        assert sequence.shape == (1, 16, 1024)
        assert sequence[0, 5, 7 * 4 + 2] == codes[0, 7, 2, 5]

    @pytest.mark.parametrize("head", ["repo", "paper"])
    @pytest.mark.parametrize("kind", [1, 2])
    def test_published_windows_of_the_recurrent_one(self, kind: int, head: str) -> None:
        with torch.device("meta"):
            tagger = VqvaeGru(56, kind=kind, head=head)
            z, code = tagger.codec.encode(torch.empty(1, 1024, 128))
            sequence = tagger.sequence(straight_through(z, code))
        classifier = tagger.classifier.to_empty(device="cpu")
        for parameter in classifier.parameters():
            nn.init.constant_(parameter, 0.01)
        assert classifier(torch.zeros(sequence.shape)).shape == (1, 56)

    def test_layers_of_the_authors_code(self) -> None:
        with torch.device("meta"):
            deep: Any = VqvaeGru(56).classifier
            plain: Any = VqvaeGru(56, head="paper").classifier
            picture: Any = VqvaeCnn(56).classifier
        assert deep.norm_first.normalized_shape == (512, 512)
        assert deep.norm_last.normalized_shape == (4, 256)
        assert (deep.first.num_layers, deep.first.dropout) == (2, 0.3)
        assert (deep.last.num_layers, deep.last.dropout) == (2, 0.3)
        assert [m.p for m in deep.dense if isinstance(m, nn.Dropout)] == [0.05, 0.05]
        assert plain.norm.normalized_shape == (512,)
        assert (plain.first.num_layers, plain.last.num_layers) == (1, 1)
        assert picture.dense.in_features == 1280
        assert isinstance(picture.norm, nn.BatchNorm1d)
        assert picture.dropout.p == 0.5

    def test_the_last_normalisation_is_of_the_logits(self) -> None:
        torch.manual_seed(0)
        tagger = VqvaeCnn(3, window_frames=192)
        with torch.no_grad():
            logits = tagger.classifier(torch.randn(4, 96, 1024))
        torch.testing.assert_close(logits.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
        torch.testing.assert_close(logits.var(0, correction=0), torch.ones(3), rtol=0, atol=1e-2)

    @pytest.mark.parametrize(
        ("net", "options", "message"),
        [
            (VqvaeGru, {"head": "code"}, "head: expected 'repo' or 'paper'.*got 'code'"),
            (VqvaeGru, {"window_frames": 31}, "window_frames: expected an even number"),
            (VqvaeCnn, {"back_end": "3d"}, "back_end: expected '2d' or '1d'.*got '3d'"),
            (VqvaeCnn, {"window_frames": 190}, "window_frames: expected at least 192.*got 190"),
            (VqvaeCnn, {"window_frames": 2, "back_end": "1d"}, "at least 4 for 'vqvae-cnn', got 2"),
            (VqvaeCnn, {"kind": 2}, "back_end: expected '1d' where.*got '2d with 1'"),
            (VqvaeCnn, {"width": 112}, "fewer than 4 rows of codes for .*got '2d with 3'"),
        ],
    )
    def test_what_cannot_work(self, net: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            net(3, **options)

    @pytest.mark.parametrize(
        ("net", "options"),
        [
            (VqvaeGru, {"window_frames": 2}),
            (VqvaeCnn, {"window_frames": 4, "back_end": "1d", "kind": 2}),
            (VqvaeCnn, {"window_frames": 394, "width": 224}),
        ],
    )
    def test_other_sizes(self, net: Any, options: dict[str, Any]) -> None:
        with torch.device("meta"):
            x = torch.empty(2, options["window_frames"], options.get("width", 128))
            assert net(3, **options).eval()(x).shape == (2, 3)


class TestFrozen:
    """Runs 2 and 4 keep the codec as the pre-training left it; the others go on with it."""

    def tagger(self, *, frozen: bool) -> VqvaeGru:
        torch.manual_seed(0)
        tagger = VqvaeGru(3, window_frames=32, head="paper", frozen=frozen)
        nn.init.normal_(tagger.codec.codebook.codes)
        return tagger

    def targets(self) -> Tensor:
        return torch.tensor([[1.0, 0, 0], [0, 1, 1]])

    def test_train_does_not_reach_the_codec(self) -> None:
        tagger = self.tagger(frozen=True).train()
        assert tagger.training
        assert tagger.classifier.training
        assert not any(module.training for module in tagger.codec.modules())
        assert not tagger.eval().classifier.training
        assert self.tagger(frozen=False).train().codec.encoder.training

    @pytest.mark.parametrize("frozen", [True, False])
    def test_what_a_step_changes(self, frozen: bool) -> None:
        tagger = self.tagger(frozen=frozen).train()
        before = {name: value.clone() for name, value in tagger.state_dict().items()}
        tagger.losses(frames(2), self.targets(), entropy).backward()
        torch.optim.SGD([p for p in tagger.parameters() if p.requires_grad], 0.1).step()
        changed = {
            k for k, value in tagger.state_dict().items() if not torch.equal(value, before[k])
        }
        codec = {name for name in changed if name.startswith("codec.")}
        assert "classifier.dense.weight" in changed
        assert bool(codec) is not frozen
        if not frozen:
            assert {"codec.codebook.codes", "codec.encoder.0.weight"} <= codec
            assert "codec.encoder.1.running_mean" in codec

    def test_losses(self) -> None:
        x, y = frames(2), self.targets()
        tagger = self.tagger(frozen=True).eval()
        with torch.no_grad():
            tags = float(entropy(tagger.logits(x), y))
            assert float(tagger.losses(x, y, entropy)) == pytest.approx(tags, rel=1e-6)
            joint = self.tagger(frozen=False).eval()
            z, code = joint.codec.encode(x)
            distance = float((z - code).square().mean())
            assert distance > 0.01
            both = float(joint.losses(x, y, entropy))
        assert both == pytest.approx(tags + 2 * distance, rel=1e-5)
