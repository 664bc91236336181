"""One stream inside the engine: its resamplers, front ends and level, and its taggers."""

import math
from collections.abc import Sequence

import numpy as np

from streamtag import _core
from streamtag.audio.block import Block
from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FrontEnd
from streamtag.audio.level import LevelMeter, LevelSettings
from streamtag.audio.stereo import ChannelMeter
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
        self.number = -1
        """Its number in the audio of its stream."""
        self.flush_samples = flush * config.frame_hop
        """Samples that make at least as many frames as `flush` does."""
        self.piece = max(1, (slack - 1) // 2) * config.frame_hop
        """Samples to take at once at most: they make at most as many frames as the slack has."""

    def read_from(self, audio: _core.StreamAudio) -> None:
        """Gets its samples from the audio of a stream from now on."""
        self._audio = audio
        self.number = audio.add(self._extractor, self.ring, self.piece)

    def wait_for(self, n_frames: int) -> None:
        """There is nothing to do for it before its ring has so many frames."""
        self._audio.set_due(self.number, n_frames)

    def most_waiting(self, rate: int) -> int:
        """Samples that it may get at once of what its stream, of so many Hz, may use now."""
        waiting = self._audio.allowed * self.config.sample_rate // rate + 1
        return min(self.piece, waiting)

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
        level = level or LevelSettings()
        self.level = LevelMeter(rate, start, level)
        channels = ChannelMeter(rate, start, level) if level.channels_seconds else None
        self.audio = _core.StreamAudio(rate, start, self.level, channels)
        """What waits, and how it becomes frames."""
        self._front_ends: dict[int, StreamFrontEnd] = {}  # by their numbers in `audio`
        by_features: dict[FeatureConfig, list[StreamTagger]] = {}
        for one in stream_taggers:
            by_features.setdefault(one.card.features, []).append(one)
        for some in by_features.values():
            self._add_front_end(some)

    @property
    def end(self) -> int:
        """One past the last sample that was used."""
        return self.audio.end

    @property
    def nonfinite(self) -> int:
        """Samples so far that were NaN or infinite and counted as 0."""
        return self.audio.nonfinite

    @property
    def front_ends(self) -> list[StreamFrontEnd]:
        """Its front ends, in the order in which they were added."""
        return list(self._front_ends.values())

    def front_end(self, number: int) -> StreamFrontEnd:
        """The front end with this number."""
        return self._front_ends[number]

    @property
    def stream_taggers(self) -> list[StreamTagger]:
        """Its stream taggers, those of one front end after those of another."""
        return [one for front_end in self.front_ends for one in front_end.stream_taggers]

    def add(self, stream_tagger: StreamTagger) -> None:
        """Adds a tagger from here on. It is warm at once where it can share a front end."""
        for front_end in self.front_ends:
            if front_end.fits(stream_tagger, self._slack):
                stream_tagger.level = self.level
                front_end.stream_taggers.append(stream_tagger)
                stream_tagger.skip(front_end.ring.end)
                front_end.wait_for(0)
                return
        self._add_front_end([stream_tagger])

    def remove(self, stream_tagger: StreamTagger) -> None:
        """Removes a tagger, and the front end that nobody needs any more."""
        front_end = self.front_end_of(stream_tagger)
        front_end.stream_taggers.remove(stream_tagger)
        if not front_end.stream_taggers:
            del self._front_ends[front_end.number]
            self.audio.remove(front_end.number)

    def front_end_of(self, stream_tagger: StreamTagger) -> StreamFrontEnd:
        """The front end whose frames a stream tagger gets."""
        return next(f for f in self.front_ends if stream_tagger in f.stream_taggers)

    def forget_due(self) -> None:
        """Settings have changed: each front end is looked at as soon as it has more frames."""
        for front_end in self.front_ends:
            front_end.wait_for(0)

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

    def append(self, block: Block) -> None:
        """Adds a block to what waits."""
        self.audio.append(block.start, block.samples, block.sides)

    def restart(self, start: int) -> None:
        """Restarts at sample `start`, after a gap."""
        self.origin = start
        self.audio.restart(start)
        for front_end in self.front_ends:
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
        front_end.read_from(self.audio)
        self._front_ends[front_end.number] = front_end
