"""The models of a configuration, their threads and shadows, and the change to another one.

`load` and `prepare` do what is slow, in any thread. Everything else belongs to the engine's thread.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from streamtag.config.config import Config, EngineConfig
from streamtag.config.differences import Changes, changes
from streamtag.config.model_fit import bundle_of, check_fit
from streamtag.daemon.admission import admit, check_pin
from streamtag.daemon.engine_output import EngineOutput
from streamtag.daemon.streams import StreamRegistry
from streamtag.engine.batcher import Batcher
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, Reason, SourceState, TaggersReplaced
from streamtag.engine.shadow import ShadowComparison, shadow_name, shadowed_tagger
from streamtag.model.bundle import checksum
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger

log = logging.getLogger(__name__)


def load_taggers(config: Config) -> dict[str, Tagger]:
    """The models of a configuration by tagger. A bundle that two taggers use is loaded once.

    Raises:
        BundleError: one cannot be used.
        ConfigError: settings do not fit a model.
    """
    taggers: dict[str, Tagger] = {}
    for name, tagger in config.taggers.items():
        same = [n for n in taggers if bundle_of(config.taggers[n]) == bundle_of(tagger)]
        if same:
            taggers[name] = taggers[same[0]]
            check_pin(bundle_of(tagger), tagger.sha256, taggers[name].checksum)
        else:
            taggers[name] = load_tagger(config, bundle_of(tagger), tagger.sha256)
    check_fit(config, {name: tagger.card for name, tagger in taggers.items()})
    return taggers


def windows_at_once(engine: EngineConfig) -> int:
    """How many windows a CPU scores at the same time: one per thread, or 1 in batches."""
    return 1 if _in_batches(engine) else _threads(engine)


def use_threads(engine: EngineConfig) -> None:
    """Sets how many threads torch uses for this thread's model calls on a CPU.

    It is a setting of the calling thread: each thread that loads or calls models sets it.
    """
    torch.set_num_threads(_threads(engine) if _in_batches(engine) else 1)


def _in_batches(engine: EngineConfig) -> bool:
    return max(engine.batch_sizes or (1,)) > 1


def _threads(engine: EngineConfig) -> int:
    return threads_for(engine.threads, os.environ, len(os.sched_getaffinity(0)))


def threads_for(configured: int, environment: Mapping[str, str], cpus: int) -> int:
    """Threads for models on a CPU: those configured, else `OMP_NUM_THREADS`, else all but one.

    One CPU is left to sources, front ends and the feed. More than 16 threads were never tried.
    """
    if configured:
        return configured
    variable = environment.get("OMP_NUM_THREADS", "")
    return int(variable) if variable.isdecimal() and int(variable) else max(1, min(16, cpus - 1))


def load_tagger(config: Config, path: Path, pin: str = "") -> Tagger:
    """Loads one model, with a line in the log. `pin` is the only SHA-256 that it may have.

    Raises:
        BundleError: it cannot be used, or must not.
    """
    use_threads(config.engine)
    tagger = Tagger.load(admit(path, config.models, pin), config.engine.device)
    log.info("model %s on %s, checksum %.12s", tagger.card.name, tagger.device, tagger.checksum)
    return tagger


@dataclass(frozen=True, slots=True)
class ShadowTagger:
    """Another model that gets the same audio as a tagger, and is compared with it."""

    batcher: Batcher
    config: Config | None = None
    """The configuration that it is to run with, and that has its settings; None for the one that
    runs."""

    @property
    def tagger(self) -> Tagger:
        """The model."""
        return self.batcher.tagger


class ModelRegistry:
    """The running models and shadows, and how they and the streams change."""

    def __init__(
        self,
        streams: StreamRegistry,
        engine: Engine,
        output: EngineOutput,
        taggers: Mapping[str, Tagger],
    ) -> None:
        self.models, self.shadows = dict(taggers), dict[str, ShadowTagger]()
        self._streams, self._engine, self._output = streams, engine, output
        for name, tagger in taggers.items():
            output.set_tagger(name, tagger.card, tagger.checksum)
        streams.on_opened.append(self._attach_shadows)

    def load(self, old: Config, new: Config) -> tuple[Changes, dict[str, Batcher]]:
        """What differs, and the models that are new, warmed up. Any thread may call it.

        Raises:
            StreamtagError: a model cannot be used, or settings do not fit it.
        """
        paths = {name: bundle_of(tagger) for name, tagger in new.taggers.items()}
        replaced = frozenset(
            name
            for name, path in paths.items()
            if (known := self.models.get(name)) is not None
            and path.is_file()
            and known.checksum != checksum(path)
        )
        what = changes(old, new, replaced)
        fresh = (*what.taggers_added, *what.taggers_swapped)
        batchers = {name: self.prepare(name, new, paths[name]) for name in fresh}
        models = self.models | {name: batcher.tagger for name, batcher in batchers.items()}
        for name, tagger in new.taggers.items():
            check_pin(paths[name], tagger.sha256, models[name].checksum)
        cards = self._streams.cards | {name: b.tagger.card for name, b in batchers.items()}
        check_fit(new, {name: cards[name] for name in new.taggers})
        return what, batchers

    def prepare(self, name: str, config: Config, path: Path) -> Batcher:
        """A model, warmed up, by the rules of a configuration. Any thread may call it.

        Raises:
            BundleError: it cannot be used.
        """
        pinned = config.taggers.get(name)
        is_its_own = pinned is not None and bundle_of(pinned) == path
        pin = pinned.sha256 if pinned is not None and is_its_own else ""
        tagger = load_tagger(config, path, pin)
        return self._engine.prepare(name, tagger)

    def start_shadow(self, tagger: str, shadow: ShadowTagger) -> None:
        """Attaches a shadow to all streams that its tagger is attached to."""
        self.stop_shadow(tagger)
        shadow.batcher.name = shadow_name(tagger)
        self._engine.add_tagger(shadow.batcher)
        self.shadows[tagger] = shadow
        old = self._streams.cards[tagger]
        self._output.shadows.comparisons[tagger] = ShadowComparison(old, shadow.tagger.card)
        for name in self._engine.streams:
            self._attach_shadows(name)

    def stop_shadow(self, tagger: str) -> None:
        """Removes the shadow of a tagger, if it has one."""
        if self.shadows.pop(tagger, None) is None:
            return
        name = shadow_name(tagger)
        for stream in self._engine.streams:
            if name in self._engine.stream_taggers(stream):
                self._engine.detach(stream, name, Reason.CONFIGURATION)
        self._engine.remove_tagger(name)
        del self._output.shadows.comparisons[tagger]

    def taggers_of(self, stream: str) -> tuple[str, ...]:
        """The taggers of an open stream, without shadows."""
        return tuple(t for t in self._engine.stream_taggers(stream) if shadowed_tagger(t) is None)

    def is_shadow_settled(self, tagger: str) -> bool:
        """Whether a shadow has full windows and settled smoothing on every stream with audio."""
        found = [
            self._engine.stream_taggers(stream.name).get(shadow_name(tagger))
            for stream in self._streams.streams
            if stream.state == SourceState.UP
        ]
        return all(shadow is None or shadow.converged for shadow in found)

    def apply(self, new: Config, what: Changes, batchers: Mapping[str, Batcher]) -> None:
        """Makes a whole change at once. Everything in it has been checked."""
        streams = self._streams
        for name in what.removed:
            streams.remove(name, "removed")
        for tagger in what.taggers_added:
            self._engine.add_tagger(batchers[tagger])
            self._set_model(tagger, batchers[tagger].tagger)
        for tagger in what.taggers_swapped:
            self._swap_in_shadow(tagger)
        streams.config = new
        self._engine.measure_levels(new.feed.measures_levels, new.feed.loudness)
        streams.cards = {name: self.models[name].card for name in new.taggers}
        for name in what.kept:
            self._update_taggers_of(name)
        for tagger in what.taggers_removed:
            self._remove_tagger(tagger)
        for name in what.restarted:
            streams.restart(name, "its configuration changed")
        for name in what.added:
            streams.add(name)

    def _set_model(self, name: str, tagger: Tagger) -> None:
        self.models[name] = tagger
        self._output.set_tagger(name, tagger.card, tagger.checksum)

    def _remove_tagger(self, tagger: str) -> None:
        self.stop_shadow(tagger)
        for stream in self._engine.streams:
            if tagger in self._engine.stream_taggers(stream):
                self._output.publish(self._engine.detach(stream, tagger, Reason.CONFIGURATION))
        self._engine.remove_tagger(tagger)
        self._output.remove_tagger(tagger)
        del self.models[tagger]

    def _update_taggers_of(self, name: str) -> None:
        """Updates the taggers of a stream whose source goes on, and their settings."""
        self._streams.update(name)
        running = self._engine.stream_taggers(name)
        if name not in self._engine.streams:
            return
        attached = set(self.taggers_of(name))
        wanted = self._streams.config.settings(name, self._streams.cards)
        events: list[Event] = []
        for tagger in sorted(attached - wanted.keys()):
            events += self._engine.detach(name, tagger, Reason.CONFIGURATION)
        for tagger, settings in wanted.items():
            if tagger not in attached:
                self._engine.attach(name, tagger, settings)
            elif settings != running[tagger].settings:
                events += self._engine.update_settings(name, tagger, settings)
        if attached != wanted.keys():
            events.append(self._taggers_replaced(name, Reason.CONFIGURATION))
        self._output.publish(events)

    def _swap_in_shadow(self, tagger: str) -> None:
        """Puts a shadow in the place of its tagger."""
        names = [s for s in self._engine.streams if tagger in self._engine.stream_taggers(s)]
        last, first = self._engine.replace_tagger(tagger, shadow_name(tagger))
        self._output.publish(last)
        self._set_model(tagger, self.shadows.pop(tagger).tagger)
        del self._output.shadows.comparisons[tagger]
        replaced: list[Event] = [
            self._taggers_replaced(name, Reason.MODEL_SWAPPED) for name in names
        ]
        self._output.publish(replaced + first)

    def _taggers_replaced(self, name: str, reason: Reason) -> TaggersReplaced:
        """The present taggers of a stream, as an event."""
        return TaggersReplaced(name, self._engine.end_of(name), self.taggers_of(name), reason)

    def _attach_shadows(self, name: str) -> None:
        """Attaches the shadows of a stream's taggers to it."""
        running = self._engine.stream_taggers(name)
        for tagger, shadow in self.shadows.items():
            config = shadow.config
            if config is None or name not in config.streams:
                config = self._streams.config
            cards: dict[str, Card] = self._streams.cards | {tagger: shadow.tagger.card}
            if shadow.config is not None:
                cards = {n: cards.get(n, shadow.tagger.card) for n in {*cards, *config.taggers}}
            settings = config.settings(name, cards).get(tagger)
            if tagger in running and settings is not None:
                comparison = self._output.shadows.comparisons[tagger]
                comparison.start_stream(name, running[tagger].active_tags)
                self._engine.attach(name, shadow_name(tagger), settings)
