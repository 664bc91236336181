"""Signatures of bundles, for models that are handed on: minisign's keys and files.

`BUNDLE.minisig` beside a bundle is its signature. The program `minisign` reads and writes the same
files. They need the library py-minisign.
"""

import base64
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtag.errors import BundleError
from streamtag.model.bundle import BundleFile

MISSING = "expected the library py-minisign, got none; install it with `pip install "
MISSING += "'streamtag[signatures]'`"


def signature_path(bundle: Path) -> Path:
    """Where the signature of a bundle is."""
    return bundle.with_name(f"{bundle.name}.minisig")


def check_signature(bundle: BundleFile, trusted_keys: Sequence[str]) -> str:
    """Refuses a bundle that none of the keys has signed. Returns the comment that was signed too.

    Raises:
        BundleError: there is no signature, it is of another file, or by another key.
    """
    signature = read_signature(bundle.path)
    if signature is None:
        raise BundleError(
            f"{bundle.path}: expected a signature by one of {len(trusted_keys)} trusted keys in "
            f"{signature_path(bundle.path).name}, got none; ask who made it, or pin its sha256"
        )
    library = _library(bundle.path)
    for key in trusted_keys:
        with suppress(library.Error):
            library.PublicKey.from_base64(key).verify(bundle.data, signature)
            return str(signature.trusted_comment)
    raise BundleError(
        f"{bundle.path}: expected a signature of this file by a trusted key, got one of another "
        f"file, or by the key {key_number(signature)}; do not use it"
    )


def read_signature(bundle: Path) -> Any:
    """The signature beside a bundle, not verified; None if there is none.

    Raises:
        BundleError: it cannot be read.
    """
    path = signature_path(bundle)
    if not path.is_file():
        return None
    library = _library(bundle)
    try:
        return library.Signature.from_bytes(path.read_bytes())
    except (library.Error, ValueError, OSError) as error:
        raise BundleError(f"{path}: expected a signature of minisign, got {error}") from error


def key_number(signature: Any) -> str:
    """The number of the key that a signature names, as minisign writes it."""
    return str(signature._key_id[::-1].hex().upper())


def sign(bundle: Path, key: Path, comment: str, password: str = "") -> Path:
    """Signs a bundle; returns the path of the signature.

    Args:
        bundle: its card is read first, so that nothing else is signed.
        key: file of a secret key.
        comment: signed too: who made it, what it is for.
        password: of the key; empty for none.

    Raises:
        BundleError: no bundle, no key, a wrong password, or the signature cannot be written.
    """
    file = BundleFile.read(bundle)
    _ = file.card
    library = _library(bundle)
    try:
        secret = library.SecretKey.from_file(key)
        if secret.is_encrypted():
            secret.decrypt(password)
        signature = secret.sign(file.data, trusted_comment=comment)
        path = signature_path(bundle)
        path.write_bytes(bytes(signature) + b"\n")
    except (library.Error, ValueError) as error:
        raise BundleError(f"{key}: expected a secret key of minisign, got: {error}") from error
    except OSError as error:
        raise BundleError(f"{error.filename}: {error.strerror}") from error
    return path


def is_encrypted(key: Path) -> bool:
    """Whether a secret key needs a password; False where it cannot be read."""
    library = _library(key)
    try:
        return bool(library.SecretKey.from_file(key).is_encrypted())
    except (library.Error, ValueError, OSError):
        return False


def make_keys(key: Path, password: str = "") -> str:
    """Writes a new secret key, and the public one beside it (`.pub`); returns the public one.

    Raises:
        BundleError: a file is there already, or cannot be written.
    """
    pair = _library(key).KeyPair.generate()
    if password:
        pair.secret_key.encrypt(password)
    public, line = key.with_suffix(".pub"), str(pair.public_key.to_base64().decode())
    number = base64.b64decode(line)[2:10][::-1].hex().upper()
    pair.public_key.untrusted_comment = f"minisign public key {number}"
    try:
        for path, text, mode in (
            (key, bytes(pair.secret_key), 0o600),
            (public, bytes(pair.public_key), 0o644),
        ):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(text + b"\n")
    except OSError as error:
        raise BundleError(
            f"{error.filename}: expected a new file, got: {error.strerror}"
        ) from error
    return line


def _library(path: Path) -> Any:
    try:
        import minisign
    except ImportError:
        raise BundleError(f"{path}: {MISSING}") from None
    return minisign
