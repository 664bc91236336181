"""Which tags a stream may raise, and what people call them: configuration and cards together."""

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
    """The tags of each stream, as a daemon's configuration has them; its file, once it changes.

    Args:
        path: of the file.

    Raises:
        StreamtagError: it is no configuration, or a model in it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.config = Config(streams={}, exit_when_done=False)
        self._cards: dict[str, Card] = {}
        self._seen = _stamp(path)
        self._take(load_running_config(path))

    def refresh(self) -> None:
        """Reads the file again if it is another; one with mistakes is left alone."""
        try:
            self._read()
        except StreamtagError as error:
            log.warning("%s: not read again: %s", self._path, error)

    def of(self, stream: str, taggers: Iterable[str] = ()) -> dict[str, str]:
        """Tags that may switch, and their names for people.

        Args:
            stream: its name.
            taggers: those that listen, if the feed has said so; those of the file otherwise.
        """
        table = self.config.streams.get(stream)
        keys = self.config.stream(stream) if table else None
        named = [*taggers] or [*((keys and keys.taggers) or self.config.taggers)]
        language = keys.language if keys else self.config.defaults.language
        found: dict[str, str] = {}
        for tagger in named:
            if (card := self._cards.get(tagger)) is None:
                continue
            own = keys.tuning.get(tagger, Tuning()) if keys else Tuning()
            names = display_names(self.config, language, card)
            found |= {tag: names.get(tag, tag) for tag in self._enabled(tagger, own, card)}
        return found

    def _enabled(self, tagger: str, own: Tuning, card: Card) -> list[str]:
        tuning = own.over(self.config.taggers[tagger].tuning)
        tuning = tuning.over(self.config.defaults.tuning.known(card.tags))
        high, _ = tuning.settings().thresholds(card)
        return [tag for tag, on in zip(card.tags, high, strict=True) if np.isfinite(on)]

    def _read(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._seen:
            return
        self._seen = stamp
        self._take(load_config(self._path))

    def _take(self, config: Config) -> None:
        cards = {name: read_card(bundle_of(tagger)) for name, tagger in config.taggers.items()}
        self.config, self._cards = config, cards


def _stamp(path: Path) -> int:
    """Another number for another file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
