"""The files of clips: those that are finished, and the spool of those that are not.

    FOLDER/2026-11-23/NAME.flac          a clip
    FOLDER/spool/NAME.json               what is wanted of it (`ClipRequest`)
    FOLDER/spool/NAME.part               its audio so far, from the process that has the stream
    FOLDER/spool/NAME.pcm                all of its audio
    FOLDER/spool/NAME.bad                its audio could not be written

A file gets its final name when it is complete, by a rename. So each process may be killed at any
moment. Whoever comes next sees what is left to do.
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
"""Before the samples of a spool file: index of the first one, and Hz."""
CLIP_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}-(\d{4})(\d\d)(\d\d)T\d{6}Z-[0-9a-f]{8}")
"""Names of clips: stream, begin, and a number of the event."""
FORMATS = ("flac", "opus")


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """A clip that is wanted. Times are stream time in seconds."""

    name: str
    stream: str
    event: str
    """For people: the type of the event, and what it is about."""
    begin: float
    end: float | None
    """None while the event lasts."""
    longest: float
    zero_ns: int
    """UTC of stream time 0, in nanoseconds since 1970."""
    made_ns: int
    """When the clip was requested."""

    @property
    def last(self) -> float:
        """The clip ends here at the latest."""
        longest = self.begin + self.longest
        return longest if self.end is None else min(self.end, longest)

    def utc(self, t: float) -> str:
        """The UTC of a stream time."""
        return rfc3339(self.zero_ns + round(t * 1e9))


def clip_path(folder: Path, name: str, format: str) -> Path:
    """Where a clip is.

    Raises:
        ValueError: no clip has such a name.
    """
    found = CLIP_NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"clip: expected STREAM-TIME-NUMBER, got {name!r:.100}")
    return folder / "-".join(found.groups()) / f"{name}.{format}"


def find_clip(folder: Path, name: str) -> Path | None:
    """The file of a clip; None if there is none."""
    if CLIP_NAME.fullmatch(name) is None:
        return None
    paths = (clip_path(folder, name, format) for format in FORMATS)
    return next((path for path in paths if path.is_file()), None)


def all_clips(folder: Path) -> Iterator[Path]:
    """All clips, and files without a name that a killed encoder has left."""
    for day in folder.glob("[0-9]*-[0-9]*-[0-9]*"):
        for path in day.iterdir():
            named = CLIP_NAME.fullmatch(path.stem) and path.suffix[1:] in FORMATS
            if named or path.name.startswith(PREFIX):
                yield path


class Spool:
    """The clips that are not finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "spool"

    def file(self, name: str, suffix: str) -> Path:
        """A file of a clip."""
        return self.folder / f"{name}.{suffix}"

    def request(self, request: ClipRequest) -> None:
        """Writes what is wanted; replaces what was wanted of the same clip."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.file(request.name, "json"), durable=True) as partial:
            partial.write_text(json.dumps(asdict(request)))

    def read(self, name: str) -> ClipRequest | None:
        """What is wanted of a clip; None if it is finished, or cannot be read."""
        try:
            return ClipRequest(**json.loads(self.file(name, "json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def names(self) -> set[str]:
        """The clips that are requested."""
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
