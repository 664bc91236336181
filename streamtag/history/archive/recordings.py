"""Finds the recordings to tag: in folders, globs, lists, manifests, and URLs such as `s3://`."""

import csv
import errno
import glob
import json
import os
import posixpath
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from streamtag.errors import SourceError, StreamtagError
from streamtag.history.archive.files import Place, open_place

ENDINGS = frozenset(
    f".{ending}" for ending in (
        "aac", "aif", "aifc", "aiff", "ape", "au", "caf", "flac", "m4a", "m4b", "mka", "mkv", "mov",
        "mp2", "mp3", "mp4", "mpc", "oga", "ogg", "opus", "w64", "wav", "webm", "wma", "wv",
    )
)  # fmt: skip
"""File name extensions of recordings. Other files in a folder are left out."""
LISTS = frozenset({".txt", ".lst", ".m3u", ".m3u8"})
"""Extensions of lists, which have a path or URL per line."""
MANIFESTS = frozenset({".csv", ".tsv", ".jsonl"})
"""Extensions of tables with a column `file`."""
_WILD = re.compile(r"[*?\[]")
_COPY = 2**20
"""Number of bytes that are copied at a time."""


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A recording to tag."""

    file: str
    """Its absolute path, or its URL without options and keys. The archive knows it by this name."""
    place: Place
    """Where to read it."""
    size: int = 0
    """Its size in bytes; 0 if it is not known."""


def find_recordings(sources: Iterable[str]) -> list[ArchivedFile]:
    """All recordings that the sources name, each once, in their order.

    Args:
        sources: recordings, folders, globs, lists, manifests and URLs; `-` for a list on standard
            input.

    Raises:
        StreamtagError: a source does not exist or cannot be read, or there are no recordings.
    """
    given = list(sources)
    found: dict[str, ArchivedFile] = {}
    for source in given:
        try:
            for one in _expand(source):
                found.setdefault(one.file, one)
        except OSError as error:
            raise StreamtagError(
                f"{source.partition('?')[0]}: expected recordings that can be read, got "
                f"{_short(error)}; let this user read it, or leave it out with a glob such as "
                "'/music/**/*.mp3'"
            ) from None
    if not found:
        raise StreamtagError(
            f"{', '.join(given)[:200] or 'sources'}: expected recordings, got none; in folders "
            f"these endings count: {' '.join(sorted(ENDINGS))}"
        )
    return list(found.values())


def _expand(source: str) -> Iterator[ArchivedFile]:
    """The recordings that one source names."""
    if source == "-":
        here = open_place(os.getcwd())
        yield from (_named(line, here) for line in _lines(sys.stdin.read()))
        return
    place = open_place(source)
    if Path(place.path).suffix.lower() in LISTS | MANIFESTS:
        folder = place.at(posixpath.dirname(place.path))
        yield from (_named(name, folder) for name in _listed(source, place))
    elif _WILD.search(place.path) and not place.exists():
        yield from _matching(place)
    elif place.is_folder():
        yield from (_file(one, size) for one, size in place.walk() if _is_audio(one.path))
    elif place.exists():
        yield _file(place, place.size())
    else:
        raise StreamtagError(
            f"{place.name}: expected a recording, folder, glob, list or manifest, got nothing "
            "there; check the path"
        )


def _is_audio(path: str) -> bool:
    return Path(path).suffix.lower() in ENDINGS


def _file(place: Place, size: int) -> ArchivedFile:
    return ArchivedFile(place.name, place, size)


def _named(name: str, folder: Place) -> ArchivedFile:
    """A recording that a list in this folder names. It may be missing: tagging will report that."""
    if "://" in name and not name.startswith(f"{folder.scheme}://"):
        place = open_place(name)
    elif "://" in name:  # the same store: the options of the list hold
        place = folder.at(name.partition("://")[2].partition("?")[0])
    else:
        place = folder.at(posixpath.normpath(posixpath.join(folder.path, name)))
    return _file(place, place.size() if place.is_local else 0)


def _matching(place: Place) -> Iterator[ArchivedFile]:
    if place.is_local:
        paths = sorted(glob.glob(place.path, recursive=True))
        places = [place.at(path) for path in paths if os.path.isfile(path)]
        yield from (_file(one, one.size()) for one in places)
        return
    fixed = posixpath.dirname(_WILD.split(place.path)[0])
    pattern, any_depth = place.path.replace("**/", "*"), "**" in place.path
    for one, size in place.at(fixed).walk():
        as_deep = one.path.count("/") == pattern.count("/")
        if fnmatchcase(one.path, pattern) and (any_depth or as_deep):
            yield _file(one, size)


def _listed(source: str, place: Place) -> list[str]:
    """The paths and URLs of a list or manifest."""
    try:
        text = place.read().decode("utf-8-sig")
        ending = Path(place.path).suffix.lower()
        if ending in LISTS:
            return _lines(text)
        return [str(row["file"]) for row in _rows(text, ending)]
    except OSError as error:
        raise StreamtagError(
            f"{source}: expected a list, got {_short(error)}; check its path, and who may read it"
        ) from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise StreamtagError(
            f"{source}: expected a table with a column `file`, got {type(error).__name__}: "
            f"{error}; docs/archive.md has the form of manifests"
        ) from None


def _rows(text: str, ending: str) -> Iterable[dict[str, Any]]:
    if ending == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return csv.DictReader(text.splitlines(), delimiter="\t" if ending == ".tsv" else ",")


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def local_copies(
    files: Iterable[ArchivedFile],
) -> Iterator[tuple[ArchivedFile, Path | SourceError]]:
    """Each recording with the path of a local file, or the error why there is none.

    A remote recording is copied to a temporary file, while the one before it is used.
    """
    with tempfile.TemporaryDirectory(prefix="streamtag-") as folder:
        todo = iter(files)
        with ThreadPoolExecutor(1, "fetch") as pool:
            one = next(todo, None)
            coming = None if one is None else pool.submit(_fetch, one, folder)
            while one is not None and coming is not None:
                path = coming.result()
                after = next(todo, None)
                coming = None if after is None else pool.submit(_fetch, after, folder)
                yield one, path
                if not one.place.is_local and isinstance(path, Path):
                    path.unlink(missing_ok=True)
                one = after


def _fetch(one: ArchivedFile, folder: str) -> Path | SourceError:
    if one.place.is_local:
        return Path(one.place.path)
    handle, name = tempfile.mkstemp(Path(one.place.path).suffix, dir=folder)
    try:
        with open(handle, "wb") as target, closing(one.place.open_stream()) as stream:
            shutil.copyfileobj(stream, target, _COPY)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:  # no fault of the recording
            raise
        return SourceError(f"{one.file}: expected a recording, got {_short(error)}")
    return Path(name)


def _short(error: OSError) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
