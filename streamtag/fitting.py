"""Whether a configuration fits the models it names: what can be known from their cards alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from streamtag.assets import default_bundle
from streamtag.card import Card
from streamtag.config import Config, TaggerConfig
from streamtag.errors import ConfigError


def bundle_of(tagger: TaggerConfig) -> Path:
    """Where a tagger's model is."""
    return Path(tagger.bundle) if tagger.bundle else default_bundle()


def misfits(config: Config, cards: Mapping[str, Card]) -> Iterator[str]:
    """Everything in a configuration that does not fit the models.

    Args:
        config: otherwise checked.
        cards: of all its taggers.
    """
    known = {tag for card in cards.values() for tag in card.tags}
    if unknown := sorted(config.defaults.tuning.named() - known):
        yield f"defaults.tuning: no tagger knows the tag {unknown[0]!r}; known: {_listed(known)}"
    for name in config.streams:
        for tagger, settings in config.settings(name, cards).items():
            try:
                settings.thresholds(cards[tagger])
            except ConfigError as error:
                yield f"streams.{name}, tagger {tagger!r}: {error}"
    for language, names in config.languages.items():
        if unknown := sorted(names.keys() - known):
            yield (
                f"languages.{language}: no tagger knows the tag {unknown[0]!r}; "
                f"known: {_listed(known)}"
            )


def check_fit(config: Config, cards: Mapping[str, Card]) -> None:
    """Refuses settings that do not fit the models.

    Raises:
        ConfigError: with a line for each.
    """
    if found := list(misfits(config, cards)):
        raise ConfigError("\n".join(found))


def display_names(config: Config, language: str | None, card: Card) -> dict[str, str]:
    """What people are to read for each tag; empty where no language is asked for."""
    if language is None:
        return {}
    names = config.languages.get(language, {})
    return {tag: names.get(tag, card.display.get(tag, tag)) for tag in card.tags}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
