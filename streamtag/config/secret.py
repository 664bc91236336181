"""Passwords and keys that stand in a file or a variable rather than in a configuration."""

import os
from collections.abc import Mapping
from pathlib import Path

from streamtag.errors import ConfigError


def read_secret(
    key: str, inline: str, file: str, variable: str, environment: Mapping[str, str] = os.environ
) -> str:
    """A secret from wherever it is said to be; empty where nothing is said.

    Args:
        key: of the configuration, for complaints, such as `mqtt.password`.
        inline: the secret itself.
        file: a path; white space at the end of the file does not count.
        variable: a name in the environment.
        environment: the variables.

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


def one_at_most(key: str, *given: str) -> None:
    """Refuses a secret that is given in several ways.

    Raises:
        ValueError: with the key.
    """
    if sum(map(bool, given)) > 1:
        raise ValueError(f"{key}: expected one of {key}, {key}_file, {key}_env, got several")
