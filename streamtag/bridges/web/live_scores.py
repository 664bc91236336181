"""Probabilities for the taggrams of browsers, as bytes, and only where somebody looks.

A packet is one byte, the number of the tagger in its stream, and frames of equal length: the time
as a little-endian double, in milliseconds since 1970, and a byte for each tag: 255 times its
smoothed probability.
"""

import asyncio
import json
import math
import struct
from collections import deque
from itertools import islice

from streamtag.feed.messages import Scores
from streamtag.feed.timestamps import ns_of

PAST_SECONDS = 600
"""Length of the past that a new viewer gets."""
PAST_STEP_SECONDS = 2.0
"""Time between two frames of the past."""
STEP_SECONDS = 0.5
"""Shortest time between two frames that are sent live."""
MAX_WAITING = 100
"""A viewer for whom more packets wait is disconnected; it gets the past when it comes back."""
MAX_PACKET = 60_000
"""Bytes of a packet of the past, about."""


class ScoreTrail:
    """The last ten minutes of one tagger of a stream. `number` is that of the tagger."""

    def __init__(self, number: int, tagger: str, tags: tuple[str, ...]) -> None:
        self.number, self.tags = number, tags
        self.head = json.dumps({"type": "tags", "number": number, "tagger": tagger, "tags": tags})
        """Announces the order of the tags."""
        self._past: deque[bytes] = deque(maxlen=int(PAST_SECONDS / PAST_STEP_SECONDS))
        self._kept = self._sent = -math.inf

    def add(self, scores: Scores, *, watched: bool) -> bytes:
        """Takes scores; returns a packet for viewers, empty if none is due."""
        keep = not 0 <= scores.t - self._kept < PAST_STEP_SECONDS
        send = watched and not 0 <= scores.t - self._sent < 0.9 * STEP_SECONDS
        if not keep and not send:
            return b""
        levels = bytes([min(255, max(0, int(255 * p + 0.5))) for p in scores.smoothed])
        frame = struct.pack("<d", ns_of(scores.utc) / 1e6) + levels
        if keep:
            self._kept = scores.t
            self._past.append(frame)
        if send:
            self._sent = scores.t
        return bytes([self.number]) + frame if send else b""

    def packets(self) -> list[bytes]:
        """The past."""
        frames = iter(self._past)
        count = max(1, MAX_PACKET // (8 + len(self.tags)))
        packets = []
        while some := list(islice(frames, count)):
            packets.append(bytes([self.number]) + b"".join(some))
        return packets

    def curve(self, tag: str) -> list[tuple[float, float]]:
        """Milliseconds since 1970 and probability of a tag."""
        at = 8 + self.tags.index(tag)
        return [(struct.unpack_from("<d", frame)[0], frame[at] / 255) for frame in self._past]


class ScoreViewer:
    """What waits for one browser that looks at a stream."""

    def __init__(self) -> None:
        self.waiting: deque[str | bytes] = deque()
        self.slow = False
        self._wake_up = asyncio.Event()

    def put(self, packet: str | bytes) -> None:
        """Queues a packet."""
        self.slow |= len(self.waiting) >= MAX_WAITING
        self.waiting.append(packet)
        self._wake_up.set()

    async def get(self) -> str | bytes:
        """Removes and returns the next packet."""
        while not self.waiting:
            self._wake_up.clear()
            await self._wake_up.wait()
        return self.waiting.popleft()


class LiveScores:
    """The trails of all streams, and who looks at them."""

    def __init__(self) -> None:
        self._trails: dict[str, dict[str, ScoreTrail]] = {}
        self._viewers: dict[str, set[ScoreViewer]] = {}

    @property
    def viewers(self) -> int:
        """How many look."""
        return sum(map(len, self._viewers.values()))

    def add(self, scores: Scores) -> None:
        """Passes scores on to the clients that show them."""
        trails = self._trails.setdefault(scores.stream, {})
        viewers = self._viewers.get(scores.stream, ())
        trail = trails.get(scores.tagger)
        if trail is None or trail.tags != scores.tags:
            number = trail.number if trail else len(trails) % 256
            trail = trails[scores.tagger] = ScoreTrail(number, scores.tagger, scores.tags)
            for viewer in viewers:
                viewer.put(trail.head)
        packet = trail.add(scores, watched=bool(viewers))
        if packet:
            for viewer in viewers:
                viewer.put(packet)

    def remove(self, stream: str) -> None:
        """Forgets a stream."""
        self._trails.pop(stream, None)

    def join(self, stream: str) -> ScoreViewer:
        """A new viewer, for whom the last ten minutes wait. `leave` ends it."""
        viewer = ScoreViewer()
        self._viewers.setdefault(stream, set()).add(viewer)
        for trail in self._trails.get(stream, {}).values():
            viewer.waiting += [trail.head, *trail.packets()]
        return viewer

    def leave(self, stream: str, viewer: ScoreViewer) -> None:
        """Ends a viewer."""
        self._viewers[stream].discard(viewer)
        if not self._viewers[stream]:
            del self._viewers[stream]

    def curve(self, stream: str, tagger: str, tag: str) -> list[tuple[float, float]]:
        """The last ten minutes of a tag: milliseconds since 1970 and probability."""
        trail = self._trails.get(stream, {}).get(tagger)
        return [] if trail is None or tag not in trail.tags else trail.curve(tag)
