"""How long to wait before something that failed is tried again: a source, a bridge, a request."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """How something that failed is tried again; times in seconds."""

    first: float = 1.0
    """Wait after the first failure."""
    longest: float = 60.0
    """The wait doubles with every failure up to this."""
    healthy: float = 30.0
    """How long it must work until the wait starts from `first` again."""
    tries: int = 3
    """Persistent failures in a row after which the circuit breaker opens."""
    slow: float = 300.0
    """Wait between tries while the circuit breaker is open."""


class Backoff:
    """Exponential back-off with jitter, and a circuit breaker for persistent failures.

    Jitter, a number in [0, 1), keeps the thousand streams of a restarted server from reconnecting
    in one moment.
    """

    def __init__(self, policy: BackoffPolicy, jitter: Callable[[], float] = random.random) -> None:
        self._policy, self._jitter = policy, jitter
        self._failures = self._persistent = 0

    @property
    def open(self) -> bool:
        """Whether the circuit breaker is open: there is a try every `slow` seconds only."""
        return self._persistent >= self._policy.tries

    def worked(self, seconds: float = math.inf) -> None:
        """Counts a success that has lasted for `seconds` by now."""
        self._persistent = 0
        if seconds >= self._policy.healthy:
            self._failures = 0

    def failed(self, *, persistent: bool = False) -> float:
        """Counts a failure and returns the wait: between half and all of the doubled time.

        Trying again seldom cures a `persistent` failure.
        """
        policy = self._policy
        self._persistent = self._persistent + 1 if persistent else 0
        wait = min(policy.longest, policy.first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        if self.open:
            wait = max(policy.slow, wait)
        return wait * (0.5 + 0.5 * self._jitter())
