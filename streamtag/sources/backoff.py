"""How long to wait before a lost source is tried again."""

from collections.abc import Callable
from dataclasses import dataclass

from streamtag.engine.events import Cause
from streamtag.sources.causes import STUBBORN


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """How a lost source is tried again; times in seconds."""

    first: float = 1.0
    """Before the first try."""
    longest: float = 60.0
    """The wait doubles with every failure up to this."""
    healthy: float = 30.0
    """Audio after which a connection counts as good, and the wait begins anew."""
    tries: int = 3
    """Failures in a row, of the kind that waiting does not cure, that open the breaker."""
    slow: float = 300.0
    """Between tries when the breaker is open."""


class Backoff:
    """Doubling waits with jitter, and a breaker for what waiting seldom cures.

    Jitter keeps a thousand streams of one restarted server from coming back in one moment.

    Args:
        patience: how.
        random: a number in [0, 1).
    """

    def __init__(self, patience: BackoffPolicy, random: Callable[[], float]) -> None:
        self._patience, self._random = patience, random
        self._failures = self._stubborn = 0

    @property
    def open(self) -> bool:
        """The breaker has given up all but a rare try."""
        return self._stubborn >= self._patience.tries

    def heard(self, seconds: float) -> None:
        """A connection has delivered so much audio by now."""
        self._stubborn = 0
        if seconds >= self._patience.healthy:
            self._failures = 0

    def failed(self, cause: Cause) -> float:
        """Seconds to wait after a failure: between half and all of what the count says."""
        patience = self._patience
        self._stubborn = self._stubborn + 1 if cause in STUBBORN else 0
        wait = min(patience.longest, patience.first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        if self.open:
            wait = max(patience.slow, wait)
        return wait * (0.5 + 0.5 * self._random())
