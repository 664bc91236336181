"""The table `[fleet]`: many daemons that share one set of stations."""

import socket
from typing import Annotated

from pydantic import Field

from streamtag.config.fields import ConfigTable, Name
from streamtag.config.rights import Pattern
from streamtag.errors import ConfigError
from streamtag.feed.rights import matches

Weight = Annotated[float, Field(gt=0, le=1000)]


class FleetConfig(ConfigTable):
    """The table `[fleet]`: many daemons that share one set of stations. See docs/fleet.md."""

    name: Name = "streamtag"
    """Name of the fleet. Two fleets on one NATS need different values of `nats.prefix`, too."""
    daemon: Annotated[str, Field(pattern=r"^([A-Za-z0-9._-]{1,64})?$")] = ""
    """Name of this daemon, which no other of the fleet has. Empty for the machine's name."""
    capacity: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    """Number of stations that this daemon can process. 0 to measure it at the start, as
    `streamtag check --capacity` does, which takes some seconds."""
    lease_seconds: Annotated[float, Field(ge=3, le=300)] = 6.0
    """How long a daemon may be unreachable until others take its stations. The same in all
    daemons of the fleet."""
    rebalance: bool = True
    """Whether stations move to daemons that have fewer than their share. Otherwise only free ones
    are taken, until `streamtag fleet rebalance`."""
    weights: dict[Pattern, Weight] = Field(default={})
    """Load of stations by name, or by the beginning of names with a star; 1 for all others."""

    def weight(self, station: str) -> float:
        """The load of a station. The longest pattern that matches it counts."""
        fitting = [p for p in self.weights if matches((p,), station)]
        return self.weights[max(fitting, key=len)] if fitting else 1.0

    @property
    def daemon_name(self) -> str:
        """Name of this daemon.

        Raises:
            ConfigError: the machine's name is not one for a daemon.
        """
        name = self.daemon or socket.gethostname()
        if not name or len(name) > 64 or not all(c.isalnum() or c in "._-" for c in name):
            raise ConfigError(
                f"fleet.daemon: expected a name, since the machine's is {name!r:.80}, got none"
            )
        return name
