"""Checkpoints of TensorFlow 1 ("tensor bundles"), read without TensorFlow.

A checkpoint is two files. The data file holds the numbers of all variables one after the other. The
index says where each variable lies. It is a sorted string table as in LevelDB
(doc/table_format.md of LevelDB): blocks of keys, each without the beginning that it shares with the
key before, and a footer that leads to them. Its values are protocol buffers (BundleEntryProto in
TensorFlow's tensor_bundle.proto). No code in the files is run.
"""

import struct
from collections.abc import Iterator

import numpy as np

MAGIC = 0xDB4775248B80FB57
"""The last eight bytes of an index."""
FOOTER = 48
"""Bytes of the footer: two handles, padding, magic number."""
SIZES = {1: 8, 2: 0, 5: 4}
"""Bytes of a protocol buffer's field by its type; of type 2 they are stated in the field."""
FLOAT = 1
"""DT_FLOAT of TensorFlow's types.proto."""


def read_variables(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """The float32 variables of a checkpoint by name.

    Args:
        index: content of the file that ends in `.index`.
        data: content of the only file that ends in `.data-00000-of-00001`.

    Raises:
        ValueError: the files are damaged, compressed, or do not belong together.
    """
    if len(index) < FOOTER or struct.unpack("<Q", index[-8:])[0] != MAGIC:
        raise ValueError("its index has no footer of a sorted string table")
    try:
        _, at = _handle(index, len(index) - FOOTER)
        handle, _ = _handle(index, at)
        found: dict[str, np.ndarray] = {}
        for _, block in _entries(_block(index, handle)):
            for key, value in _entries(_block(index, _handle(block, 0)[0])):
                if key:  # the empty key is the header
                    found |= _variable(key.decode(), value, data)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"its index is damaged: {error}") from error
    return found


def _variable(name: str, entry: bytes, data: bytes) -> dict[str, np.ndarray]:
    """The variable that an entry describes; nothing if its numbers are no float32."""
    fields = dict(_fields(entry))
    if fields.get(1) != FLOAT:
        return {}
    dimensions = [part for number, part in _fields(_bytes(fields.get(2, b""))) if number == 2]
    shape = [int(dict(_fields(_bytes(part))).get(1, 0)) for part in dimensions]
    start, size = int(fields.get(4, 0)), int(fields.get(5, 0))
    if fields.get(3, 0) or size != 4 * int(np.prod(shape)) or start + size > len(data):
        raise ValueError(f"its data has no {shape} numbers of {name!r}")
    return {name: np.frombuffer(data, "<f4", size // 4, start).reshape(shape)}


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("its index has a number where it should have a message")
    return value


def _block(index: bytes, handle: tuple[int, int]) -> bytes:
    start, size = handle
    if index[start + size] != 0:
        raise ValueError("its index is compressed, which TensorFlow 1 never does")
    return index[start : start + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + size]
        at += own + size


def _handle(text: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Start and size of a block, and where the next thing begins."""
    start, at = _varint(text, at)
    size, at = _varint(text, at)
    return (start, size), at


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of the fields of an entry or of a message inside one."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind not in SIZES:
            raise ValueError(f"its index has a field of unknown type {kind}")
        size, at = _varint(message, at) if kind == 2 else (SIZES[kind], at)
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(text: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits per byte, low ones first, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = text[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("its index has a number of more than 64 bits")
