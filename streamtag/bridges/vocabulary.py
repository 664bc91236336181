"""Which tags each stream can have, and their display names: from configuration and cards."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from streamtag.bridges.bridge import load_running_config
from streamtag.config.config import Config, load_config
from streamtag.config.model_fit import bundle_of, display_names
from streamtag.config.tuning import Tuning
from streamtag.errors import StreamtagError
from streamtag.model.bundle import read_card
from streamtag.model.card import Card

log = logging.getLogger(__name__)


class TagVocabulary:
    """The tags of each stream. It follows the daemon's configuration file when that changes.

    Raises:
        StreamtagError: the configuration is not valid, or a model in it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._modified = _modification_time(path)
        self._use(load_running_config(path))

    def refresh(self) -> None:
        """Reads the file again if it has changed; a file with errors is ignored and logged."""
        modified = _modification_time(self._path)
        if modified == self._modified:
            return
        self._modified = modified
        try:
            self._use(load_config(self._path))
        except StreamtagError as error:
            log.warning("%s: keeping the configuration before this change: %s", self._path, error)

    def tags_of(self, stream: str, taggers: Iterable[str] = ()) -> dict[str, str]:
        """The tags of a stream that may switch on, with their display names.

        The taggers are those that the feed has named, if any; otherwise those of the file.
        """
        table = self.config.streams.get(stream)
        keys = self.config.stream(stream) if table else None
        names = [*taggers] or [*((keys and keys.taggers) or self.config.taggers)]
        language = keys.language if keys else self.config.defaults.language
        found: dict[str, str] = {}
        for tagger in names:
            if (card := self._cards.get(tagger)) is None:
                continue
            own = keys.tuning.get(tagger, Tuning()) if keys else Tuning()
            display = display_names(self.config, language, card)
            found |= {tag: display.get(tag, tag) for tag in self._enabled(tagger, own, card)}
        return found

    def _enabled(self, tagger: str, own: Tuning, card: Card) -> list[str]:
        tuning = own.over(self.config.taggers[tagger].tuning)
        tuning = tuning.over(self.config.defaults.tuning.known(card.tags))
        high, _ = tuning.settings().thresholds(card)
        return [tag for tag, on in zip(card.tags, high, strict=True) if np.isfinite(on)]

    def _use(self, config: Config) -> None:
        self._cards: dict[str, Card] = {
            name: read_card(bundle_of(tagger)) for name, tagger in config.taggers.items()
        }
        self.config = config


def _modification_time(path: Path) -> int:
    """In nanoseconds; 0 if there is no file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
