"""One stream inside the engine: its resamplers, front ends and level, and who listens to it."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from streamtag.audio.block import Block, Resampler
from streamtag.audio.level import Change, LevelSettings, Meter
from streamtag.engine.branch import Branch
from streamtag.engine.settings import Behind
from streamtag.engine.stream_tagger import StreamTagger
from streamtag.errors import StreamError


class FrontEndInput(NamedTuple):
    """Samples for one front end of a stream."""

    stream: "Stream"
    branch: Branch
    samples: np.ndarray


class Stream:
    """A named source of audio, as the engine knows it.

    Args:
        name: of the stream.
        rate: Hz.
        start: index of its first sample.
        branches: its front ends.
        behind: what to do when a model is too slow.
        level: what counts as silence and clipping.
    """

    def __init__(
        self,
        name: str,
        rate: int,
        start: int,
        branches: list[Branch],
        behind: Behind,
        level: LevelSettings | None = None,
    ) -> None:
        self.name, self.rate, self.branches, self.behind = name, rate, branches, behind
        self.origin = start
        """First sample since the last gap."""
        self.end = start
        """One past the last sample that has arrived: where the next block must begin."""
        self.nonfinite = 0
        """Samples so far that were NaN or infinite and counted as 0."""
        self.meter = Meter(rate, start, level or LevelSettings())
        self._resamplers: dict[tuple[int, int], Resampler] = {}  # by rate and where it began
        self._inputs: dict[Branch, tuple[int, int]] = {}
        for branch in branches:
            self._connect(branch)

    @property
    def listeners(self) -> list[StreamTagger]:
        return [listener for branch in self.branches for listener in branch.listeners]

    def admit(self, listener: StreamTagger, slack_seconds: float) -> None:
        """One more listens from here on: warm at once where it can share a front end."""
        for branch in self.branches:
            if branch.fits(listener, slack_seconds):
                listener.join(branch)
                return
        self.branches.append(Branch(listener.card.features, [listener], slack_seconds))
        self._connect(self.branches[-1])

    def dismiss(self, listener: StreamTagger) -> None:
        """One listens no more; a front end that nobody needs ends."""
        for branch in [b for b in self.branches if listener in b.listeners]:
            branch.listeners.remove(listener)
            if not branch.listeners:
                self.branches.remove(branch)
                del self._inputs[branch]
        for key in self._resamplers.keys() - self._inputs.values():
            del self._resamplers[key]

    def _connect(self, branch: Branch) -> None:
        """A front end begins here; those that begin together share their resampler."""
        branch.origin = self.end
        key = self._inputs[branch] = (branch.config.sample_rate, self.end)
        if key not in self._resamplers:
            self._resamplers[key] = Resampler(self.rate, branch.config.sample_rate)

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

    def hear(self, block: Block) -> tuple[list[FrontEndInput], list[Change], Block]:
        """Takes samples up to the first change of level.

        Returns:
            Samples for each front end; what changed; the rest of the block.
        """
        samples = self._finite(block.samples)
        n, changes = self.meter.scan(samples)
        head, rest = samples[:n], Block(samples[n:], block.start + n, block.rate)
        return self.take(Block(head, block.start, block.rate)), changes, rest

    def take(self, block: Block) -> list[FrontEndInput]:
        """Samples for each front end."""
        self.end = block.end
        return self._jobs({r: s.push(block.samples) for r, s in self._resamplers.items()})

    def _finite(self, samples: np.ndarray) -> np.ndarray:
        """What is not finite becomes 0, before a filter smears it."""
        if not (finite := np.isfinite(samples)).all():
            self.nonfinite += len(samples) - int(np.count_nonzero(finite))
            return np.where(finite, samples, np.float32(0))
        return samples

    def flush(self) -> list[FrontEndInput]:
        """The last samples for each front end."""
        return self._jobs({r: s.close() for r, s in self._resamplers.items()})

    def begin(self, start: int) -> None:
        """Begins anew at sample `start`, after a gap."""
        self.origin = self.end = start
        self.meter.begin(start)
        for resampler in self._resamplers.values():
            resampler.reset()
        for branch in self.branches:
            branch.front_end.reset()
            branch.origin = start
        for listener in self.listeners:
            listener.begin()

    def _jobs(self, pieces: dict[tuple[int, int], np.ndarray]) -> list[FrontEndInput]:
        jobs = [
            FrontEndInput(self, branch, pieces[self._inputs[branch]]) for branch in self.branches
        ]
        return [job for job in jobs if len(job.samples)]


def in_rounds(pairs: Iterable[tuple[Stream, Block]]) -> list[list[tuple[Stream, Block]]]:
    """Blocks in rounds that have at most one of each stream.

    Raises:
        StreamError: a block that cannot follow the one before it.
    """
    ends: dict[str, int] = {}
    counts: dict[str, int] = {}
    rounds: list[list[tuple[Stream, Block]]] = []
    for stream, block in pairs:
        stream.check(block, ends.get(stream.name, stream.end))
        ends[stream.name] = block.end
        k = counts[stream.name] = counts.get(stream.name, -1) + 1
        if k == len(rounds):
            rounds.append([])
        rounds[k].append((stream, block))
    return rounds
