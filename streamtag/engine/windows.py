"""Windows: which stretches of frames are due to be scored, and what replaces a missing past."""

from dataclasses import dataclass

import numpy as np

from streamtag.model.card import PastPadding


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive frames [first, end) that one model call sees, at the right end of its input."""

    first: int
    """Index of the first frame that exists."""
    end: int
    """One past the last frame."""
    provisional: bool
    """Fewer frames than the model wants: what is missing before `first` is padded."""

    @property
    def count(self) -> int:
        """Frames that exist."""
        return self.end - self.first


class Windower:
    """Determines which windows are due as the number of frames of a stream grows.

    Windows end on a grid: at every multiple of `hop_frames` from `first_frames` on. If the first
    answer needs less than a hop, there is one window more, with just these frames. What is due
    depends on the number of frames only, so whole = pieces.

    Args:
        window_frames: frames that the model sees.
        hop_frames: frames between the ends of two windows.
        first_frames: frames needed for the first answer; more than a window counts as a window.
    """

    def __init__(self, window_frames: int, hop_frames: int, first_frames: int) -> None:
        frames = {"window": window_frames, "hop": hop_frames, "first": first_frames}
        for name, value in frames.items():
            if value < 1:
                raise ValueError(f"{name}_frames: expected at least 1, got {value}")
        self.window_frames, self.hop_frames = window_frames, hop_frames
        self._first = min(first_frames, window_frames)
        self.reset()

    def reset(self) -> None:
        """Starts again with frame 0."""
        self.skip(0)

    def skip(self, n_frames: int) -> None:
        """Skips the windows that end within the first `n_frames`."""
        self._next_end = self._end_after(n_frames)
        self._last_end = n_frames

    def set_hop(self, hop_frames: int, n_frames: int) -> None:
        """Uses another hop from frame `n_frames` on."""
        if hop_frames == self.hop_frames:
            return
        self.hop_frames = hop_frames
        self.skip(n_frames)

    @property
    def next_end(self) -> int:
        """Frames that make the next window due."""
        return self._next_end

    def due(self, n_frames: int) -> list[Window]:
        """The windows that have become due, now that there are `n_frames`, oldest first."""
        windows = []
        while self._next_end <= n_frames:
            windows.append(self._window(self._next_end))
            self._last_end = self._next_end
            self._next_end = self._end_after(self._next_end)
        return windows

    def last(self, n_frames: int) -> list[Window]:
        """What `due` has left: at most one window, which ends with the very last frame."""
        windows = self.due(n_frames)
        if n_frames > self._last_end:
            self._last_end = n_frames
            windows.append(self._window(n_frames))
        return windows

    def _end_after(self, frame: int) -> int:
        """The first end of a window after `frame`."""
        if frame < self._first < self.hop_frames:
            return self._first
        return -(-max(frame + 1, self._first) // self.hop_frames) * self.hop_frames

    def _window(self, end: int) -> Window:
        start = end - self.window_frames
        return Window(max(start, 0), end, start < 0)


def pad_past(row: np.ndarray, count: int, padding: PastPadding, silence: np.ndarray) -> None:
    """Fills the rows before the newest `count` frames of a window, in place.

    Args:
        row: (window_frames, width) float32, right-aligned.
        count: frames that exist, at least 1.
        padding: what to fill them with.
        silence: (width,) frame that the front end gives for digital silence.
    """
    missing = len(row) - count
    past, present = row[:missing], row[missing:]
    if padding is PastPadding.SILENCE:
        past[:] = silence
    elif padding is PastPadding.ZERO:
        past[:] = 0.0
    elif padding is PastPadding.MINIMUM:
        past[:] = present.min()
    else:
        past[:] = present[np.arange(-missing, 0) % count]
