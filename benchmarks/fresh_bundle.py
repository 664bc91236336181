"""Bundles of the streaming net with fresh weights, for benchmarks: their values cost nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from streamtag.model.bundle import read_card
from streamtag.train.exporting.bundle import export
from streamtag.train.nets.model import new_model
from streamtag.train.recipes.file import load_recipe

GENERAL = Path(__file__).resolve().parents[1] / "models" / "general-1.pt"
LARGE = ("net.options.multiplier=1.5", "net.options.deeper=3")
"""The changes to the recipe `streaming` that give a net of the size of `general-1`."""
TAGS_ON = 5
"""So many tags are on while there is sound, about as many as with music."""


def fresh_streaming_bundle(folder: Path, name: str, changes: Sequence[str] = ()) -> Path:
    """Writes a bundle of the recipe `streaming`, changed, with the tags of `general-1`.

    All probabilities of a fresh net are near 0.5. With the thresholds of `general-1` half of all
    tags would be on all the time.
    """
    recipe = load_recipe("streaming", list(changes))
    general = read_card(GENERAL)
    others = len(general.tags) - TAGS_ON
    card = replace(
        general, golden=None, name=name, net="streaming", features=recipe.features,
        window_frames=recipe.window_frames, hop_frames=recipe.hop_frames,
        first_frames=recipe.first_frames, padding=recipe.padding,
        on_thresholds=(0.2,) * TAGS_ON + (0.95,) * others,
        off_thresholds=(0.1,) * TAGS_ON + (0.9,) * others,
    )  # fmt: skip
    export(new_model(recipe, len(card.tags)), card, path := folder / f"{name}.pt")
    return path
