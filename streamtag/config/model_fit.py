"""Checks of a configuration against the cards of its models."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from streamtag.config.config import Config, TaggerConfig
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import ConfigError
from streamtag.model.card import Card
from streamtag.model.shipped import default_bundle


def bundle_of(tagger: TaggerConfig) -> Path:
    """The path of a tagger's model."""
    return Path(tagger.bundle) if tagger.bundle else default_bundle()


def misfits(config: Config, cards: Mapping[str, Card]) -> Iterator[str]:
    """A complaint about everything in a configuration that does not fit the models.

    The cards are those of all its taggers.
    """
    known = {tag for card in cards.values() for tag in card.tags}
    if unknown := sorted(config.defaults.tuning.named() - known):
        yield f"defaults.tuning: no tagger knows the tag {unknown[0]!r}; known: {_listed(known)}"
    found = {name: list(_misfits_of_tagger(config, name, card)) for name, card in cards.items()}
    for faults in found.values():
        yield from (f"{where}: {fault}" for where, fault in faults[:1])
    for name in config.streams:
        for tagger, settings in config.settings(name, cards).items():
            fault = _misfit(settings, cards[tagger])
            if fault and fault not in (text for _, text in found[tagger]):
                yield f"streams.{name}, tagger {tagger!r}: {fault}"
    for language, names in config.languages.items():
        if unknown := sorted(names.keys() - known):
            yield (
                f"languages.{language}: no tagger knows the tag {unknown[0]!r}; "
                f"known: {_listed(known)}"
            )


def _misfits_of_tagger(config: Config, name: str, card: Card) -> Iterator[tuple[str, str]]:
    """What is wrong for every stream without settings of its own: the place, and the fault."""
    own, usual = config.taggers[name].tuning, config.defaults.tuning.known(card.tags)
    for where, tuning in (
        (f"taggers.{name}.tuning", own),
        (f"defaults.tuning, tagger {name!r}", own.over(usual)),
    ):
        if fault := _misfit(tuning.settings(), card):
            yield where, fault


def _misfit(settings: TaggerSettings, card: Card) -> str:
    """Why settings do not fit a model. Empty if they fit."""
    try:
        settings.thresholds(card)
    except ConfigError as error:
        return str(error)
    return ""


def check_fit(config: Config, cards: Mapping[str, Card]) -> None:
    """Refuses settings that do not fit the models.

    Raises:
        ConfigError: with a line for each.
    """
    if found := list(misfits(config, cards)):
        raise ConfigError("\n".join(found))


def display_names(config: Config, language: str | None, card: Card) -> dict[str, str]:
    """The name of each tag for people. Empty if no language is set."""
    if language is None:
        return {}
    names = config.languages.get(language, {})
    return {tag: names.get(tag, card.display.get(tag, tag)) for tag in card.tags}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
