"""What every net is wrapped in: normalisation before it, temperature and sigmoid after it.

The contract of a net in `nets.NETS`: a constructor `Net(n_tags, *, width=…, window_frames=…,
**options)` whose defaults are the published sizes, a method `logits(frames)` from
(n, window_frames, width) to (n, n_tags), and a `forward` that is its sigmoid. A net that gives
dimensions too is made with four outputs more; `nets.dimensions` says what they mean. Optional
besides:

* `losses(frames, targets, criterion) -> Tensor` instead of `criterion(logits(frames), targets)`:
  several outputs, or further terms;
* `side_logits(frames, side)` for nets that take values beside the frames in training;
* `embed(frames)`, `logits_of(embeddings)` and `reach` of nets that can stream (`net.StreamingNet`);
* `selection_logits(frames)` if other logits than `logits` choose the best epoch;
* `count(targets)` for nets that count tags and are not trained.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.errors import RecipeError
from streamtag.train.data.vocabulary import read_vocabulary
from streamtag.train.nets import NETS
from streamtag.train.nets.dimensions import values_and_deviations
from streamtag.train.nets.net import StatefulNet, StreamingNet
from streamtag.train.recipes.recipe import Recipe

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits and targets, (n, n_tags) each, to a loss."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Tags whose probability is multiplied by that of another tag: no genre without music.

    The loss of the training is computed without the gate; predictions use it.
    """

    by: int
    """Column of the other tag."""
    tags: tuple[int, ...]
    """Columns of the gated tags."""
    power: float = 1.0
    """The exponent of that probability: with less than 1, music that is hardly known as such keeps
    more of its tags."""


class Model(nn.Module):
    """(n, window_frames, width) frames to (n, n_tags) calibrated probabilities, and dimensions.

    Args:
        net: fulfils the contract above.
        n_tags: probabilities.
        width: values per frame.
        gate: tags that cannot be more probable than another one. Without it, the dimensions are
            unknown too.
        n_dimensions: dimensions besides; the net has two outputs more for each. The result has the
            value of each, and then the deviation of each.
    """

    def __init__(
        self,
        net: nn.Module,
        n_tags: int,
        width: int,
        gate: Gate | None = None,
        n_dimensions: int = 0,
    ) -> None:
        super().__init__()
        self.net, self.n_tags, self.n_dimensions = net, n_tags, n_dimensions
        self.gate = -1 if gate is None else gate.by
        self.gate_power = 1.0 if gate is None else gate.power
        self.gated: Tensor
        which = torch.zeros(n_tags, dtype=torch.bool)
        which[list(gate.tags) if gate else []] = True
        self.register_buffer("gated", which, persistent=False)
        self.mean: Tensor
        self.scale: Tensor
        self.temperature: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.spread: Tensor
        self.register_buffer("temperature", torch.ones(n_tags))
        self.register_buffer("spread", torch.ones(n_dimensions), persistent=n_dimensions > 0)

    def normalise(self, mean: Tensor, scale: Tensor) -> None:
        """Sets the mean and the scale of each band, (width,) each."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def calibrate(self, temperature: Tensor) -> None:
        """Sets the divisor of each tag's logit, (n_tags,) (Guo et al. 2017)."""
        self.temperature.copy_(temperature)

    def calibrate_deviations(self, spread: Tensor) -> None:
        """Sets the factor on each dimension's deviation, (n_dimensions,)."""
        self.spread.copy_(spread)

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags), before the temperature."""
        return self.gated_logits(self.raw(frames))

    def raw(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags), and what the dimensions are made of."""
        out: Tensor = self.net.logits((frames - self.mean) / self.scale)  # type: ignore[operator]
        return out

    def gated_logits(self, out: Tensor) -> Tensor:
        """The net's logits after the gate, (n, n_tags)."""
        out = out[:, : self.n_tags]
        if self.gate >= 0:
            opened = self.gate_power * functional.logsigmoid(out[:, self.gate, None])
            both = functional.logsigmoid(out) + opened
            odds = both - torch.log(-torch.expm1(both.clamp(max=-1e-7)))
            out = torch.where(self.gated, odds, out)
        return out

    def answer(self, out: Tensor) -> Tensor:
        """The net's raw outputs to (n, n_tags) probabilities, and dimensions after them."""
        probabilities = torch.sigmoid(self.gated_logits(out) / self.temperature)
        if self.n_dimensions == 0:
            return probabilities
        return torch.cat([probabilities, self.dimensions(out, probabilities)], dim=1)

    def dimensions(self, out: Tensor, probabilities: Tensor) -> Tensor:
        """Values and deviations, (n, 2 * n_dimensions).

        With a gate of probability p they are those of a mixture: with the net's value and deviation
        if it is open, else 0 and 1.
        """
        if self.n_dimensions == 0:
            return out[:, self.n_tags :]
        values, deviations = values_and_deviations(out[:, self.n_tags :])
        deviations = deviations * self.spread
        if self.gate >= 0:
            p = probabilities[:, self.gate, None].pow(self.gate_power)
            variances = p * deviations.square() + (1 - p) * (1 + p * values.square())
            values, deviations = p * values, variances.sqrt()
        return torch.cat([values, deviations], dim=1)

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags + 2 * n_dimensions)."""
        return self.answer(self.raw(frames))

    @torch.jit.unused
    def side_logits(self, frames: Tensor, side: Tensor) -> Tensor:
        """`logits` of a net that takes (n, n_side) values beside the frames."""
        scaled = (frames - self.mean) / self.scale
        return cast(Tensor, self.net.side_logits(scaled, side))  # type: ignore[operator]

    @torch.jit.unused
    def loss(
        self, frames: Tensor, targets: Tensor, side: Tensor | None, criterion: Criterion
    ) -> Tensor:
        """The training loss of one batch.

        Args:
            frames: (n, window_frames, width), or (n, m, columns, size) embeddings of windows, from
                which the head alone learns.
            targets: (n, n_tags), or (n, m, n_tags), in [0, 1], or NaN; with dimensions,
                `nets.dimensions` says what comes after them.
            side: (n, n_side) values beside the frames, or None.
            criterion: of logits and targets.
        """
        net: Any = self.net
        if frames.dim() == 4:
            return criterion(net.logits_of(frames.flatten(0, 1)), targets.flatten(0, 1))
        scaled = (frames - self.mean) / self.scale
        if hasattr(net, "losses"):
            return cast(Tensor, net.losses(scaled, targets, criterion))
        if side is not None and hasattr(net, "side_logits"):
            return criterion(net.side_logits(scaled, side), targets)
        return criterion(net.logits(scaled), targets)


class StreamingModel(Model):
    """A `Model` of a `StreamingNet`, whose bundle can run over a stream."""

    @torch.jit.export
    def trunk(self, frames: Tensor) -> Tensor:
        """(n, frames, width) to (n, columns, size) embeddings."""
        out: Tensor = self.net.embed((frames - self.mean) / self.scale)  # type: ignore[operator]
        return out

    @torch.jit.export
    def head(self, embeddings: Tensor) -> Tensor:
        """(n, columns, size) embeddings of a window to what `forward` gives."""
        out: Tensor = self.net.logits_of(embeddings)  # type: ignore[operator]
        return self.answer(out)


class StatefulModel(StreamingModel):
    """A `Model` of a `StatefulNet`, whose bundle can go on where it stopped."""

    @torch.jit.export
    def advance(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of new frames, (n, m, size), and the state after them.

        Args:
            frames: (n, m * stride, width).
            state: (n, state_size).
        """
        out: tuple[Tensor, Tensor] = self.net.advance((frames - self.mean) / self.scale, state)  # type: ignore[operator]
        return out


def model_of(
    net: nn.Module, n_tags: int, width: int, gate: Gate | None = None, n_dimensions: int = 0
) -> Model:
    """The net in a `Model`; a streaming one if it can be."""
    kind = Model
    if isinstance(net, StreamingNet) and net.reach:
        kind = StatefulModel if isinstance(net, StatefulNet) else StreamingModel
    return kind(net, n_tags, width, gate, n_dimensions)


def selection_model(model: Model) -> Model:
    """The model whose predictions choose the best epoch; it shares its weights with `model`."""
    net: Any = model.net
    if not hasattr(net, "selection_logits"):
        return model
    other = copy.copy(model)

    def logits(frames: Tensor) -> Tensor:
        return cast(Tensor, net.selection_logits((frames - model.mean) / model.scale))

    other.logits = logits  # type: ignore[method-assign]
    return other


def new_model(recipe: Recipe, n_tags: int) -> Model:
    """The recipe's net with fresh weights in a `Model`.

    Raises:
        RecipeError: the net is unknown, or does not take the options.
    """
    if recipe.net.name not in NETS:
        raise RecipeError(f"net.name: expected one of {', '.join(NETS)}, got {recipe.net.name!r}")
    torch.manual_seed(recipe.seed)
    width, n_dimensions = recipe.features.width, n_dimensions_of(recipe)
    try:
        net = NETS[recipe.net.name](
            n_tags + 2 * n_dimensions,
            width=width,
            window_frames=recipe.window_frames,
            **recipe.net.options,
        )
    except (TypeError, ValueError) as error:
        raise RecipeError(f"net {recipe.net.name!r}: {error}") from error
    return model_of(net, n_tags, width, gate_of(recipe), n_dimensions)


def n_dimensions_of(recipe: Recipe) -> int:
    """How many dimensions the recipe's model gives besides its tags."""
    return len(recipe.distil.dimensions) if recipe.distil else 0


def gate_of(recipe: Recipe) -> Gate | None:
    """The gate of a distilled model: all tags of music depend on the tag music. Voices may also
    speak."""
    if recipe.distil is None:
        return None
    vocabulary = read_vocabulary(recipe.distil.vocabulary)
    tags = [tag.tag for tag in vocabulary]
    content = tuple(i for i, tag in enumerate(vocabulary) if tag.category not in ("kind", "voice"))
    return Gate(tags.index("music"), content, recipe.distil.gate)
