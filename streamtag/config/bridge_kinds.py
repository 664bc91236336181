"""The kinds of bridges. The command line imports this module, so it imports little itself."""

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BridgeKind:
    """A kind of bridge: a table of the configuration and a command of the same name."""

    name: str
    """Name of the optional table, or list of tables, of the configuration, and of the command."""
    extra: str
    """The extra that has its libraries: `pip install "streamtag[EXTRA]"`."""
    needs: tuple[str, ...]
    """Modules of these libraries."""
    more: tuple[str, ...] = ()
    """Further tables that it reads: a change of them starts it anew."""
    program: tuple[str, ...] = ("-m", "streamtag")
    """Arguments of the interpreter before name and configuration file."""

    def configured(self, config: object) -> bool:
        """Whether a configuration has a table for it."""
        return bool(getattr(config, self.name, None))

    def missing(self) -> str:
        """The complaint if its libraries are not installed. Empty if they are."""
        absent = [module for module in self.needs if not _is_installed(module)]
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
    BridgeKind("nats", "nats", ("nats", "nkeys")),
    BridgeKind("notify", "alerts", ("apprise",), ("report",)),
)
"""All kinds. A new one needs a row here, a field of the same name in `Config`, and a command of the
same name that runs until SIGTERM."""


def _is_installed(module: str) -> bool:
    """Whether a module can be imported. It is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not installed
        return False
