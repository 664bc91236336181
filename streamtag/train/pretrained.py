"""What a net begins with: `pretrained` in a recipe.

It names a run (`taiwan-vqvae-1`), a run folder, a bundle of one net, or a checkpoint of
torchvision. The weights of a run or of a bundle must fit the whole net, or with `pretrained_part`
that part of it. Only the outputs may differ: the layers whose shapes depend on the number of tags
stay fresh unless both have the same tags in the same order. The mean and the scale of the bands
belong to the weights and come with them.
"""

import dataclasses
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from streamtag.audio.feature_config import FeatureConfig
from streamtag.errors import RecipeError
from streamtag.model.bundle import CARD, read_card
from streamtag.model.card import Card
from streamtag.model.tagger import read_module
from streamtag.train.importing.checkpoint import fingerprint, read_checkpoint
from streamtag.train.importing.torchvision import imagenet_weights
from streamtag.train.nets.model import Model, new_model
from streamtag.train.recipes.file import find_recipe, from_dict, load_recipe
from streamtag.train.recipes.recipe import Recipe, Task
from streamtag.train.run_folder import result

State = dict[str, Tensor]
CODEC = "codec"
"""The part of a tagger that a run without tags gives the weights of."""
DECODER = "decoder."
"""Beginning of the weights of a codec that a tagger has no use for."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Weights to begin with."""

    source: str
    """Where they are from, for messages."""
    weights: State
    """By the names of the net that they were trained in."""
    scaling: tuple[Tensor, Tensor] | None = None
    """Mean and scale of the bands that they were trained with; None for ImageNet."""
    tags: tuple[str, ...] | None = None
    """Names of its outputs; None if they are not known."""
    features: FeatureConfig | None = None
    """The front end that they were trained with; None for ImageNet."""
    licence: str = ""
    """Of the weights; empty if it is not known."""

    @property
    def facts(self) -> dict[str, str]:
        """What the run and the card of a model say of the weights that it begins with, without the
        path of this machine."""
        source = "/".join(Path(self.source).parts[-2:])
        return {"source": source, "checksum": self.checksum, "licence": self.licence}

    @property
    def checksum(self) -> str:
        """SHA-256 of all weights."""
        return fingerprint(self.weights)


def find_origin(pretrained: str, runs: Path) -> Path | None:
    """The run folder or the file that `pretrained` names; None if no such thing exists yet."""
    path = Path(pretrained)
    run = runs / (path.stem if path.suffix == ".toml" else path.name)
    if path.suffix == ".toml" or len(path.parts) == 1:
        if (run / "weights.pt").exists():
            return run
        if path.suffix == ".toml":
            return None
    if path.name in ("weights.pt", "checkpoint.pt") and path.exists():
        return path.parent
    return path if path.exists() else None


def origin_or_recipe(recipe: Recipe, runs: Path, changes: Iterable[str]) -> Path | Recipe:
    """Where the weights are that a recipe begins with, or the autoencoder to be trained first.

    Args:
        recipe: with `pretrained`.
        runs: folder of the run folders.
        changes: `KEY=VALUE` of the training; the autoencoder gets those that can apply to it.

    Raises:
        RecipeError: there is no such run, file or recipe, or it is a tagger's recipe without a run,
            which needs data of its own.
    """
    name = recipe.pretrained
    if (found := find_origin(name, runs)) is not None:
        return found
    what = f"recipe {recipe.name!r}: pretrained: expected a finished run"
    if not find_recipe(name).exists():
        raise RecipeError(
            f"{what} in {runs}, a run folder, a bundle, a checkpoint of torchvision or a recipe, "
            f"got {name!r}: correct it"
        )
    own = ("net.", "recordings.", "pretrained")
    first = load_recipe(name, [change for change in changes if not change.startswith(own)])
    if first.task is not Task.RECONSTRUCT:
        raise RecipeError(
            f"{what} of {name!r} in {runs}, found none: train it on its own data first: streamtag "
            f"train {name} --data FOLDER"
        )
    return first


def read_origin(path: Path) -> Origin:
    """Reads the weights of a run folder, a bundle or a checkpoint.

    Raises:
        RecipeError: there are none, or they are those of several nets.
        BundleError: the file is damaged.
    """
    if path.is_dir():
        return _of_run(path)
    return _of_bundle(path) if _is_bundle(path) else Origin(str(path), read_checkpoint(path))


def begin_with(model: Model, recipe: Recipe, tags: tuple[str, ...], origin: Origin) -> list[str]:
    """Loads weights into a fresh model.

    Args:
        model: of the recipe.
        recipe: its net and `pretrained_part`.
        tags: names of its outputs.
        origin: the weights.

    Returns:
        Sentences about what was taken and what was not.

    Raises:
        RecipeError: the weights do not fit.
    """
    net: Any = model.net
    if origin.features is None:
        found = imagenet_weights(origin.weights, recipe.net.name, net.state_dict(), origin.source)
        net.load_state_dict(net.state_dict() | found)
        return [f"begins with ImageNet's weights from {origin.source}; the rest of the net is new"]
    part = recipe.pretrained_part
    if not part and hasattr(net, CODEC) and not _has_part(origin.weights, CODEC):
        part = CODEC
    notes = [_take_part(net, recipe, origin, part) if part else _take(net, recipe, tags, origin)]
    return notes + list(_take_front_end(model, recipe, origin))


def facts_of_run(folder: Path) -> dict[str, str]:
    """The `Origin.facts` of the weights that a run began with; empty if they were random."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        return dict(about["begins_with"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def with_origin(card: Card, folder: Path) -> Card:
    """The card of a run's model with the weights that it begins with, and their licence."""
    if not (facts := facts_of_run(folder)):
        return card
    terms = facts.get("licence") or "licence not known, ask where they are from"
    licence = (
        f"{card.licence.rstrip('.')}. It begins with the weights of {facts.get('source')}: {terms}"
    )
    return dataclasses.replace(card, licence=licence, extra=card.extra | {"begins_with": facts})


def check_answers(model: Model, frames: Tensor, source: str) -> None:
    """Refuses weights with which the net has no finite answer.

    Args:
        model: as training begins with it.
        frames: (window_frames, width) of the training data.
        source: of the weights, for the message.

    Raises:
        RecipeError: the answer to the frames is not finite.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        answer = model.net((frames.to(model.mean.device)[None] - model.mean) / model.scale)
    model.train(was_training)
    if not bool(torch.isfinite(answer).all()):
        raise RecipeError(
            f"{source}: expected finite scores for a window of the training data, got "
            f"{answer.flatten()[:3].tolist()}: the weights are of another front end, or damaged"
        )


def _is_bundle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(f"/extra/{CARD}") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _of_run(folder: Path) -> Origin:
    try:
        recipe = from_dict(json.loads((folder / "recipe.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{folder}: expected a run folder with recipe.json, got: {error}; name a run, a bundle "
            "or a checkpoint of torchvision"
        ) from error
    weights = _single(folder)
    net = {k.removeprefix("net."): v for k, v in weights.items() if k.startswith("net.")}
    scaling = weights["mean"], weights["scale"]
    below = facts_of_run(folder).get("licence", "")
    licence = "; ".join(dict.fromkeys(text for text in (recipe.licence, below) if text))
    tags = _tags_of_run(folder, recipe)
    return Origin(str(folder), net, scaling, tags, recipe.features, licence)


def _single(folder: Path) -> State:
    """The weights of the one net of a run, or of the best epoch if it ended with several."""
    members, shares = result(folder)
    if len(members) == 1 or shares is None:  # of snapshots, the first is the best epoch
        return members[0]
    path = folder / "checkpoint.pt"
    if not path.exists():
        raise RecipeError(
            f"{folder}: expected the weights of one net, got {len(members)} nets and no "
            "checkpoint.pt with the best epoch: name a run of one net"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    best: State = state["run"]["best_weights"] or state["model"]
    return best


def _tags_of_run(folder: Path, recipe: Recipe) -> tuple[str, ...] | None:
    try:
        table = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        return tuple(table["tags"])
    except (OSError, ValueError, KeyError, TypeError):
        return recipe.tags or None


def _of_bundle(path: Path) -> Origin:
    card = read_card(path)
    weights = dict(read_module(path, torch.device("cpu")).state_dict())
    if _has_part(weights, "net.members") or _has_part(weights, "members"):
        raise RecipeError(
            f"{path}: expected a bundle of one net, got {card.net}: name the bundle or the run of "
            "one of its members"
        )
    n = card.features.width
    scaling = weights.get("mean", torch.zeros(n)), weights.get("scale", torch.ones(n))
    if "temperature" in weights:  # a `Model`; imported nets come without one
        weights = {k.removeprefix("net."): v for k, v in weights.items() if k.startswith("net.")}
    return Origin(str(path), weights, scaling, card.tags, card.features, card.licence)


def _has_part(weights: State, part: str) -> bool:
    return any(name.startswith(f"{part}.") for name in weights)


def _take_part(net: Any, recipe: Recipe, origin: Origin, part: str) -> str:
    """Loads one part of the net; the origin is that part alone, or has it under the same name."""
    inner = getattr(net, part, None)
    if not isinstance(inner, torch.nn.Module):
        parts = ", ".join(name for name, _ in net.named_children())
        raise RecipeError(
            f"pretrained_part: expected a part of net {recipe.net.name!r} ({parts}), got {part!r}"
        )
    own = {
        name.removeprefix(f"{part}."): value
        for name, value in origin.weights.items()
        if name.startswith(f"{part}.")
    }
    found = own or {k: v for k, v in origin.weights.items() if not k.startswith(DECODER)}
    _check_fit(f"{part} of net {recipe.net.name!r}", inner.state_dict(), found, set(), origin)
    inner.load_state_dict(found)
    return f"begins with the {part} of {origin.source}; the rest of the net is new"


def _take(net: Any, recipe: Recipe, tags: tuple[str, ...], origin: Origin) -> str:
    """Loads the whole net, but the outputs only where the tags are the same."""
    target, found = net.state_dict(), origin.weights
    outputs = _outputs(recipe, len(tags))
    if origin.tags == tags and all(
        target[k].shape == found[k].shape for k in outputs if k in found
    ):
        outputs = set()
    _check_fit(f"net {recipe.net.name!r}", target, found, outputs, origin)
    net.load_state_dict({k: target[k] if k in outputs else v for k, v in found.items()})
    if not outputs:
        return f"begins with all weights of {origin.source}"
    old = "unknown tags" if origin.tags is None else f"{len(origin.tags)} other tags"
    return (
        f"begins with the weights of {origin.source}; new for {len(tags)} tags instead of {old}: "
        f"{', '.join(sorted(outputs))}"
    )


def _outputs(recipe: Recipe, n_tags: int) -> set[str]:
    """The weights whose shape depends on the number of tags."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        ours, other = (new_model(recipe, n).net.state_dict() for n in (n_tags, n_tags + 1))
    return {name for name, value in ours.items() if value.shape != other[name].shape}


def _check_fit(what: str, target: State, found: State, outputs: set[str], origin: Origin) -> None:
    """Refuses weights that are missing, left over or of another shape, but for the outputs."""
    faults = [f"no {name}" for name in sorted(target.keys() - found.keys())]
    faults += [f"{name} left over" for name in sorted(found.keys() - target.keys())]
    faults += [
        f"{name} of shape {tuple(found[name].shape)} for {tuple(value.shape)}"
        for name, value in target.items()
        if name in found and name not in outputs and found[name].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise RecipeError(
            f"{origin.source}: expected weights for {what}, got {', '.join(faults[:3])}{more}: "
            "begin with the same net and window, or name a part that both have: pretrained_part"
        )


def _take_front_end(model: Model, recipe: Recipe, origin: Origin) -> Iterator[str]:
    """Takes over the scaling of the bands; says where the front ends differ."""
    assert origin.features is not None
    assert origin.scaling is not None
    ours, theirs = recipe.features.to_dict(), origin.features.to_dict()
    if origin.scaling[0].shape == model.mean.shape:
        model.normalise(*origin.scaling)
    if differing := [key for key in ours if ours[key] != theirs[key]]:
        shown = ", ".join(f"{key} {theirs[key]!r}, here {ours[key]!r}" for key in differing[:4])
        yield f"{origin.source} was trained with another front end: {shown}"
