"""What streamtag raises when it was given something it cannot use.

A message says which thing, what was expected, what was got, and what to do if that is known.
"""

LONGEST = 2000
"""Characters of one line of a message."""


class StreamtagError(Exception):
    """Any error that a user can cause and mend.

    Its text quotes what strangers wrote, and goes to terminals, logs and the feed: control
    characters are spelt out, and the middle of endless lines is left out.
    """

    def __str__(self) -> str:
        return "\n".join(map(_legible, super().__str__().split("\n")))


def _legible(line: str) -> str:
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


class ConfigError(StreamtagError, ValueError):
    """An option, a configuration file or a front end's description is wrong."""


class RecipeError(StreamtagError, ValueError):
    """A training recipe or its data is wrong."""


class BundleError(StreamtagError):
    """A bundle cannot be read, or must not be trusted."""


class SourceError(StreamtagError):
    """Audio could not be opened, decoded or captured."""


class FeedError(StreamtagError):
    """The feed cannot be published or reached, or a message in it cannot be understood."""


class ControlError(StreamtagError):
    """A running daemon cannot be reached, or refuses a command."""


class FleetError(StreamtagError):
    """A fleet cannot be joined or changed, or its records cannot be understood."""


class StreamError(StreamtagError):
    """A stream cannot be opened, or a block does not fit it.

    Args:
        stream: its name.
        message: what was expected and what was got.
    """

    def __init__(self, stream: str, message: str) -> None:
        super().__init__(f"stream {stream!r}: {message}")
        self.stream = stream
