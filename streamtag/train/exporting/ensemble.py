"""Ensembles: the mean of the scores of several nets, as one net or as one bundle."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamtag.errors import BundleError, RecipeError
from streamtag.model.bundle import checksum, read_card
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger, read_module
from streamtag.train.exporting.bundle import export
from streamtag.train.nets.model import Model


class Member(nn.Module):
    """The calibrated logits of a net or a `Model` for the last frames of a window.

    Args:
        module: has `logits`; its present temperature is copied if it has one.
        window_frames: frames that it uses; 0 means all.
    """

    def __init__(self, module: nn.Module, window_frames: int) -> None:
        super().__init__()
        self.module, self.window_frames = module, window_frames
        self.temperature: Tensor
        known = getattr(module, "temperature", None)
        self.register_buffer("temperature", torch.ones(1) if known is None else known.clone())

    def logits(self, frames: Tensor) -> Tensor:
        """(n, longest window, width) to (n, n_tags)."""
        first = 0 if self.window_frames == 0 else frames.shape[1] - self.window_frames
        out: Tensor = self.module.logits(frames[:, first:]) / self.temperature  # type: ignore[operator]
        return out

    def forward(self, frames: Tensor) -> Tensor:
        """(n, longest window, width) to (n, n_tags) probabilities."""
        return torch.sigmoid(self.logits(frames))


class EnsembleNet(nn.Module):
    """The weighted mean of several nets' scores; fulfils the contract of a net (see `model`).

    Args:
        members: nets or `Model`s, each with `logits`.
        weights: (n_members, n_tags), at least 0; those of a tag add up to 1 over the members.
        windows: frames that each member sees, the last ones of the window; None means that all see
            the whole of it.

    Raises:
        RecipeError: there is no member, or weights or windows do not fit.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: Tensor,
        windows: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        sizes = [0] * len(members) if windows is None else list(windows)
        _check_weights(len(members), weights)
        if len(sizes) != len(members) or (windows is not None and min(sizes) < 1):
            raise RecipeError(
                f"ensemble: windows: expected {len(members)} numbers of frames, one per member, "
                f"got {windows}"
            )
        self.members = nn.ModuleList(map(Member, members, sizes))
        self.weights: Tensor
        self.register_buffer("weights", weights.detach().clone().float())

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags): the logit of the mean of the scores."""
        logits = torch.stack([member.logits(frames) for member in self.members], dim=1)  # type: ignore[operator]
        shares = torch.log(self.weights)  # -inf where a member has weight 0
        yes = torch.logsumexp(functional.logsigmoid(logits) + shares, dim=1)
        no = torch.logsumexp(functional.logsigmoid(-logits) + shares, dim=1)
        return yes - no

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags) probabilities."""
        return torch.sigmoid(self.logits(frames))


class MeanScores(nn.Module):
    """The weighted mean of the outputs of scripted models.

    Args:
        members: map (n, their window, width) to (n, n_outputs) probabilities, and dimensions if all
            of them have some.
        windows: frames that each sees.
        columns: per member, the index of each of our outputs among its own.
        weights: (n_members, n_outputs), as for `EnsembleNet`.
        n_tags: how many of the outputs are probabilities.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        windows: Sequence[int],
        columns: Sequence[Sequence[int]],
        weights: Tensor,
        n_tags: int,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.windows, self.n_tags = list(windows), n_tags
        self.columns: Tensor
        self.weights: Tensor
        self.register_buffer("columns", torch.tensor([list(row) for row in columns]))
        self.register_buffer("weights", weights.float())

    def forward(self, frames: Tensor) -> Tensor:
        """(n, longest window, width) to (n, n_outputs)."""
        scores = []
        for i, member in enumerate(self.members):
            own = member(frames[:, frames.shape[1] - self.windows[i] :])
            scores.append(own[:, self.columns[i]])
        mean = (torch.stack(scores, dim=1) * self.weights).sum(dim=1)
        probabilities = mean[:, : self.n_tags].clamp(0.0, 1.0)  # rounding may add one bit
        return torch.cat([probabilities, mean[:, self.n_tags :]], dim=1)


def ensemble_of(
    models: Sequence[Model],
    weights: Tensor | None = None,
    windows: Sequence[int] | None = None,
) -> EnsembleNet:
    """A net whose score is the mean of the models' calibrated scores, to be wrapped in a
    `Model`.

    Args:
        models: with equal tags.
        weights: (n_members, n_tags), as for `EnsembleNet`; None means equal ones.
        windows: frames that each sees, as for `EnsembleNet`; None means equal ones.

    Raises:
        RecipeError: there are no models, their tags differ, or weights do not fit.
    """
    sizes = {int(model.temperature.numel()) for model in models}
    if len(sizes) != 1:
        raise RecipeError(
            f"ensemble: expected members with one number of tags, got {sorted(sizes) or 'none'}"
        )
    n_tags = sizes.pop()
    if weights is None:
        weights = torch.full((len(models), n_tags), 1 / len(models))
    if weights.shape[1:] != (n_tags,):
        raise RecipeError(
            f"ensemble: weights: expected shape ({len(models)}, {n_tags}), a row per member and a "
            f"column per tag, got {tuple(weights.shape)}"
        )
    return EnsembleNet(models, weights, windows)


def mean_of_bundles(
    paths: Sequence[Path],
    out: Path,
    *,
    name: str | None = None,
    weights: Sequence[float] | None = None,
    validation: Mapping[str, Any] | None = None,
) -> Card:
    """One bundle whose scores are the mean of the scores of several bundles.

    Front ends and sets of tags must agree; the order of the tags is the first bundle's. Smoothing,
    hop and padding are the first's. Thresholds are means that were not tested on data. So are the
    deviations of `dimensions`, which the mean has if all bundles have them.

    Args:
        paths: two bundles or more.
        out: where to write.
        name: of the new bundle; None means its file's.
        weights: per bundle, positive; scaled so that they add up to 1. None means equal ones.
        validation: measured scores of the mean itself, if any, for the card.

    Raises:
        BundleError: one cannot be read, or two do not fit together; the message names both and
            the first difference.
    """
    if len(paths) < 2:
        raise BundleError(f"{out}: expected two bundles or more to average, got {len(paths)}")
    cards = [read_card(path) for path in paths]
    for path, card in zip(paths[1:], cards[1:], strict=True):
        _check_compatible(paths[0], cards[0], path, card)
        Tagger.load(path, "cpu")  # refuses what the daemon would refuse
    Tagger.load(paths[0], "cpu")
    shares = _shares(out, len(paths), weights)
    sums = [checksum(path) for path in paths]
    card = ensemble_card(name or out.stem, paths, cards, shares, sums, validation)
    module = MeanScores(
        [read_module(path, torch.device("cpu")) for path in paths],
        [card.window_frames for card in cards],
        [[own.outputs.index(name) for name in card.outputs] for own in cards],
        torch.tensor(shares)[:, None].expand(-1, len(card.outputs)),
        len(card.tags),
    )
    return export(module, card, out)


def _check_weights(n: int, weights: Tensor) -> None:
    fits = weights.dim() == 2 and weights.shape[0] == n > 0
    if not fits or not bool((weights >= 0).all()):
        raise RecipeError(
            f"ensemble: weights: expected a row of numbers of at least 0 for each of {n} members "
            f"(one at least), got {weights.tolist()!r:.60}"
        )
    worst = float((weights.double().sum(dim=0) - 1).abs().max())
    if not worst <= 1e-4:
        raise RecipeError(
            f"ensemble: weights: expected sums of 1 over the members for every tag, got one that "
            f"is off by {worst:.2g}"
        )


def _shares(out: Path, n: int, weights: Sequence[float] | None) -> list[float]:
    """Positive weights that add up to 1."""
    given = [1.0] * n if weights is None else [float(weight) for weight in weights]
    if len(given) != n or not all(0 < weight < math.inf for weight in given):
        raise BundleError(f"{out}: weights: expected {n} positive numbers, got {weights}")
    return [weight / math.fsum(given) for weight in given]


def _check_compatible(path: Path, card: Card, other_path: Path, other: Card) -> None:
    """Refuses two bundles that do not fit together."""
    ours, theirs = card.features.to_dict(), other.features.to_dict()
    for key, value in ours.items():
        if value != theirs[key]:
            raise BundleError(
                f"{other_path}: features.{key}: expected {value!r} as {path} has, "
                f"got {theirs[key]!r}; only models with one front end can be averaged"
            )
    if lacking := [tag for tag in card.tags if tag not in other.tags]:
        raise BundleError(
            f"{other_path}: expected the tags of {path}, got none called {lacking[0]!r}"
        )
    if more := [tag for tag in other.tags if tag not in card.tags]:
        raise BundleError(f"{other_path}: expected the tags of {path}, got {more[0]!r} besides")


def ensemble_card(
    name: str,
    paths: Sequence[Path],
    cards: Sequence[Card],
    shares: Sequence[float],
    sums: Sequence[str],
    validation: Mapping[str, Any] | None,
) -> Card:
    """The card of a mean without its golden answer.

    Args:
        name: of the mean.
        paths: of the members.
        cards: theirs, with equal front ends and sets of tags.
        shares: of each in the mean, adding up to 1.
        sums: checksums of their files.
        validation: scores of the mean itself.
    """
    first = cards[0]
    on, off = _mean_thresholds(cards, shares)
    names = _names(cards)
    silent = [set(card.off_by_default) for card in cards]
    scores: dict[str, Any] = {n: c.scores for n, c in zip(names, cards, strict=True)}
    return Card(
        name=name,
        net=f"mean of {len(cards)}: {', '.join(dict.fromkeys(card.net for card in cards))}",
        features=first.features,
        window_frames=max(card.window_frames for card in cards),
        hop_frames=first.hop_frames,
        first_frames=max(card.first_frames for card in cards),
        padding=first.padding,
        tags=first.tags,
        dimensions=first.dimensions if all(card.dimensions for card in cards) else (),
        on_thresholds=on,
        off_thresholds=off,
        smoothing_seconds=first.smoothing_seconds,
        min_on_seconds=first.min_on_seconds,
        min_off_seconds=first.min_off_seconds,
        display=first.display,
        off_by_default=tuple(tag for tag in first.tags if all(tag in tags for tags in silent)),
        scores=scores | ({"validation": dict(validation)} if validation else {}),
        data=_join_texts(card.data for card in cards),
        licence=_join_texts(card.licence for card in cards),
        description=_join_texts(card.description for card in cards),
        extra={
            "members": [
                {"name": n, "file": path.name, "sha256": sha256, "weight": share}
                for n, path, sha256, share in zip(names, paths, sums, shares, strict=True)
            ],
            "notes": _notes(cards),
        },
    )


def _mean_thresholds(
    cards: Sequence[Card], shares: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """On and off thresholds in the order of the first card's tags."""
    on, off = np.zeros((2, len(cards[0].tags)))
    for card, share in zip(cards, shares, strict=True):
        order = [card.tags.index(tag) for tag in cards[0].tags]
        on += share * np.array(card.on_thresholds)[order]
        off += share * np.array(card.off_thresholds)[order]
    return tuple(on.tolist()), tuple(np.minimum(off, on).tolist())


def _names(cards: Sequence[Card]) -> list[str]:
    """The cards' names; duplicates get a number."""
    names = [card.name for card in cards]
    return [
        name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, start=1)
    ]


def _notes(cards: Sequence[Card]) -> list[str]:
    """Known shortcomings of the mean."""
    notes = [
        "thresholds are the means of the members' thresholds, not chosen on data: tune them in the "
        "configuration, or train the ensemble from a recipe"
    ]
    if any(card.trunk for card in cards):
        notes.append(
            "every member sees whole windows: their trunks differ in stride and reach, and are not "
            "combined"
        )
    if len({card.padding for card in cards}) > 1:
        paddings = ", ".join(f"{card.name}: {card.padding}" for card in cards)
        notes.append(
            f"members pad windows that are not full differently ({paddings}); here all get "
            f"{cards[0].padding}"
        )
    return notes


def _join_texts(texts: Iterable[str]) -> str:
    """Different texts joined, each once."""
    return " / ".join(dict.fromkeys(text for text in texts if text))
