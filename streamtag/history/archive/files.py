"""Local and remote files, through PyArrow's filesystems."""

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamtag.errors import StreamtagError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder on a local or remote filesystem."""

    scheme: str
    """`s3`, `gs` or `hdfs`; empty for this machine."""
    filesystem: "FileSystem"
    path: str

    @property
    def is_local(self) -> bool:
        """Whether the path is on this machine, so that other programs can open it."""
        return not self.scheme

    @property
    def name(self) -> str:
        """The path, or the URL without options and keys."""
        return self.path if self.is_local else f"{self.scheme}://{self.path}"

    def at(self, path: str) -> "Place":
        """Another path on the same filesystem."""
        return Place(self.scheme, self.filesystem, path)

    def join(self, *names: str) -> "Place":
        """A path below this one."""
        return self.at(posixpath.join(self.path, *names))

    def size(self) -> int:
        """Bytes of a file; 0 where there is none."""
        return self._info().size or 0

    def exists(self) -> bool:
        """Whether there is a file or folder."""
        return bool(self._info().type.name != "NotFound")

    def is_folder(self) -> bool:
        """Whether it is a folder. In an object store that is a common prefix."""
        return bool(self._info().type.name == "Directory")

    def walk(self) -> Iterator[tuple["Place", int]]:
        """The files in a folder and its subfolders with their sizes, sorted. Hidden files and
        folders are left out."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.path, recursive=True, allow_not_found=True)
        for info in sorted(self.filesystem.get_file_info(selector), key=lambda one: one.path):
            below = info.path[len(self.path) :].strip("/")
            if info.is_file and not any(part.startswith(".") for part in below.split("/")):
                yield self.at(info.path), info.size or 0

    def read(self) -> bytes:
        """The bytes of a file."""
        with self.open_stream() as stream:
            data: bytes = stream.read()
        return data

    def open_stream(self) -> Any:
        """Opens a file for sequential reading."""
        return self.filesystem.open_input_stream(self.path, compression=None)

    def write(self, data: bytes) -> None:
        """Writes a file, and creates its folder if it is missing."""
        self.at(posixpath.dirname(self.path)).make()
        with self.filesystem.open_output_stream(self.path) as stream:
            stream.write(data)

    def make(self) -> None:
        """Creates a folder and its parents. An object store needs none."""
        if self.is_local:
            self.filesystem.create_dir(self.path, recursive=True)

    def move(self, target: "Place") -> None:
        """Moves a file in one step, and replaces an existing one."""
        self.filesystem.move(self.path, target.path)

    def delete(self) -> None:
        """Deletes a file, or a folder with its contents."""
        if self.is_folder():
            self.filesystem.delete_dir(self.path)
        elif self.exists():
            self.filesystem.delete_file(self.path)

    def _info(self) -> Any:
        return self.filesystem.get_file_info(self.path)


def open_place(name: str) -> Place:
    """The place of a local path, or of a URL: `s3://`, `gs://`, `hdfs://`, `file://`.

    A URL may have PyArrow's options: `s3://bucket/folder?region=eu-west-1`.

    Raises:
        StreamtagError: an unknown scheme, or no such bucket.
    """
    from pyarrow.fs import FileSystem, LocalFileSystem

    scheme, found, _ = name.partition("://")
    if not found:
        return Place("", LocalFileSystem(), os.path.abspath(name))
    try:
        filesystem, path = FileSystem.from_uri(name)
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        text = str(error).splitlines()[0]
        raise StreamtagError(
            f"{name.partition('?')[0]}: expected a URL that PyArrow can open (s3://, gs://, "
            f"hdfs://, file://), got: {text}; check the name, the region and the keys"
        ) from None
    return Place("" if scheme == "file" else scheme, filesystem, path)
