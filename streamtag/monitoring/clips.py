"""Decides which events get clips, and where each clip begins and ends."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Protocol

from streamtag.config.clips import CAUSES, ClipsConfig
from streamtag.feed.messages import (
    TYPES,
    AlertCleared,
    AlertRaised,
    Channels,
    Clip,
    Gap,
    Message,
    SilenceOff,
    StreamDown,
    StreamStatus,
    StreamUp,
    TagOff,
)
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.monitoring.clip_files import ClipRequest
from streamtag.monitoring.derivation import JournalPast

REMEMBERED_SECONDS = 3600.0
"""How long before a restart clips may have been finished to be remembered."""
_CLOSING: tuple[type[Message], ...] = (
    TagOff, SilenceOff, Channels, StreamStatus, StreamDown, AlertCleared,
)  # fmt: skip
RESERVE_SECONDS = 5.0
"""How much of the audio ring may be overwritten before the clip of an alert is begun."""
_MOST_OPEN = 16
"""The most clips of one stream at the same time."""


class ClipTaker(Protocol):
    """Makes the clips that an observer requests."""

    def request(self, request: ClipRequest) -> None:
        """Requests a clip, or changes the end of one."""

    def recall(self, unfinished: Sequence[Clip], finished: Iterable[str]) -> None:
        """Passes on the earlier clips that the journal has."""


@dataclass(slots=True)
class _OpenClip:
    request: ClipRequest
    key: tuple[str, ...]
    """Identifies the event; the event that ends it has the same key."""


class ClipObserver:
    """Requests a clip for each configured event, and ends it with the event.

    Args:
        config: which events get clips.
        taker: makes the clips.
        allows: whether audio of a stream may be kept.
    """

    horizon_seconds = REMEMBERED_SECONDS

    def __init__(
        self, config: ClipsConfig, taker: ClipTaker, allows: Callable[[str], bool]
    ) -> None:
        self._config, self._taker, self._allows = config, taker, allows
        self._patterns: dict[str, list[str]] = {}
        for cause in config.on:
            kind, _, pattern = cause.partition(":")
            self._patterns.setdefault(kind, []).append(pattern or "*")
        wanted: set[type[Message]] = {TYPES[kind] for kind in self._patterns}
        self.types: frozenset[type[Message]] = frozenset({StreamUp, *wanted, *_CLOSING})
        self._zero: dict[str, int] = {}  # UTC of stream time 0, of streams that are up
        self._open: dict[str, list[_OpenClip]] = {}  # by stream

    def restore(self, past: JournalPast) -> None:
        """Passes on the earlier clips that the journal has."""
        unfinished = [message for message in past.in_force if isinstance(message, Clip)]
        clips = (message for message, _ in past.messages if isinstance(message, Clip))
        self._taker.recall(unfinished, (clip.id for clip in clips if clip.stage != "begun"))

    def observe(self, message: Message, now_ns: int) -> Sequence[Message]:
        """Ends the clips of events that are over, and begins those of new events."""
        stream = message.stream
        if isinstance(message, StreamUp):
            self._zero[stream] = ns_of(message.utc) - round(message.t * 1e9)
        begun: list[Message] = []
        if isinstance(message, _CLOSING):
            self._end(message)
        if message.type in self._patterns and self._is_wanted(message):
            for name in getattr(message, "streams", (stream,)):
                begun += self._begin(name, message, now_ns)
        if isinstance(message, StreamDown):
            self._zero.pop(stream, None)
            self._open.pop(stream, None)
        return begun

    def tick(self, now_ns: int) -> Sequence[Message]:
        """Forgets clips that have reached their longest length."""
        for stream, clips in self._open.items():
            going = [c for c in clips if now_ns - c.request.made_ns < 1e9 * c.request.longest]
            if len(going) < len(clips):
                self._open[stream] = going
        return []

    def close(self, now_ns: int) -> Sequence[Message]:
        """Returns nothing: the ends of the streams have ended all clips."""
        return []

    def _is_wanted(self, message: Message) -> bool:
        if isinstance(message, Channels) and message.balance == "stereo":
            return "stereo" in self._patterns["channels"]
        if isinstance(message, StreamDown) and message.reason == "recovered":
            return False  # of an earlier run, whose audio is gone
        value = str(getattr(message, CAUSES[message.type] or "type"))
        return any(fnmatchcase(value, pattern) for pattern in self._patterns[message.type])

    def _begin(self, stream: str, message: Message, now_ns: int) -> list[Message]:
        """Begins a clip, or extends an open clip of the same event."""
        if stream not in self._zero or not self._allows(stream):
            return []
        key, at, config = _key(message), self._time(stream, message, now_ns), self._config
        end = _end_of(message, at)
        known = None if end is None else end + config.after_seconds
        clips = self._open.setdefault(stream, [])
        for clip in clips:
            if clip.key == key and clip.request.last >= at:
                self._change(clip, known)
                return []
        if len(clips) >= _MOST_OPEN:
            return []
        request = ClipRequest(
            name=_name(stream, message, self._zero[stream] + round(at * 1e9)),
            stream=stream,
            event=_event(message),
            begin=self._first(stream, message, at),
            end=known,
            longest=config.longest_seconds,
            zero_ns=self._zero[stream],
            made_ns=now_ns,
        )
        clips.append(_OpenClip(request, key))
        self._taker.request(request)
        return [clip_message(request, "begun", end=max(request.begin, at))]

    def _first(self, stream: str, message: Message, at: float) -> float:
        """The stream time at which the clip of a message begins.

        An alert is raised some time after its condition began to hold. Its clip begins before the
        condition, as far as the ring goes back.
        """
        first = at - self._config.before_seconds
        if isinstance(message, AlertRaised):
            since = (ns_of(message.since_utc) - self._zero[stream]) / 1e9
            reach = at - self._config.seconds + RESERVE_SECONDS
            first = min(first, max(reach, since - self._config.before_seconds))
        return max(0.0, first)

    def _time(self, stream: str, message: Message, now_ns: int) -> float:
        """The stream time of a message about a stream."""
        if message.stream == stream and not isinstance(message, StreamStatus):
            return message.t
        if message.stream == stream and message.t:
            return message.t
        return max(0.0, (ns_of(message.utc) - self._zero[stream]) / 1e9)

    def _end(self, message: Message) -> None:
        """Ends the clips of events that this message ends."""
        for stream in getattr(message, "streams", (message.stream,)):
            for clip in self._open.get(stream, []):
                if clip.request.end is None and _ends(message, clip.key):
                    at = self._time(stream, message, 0) if stream in self._zero else message.t
                    self._change(clip, at + self._config.after_seconds)

    def _change(self, clip: _OpenClip, end: float | None) -> None:
        clip.request = replace(clip.request, end=end)
        self._taker.request(clip.request)


def clip_message(
    request: ClipRequest,
    stage: str,
    *,
    begin: float | None = None,
    end: float,
    file: str = "",
    url: str = "",
    size: int = 0,
    sha256: str = "",
    complete: bool = False,
    detail: str = "",
) -> Clip:
    """A message about a clip, without a number."""
    t = round(request.begin if begin is None else begin, 6)
    return Clip(
        epoch="",
        seq=0,
        stream=request.stream,
        t=t,
        utc=request.utc(t),
        id=request.name,
        stage=stage,
        event=request.event,
        end=round(max(t, end), 6),
        file=file,
        url=url,
        bytes=size,
        sha256=sha256,
        complete=complete,
        detail=detail,
    )


def _key(message: Message) -> tuple[str, ...]:
    """Identifies the event of a message. The message of its end has the same key."""
    parts = [message.type]
    for field in ("tagger", "tag", "id"):
        if value := getattr(message, field, ""):
            parts.append(value)
    return tuple(parts)


def _ends(message: Message, key: tuple[str, ...]) -> bool:
    """Whether a message ends the event of a key."""
    if isinstance(message, StreamDown):
        return True
    if isinstance(message, TagOff):
        return key == ("tag_on", message.tagger, message.tag)
    if isinstance(message, SilenceOff):
        return key == ("silence_on",)
    if isinstance(message, Channels):
        return key == ("channels",) and message.balance == "stereo"
    if isinstance(message, StreamStatus):
        return key == ("stream_status",) and message.state == "up"
    return key == ("alert_raised", getattr(message, "id", ""))


def _end_of(message: Message, at: float) -> float | None:
    """The end of the event, if its first message has it; None while the event lasts."""
    if isinstance(message, Gap):
        return message.end
    if isinstance(message, StreamStatus):
        return None if message.state != "up" else at
    if isinstance(message, Channels):
        return None if message.balance != "stereo" else at
    return None if message.type in ("tag_on", "silence_on", "alert_raised") else at


def _event(message: Message) -> str:
    field = CAUSES[message.type]
    return f"{message.type} {getattr(message, field)}" if field else message.type


def _name(stream: str, message: Message, ns: int) -> str:
    """The name of a message's clip: the same message makes the same name."""
    number = hashlib.sha256(f"{stream} {message.topic} {message.epoch} {message.seq}".encode())
    moment = rfc3339(ns)[:19].replace("-", "").replace(":", "")
    return f"{stream}-{moment}Z-{number.hexdigest()[:8]}"
