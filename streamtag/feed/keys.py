"""Key pairs for the feed (CURVE, Curve25519): generated, written to files, read back.

The files have the format of pyzmq and czmq. `NAME.key_secret` holds both halves, and only its owner
may read it. `NAME.key` holds the public half and may be given away.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from streamtag.errors import FeedError

KEY_LENGTH = 40
"""Characters of a key in Z85."""
SECRET, PUBLIC = ".key_secret", ".key"
LARGEST = 65_536
"""Bytes of a key file."""

_TEXT = """\
# streamtag: {what}
metadata
    name = "{name}"
curve
    public-key = "{public}"
"""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both halves, as 40 characters of Z85 each."""

    public: str
    secret: str = field(repr=False)


def generate(path: Path) -> tuple[Path, Path]:
    """Generates a key pair and writes `PATH.key_secret` (mode 0600) and `PATH.key`.

    Returns:
        The two paths, the secret one first.

    Raises:
        FeedError: one of the files is there already, or cannot be written.
    """
    public, secret = (half.decode() for half in zmq.curve_keypair())
    secret_path, public_path = (path.with_name(path.name + end) for end in (SECRET, PUBLIC))
    open_half = _TEXT.format(what="a public key; give it away", name=path.name, public=public)
    closed = _TEXT.format(what="a SECRET key; keep it to yourself", name=path.name, public=public)
    for existing in (secret_path, public_path):
        if existing.exists():
            raise FeedError(f"{existing}: expected no such file, got one; keys are not overwritten")
    _write(secret_path, f'{closed}    secret-key = "{secret}"\n', 0o600)
    _write(public_path, open_half, 0o644)
    return secret_path, public_path


def _write(path: Path, text: str, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise FeedError(f"{path}: expected a place for a key, got {error.strerror}") from None
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)


def read_pair(path: Path) -> KeyPair:
    """The key pair in a `.key_secret` file.

    Raises:
        FeedError: it holds no key pair, its halves do not match, or other users may read it.
    """
    public, secret = _load(path)
    if secret is None:
        raise FeedError(f"{path}: expected a secret key, got a public one; name a {SECRET} file")
    if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise FeedError(
            f"{path}: expected a secret key that its owner alone may read, got mode {mode:04o}; "
            f"chmod 600 {path}"
        )
    if zmq.curve_public(secret.encode()).decode() != public:
        raise FeedError(f"{path}: expected two halves of one key, got halves of two")
    return KeyPair(public, secret)


def read_public(key: str | Path) -> str:
    """A public key, from its text (40 characters) or from a file that holds it.

    Raises:
        FeedError: it is not a key.
    """
    if isinstance(key, str) and len(key) == KEY_LENGTH and _is_key(key.encode()):
        return key
    return _load(Path(key))[0]


def read_authorised(folder: Path) -> tuple[Mapping[str, str], list[str]]:
    """The public keys in the `.key` files of a folder: their owners may subscribe.

    Returns:
        The name of each key, which is that of its file without the suffix, and one line about each
        file that holds no public key.

    Raises:
        FeedError: the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == PUBLIC)
    except OSError as error:
        raise FeedError(
            f"{folder}: expected a folder of public keys ({PUBLIC} files), got {error.strerror}"
        ) from None
    names: dict[str, str] = {}
    complaints: list[str] = []
    for path in paths:
        try:
            public, secret = _load(path)
        except FeedError as error:
            complaints.append(str(error))
            continue
        if secret is not None:
            complaints.append(f"{path}: expected a public key alone, got a secret one beside it")
        elif public in names:
            complaints.append(f"{path}: holds the same key as {names[public]}{PUBLIC}")
        else:
            names[public] = path.stem
    return names, complaints


def _load(path: Path) -> tuple[str, str | None]:
    """The public half and, where it is there, the secret one."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            raise ValueError("something else")
        halves = load_certificate(path)
    except OSError as error:
        raise FeedError(f"{path}: expected a key file, got {error.strerror or error}") from None
    except (ValueError, IndexError) as error:  # pyzmq wants a "=" after "public-key"
        raise FeedError(
            f"{path}: expected a key file, got {error}; make one with `streamtag keygen`"
        ) from None
    for half in halves:
        if half is not None and not _is_key(half):
            raise FeedError(f"{path}: expected keys of {KEY_LENGTH} characters, got {len(half)}")
    public, secret = halves
    return public.decode(), None if secret is None else secret.decode()


def _is_key(text: bytes) -> bool:
    if len(text) != KEY_LENGTH or any(byte not in z85.Z85MAP for byte in text):
        return False
    try:
        return len(z85.decode(text)) == 32
    except Exception:  # a group of five that is no number of 32 bits
        return False
