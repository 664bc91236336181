"""What the tables of the configuration share: base class, names, paths, addresses, secrets."""

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from streamtag.errors import ConfigError

NAME = r"^[A-Za-z0-9._-]{1,64}$"
"""The names that streams and taggers may have. They are parts of topics."""

Name = Annotated[str, Field(pattern=NAME)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1)]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"expected text without NUL, got {text!r}")
    return text


def resolved(path: str, info: ValidationInfo) -> str:
    """A path made absolute. It is relative to the `folder` in the context of the validation."""
    folder = (info.context or {}).get("folder")
    return str(folder / path) if path and folder else path


Text = Annotated[str, AfterValidator(_without_nul)]
"""Text that may become a path or an address."""
FilePath = Annotated[Text, AfterValidator(resolved)]
"""A path, relative to the configuration file. Empty for none."""
_MUST_EXIST = "the file must exist"
ExistingFile = Annotated[FilePath, _MUST_EXIST]
"""The path of a file that must exist. Empty for none."""


def _checksum(text: str) -> str:
    if text and not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise ValueError(f"expected 64 hexadecimal digits, got {text!r:.100}")
    return text.lower()


Checksum = Annotated[str, AfterValidator(_checksum)]


def _public_key(text: str) -> str:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 42 or key[:2] != b"Ed":  # algorithm, number of the key, Ed25519
        raise ValueError(
            "expected a public key of minisign, the line of 56 characters in its file, "
            f"got {text!r:.100}"
        )
    return text


PublicKey = Annotated[str, AfterValidator(_public_key)]


class ConfigTable(BaseModel):
    """A table of the configuration. It has no other keys and no other types, and never changes."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )

    def missing_files(self, key: str) -> list[str]:
        """Complaints about files that do not exist. `key` is the key of the table."""
        return [
            f"{key}.{name}: expected an existing file, got {path!r:.200}"
            for name, field in type(self).model_fields.items()
            if _MUST_EXIST in field.metadata
            and (path := getattr(self, name))
            and not os.path.isfile(path)
        ]


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merges a table into another one. None removes a key."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(under, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(under, value)
        else:
            merged[key] = value
    return merged


_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s/\[\]]+):([0-9]{1,5})")


def split_host_port(text: str) -> tuple[str, int] | None:
    """Host and port of `HOST:PORT`, an IPv6 host without its brackets. None if it is none."""
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        return None
    return found[1].strip("[]"), int(found[2])


def is_public(host: str) -> bool:
    """Whether programs on other machines could reach a host's address."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:  # `*`, the name of a network card or of a host
        return True


def read_secret(
    key: str, inline: str, file: str, variable: str, environment: Mapping[str, str] = os.environ
) -> str:
    """Reads a secret from where the configuration has it. Empty if it has none.

    It is given inline, in a file (white space at its end does not count), or in an environment
    variable. `key` of the configuration is for complaints, such as `mqtt.password`.

    Raises:
        ConfigError: the file cannot be read, the variable is not set, or either is empty.
    """
    if file:
        try:
            text = Path(file).read_text(encoding="utf-8").rstrip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"{key}_file: expected a file to read, got {file!r}: {why}") from None
        if not text:
            raise ConfigError(f"{key}_file: expected a secret in {file!r}, got an empty file")
        return text
    if variable:
        if not (text := environment.get(variable, "")):
            raise ConfigError(
                f"{key}_env: expected a secret in the environment variable {variable!r}, "
                "got nothing; set it for the daemon"
            )
        return text
    return inline


def check_one_secret(key: str, *given: str) -> None:
    """Refuses a secret that is given in several ways.

    Raises:
        ValueError: with the key.
    """
    if sum(map(bool, given)) > 1:
        raise ValueError(f"{key}: expected one of {key}, {key}_file, {key}_env, got several")
