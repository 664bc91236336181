"""A bank of switches with one stream."""

import numpy as np

from streamtag.engine.smoothing import Switch, SwitchBank, SwitchSettings


class OneStream:
    """Smoothing and switches of one stream; window after window."""

    def __init__(self, settings: SwitchSettings) -> None:
        self.bank = SwitchBank(len(settings.high))
        self.bank.add(settings)
        self.row = self.bank.add(settings)  # not the first one

    def take(
        self, probabilities: np.ndarray, at: int, end: int, only: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[Switch]]:
        """Smoothed probabilities, and what changed."""
        new, may = np.asarray(probabilities, np.float64)[None], {} if only is None else {0: only}
        smoothed, switches = self.bank.update([self.row], new, [at], [end], may)
        return smoothed[0], switches[0]

    def update(self, probabilities: np.ndarray, at: int, end: int) -> list[Switch]:
        """What changed."""
        return self.take(probabilities, at, end)[1]


class Smoother(OneStream):
    """Only the smoothing; the time constants are in samples."""

    def __init__(self, smoothing: float | np.ndarray) -> None:
        thresholds = np.full(np.size(smoothing), 0.5)
        super().__init__(SwitchSettings(thresholds, thresholds, smoothing=smoothing))

    def smooth(self, probabilities: np.ndarray, end: int) -> np.ndarray:
        """Smoothed probabilities."""
        return self.take(probabilities, end, end)[0]
