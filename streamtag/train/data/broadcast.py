"""The chain of effects that a version of a recording goes through before the front end."""

import pickle
import struct
from collections.abc import Callable

import numpy as np

from streamtag.train.data import radio
from streamtag.train.data.codec import encode_decode
from streamtag.train.data.effects import (
    add_noise,
    change_level,
    convolve,
    equalise,
    random_room,
)
from streamtag.train.recipes.recipe import CLEAREST_DB, Augment

VERSION = 1
"""Must be raised when the same chain would give other audio, so that cached versions are made
again."""
CODED_SHARE = 0.5
"""Share of the recordings that go through a codec, if the recipe names any."""
PROBE_SAMPLES = 4800
"""Number of samples of silence that every codec must encode and decode before the work begins."""

Effect = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


class BroadcastChain:
    """Speed, old record, sum of channels, equaliser, station, room, venue, telephone, noise, level
    and codec, in this order.

    Args:
        augment: which of them there are, and how strong they are.

    Raises:
        RecipeError: ffmpeg cannot handle one of the codecs.
    """

    def __init__(self, augment: Augment) -> None:
        self._codecs = augment.codecs
        self._level, self._colour = augment.audio_level_db, augment.audio_eq_db
        self._noise, self._room = augment.noise_db, augment.room_chance
        self._speed = augment.speed
        self._before = (
            (augment.record_chance, radio.old_record), (augment.mono_chance, radio.mono_sum),
        )  # fmt: skip
        self._after = ((augment.venue_chance, radio.venue), (augment.telephone_chance, _telephone))
        self._station = augment.station_chance
        for codec in self._codecs:
            encode_decode(np.zeros(PROBE_SAMPLES, np.float32), 48000, codec)

    def cache_key(self) -> bytes:
        """Equal for the same settings of this chain; other fields of the recipe do not count.

        The bytes are those that pickle wrote for this class when it was
        `streamtag.train.broadcast.Chain`. So caches of earlier versions stay valid.
        """
        settings = {
            "_version": VERSION,
            "_codecs": self._codecs,
            "_level": self._level,
            "_colour": self._colour,
            "_noise": self._noise,
            "_room": self._room,
        }
        if radio_settings := self._radio_settings():
            settings["_radio"] = radio_settings
        pickled = pickle.dumps(settings, protocol=4)
        head, state = pickled[:3], pickled[11:-1]  # protocol and frame mark; without the stop
        name = b"\x8c\x19streamtag.train.broadcast\x94\x8c\x05Chain\x94\x93\x94)\x81\x94"
        return head + struct.pack("<Q", len(name + state) + 2) + name + state + b"b."

    def __call__(self, samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """Degraded audio, (n,) float32; it may exceed full scale.

        Args:
            samples: (n,) float32, not changed. NaN and infinity count as 0.
            rate: Hz.
            rng: source of all randomness.

        Raises:
            RecipeError: ffmpeg failed.
        """
        out: np.ndarray = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        if len(out) == 0:
            return out
        if self._speed:
            factor = 1 + float(rng.uniform(-self._speed, self._speed))
            out = radio.change_speed_in_place(out, rate, factor)
        out = _some(self._before, out, rate, rng)
        if self._colour:
            out = equalise(out, rate, self._colour, rng)
        out = _some(((self._station, radio.station),), out, rate, rng)
        if rng.random() < self._room:
            out = convolve(out, random_room(2 * rate, rate, rng))
        out = _some(self._after, out, rate, rng)
        if self._noise:
            out = add_noise(out, rate, float(rng.uniform(self._noise, CLEAREST_DB)), rng)
        if self._level:
            out = change_level(out, float(rng.uniform(-self._level, self._level)))
        codec = self._draw_codec(rng)
        return encode_decode(out, rate, codec) if codec else out

    def _radio_settings(self) -> tuple[float, ...]:
        """Those that came later; empty if none is on."""
        chances = [chance for chance, _ in (*self._before, *self._after)]
        found = (self._speed, self._station, *chances)
        return found if any(found) else ()

    def _draw_codec(self, rng: np.random.Generator) -> str:
        coded = bool(self._codecs) and rng.random() < CODED_SHARE
        return self._codecs[rng.integers(len(self._codecs))] if coded else ""


def _some(
    effects: tuple[tuple[float, Effect], ...],
    samples: np.ndarray,
    rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Audio after those effects that chance wants; one that is off draws nothing."""
    for chance, effect in effects:
        if chance and rng.random() < chance:
            samples = effect(samples, rate, rng)
    return samples


def _telephone(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A telephone at the level at which people speak into it."""
    peak = float(np.abs(samples).max(initial=0.0)) or 1.0
    loud = np.float32(rng.uniform(0.3, 1) / peak)
    return radio.telephone(samples * loud, rate) / loud
