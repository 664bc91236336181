"""The zip archive of a bundle, read without torch: nothing in it runs.

A bundle is a program. So its sizes are bounded before anything is unpacked, and its code is
searched for operators that reach beyond tensors.
"""

import ast
import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from streamtag.errors import BundleError

UNPACKED = 32 * 2**20
"""The members of an archive may have so many bytes more than its file. Weights are not compressed,
code is."""
LONGEST_PICKLE = 16 * 2**20
"""Bytes of a pickle; weights are members of their own."""
FORBIDDEN = frozenset(
    {
        # Files: `aten::save(item, filename)`, `aten::from_file(filename)`, `debugprims::…`.
        "save", "from_file", "load_tensor",
        # Other processes and machines.
        "rpc_async", "rpc_remote", "rpc_sync", "dist_backward", "c10d", "_c10d_functional",
        "_c10d_functional_autograd", "symm_mem", "dist_c10d", "dist_rpc",
        # Code that is not in the archive.
        "PythonOp", "nnapi",
    }
)  # fmt: skip
"""Operators, namespaces of operators and classes that no bundle may use. They are those of torch
2.13's registry (`torch._C._jit_get_all_schemas`) that do more than compute."""
_NAMES = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_TEXT = re.compile(rb"\"(?:[^\"\\\n]|\\.)*+(?:\"|\\?$)|'(?:[^'\\\n]|\\.)*+(?:'|\\?$)", re.MULTILINE)
"""One without an end goes to the end of its line, so that every byte is looked at once."""
_PICKLED = re.compile(
    r"__torch__(\.\S+)? \w+|torch \w+|torch\.jit\._pickle \w+|torch\._utils _rebuild_\w+"
    r"|torch\._tensor _rebuild_\w+|collections OrderedDict"
)
"""What the pickles of a TorchScript file refer to, as `module name`."""


def without_debug_info(data: bytes) -> bytes:
    """The archive of a TorchScript file without its debug information.

    It names the Python files that the module came from, with their paths on the machine that wrote
    it. Without it errors name lines of the archive's own code.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for item in old.infolist():
            if not item.filename.endswith(".debug_pkl"):
                new.writestr(item, old.read(item))
    return out.getvalue()


class BundleArchive:
    """The archive in the bytes of a bundle.

    Args:
        path: for messages.
        data: the whole file.

    Raises:
        BundleError: no archive, truncated, or one whose members do not fit its size.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self._zip = _opened(path, data)
        self._check_members(len(data))

    def verify(self) -> None:
        """Compares every member with its checksum.

        Raises:
            BundleError: one differs.
        """
        try:
            damaged = self._zip.testzip()
        except Exception as error:  # zipfile raises many kinds of errors
            raise _damaged(self.path, error) from error
        if damaged is not None:
            raise BundleError(
                f"{self.path}: damaged: checksum of {damaged!r} is wrong; fetch it again"
            )

    def extra(self, name: str, longest: int) -> bytes | None:
        """An extra file of the bundle; None if it has none of this name.

        Raises:
            BundleError: it is longer, or cannot be read.
        """
        found = [i for i in self._zip.infolist() if i.filename.endswith(f"/extra/{name}")]
        if not found:
            return None
        if (size := found[0].file_size) > longest:
            raise BundleError(f"{self.path}: {name}: expected at most {longest} bytes, got {size}")
        return self._read(found[0])

    def forbidden(self) -> list[str]:
        """The names of `FORBIDDEN` that occur in its code, and what its pickles must not refer to.

        A name counts wherever it stands, also in a text, because TorchScript looks some up there.
        """
        found: set[str] = set()
        for item in self._zip.infolist():
            if "/code/" in item.filename and item.filename.endswith(".py"):
                found |= FORBIDDEN & set(_names_in(self._read(item)))
            elif item.filename.endswith(("/data.pkl", "/constants.pkl")):
                if item.file_size > LONGEST_PICKLE:
                    raise BundleError(
                        f"{self.path}: {item.filename}: expected at most {LONGEST_PICKLE} bytes, "
                        f"got {item.file_size}; weights are elsewhere"
                    )
                found |= set(self._foreign(item))
        return sorted(found)

    def _check_members(self, size: int) -> None:
        """Bounds the members by the size of the file; refuses names that two readers may read
        differently."""
        members = self._zip.infolist()
        packed, unpacked = (
            sum(item.compress_size for item in members),
            sum(item.file_size for item in members),
        )
        if packed > size or unpacked > size + UNPACKED:
            raise BundleError(
                f"{self.path}: expected members that fit a file of {size} bytes, got "
                f"{packed} bytes that unpack to {unpacked}; it is no honest archive"
            )
        names = [item.filename.casefold() for item in members]
        if len(set(names)) != len(names) or len({name.split("/")[0] for name in names}) > 1:
            raise BundleError(
                f"{self.path}: expected one folder with members of different names, got "
                "others; it is no archive of torch"
            )

    def _read(self, item: zipfile.ZipInfo) -> bytes:
        try:
            return self._zip.read(item)
        except Exception as error:  # zipfile raises many kinds of errors
            raise _damaged(self.path, error) from error

    def _foreign(self, item: zipfile.ZipInfo) -> Iterator[str]:
        """What a pickle refers to that a TorchScript file has no use for."""
        try:
            for operation, argument, _ in pickletools.genops(self._read(item)):
                if operation.name == "GLOBAL" and not _PICKLED.fullmatch(str(argument)):
                    yield str(argument)
                elif operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
                    yield f"pickled {operation.name}"
        except ValueError as error:
            raise BundleError(f"{self.path}: {item.filename}: damaged: {error}") from error


def _names_in(code: bytes) -> Iterator[str]:
    """All identifiers of code, and its texts, those beside each other joined."""
    for name in _NAMES.findall(code):
        yield name.decode()
    joined, end = list[str](), 0
    for text in _TEXT.finditer(code):
        if code[end : text.start()].strip():
            yield "".join(joined)
            joined = []
        end = text.end()
        with suppress(ValueError, SyntaxError):  # torch will not read it either
            joined.append(str(ast.literal_eval(text[0].decode())))
    yield "".join(joined)


def _opened(path: Path, data: bytes) -> zipfile.ZipFile:
    if data[:4] != b"PK\x03\x04":
        raise BundleError(
            f"{path}: not a bundle: expected a TorchScript file, got one that begins with "
            f"{data[:4]!r}"
        )
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise BundleError(
            f"{path}: truncated: its end is missing after {len(data)} bytes; copy or fetch it again"
        ) from error
    except Exception as error:  # zipfile raises many kinds of errors
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BundleError:
    return BundleError(f"{path}: damaged: expected a zip archive, got {error}")
