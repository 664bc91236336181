"""The kinds of bridges there are. Quick to import: the commands are made of it."""

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BridgeKind:
    """A kind of bridge: a table of the configuration, and a command of the same name."""

    name: str
    """Of the optional table (or list of tables) of the configuration, and of the command."""
    extra: str
    """What brings its libraries: `pip install "streamtag[EXTRA]"`."""
    needs: tuple[str, ...]
    """Modules of these libraries."""
    program: tuple[str, ...] = ("-m", "streamtag")
    """What the interpreter is given before name and configuration file."""

    def configured(self, config: object) -> bool:
        """Whether there is a table for it."""
        return bool(getattr(config, self.name, None))

    def missing(self) -> str:
        """What is to be said where its libraries are not installed; empty where they are."""
        absent = [module for module in self.needs if not _is_there(module)]
        if not absent:
            return ""
        return (
            f"{self.name}: expected its libraries, got no module {absent[0]!r}; "
            f'install them: pip install "streamtag[{self.extra}]"'
        )


KINDS: tuple[BridgeKind, ...] = (
    BridgeKind("web", "web", ("starlette", "uvicorn", "websockets")),
    BridgeKind("mqtt", "mqtt", ("paho.mqtt",)),
    BridgeKind("webhook", "web", ("httpx",)),
    BridgeKind("osc", "osc", ("pythonosc",)),
)
"""All there are; a new one needs a row here, a field of the same name in `Config`, and a command of
the same name that runs until SIGTERM."""


def _is_there(module: str) -> bool:
    """Whether a module can be imported; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
