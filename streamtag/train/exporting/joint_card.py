"""What the mean of several bundles says about itself."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamtag.model.card import Card


def joint_card(
    name: str,
    paths: Sequence[Path],
    cards: Sequence[Card],
    shares: Sequence[float],
    sums: Sequence[str],
    validation: Mapping[str, Any] | None,
) -> Card:
    """The card of a mean, its golden answer still missing.

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
        on_thresholds=on,
        off_thresholds=off,
        smoothing_seconds=first.smoothing_seconds,
        min_on_seconds=first.min_on_seconds,
        min_off_seconds=first.min_off_seconds,
        display=first.display,
        off_by_default=tuple(tag for tag in first.tags if all(tag in tags for tags in silent)),
        scores=scores | ({"validation": dict(validation)} if validation else {}),
        data=_joined(card.data for card in cards),
        licence=_joined(card.licence for card in cards),
        description=_joined(card.description for card in cards),
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
    """The cards' names; those that appear twice get a number."""
    names = [card.name for card in cards]
    return [
        name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, start=1)
    ]


def _notes(cards: Sequence[Card]) -> list[str]:
    """What is not as good as it could be."""
    notes = [
        "thresholds are the means of the members' thresholds, not chosen on data: tune them in the "
        "configuration, or train the ensemble from a recipe"
    ]
    if len({card.padding for card in cards}) > 1:
        paddings = ", ".join(f"{card.name}: {card.padding}" for card in cards)
        notes.append(
            f"members pad windows that are not full differently ({paddings}); here all get "
            f"{cards[0].padding}"
        )
    return notes


def _joined(texts: Iterable[str]) -> str:
    """Different texts after each other, each once."""
    return " / ".join(dict.fromkeys(text for text in texts if text))
