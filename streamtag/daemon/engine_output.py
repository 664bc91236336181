"""What takes the events of an engine: the daemon's output itself, or the way to it."""

from collections.abc import Mapping
from typing import Protocol

from streamtag.daemon.output import ShadowFilter
from streamtag.engine.events import Event, Reason
from streamtag.model.card import Card


class EngineOutput(Protocol):
    """Takes events, and what their messages need beside them, in order."""

    shadows: ShadowFilter

    def publish(self, events: list[Event]) -> None:
        """Takes events that the engine returned. Those of shadows are only compared."""

    def publish_notice(self, text: str) -> None:
        """Takes a notice that is not about one stream."""

    def publish_unopened(self, stream: str, reason: Reason, detail: str = "") -> None:
        """A stream which is not open is down."""

    def set_tagger(self, name: str, card: Card, checksum: str) -> None:
        """Sets the model that the events of a tagger are from."""

    def remove_tagger(self, name: str) -> None:
        """Forgets a tagger."""

    def remove_stream(self, name: str) -> None:
        """Forgets a stream that is no longer in the configuration."""

    def set_display_names(self, stream: str, names: Mapping[str, Mapping[str, str]]) -> None:
        """Sets the names for people of a stream's tags, by tagger and tag."""

    def set_clock(self, stream: str, rate: int, epoch_ns: int) -> None:
        """Sets the rate, in Hz, and the UTC of sample 0 of a live stream."""

    def correct_clock(self, stream: str, epoch_ns: int) -> None:
        """Corrects the UTC of a live stream's sample 0."""
