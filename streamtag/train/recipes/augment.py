"""What a recipe says of augmentation, and what must hold of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from streamtag.errors import RecipeError
from streamtag.train.data.codec import codec_of

CLEAR = 40.0
"""dB: the largest signal-to-noise ratio of `Augment.noise_db`."""


@dataclass(frozen=True, slots=True)
class Augment:
    """What makes training windows different each time; everything is off by default."""

    mixup_alpha: float = 0.0
    """λ ~ Beta(alpha, alpha) per window, inputs and labels mixed (Zhang et al. 2017)."""
    mixup_larger: bool = False
    """λ ← max(λ, 1 − λ) (Koutini et al. 2019, their code)."""
    mixup_two_orders: bool = False
    """The partner comes from a second, independently shuffled pass over the data (Sukhavasi
    and Adapa 2019, their code) instead of from the same batch."""
    crop_chance: float = 0.0
    """Of a random box that is scaled back to the whole window (Sukhavasi and Adapa 2019)."""
    crop_area: tuple[float, float] = (0.8, 1.0)
    """Share of the window that the box keeps."""
    crop_literal: bool = False
    """As that paper's code behaves: always the centre `width × 221` frames."""
    mask_chance: float = 0.0
    """Of hiding blocks of bands and of frames (Park et al., SpecAugment, 2019)."""
    mask_rounds: int = 2
    """At most; 1 … this are equally likely."""
    mask_bands: float = 0.15
    """Largest share of the bands per round."""
    mask_frames: float = 0.20
    """Largest share of the frames per round."""
    shift_frames: int = 0
    """Circular shift by up to so many frames either way (Koutini et al. 2019, their code)."""
    mix_share: float = 0.0
    """Of the windows of a batch that get another window's power added. Natural logarithms only."""
    level_db: float = 0.0
    """Standard deviation of a window's change of level. Natural logarithms only."""
    colour_db: float = 0.0
    """Same at five places of the spectrum."""
    band_masks: int = 0
    """Neighbouring mel bands at most that are set to the window's mean."""
    audio_variants: int = 0
    """Versions of each recording besides the clean one that went through the chain below before the
    front end; epochs take turns."""
    codecs: tuple[str, ...] = ()
    """Of `CODEC:KBIT`, CODEC one of mp3, aac, opus, KBIT of one channel: one is chosen for half of
    the versions."""
    audio_level_db: float = 0.0
    """Level is changed by up to so much either way."""
    audio_eq_db: float = 0.0
    """Standard deviation of a random equaliser."""
    noise_db: float = 0.0
    """Smallest signal-to-noise ratio; up to 40 dB; 0 is no noise."""
    room_chance: float = 0.0
    """Of reverberation."""


def augment_rules(augment: Augment) -> Iterator[tuple[str, object, str]]:
    """What must hold: keys, whether it does, what was expected.

    Raises:
        RecipeError: the audio cannot be changed as asked for.
    """
    for name in ("mix_share", "crop_chance", "mask_chance", "mask_bands", "mask_frames"):
        yield f"augment.{name}", 0 <= getattr(augment, name) <= 1, "a share in [0, 1]"
    for name in ("mixup_alpha", "level_db", "colour_db"):
        yield f"augment.{name}", 0 <= getattr(augment, name) < math.inf, "a finite number from 0 on"
    for name in ("shift_frames", "band_masks", "audio_variants"):
        yield f"augment.{name}", getattr(augment, name) >= 0, "0 or more"
    low, high = augment.crop_area
    yield "augment.crop_area", 0 < low <= high <= 1, "two shares in (0, 1], the smaller one first"
    yield "augment.mask_rounds", augment.mask_rounds >= 1, "at least 1"
    chain = augment.codecs or augment.noise_db or augment.room_chance or augment.audio_eq_db
    heard = augment.audio_variants > 0 or not (chain or augment.audio_level_db)
    yield "augment.audio_variants", heard, "at least 1 where codecs, noise, rooms or levels are set"
    check_chain(augment)


def check_chain(augment: Augment) -> None:
    """Whether the audio can be changed as asked for.

    Raises:
        RecipeError: a value is out of its range.
    """
    for text in augment.codecs:
        codec_of(text, "augment.codecs")
    rules = (
        ("codecs", len(set(augment.codecs)) == len(augment.codecs), "no codec twice"),
        ("room_chance", 0 <= augment.room_chance <= 1, "a share in [0, 1]"),
        ("noise_db", 0 <= augment.noise_db <= CLEAR, f"0, or up to {CLEAR:g} dB"),
        ("audio_level_db", 0 <= augment.audio_level_db <= 100, "0 to 100 dB"),
        ("audio_eq_db", 0 <= augment.audio_eq_db <= 100, "0 to 100 dB"),
    )
    for name, fine, expected in rules:
        if not fine:
            raise RecipeError(
                f"augment.{name}: expected {expected}, got {getattr(augment, name)!r}"
            )
