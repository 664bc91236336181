"""What streamtag raises when it was given something it cannot use.

A message says which thing, what was expected, what was got, and what to do if that is known.
"""


class StreamtagError(Exception):
    """Any error that a user can cause and mend."""


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
