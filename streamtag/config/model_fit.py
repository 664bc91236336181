"""Whether a configuration fits the models it names: what can be known from their cards alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from streamtag.config.config import Config, TaggerConfig
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import ConfigError
from streamtag.model.card import Card
from streamtag.model.shipped import default_bundle


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
    told = {name: list(_misfits_of_tagger(config, name, card)) for name, card in cards.items()}
    for faults in told.values():
        yield from (f"{where}: {fault}" for where, fault in faults[:1])
    for name in config.streams:
        for tagger, settings in config.settings(name, cards).items():
            fault = _misfit(settings, cards[tagger])
            if fault and fault not in (text for _, text in told[tagger]):
                yield f"streams.{name}, tagger {tagger!r}: {fault}"
    for language, names in config.languages.items():
        if unknown := sorted(names.keys() - known):
            yield (
                f"languages.{language}: no tagger knows the tag {unknown[0]!r}; "
                f"known: {_listed(known)}"
            )


def _misfits_of_tagger(config: Config, name: str, card: Card) -> Iterator[tuple[str, str]]:
    """What is wrong for every stream that does not say otherwise: where, and what."""
    own, usual = config.taggers[name].tuning, config.defaults.tuning.known(card.tags)
    for where, tuning in (
        (f"taggers.{name}.tuning", own),
        (f"defaults.tuning, tagger {name!r}", own.over(usual)),
    ):
        if fault := _misfit(tuning.settings(), card):
            yield where, fault


def _misfit(settings: TaggerSettings, card: Card) -> str:
    """Why settings do not fit a model; empty where they do."""
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
    """What people are to read for each tag; empty where no language is asked for."""
    if language is None:
        return {}
    names = config.languages.get(language, {})
    return {tag: names.get(tag, card.display.get(tag, tag)) for tag in card.tags}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
