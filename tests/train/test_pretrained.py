"""What a net begins with: ImageNet, a run, a bundle; what fits is taken, the rest is refused."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support.tones import RECIPE, write_tones
from support.torchvision_nets import (
    TorchvisionMobilenet,
    TorchvisionResnet34,
    with_statistics,
)
from torch import Tensor, nn

from streamtag.errors import BundleError, RecipeError
from streamtag.model.bundle import read_card
from streamtag.model.card import Card
from streamtag.train.exporting.bundle import export
from streamtag.train.exporting.ensemble import mean_of_bundles
from streamtag.train.importing.torchvision import imagenet_weights
from streamtag.train.job import export_run, train
from streamtag.train.nets import NETS
from streamtag.train.nets.model import Model, new_model
from streamtag.train.pretrained import (
    Origin,
    begin_with,
    check_answers,
    find_origin,
    read_origin,
)
from streamtag.train.recipes.file import load_recipe
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.run_folder import RunFolder

TWO, THREE = ("a", "b"), ("a", "b", "c")
VGGISH = ("window_frames=1366",)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def mobilenet() -> TorchvisionMobilenet:
    torch.manual_seed(1)
    return with_statistics(TorchvisionMobilenet())  # type: ignore[return-value]


def model(recipe: Recipe, n_tags: int, seed: int = 7) -> Model:
    """The recipe's model with weights of its own."""
    made = new_model(recipe, n_tags)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for value in made.net.parameters():
            value.copy_(0.05 * torch.randn(value.shape, generator=generator))
    return made


def finished_run(path: Path, recipe: Recipe, made: Model, tags: Sequence[str]) -> Path:
    """The folder of a run that ended with a model."""
    folder = RunFolder(path, recipe)
    folder.begin({})
    folder.finish([made.state_dict()], None)
    (path / "data.json").write_text(json.dumps({"tags": list(tags)}))
    return path


def equal(ours: nn.Module, theirs: nn.Module, but: Sequence[str] = ()) -> bool:
    state = theirs.state_dict()
    return all(
        torch.equal(value, state[name])
        for name, value in ours.state_dict().items()
        if not name.startswith(tuple(but))
    )


# -- ImageNet --------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["mobilenet", "mobilenet-attention"])
def test_mobilenets_have_the_features_of_imagenet(
    net: str, mobilenet: TorchvisionMobilenet, tmp_path: Path
) -> None:
    path = tmp_path / "mobilenet_v2-b0353104.pth"
    torch.save(mobilenet.state_dict(), path)
    recipe = load_recipe("amlag-1" if net == "mobilenet" else "amlag-2")
    made = new_model(recipe, 56)
    fresh = new_model(recipe, 56).net
    notes = begin_with(made, recipe, ("?",) * 56, read_origin(path))
    assert notes == [f"begins with ImageNet's weights from {path}; the rest of the net is new"]
    made.eval()
    body: Any = made.net.body if net == "mobilenet" else made.net
    x = torch.randn(1, 3, 96, 70)
    with torch.no_grad():
        assert torch.equal(body.features(x), mobilenet.features(x))
    prefix = "body.features." if net == "mobilenet" else "features."
    assert equal(made.net, fresh, [prefix])
    assert not equal(made.net, fresh)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_resnet34_hears_what_imagenets_sees_in_grey(channels: int) -> None:
    """Each of k channels has a k-th of the sum over colours; three channels are colours."""
    theirs: Any = with_statistics(TorchvisionResnet34())
    net: Any = NETS["resnet34"](5, width=64 * channels, window_frames=64, channels=channels)
    found = imagenet_weights(theirs.state_dict(), "resnet34", net.state_dict(), "x")
    net.load_state_dict(net.state_dict() | found)
    net.eval()
    net.dense = nn.Identity()
    x = torch.randn(2, channels, 64, 64)
    image = x if channels == 3 else x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    frames = x.permute(0, 3, 1, 2).reshape(2, 64, -1)
    with torch.no_grad():
        torch.testing.assert_close(net.logits(frames), theirs.pooled(image), rtol=1e-4, atol=1e-3)


def test_old_checkpoints_have_no_counters(mobilenet: TorchvisionMobilenet) -> None:
    old = {k: v for k, v in mobilenet.state_dict().items() if "num_batches_tracked" not in k}
    target = NETS["mobilenet"](3, width=96, window_frames=64).state_dict()
    assert len(imagenet_weights(old, "mobilenet", target, "x")) == len(old) - 2


def spoilt(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    state, name = dict(state), "features.3.conv.0.0.weight"
    if how == "missing":
        del state[name]
    elif how == "left over":
        state["features.19.0.weight"] = state[name]
    elif how == "narrow":
        state[name] = state[name][:3]
    else:
        state = {"model": state}  # type: ignore[dict-item]
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"of torchvision's mobilenet_v2 .*got no body\.features\.3\.layers\.0\.0\.wei"),
        ("left over", r"got body\.features\.19\.0\.weight left over: fetch the checkpoint"),
        ("narrow", r"got body\.features\.3\.layers\.0\.0\.weight of shape \(3, 24, 1, 1\)"),
        ("inside", r"expected a checkpoint .*got dict under 'model'.*save them alone"),
    ],
)
def test_other_checkpoints_are_refused(
    mobilenet: TorchvisionMobilenet, tmp_path: Path, how: str, message: str
) -> None:
    path = tmp_path / "x.pth"
    torch.save(spoilt(mobilenet.state_dict(), how), path)
    recipe = load_recipe("amlag-1")
    with pytest.raises((RecipeError, BundleError), match=message):
        begin_with(new_model(recipe, 2), recipe, TWO, read_origin(path))


def test_imagenet_is_not_for_every_net(mobilenet: TorchvisionMobilenet) -> None:
    with pytest.raises(RecipeError, match=r"x: .* fit \(mobilenet, .*resnet34\), got 'vggish': be"):
        imagenet_weights(mobilenet.state_dict(), "vggish", {}, "x")
    target = NETS["resnet34"](5, width=64, window_frames=64).state_dict()
    with pytest.raises(RecipeError, match=r"of torchvision's resnet34 for net 'resnet34', got no"):
        imagenet_weights(mobilenet.state_dict(), "resnet34", target, "x")


# -- runs and bundles ------------------------------------------------------------------------------


def test_a_run_gives_all_but_the_outputs_for_other_tags(tmp_path: Path) -> None:
    recipe = load_recipe("vggish", VGGISH)
    old = model(recipe, 2)
    old.normalise(torch.arange(96.0), torch.full((96,), 2.0))
    run = finished_run(tmp_path / "vggish", recipe, old, TWO)
    assert find_origin("vggish", tmp_path) == run
    assert find_origin("vggish.toml", tmp_path) == run
    assert find_origin(str(run / "weights.pt"), tmp_path) == run
    origin = read_origin(run)
    assert origin.tags == TWO
    made, fresh = new_model(recipe, 3), new_model(recipe, 3)
    (note,) = begin_with(made, recipe, THREE, origin)
    assert note == (
        f"begins with the weights of {run}; new for 3 tags instead of 2 other tags: "
        "dense.bias, dense.weight"
    )
    assert equal(made.net, old.net, ["dense."])
    assert torch.equal(made.net.dense.weight, fresh.net.dense.weight)  # type: ignore[union-attr]
    assert torch.equal(made.mean, old.mean)
    assert torch.equal(made.scale, old.scale)


@pytest.mark.parametrize("tags", [TWO, ("b", "a")])
def test_outputs_are_kept_for_the_same_tags_alone(tmp_path: Path, tags: tuple[str, ...]) -> None:
    recipe = load_recipe("vggish", VGGISH)
    old = model(recipe, 2)
    origin = read_origin(finished_run(tmp_path / "vggish", recipe, old, TWO))
    made = new_model(recipe, 2)
    begin_with(made, recipe, tags, origin)
    assert equal(made.net, old.net) == (tags == TWO)
    assert equal(made.net, old.net, ["dense."])


def card(recipe: Recipe, tags: tuple[str, ...]) -> Card:
    levels = {"on_thresholds": (0.5,) * len(tags), "off_thresholds": (0.4,) * len(tags)}
    return Card(name="x", net=recipe.net.name, features=recipe.features, tags=tags, licence="-",
                window_frames=recipe.window_frames, hop_frames=recipe.hop_frames,
                first_frames=recipe.first_frames, padding=recipe.padding, smoothing_seconds=0.0,
                min_on_seconds=0.0, min_off_seconds=0.0, **levels)  # fmt: skip


@pytest.mark.parametrize("imported", [True, False])
def test_a_bundle_gives_its_net(tmp_path: Path, imported: bool) -> None:
    """Imported bundles hold the net itself, trained ones a `Model` around it."""
    (tmp_path / "tones.toml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "tones.toml")
    old = model(recipe, 2).eval()
    if not imported:
        old.normalise(torch.full((80,), -3.0), torch.full((80,), 2.0))
    path = tmp_path / "old.pt"
    export(old.net if imported else old, card(recipe, TWO), path)
    made = new_model(recipe, 3)
    notes = begin_with(made, recipe, THREE, read_origin(path))
    assert "instead of 2 other tags: dense.bias, dense.weight" in notes[0]
    assert equal(made.net, old.net, ["dense."])
    assert torch.equal(made.mean, old.mean)
    same = new_model(recipe, 2)
    assert begin_with(same, recipe, TWO, read_origin(path)) == [
        f"begins with all weights of {path}"
    ]
    assert equal(same, old, ["temperature"])
    both = tmp_path / "both.pt"
    mean_of_bundles([path, path], both)
    with pytest.raises(RecipeError, match=r"both.pt: expected a bundle of one net, got mean of 2"):
        read_origin(both)


def test_another_net_or_window_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe("polimi-cnn2d", ("window_frames=46", "first_frames=18"))
    run = finished_run(tmp_path / "x", recipe, model(recipe, 2), TWO)
    wider = load_recipe("polimi-cnn2d", ("window_frames=64", "first_frames=18"))
    begin_with(new_model(recipe, 3), recipe, THREE, read_origin(run))
    begin_with(new_model(wider, 3), wider, THREE, read_origin(run))  # only the outputs differ
    vggish, origin = load_recipe("vggish", VGGISH), read_origin(run)
    made = new_model(vggish, 3)
    with pytest.raises(RecipeError, match=r"weights for net 'vggish', got no .* more: begin with"):
        begin_with(made, vggish, THREE, origin)


def test_another_front_end_is_told(tmp_path: Path) -> None:
    recipe = load_recipe("vggish", VGGISH)
    run = finished_run(tmp_path / "x", recipe, model(recipe, 2), TWO)
    other = load_recipe("vggish", (*VGGISH, "features.sample_rate=16000"))
    notes = begin_with(new_model(other, 2), other, TWO, read_origin(run))
    assert notes[1].endswith("trained with another front end: sample_rate 12000, here 16000")


def test_of_several_nets_the_best_epoch_counts(tmp_path: Path) -> None:
    recipe = load_recipe("vggish", VGGISH)
    nets = [model(recipe, 2, seed) for seed in range(3)]
    run = finished_run(tmp_path / "x", recipe, nets[0], TWO)
    folder = RunFolder(run, recipe)
    states = [net.state_dict() for net in nets]
    folder.finish(states, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).numpy())
    with pytest.raises(RecipeError, match=r"expected the weights of one net, got 3 nets and no"):
        read_origin(run)
    torch.save({"run": {"best_weights": states[2]}}, run / "checkpoint.pt")
    made = new_model(recipe, 2)
    begin_with(made, recipe, TWO, read_origin(run))
    assert equal(made.net, nets[2].net)
    folder.finish(states, None)  # snapshots after the best epoch
    begin_with(made, recipe, TWO, read_origin(run))
    assert equal(made.net, nets[0].net)


SMALL = ("window_frames=192", "first_frames=86")


def test_a_taggers_codec_alone_begins_another_tagger(tmp_path: Path) -> None:
    """The authors' chain: the codec of a GRU of MagnaTagATune under a CNN of Jamendo."""
    first = load_recipe("taiwan-mtat", SMALL)
    run = finished_run(tmp_path / "taiwan-mtat", first, model(first, 2), TWO)
    recipe = load_recipe("taiwan-run-3", SMALL)
    with pytest.raises(RecipeError, match=r"net 'vqvae-cnn', got no classifier\..*pretrained_part"):
        begin_with(new_model(recipe, 3), recipe, THREE, read_origin(run))
    recipe = load_recipe("taiwan-run-3", (*SMALL, "pretrained_part=codec"))
    made, fresh = new_model(recipe, 3), new_model(recipe, 3)
    (note,) = begin_with(made, recipe, THREE, read_origin(run))
    assert note == f"begins with the codec of {run}; the rest of the net is new"
    old: Any = model(first, 2).net
    assert equal(made.net.codec, old.codec)  # type: ignore[arg-type]
    assert equal(made.net, fresh.net, ["codec."])
    recipe = load_recipe("taiwan-run-3", (*SMALL, "pretrained_part=head"))
    with pytest.raises(RecipeError, match=r"part of net 'vqvae-cnn' \(codec, classif.*got 'head'"):
        begin_with(new_model(recipe, 3), recipe, THREE, read_origin(run))


def test_weights_without_a_finite_answer_are_refused() -> None:
    recipe = load_recipe("vggish", VGGISH)
    made = model(recipe, 2)
    origin = Origin("x", dict(made.net.state_dict()), None, TWO, recipe.features)
    assert origin.checksum == Origin("y", dict(made.net.state_dict())).checksum
    check_answers(made, torch.zeros(1366, 96), "x")
    made.net.dense.bias.data[0] = torch.inf  # type: ignore[union-attr]
    made.net.dense.weight.data[0] = -torch.inf  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match=r"x: expected finite scores for a window"):
        check_answers(made, torch.ones(1366, 96), "x")


# -- the whole way ---------------------------------------------------------------------------------


def test_a_tagger_learns_further_on_other_tags(tmp_path: Path) -> None:
    """Two trainings as a user does them; the second names the first by the name of its run."""
    manifest = write_tones(tmp_path)
    rows = list(csv.reader(manifest.read_text().splitlines()))
    with (tmp_path / "other.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[name, f"{tags} tone" if i else tags, split]
                                    for i, (name, tags, split) in enumerate(rows)])  # fmt: skip
    (tmp_path / "tones.toml").write_text(RECIPE)
    (tmp_path / "further.toml").write_text('like = "tones"\nname = "further"\n')
    few = ("fit.stages.0.epochs=1",)
    where: dict[str, Any] = {"cache": tmp_path / "cache", "runs": tmp_path / "runs"}
    further = (tmp_path / "further.toml", tmp_path / "other.csv", tmp_path / "further.pt")
    with pytest.raises(RecipeError, match=r"further': pretrained: .*runs, .*recipe, got 'nothing'"):
        train(*further, changes=("pretrained=nothing",), **where)
    with pytest.raises(RecipeError, match=r"found none: train it on its own data first: streamtag"):
        train(*further, changes=(f"pretrained={tmp_path}/tones.toml",), **where)
    train(tmp_path / "tones.toml", manifest, tmp_path / "tones.pt", changes=few, **where)
    with (tmp_path / "said").open("w") as said:
        train(*further, changes=(*few, "fit.stages.0.lr=1e-9", "pretrained=tones"),
              console=Console(file=said, width=300), **where)  # fmt: skip
    assert "further: begins with the weights of" in (tmp_path / "said").read_text()
    states = [
        torch.load(tmp_path / "runs" / name / "weights.pt", weights_only=True)["members"][0]
        for name in ("tones", "further")
    ]
    kept = [n for n, value in states[0].items() if n.startswith("net.") and "norm" not in n
            and value.is_floating_point() and value.shape[0] != 2]  # fmt: skip
    assert len(kept) >= 4
    for name in kept:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=1e-5)
    card = read_card(tmp_path / "further.pt")
    assert card.extra["recipe"]["pretrained"] == "tones"
    assert card.extra["begins_with"]["source"] == "runs/tones"
    assert ". It begins with the weights of" in card.licence
    bundle = tmp_path / "tones.pt"
    path = train(*further, changes=(*few, f"pretrained={bundle}"), name="third", **where)
    once = read_card(path)
    assert once.extra["recipe"]["pretrained"] == str(bundle)
    assert once.licence.endswith(f"{bundle.parent.name}/tones.pt: {read_card(bundle).licence}")
    export_run(tmp_path / "runs" / "third", path, data=further[1], cache=where["cache"])
    assert read_card(path).licence == once.licence
    fourth = train(*further, changes=(*few, "pretrained=third"), name="fourth", **where)
    assert read_card(fourth).licence.endswith(read_card(bundle).licence)  # passed on
    train(tmp_path / "tones.toml", manifest, bundle, changes=(*few, "seed=3"), fresh=True, **where)
    with pytest.raises(RecipeError, match="the weights that the net begins with differ"):
        train(*further, changes=(*few, f"pretrained={bundle}"), name="third", **where)
