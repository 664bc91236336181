"""The files of clips: finished ones, and the spool of unfinished ones.

    FOLDER/2026-11-23/NAME.flac          a finished clip
    FOLDER/spool/NAME.json               the request for a clip (`ClipRequest`)
    FOLDER/spool/NAME.part               its audio so far, written by the process of the stream
    FOLDER/spool/NAME.pcm                all of its audio
    FOLDER/spool/NAME.bad                the mark that its audio could not be written

A file is renamed to its final name when it is complete. So each process may be killed at any
moment, and the next one finds from the files what is left to do.
"""

import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from streamtag.feed.atomic_file import PREFIX, atomic_file
from streamtag.feed.timestamps import rfc3339

HEAD = struct.Struct("<qq")
"""The head of a spool file: index of the first sample, and the rate in Hz. Samples follow."""
CLIP_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}-(\d{4})(\d\d)(\d\d)T\d{6}Z-[0-9a-f]{8}")
"""Names of clips: stream, UTC of the event, and a checksum of the event."""
FORMATS = ("flac", "opus")


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """A request for a clip. Times are stream time in seconds."""

    name: str
    stream: str
    event: str
    """The type of the event and its subject, for people."""
    begin: float
    end: float | None
    """None while the event lasts."""
    longest: float
    """The longest length of the clip, in seconds."""
    zero_ns: int
    """UTC of stream time 0, in nanoseconds since 1970."""
    made_ns: int
    """When the clip was requested."""

    @property
    def last(self) -> float:
        """The latest end of the clip."""
        longest = self.begin + self.longest
        return longest if self.end is None else min(self.end, longest)

    def utc(self, t: float) -> str:
        """The UTC of a stream time."""
        return rfc3339(self.zero_ns + round(t * 1e9))


def clip_path(folder: Path, name: str, format: str) -> Path:
    """The path of a clip's file.

    Raises:
        ValueError: the name is not one of a clip.
    """
    found = CLIP_NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"clip: expected STREAM-TIME-NUMBER, got {name!r:.100}")
    return folder / "-".join(found.groups()) / f"{name}.{format}"


def find_clip(folder: Path, name: str) -> Path | None:
    """The existing file of a clip; None if there is none."""
    if CLIP_NAME.fullmatch(name) is None:
        return None
    paths = (clip_path(folder, name, format) for format in FORMATS)
    return next((path for path in paths if path.is_file()), None)


def all_clips(folder: Path) -> Iterator[Path]:
    """The files of all clips, and the partial files that a killed encoder has left."""
    for day in folder.glob("[0-9]*-[0-9]*-[0-9]*"):
        for path in day.iterdir():
            named = CLIP_NAME.fullmatch(path.stem) and path.suffix[1:] in FORMATS
            if named or path.name.startswith(PREFIX):
                yield path


class Spool:
    """The folder of requests for clips, and of their audio."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "spool"

    def file(self, name: str, suffix: str) -> Path:
        """A file of a clip."""
        return self.folder / f"{name}.{suffix}"

    def request(self, request: ClipRequest) -> None:
        """Writes a request; replaces an earlier one for the same clip."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.file(request.name, "json"), durable=True) as partial:
            partial.write_text(json.dumps(asdict(request)))

    def read(self, name: str) -> ClipRequest | None:
        """Reads the request for a clip; None if the clip is finished or the file damaged."""
        try:
            return ClipRequest(**json.loads(self.file(name, "json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def names(self) -> set[str]:
        """The names of the requested clips."""
        try:
            files = os.listdir(self.folder)
        except OSError:
            return set()
        return {name.removesuffix(".json") for name in files if name.endswith(".json")} & {
            name.rpartition(".")[0] for name in files if not name.startswith(PREFIX)
        }

    def remove(self, name: str) -> None:
        """Removes the files of a clip, its request last."""
        for suffix in ("part", "pcm", "bad", "json"):
            with suppress(OSError):
                self.file(name, suffix).unlink()
