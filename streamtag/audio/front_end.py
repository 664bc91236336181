"""The front end: it makes the frames that a net sees from samples.

Training and serving both use this module, so they compute the same numbers. The arithmetic is in
C++ (`streamtag._core`).
"""

from collections.abc import Sequence

import numpy as np

from streamtag import _core
from streamtag.audio.feature_config import FeatureConfig

FEATURES_VERSION = 1
"""Version of the arithmetic. It is raised whenever the frames of the same audio and configuration
change noticeably."""


class FrontEnd:
    """Makes frames of the samples of one stream, the same frames however the blocks are cut.

    Only one thread at a time may use it.

    Args:
        config: what to compute.
        ring_frames: capacity of the ring.
        start_frame: index of the first frame; the first sample is then start_frame · hop.
    """

    def __init__(self, config: FeatureConfig, ring_frames: int, *, start_frame: int = 0) -> None:
        self.config = config
        self._start_frame = start_frame
        self._extractor = _extractor(config, start_frame)
        self.ring = _core.FrameRing(ring_frames, config.width, start_frame)

    @property
    def position(self) -> int:
        """Index of the sample that comes next."""
        return self._extractor.position

    @property
    def nonfinite(self) -> int:
        """Samples since the start that were NaN or infinite and counted as 0."""
        return self._extractor.nonfinite

    @property
    def peak(self) -> float:
        """Largest logged value since the start, which `top_db` refers to.

        Set it before the first block to clip at a maximum that is already known, for instance that
        of the whole recording from an earlier pass.
        """
        return self._extractor.peak

    @peak.setter
    def peak(self, value: float) -> None:
        self._extractor.peak = value

    def push(self, samples: np.ndarray) -> int:
        """Takes (n,) float32 samples; returns how many frames the ring has gained."""
        return self._extractor.push_into(samples, self.ring)

    def close(self) -> int:
        """Ends the stream and appends the last centred frames to the ring; returns their number."""
        return self._extractor.close_into(self.ring)

    def reset(self, start_frame: int | None = None) -> None:
        """Clears the front end and its ring. The next frame is frame `start_frame`.

        Args:
            start_frame: None means the one given at construction.
        """
        start = self._start_frame if start_frame is None else start_frame
        self._extractor.reset(start)
        self.ring.clear(start)


def push_many(front_ends: Sequence[FrontEnd], blocks: Sequence[np.ndarray]) -> list[int]:
    """`push` for many streams in one call; returns how many frames each ring has gained.

    Raises:
        ValueError: a front end appears twice.
    """
    extractors = [front_end._extractor for front_end in front_ends]
    return _core.push_many(extractors, blocks, [front_end.ring for front_end in front_ends])


def frames_of(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """All frames of a finished recording, (n_frames, width) float32.

    Args:
        samples: (n,) float32.
        config: what to compute.
    """
    extractor = _extractor(config, 0)
    frames = extractor.push(samples)
    last = extractor.close()
    return np.concatenate([frames, last]) if len(last) else frames


def _extractor(config: FeatureConfig, start_frame: int) -> _core.Extractor:
    return _core.Extractor(start_frame=start_frame, **config.to_dict())
