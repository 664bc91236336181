"""Changing what runs: another configuration, other models, without disturbing what stays.

`load` does what is slow, in any thread; everything else belongs to the engine's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamtag.config.config import Config
from streamtag.config.differences import Changes, changes
from streamtag.config.model_fit import bundle_of, check_fit
from streamtag.daemon.models import load_tagger
from streamtag.daemon.output import EventOutput
from streamtag.daemon.streams import StreamRegistry
from streamtag.engine.batcher import Batcher
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, Reason, SourceState, TaggersReplaced
from streamtag.engine.shadow import ShadowComparison, shadow_name, shadowed_tagger
from streamtag.model.bundle import checksum
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger


@dataclass(frozen=True, slots=True)
class ShadowTagger:
    """Another model that listens beside a tagger."""

    bundle: str
    batcher: Batcher
    config: Config | None = None
    """Whose settings it listens with; None for those that run."""

    @property
    def tagger(self) -> Tagger:
        """The model."""
        return self.batcher.tagger


class Reshaping:
    """The running models, and how they and the streams change.

    Args:
        lineup: the streams.
        engine: who listens.
        outlet: where events go.
        taggers: the models that were loaded at the start.
    """

    def __init__(
        self,
        lineup: StreamRegistry,
        engine: Engine,
        outlet: EventOutput,
        taggers: Mapping[str, Tagger],
    ) -> None:
        self.models, self.shadows = dict(taggers), dict[str, ShadowTagger]()
        self._lineup, self._engine, self._outlet = lineup, engine, outlet
        lineup.opened.append(self._rehearse_on)

    def load(self, old: Config, new: Config) -> tuple[Changes, dict[str, Batcher]]:
        """What differs, and the models that are new, warmed up; from any thread.

        Raises:
            StreamtagError: a model cannot be used, or settings do not fit it.
        """
        paths = {name: bundle_of(tagger) for name, tagger in new.taggers.items()}
        stale = frozenset(name for name in paths if self._is_stale(name, paths[name]))
        what = changes(old, new, stale)
        fresh = (*what.taggers_added, *what.taggers_swapped)
        batchers = {name: self.prepare(name, paths[name]) for name in fresh}
        cards = self._lineup.cards | {name: b.tagger.card for name, b in batchers.items()}
        check_fit(new, {name: cards[name] for name in new.taggers})
        return what, batchers

    def prepare(self, name: str, path: Path) -> Batcher:
        """A model, warmed up; from any thread.

        Raises:
            BundleError: it cannot be used.
        """
        tagger = load_tagger(path, self._lineup.config.engine)
        return self._engine.prepare(name, tagger)

    def rehearse(self, tagger: str, shadow: ShadowTagger) -> None:
        """Another model begins to listen to all streams that its tagger listens to."""
        self.dismiss_shadow(tagger)
        shadow.batcher.name = shadow_name(tagger)
        self._engine.add_tagger(shadow.batcher)
        self.shadows[tagger] = shadow
        old = self._lineup.cards[tagger]
        self._outlet.comparisons[tagger] = ShadowComparison(old, shadow.tagger.card)
        for name in self._engine.streams:
            self._rehearse_on(name)

    def dismiss_shadow(self, tagger: str) -> None:
        """A model listens no more beside a tagger, if one did."""
        if self.shadows.pop(tagger, None) is None:
            return
        name = shadow_name(tagger)
        for stream in self._engine.streams:
            if name in self._engine.stream_taggers(stream):
                self._engine.detach(stream, name, Reason.CONFIGURATION)
        self._engine.remove_tagger(name)
        del self._outlet.comparisons[tagger]

    def settled(self, tagger: str) -> bool:
        """Whether a shadow could speak at once, on every stream that has audio."""
        found = [
            self._engine.stream_taggers(seat.name).get(shadow_name(tagger))
            for seat in self._lineup.seats
            if seat.state == SourceState.UP
        ]
        return all(listener is None or listener.converged for listener in found)

    def apply(self, new: Config, what: Changes, batchers: Mapping[str, Batcher]) -> None:
        """All of a change, at once; everything in it has been checked."""
        lineup = self._lineup
        for name in what.removed:
            lineup.remove(name, "removed")
        for tagger in what.taggers_added:
            self._engine.add_tagger(batchers[tagger])
            self._introduce(tagger, batchers[tagger].tagger)
        for tagger in what.taggers_swapped:
            self._take_over(tagger)
        lineup.config, self._outlet.feed = new, new.feed
        lineup.cards = {name: self.models[name].card for name in new.taggers}
        for name in what.kept:
            self._listen_otherwise(name)
        for tagger in what.taggers_removed:
            self._part_with(tagger)
        for name in what.restarted:
            lineup.restart(name, "its configuration changed")
        for name in what.added:
            lineup.add(name)

    def _is_stale(self, tagger: str, path: Path) -> bool:
        """Whether a model's file has been exchanged since it was loaded."""
        known = self.models.get(tagger)
        return known is not None and path.is_file() and known.checksum != checksum(path)

    def _introduce(self, name: str, tagger: Tagger) -> None:
        self.models[name] = tagger
        self._outlet.introduce(name, tagger)

    def _part_with(self, tagger: str) -> None:
        self.dismiss_shadow(tagger)
        for stream in self._engine.streams:
            if tagger in self._engine.stream_taggers(stream):
                self._outlet.publish(self._engine.detach(stream, tagger, Reason.CONFIGURATION))
        self._engine.remove_tagger(tagger)
        self._outlet.forget(tagger)
        del self.models[tagger]

    def _listen_otherwise(self, name: str) -> None:
        """A stream whose source goes on: who listens to it, and how."""
        self._lineup.refresh(name)
        listeners = self._engine.stream_taggers(name)
        if name not in self._engine.streams:
            return
        here = {tagger for tagger in listeners if shadowed_tagger(tagger) is None}
        wanted = self._lineup.config.settings(name, self._lineup.cards)
        events: list[Event] = []
        for tagger in sorted(here - wanted.keys()):
            events += self._engine.detach(name, tagger, Reason.CONFIGURATION)
        for tagger, settings in wanted.items():
            if tagger not in here:
                self._engine.attach(name, tagger, settings)
            elif settings != listeners[tagger].settings:
                events += self._engine.update_settings(name, tagger, settings)
        if here != wanted.keys():
            events.append(self._changed(name, Reason.CONFIGURATION))
        self._outlet.publish(events)

    def _take_over(self, tagger: str) -> None:
        """A shadow speaks from now on."""
        names = [s for s in self._engine.streams if tagger in self._engine.stream_taggers(s)]
        last, first = self._engine.replace_tagger(tagger, shadow_name(tagger))
        self._outlet.publish(last)
        self._introduce(tagger, self.shadows.pop(tagger).tagger)
        del self._outlet.comparisons[tagger]
        news: list[Event] = [self._changed(name, Reason.MODEL_SWAPPED) for name in names]
        self._outlet.publish(news + first)

    def _changed(self, name: str, reason: Reason) -> TaggersReplaced:
        """Who listens to a stream now."""
        found = tuple(t for t in self._engine.stream_taggers(name) if shadowed_tagger(t) is None)
        return TaggersReplaced(name, self._engine.end_of(name), found, reason)

    def _rehearse_on(self, name: str) -> None:
        """The shadows begin to listen to a stream."""
        listeners = self._engine.stream_taggers(name)
        for tagger, shadow in self.shadows.items():
            config = shadow.config
            if config is None or name not in config.streams:
                config = self._lineup.config
            cards: dict[str, Card] = self._lineup.cards | {tagger: shadow.tagger.card}
            if shadow.config is not None:
                cards = {n: cards.get(n, shadow.tagger.card) for n in {*cards, *config.taggers}}
            settings = config.settings(name, cards).get(tagger)
            if tagger in listeners and settings is not None:
                self._outlet.comparisons[tagger].start_stream(name, listeners[tagger].active_tags)
                self._engine.attach(name, shadow_name(tagger), settings)
