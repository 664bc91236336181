"""One front end of a stream, and who listens to its frames."""

import math
from typing import TYPE_CHECKING

import numpy as np

from streamtag._core import FrameRing
from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FrontEnd

if TYPE_CHECKING:
    from streamtag.engine.stream_tagger import StreamTagger


class Branch:
    """One front end of a stream, with the listeners that share it.

    Args:
        config: of the front end.
        listeners: at least one.
        slack_seconds: how much longer than the longest window the ring is.
    """

    def __init__(
        self, config: FeatureConfig, listeners: "list[StreamTagger]", slack_seconds: float
    ) -> None:
        self.config, self.listeners = config, listeners
        self.origin = 0
        """Sample of the stream with which its frames begin; a `Stream` sets it."""
        flush = config.span(0, 1)[1] // config.frame_hop + 2  # what `close` may add at once
        slack = math.ceil(slack_seconds * config.frame_rate)
        self.flush = flush * config.frame_hop
        """Samples that make at least as many frames as the end of the stream does."""
        slack = max(slack, flush + 1, 2 * max(listener.hop_frames for listener in listeners))
        longest = max(listener.card.window_frames for listener in listeners)
        self.front_end = FrontEnd(config, longest + slack)
        self.piece = max(1, (slack - 1) // 2) * config.frame_hop
        """Samples, at most, to push at once: they make at most `slack` frames."""

    @property
    def ring(self) -> FrameRing:
        return self.front_end.ring

    def finish(self, *, last: bool) -> None:
        """Makes the last frames. A whole stream shorter than one frame gets silence to fill it."""
        heard, needed = self.front_end.position, self.config.span(0, 1)[1]
        if last and not self.ring.end and 0 < heard < needed and not self.config.delay:
            self.front_end.push(np.zeros(needed - heard, np.float32))
        self.front_end.close()

    def fits(self, listener: "StreamTagger", slack_seconds: float) -> bool:
        """Whether another listener can share it."""
        slack = max(2 * listener.hop_frames, math.ceil(slack_seconds * self.config.frame_rate))
        wanted = listener.card.window_frames + slack
        return self.config == listener.card.features and wanted <= self.ring.capacity

    def has_room(self, n_samples: int) -> bool:
        """Whether that many more samples would overwrite no frame that a pending window needs."""
        begin = self.ring.end + n_samples // self.config.frame_hop + 1 - self.ring.capacity
        return all(
            begin <= listener.pending[0].window.first
            for listener in self.listeners
            if listener.pending
        )
