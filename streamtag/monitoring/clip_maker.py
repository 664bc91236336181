"""Makes clips from the requests in the spool, publishes messages about them, removes old ones.

It works in a thread of the daemon, so that neither the engine nor the feed ever waits for a disk.
"""

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from streamtag.config.clips import ClipsConfig
from streamtag.errors import StreamtagError
from streamtag.feed.atomic_file import PREFIX
from streamtag.feed.messages import Clip, Message
from streamtag.feed.timestamps import ns_of
from streamtag.monitoring.clip_encoder import EncodingError, audio_span, encode
from streamtag.monitoring.clip_files import (
    ClipRequest,
    Spool,
    all_clips,
    clip_path,
)
from streamtag.monitoring.clips import clip_message

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How often the spool is read."""
STALL_SECONDS = 10.0
"""How long to wait for more audio of a clip whose end is known, before its present audio is
used."""
PATIENCE_SECONDS = 30.0
"""How long after its longest length a clip is made of its present audio."""
SETTLE_SECONDS = 3.0
"""How long after its last message a clip is removed from the spool. The journal has the message by
then."""
TRIES = 3
"""How often encoding a clip is tried before the clip is reported as missing."""
RETENTION_SECONDS = 60.0
"""How often old clips are removed."""
OLD_SECONDS = 600.0
"""The age at which a partial file is considered abandoned."""


@dataclass(slots=True)
class _Progress:
    """The progress of a clip in the spool. Moments are those of `time.monotonic`."""

    seen: float
    """When its request was found."""
    size: int = -1
    """Bytes of its audio when that was checked last."""
    grown: float = 0.0
    """When its audio was last found to have grown."""
    whole: float = 0.0
    """When its audio was found to be complete; 0 before."""
    tries: int = 0
    """How often encoding has failed."""
    done: float = 0.0
    """When its last message was published; 0 before."""


@dataclass(slots=True)
class ClipMaker:
    """Makes the clips of a daemon.

    Args:
        config: folder, lengths and format.
    """

    config: ClipsConfig
    _publish: Callable[[Message], None] = field(default=lambda message: None)
    _notice: Callable[[str], None] = field(default=lambda text: None)
    _requests: queue.SimpleQueue[ClipRequest] = field(default_factory=queue.SimpleQueue)
    _recalled: list[Clip] = field(default_factory=list)
    _finished: set[str] = field(default_factory=set)
    _progress: dict[str, _Progress] = field(default_factory=dict)
    _earlier: set[str] = field(default_factory=set)
    _trouble: str = ""
    _wake: threading.Event = field(default_factory=threading.Event)
    _closing: bool = False
    _stopped: bool = False
    _idle: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _spool: Spool = field(init=False)
    _folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self._folder = Path(self.config.folder)
        self._spool = Spool(self._folder)

    def request(self, request: ClipRequest) -> None:
        """Requests a clip, or changes the end of one."""
        self._idle.clear()
        self._requests.put(request)
        self._wake.set()

    def recall(self, unfinished: Sequence[Clip], finished: Iterable[str]) -> None:
        """Notes the earlier clips that the journal has. Call it before `start`."""
        self._recalled, self._finished = list(unfinished), set(finished)

    def start(self, publish: Callable[[Message], None], notice: Callable[[str], None]) -> None:
        """Starts the thread, which first finishes the clips of an earlier run.

        Args:
            publish: publishes a message; may be called from any thread.
            notice: publishes a notice; may be called from any thread.
        """
        self._publish, self._notice = publish, notice
        self._earlier = self._spool.names()
        self._thread = threading.Thread(target=self._run, name="clip maker", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Makes clips for at most `seconds`. The others are made after the next start."""
        if self._thread is not None:
            self._closing = True
            self._wake.set()
            self._idle.wait(seconds)
            self._stopped = True
            self._wake.set()
            self._thread.join(max(1.0, seconds))

    def clean(self) -> None:
        """Removes finished clips from the spool. Call it after the journal was closed."""
        for name in self._spool.names() & self._finished:
            self._spool.remove(name)

    def _run(self) -> None:
        self._miss_lost()
        swept = -RETENTION_SECONDS
        while not self._stopped:
            try:
                if time.monotonic() - swept > RETENTION_SECONDS:
                    swept = time.monotonic()
                    self._sweep()
                self._take_requests()
                self._make_all()
            except Exception:
                log.critical("clips: an unexpected error", exc_info=True)
            if self._requests.empty() and all(p.done for p in self._progress.values()):
                self._idle.set()
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def _miss_lost(self) -> None:
        """Reports the clips as missing that are in the journal, but not in the spool."""
        for clip in self._recalled:
            if clip.id not in self._earlier and clip.id not in self._finished:
                request = _recalled_request(clip)
                self._miss(request, "the daemon ended before any audio was written")

    def _take_requests(self) -> None:
        while True:
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return
            known = self._progress.get(request.name)
            if known and known.done:
                continue
            try:
                if known is None:
                    self._require_space()
                self._spool.request(request)
                self._progress.setdefault(request.name, _Progress(time.monotonic()))
            except (OSError, EncodingError) as error:
                if known is None:
                    self._progress[request.name] = _Progress(0.0, done=time.monotonic())
                    self._complain(str(error))
                    self._miss(request, str(error))

    def _require_space(self) -> None:
        """Raises an EncodingError if the disk is too full."""
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free / 1e6
        if free < self.config.free_megabytes:
            least = self.config.free_megabytes
            raise EncodingError(
                f"the disk of {self._folder} has less than {least:g} MB left (clips.free_megabytes)"
            )

    def _complain(self, trouble: str) -> None:
        """Publishes a notice that no clips can be made, once; or, for an empty text, that they can
        be made again."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self._notice(f"clips: none is made: {trouble}" if trouble else "clips: they are made again")

    def _make_all(self) -> None:
        now = time.monotonic()
        for name in sorted(self._spool.names()):
            progress = self._progress.setdefault(name, _Progress(now))
            if progress.done or name in self._finished:
                progress.done = progress.done or now
                if now - progress.done > SETTLE_SECONDS or name in self._earlier:
                    self._spool.remove(name)
            elif (request := self._spool.read(name)) is not None:
                self._make(request, progress, now)
        kept = self.config.longest_seconds + PATIENCE_SECONDS  # an end may still be sent
        old = [n for n, p in self._progress.items() if p.done and now - p.done > kept]
        for name in set(old) - self._spool.names():
            del self._progress[name]
            self._finished.discard(name)

    def _make(self, request: ClipRequest, progress: _Progress, now: float) -> None:
        """Makes a clip if its audio is complete."""
        name = request.name
        audio = self._spool.file(name, "pcm")
        if not audio.exists() and self._is_due(request, progress, now):
            with suppress(OSError):  # there is none
                self._spool.file(name, "part").rename(audio)
            if not audio.exists():
                self._end(request, progress, "no audio of it was written")
                return
        if self._spool.file(name, "bad").exists():
            self._complain("its audio could not be written; see the log")
            self._end(request, progress, "its audio could not be written")
        elif audio.exists() and self._knows_end(request, progress, audio, now):
            self._encode(request, progress, audio)

    def _is_due(self, request: ClipRequest, progress: _Progress, now: float) -> bool:
        """Whether to make a clip of its present audio, because no more will come."""
        if self._closing or request.name in self._earlier:
            return True  # no process writes its audio any more
        try:
            size = self._spool.file(request.name, "part").stat().st_size
        except OSError:
            size = -1
        if size != progress.size or not progress.grown:
            progress.size, progress.grown = size, now
        stalled = request.end is not None and now - progress.grown > STALL_SECONDS
        return stalled or now - progress.seen > request.longest + PATIENCE_SECONDS

    def _knows_end(
        self, request: ClipRequest, progress: _Progress, audio: Path, now: float
    ) -> bool:
        """Whether the end of the event is known, or will not become known any more."""
        if request.end is not None or self._closing or request.name in self._earlier:
            return True
        try:
            begin, end, _ = audio_span(audio)
        except (OSError, StreamtagError):
            return True  # encoding will report the error
        progress.whole = progress.whole or now
        return end - begin >= request.longest - 0.1 or now - progress.whole > STALL_SECONDS

    def _encode(self, request: ClipRequest, progress: _Progress, audio: Path) -> None:
        path = clip_path(self._folder, request.name, self.config.format)
        progress.tries += 1
        try:
            made = encode(request, audio, path, self.config.format)
        except (OSError, StreamtagError) as error:
            if progress.tries >= TRIES or not _has_audio(audio):
                log.error("clip %s: %s", request.name, error)
                self._complain(str(error)) if _has_audio(audio) else None
                self._end(request, progress, str(error))
            return
        self._complain("")
        complete = made.begin <= request.begin + 0.1 and made.end >= request.last - 0.1
        complete &= request.end is not None or made.end - made.begin >= request.longest - 0.1
        progress.done = time.monotonic()
        self._finished.add(request.name)
        self._publish(
            clip_message(
                request,
                "ready",
                begin=made.begin,
                end=made.end,
                file=str(path.relative_to(self._folder)),
                url=self.config.link + request.name,
                size=made.bytes,
                sha256=made.sha256,
                complete=complete,
                detail="" if complete else "not all of the audio was there",
            )
        )

    def _end(self, request: ClipRequest, progress: _Progress, why: str) -> None:
        progress.done = time.monotonic()
        self._miss(request, why)

    def _miss(self, request: ClipRequest, why: str) -> None:
        self._finished.add(request.name)
        self._publish(clip_message(request, "missing", end=request.begin, detail=why))

    def _sweep(self) -> None:
        """Removes clips that are too old or too many, and the files of killed encoders."""
        now, left = time.time(), []
        for path in all_clips(self._folder):
            with suppress(OSError):
                status = path.stat()
                is_temporary = path.name.startswith(PREFIX)
                limit = OLD_SECONDS if is_temporary else self.config.days * 86400
                if now - status.st_mtime > limit:
                    path.unlink()
                elif not is_temporary:
                    left.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in left)
        for _, size, path in sorted(left):
            if total <= self.config.megabytes * 1e6:
                break
            with suppress(OSError):
                path.unlink()
                total -= size
        for day in self._folder.glob("[0-9]*-[0-9]*-[0-9]*"):
            with suppress(OSError):  # it is not empty
                day.rmdir()


def _has_audio(audio: Path) -> bool:
    try:
        audio_span(audio)
    except (OSError, StreamtagError):
        return False
    return True


def _recalled_request(clip: Clip) -> ClipRequest:
    """The request for a clip that only the journal knows."""
    ns = ns_of(clip.utc)
    zero = ns - round(clip.t * 1e9)
    return ClipRequest(clip.id, clip.stream, clip.event, clip.t, None, 0.0, zero, ns)
