"""One stream inside the engine: its resamplers, front ends and level, and its taggers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamtag.audio.block import Block, Resampler
from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FrontEnd
from streamtag.audio.level import LevelChange, LevelMeter, LevelSettings
from streamtag.audio.stereo import ChannelChange, ChannelMeter
from streamtag.engine.settings import LagPolicy
from streamtag.engine.stream_tagger import StreamTagger
from streamtag.errors import StreamError


class StreamFrontEnd(FrontEnd):
    """A front end of one stream, and the stream taggers that share its frames.

    Args:
        stream_taggers: at least one; all with the same features.
        slack_seconds: how much longer than the longest window the ring is.
    """

    def __init__(self, stream_taggers: list[StreamTagger], slack_seconds: float) -> None:
        self.stream_taggers = stream_taggers
        config = stream_taggers[0].card.features
        flush = config.span(0, 1)[1] // config.frame_hop + 2  # what `close` may add at once
        hop = max(one.hop_frames for one in stream_taggers)
        slack = max(math.ceil(slack_seconds * config.frame_rate), flush + 1, 2 * hop)
        window = max(one.card.window_frames + one.margin for one in stream_taggers)
        super().__init__(config, window + slack)
        self.origin = 0
        """Sample of the stream with which its frames begin; a `Stream` sets it."""
        self.flush_samples = flush * config.frame_hop
        """Samples that make at least as many frames as `flush` does."""
        self.piece = max(1, (slack - 1) // 2) * config.frame_hop
        """Samples to push at once at most: they make at most as many frames as the slack has."""

    def flush(self, *, last: bool) -> None:
        """Makes the last frames. A whole stream shorter than one frame gets silence to fill it."""
        samples, needed = self.position, self.config.span(0, 1)[1]
        if last and not self.ring.end and 0 < samples < needed and not self.config.delay:
            self.push(np.zeros(needed - samples, np.float32))
        self.close()

    def fits(self, stream_tagger: StreamTagger, slack_seconds: float) -> bool:
        """Whether another stream tagger can share it."""
        slack = max(2 * stream_tagger.hop_frames, math.ceil(slack_seconds * self.config.frame_rate))
        needed = stream_tagger.card.window_frames + stream_tagger.margin + slack
        return self.config == stream_tagger.card.features and needed <= self.ring.capacity

    def first_frame_after(self, n_samples: int) -> int:
        """The first frame that the ring still holds after so many more samples."""
        return self.ring.end + n_samples // self.config.frame_hop + 1 - self.ring.capacity


class FrontEndInput(NamedTuple):
    """Samples for one front end of a stream."""

    stream: "Stream"
    front_end: StreamFrontEnd
    samples: np.ndarray


class Stream:
    """A named source of audio of `rate` Hz from sample `start` on, as the engine knows it.

    The rings hold `slack_seconds` of audio beside the longest window. Stream taggers with equal
    features share a front end.
    """

    def __init__(
        self,
        name: str,
        rate: int,
        start: int,
        stream_taggers: Sequence[StreamTagger],
        lag_policy: LagPolicy,
        slack_seconds: float,
        level: LevelSettings | None = None,
    ) -> None:
        self.name, self.rate, self.lag_policy, self._slack = name, rate, lag_policy, slack_seconds
        self.origin = start
        """First sample since the last gap."""
        self.end = start
        """One past the last sample that has arrived: where the next block must begin."""
        self.nonfinite = 0
        """Samples so far that were NaN or infinite and counted as 0."""
        level = level or LevelSettings()
        self.level = LevelMeter(rate, start, level)
        self._channels = ChannelMeter(rate, start, level) if level.channels_seconds else None
        self._resamplers: dict[tuple[int, int], Resampler] = {}  # by rate and where it began
        self._inputs: dict[StreamFrontEnd, tuple[int, int]] = {}  # which one each reads from
        by_features: dict[FeatureConfig, list[StreamTagger]] = {}
        for one in stream_taggers:
            by_features.setdefault(one.card.features, []).append(one)
        for some in by_features.values():
            self._add_front_end(some)

    @property
    def front_ends(self) -> list[StreamFrontEnd]:
        """Its front ends, in the order in which they were added."""
        return list(self._inputs)

    @property
    def stream_taggers(self) -> list[StreamTagger]:
        """Its stream taggers, those of one front end after those of another."""
        return [one for front_end in self._inputs for one in front_end.stream_taggers]

    def add(self, stream_tagger: StreamTagger) -> None:
        """Adds a tagger from here on. It is warm at once where it can share a front end."""
        for front_end in self._inputs:
            if front_end.fits(stream_tagger, self._slack):
                stream_tagger.level = self.level
                front_end.stream_taggers.append(stream_tagger)
                stream_tagger.skip(front_end.ring.end)
                return
        self._add_front_end([stream_tagger])

    def remove(self, stream_tagger: StreamTagger) -> None:
        """Removes a tagger, and the front end that nobody needs any more."""
        front_end = self.front_end_of(stream_tagger)
        front_end.stream_taggers.remove(stream_tagger)
        if not front_end.stream_taggers:
            del self._inputs[front_end]
        for key in self._resamplers.keys() - self._inputs.values():
            del self._resamplers[key]

    def front_end_of(self, stream_tagger: StreamTagger) -> StreamFrontEnd:
        """The front end whose frames a stream tagger gets."""
        return next(f for f in self._inputs if stream_tagger in f.stream_taggers)

    def check(self, block: Block, end: int) -> None:
        """Refuses a block that cannot follow sample `end`.

        Raises:
            StreamError: another rate, or it begins before.
        """
        if block.rate != self.rate:
            raise StreamError(self.name, f"expected blocks at {self.rate} Hz, got {block.rate} Hz")
        if block.start < end:
            raise StreamError(
                self.name,
                f"expected a block that begins at sample {end} or later, got one at "
                f"{block.start}; audio cannot be taken back",
            )

    def push(self, block: Block) -> tuple[list[FrontEndInput], list[LevelChange], Block]:
        """Takes samples up to the first change of level.

        Returns:
            Samples for each front end; what changed; the rest of the block.
        """
        samples = self._finite(block.samples)
        n, changes = self.level.scan(samples)
        rest = Block(samples[n:], block.start + n, block.rate)
        return self.resample(Block(samples[:n], block.start, block.rate)), changes, rest

    def resample(self, block: Block) -> list[FrontEndInput]:
        """The samples of a block for each front end."""
        self.end = block.end
        return self._front_end_inputs(
            {key: resampler.push(block.samples) for key, resampler in self._resamplers.items()}
        )

    def channel_changes(self, block: Block) -> list[ChannelChange]:
        """What a block changes in the relation of its two channels, where that is watched."""
        return [] if self._channels is None else self._channels.push(block.start, block.sides)

    def flush(self) -> list[FrontEndInput]:
        """The last samples for each front end."""
        return self._front_end_inputs(
            {key: resampler.close() for key, resampler in self._resamplers.items()}
        )

    def restart(self, start: int) -> None:
        """Restarts at sample `start`, after a gap."""
        self.origin = self.end = start
        self.level.restart(start)
        for resampler in self._resamplers.values():
            resampler.reset()
        for front_end in self._inputs:
            front_end.reset()
            front_end.origin = start
        for stream_tagger in self.stream_taggers:
            stream_tagger.restart()

    def _add_front_end(self, stream_taggers: list[StreamTagger]) -> None:
        """A front end begins here; those that begin together share their resampler."""
        for one in stream_taggers:
            one.level = self.level
        front_end = StreamFrontEnd(stream_taggers, self._slack)
        front_end.origin = self.end
        key = self._inputs[front_end] = (front_end.config.sample_rate, self.end)
        if key not in self._resamplers:
            self._resamplers[key] = Resampler(self.rate, front_end.config.sample_rate)

    def _front_end_inputs(self, pieces: dict[tuple[int, int], np.ndarray]) -> list[FrontEndInput]:
        return [
            FrontEndInput(self, front_end, pieces[key])
            for front_end, key in self._inputs.items()
            if len(pieces[key])
        ]

    def _finite(self, samples: np.ndarray) -> np.ndarray:
        """The samples with 0 for what is not finite, before a filter smears it."""
        if not (finite := np.isfinite(samples)).all():
            self.nonfinite += len(samples) - int(np.count_nonzero(finite))
            return np.where(finite, samples, np.float32(0))
        return samples
