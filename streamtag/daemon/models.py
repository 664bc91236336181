"""Models for a daemon: the bundles that a configuration means, loaded."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from streamtag.config.config import Config, EngineConfig
from streamtag.config.model_fit import bundle_of, check_fit
from streamtag.model.tagger import Tagger

log = logging.getLogger(__name__)


def load_taggers(config: Config) -> dict[str, Tagger]:
    """The models of a configuration, by name; one that is used twice is loaded once.

    Raises:
        BundleError: one cannot be used.
        ConfigError: settings that do not fit a model.
    """
    paths = {name: bundle_of(tagger) for name, tagger in config.taggers.items()}
    loaded = {path: load_tagger(path, config.engine) for path in set(paths.values())}
    taggers = {name: loaded[path] for name, path in paths.items()}
    check_fit(config, {name: tagger.card for name, tagger in taggers.items()})
    return taggers


def windows_at_once(engine: EngineConfig) -> int:
    """Windows that a CPU scores side by side: one per thread, where they do not go in batches."""
    return 1 if _in_batches(engine) else _threads(engine)


def use_threads(engine: EngineConfig) -> None:
    """Tells torch how many threads this thread's model calls may have on a CPU.

    Torch asks for it thread by thread: whoever loads models says it, and whoever calls them.
    """
    torch.set_num_threads(_threads(engine) if _in_batches(engine) else 1)


def _in_batches(engine: EngineConfig) -> bool:
    return max(engine.batch_sizes or (1,)) > 1


def _threads(engine: EngineConfig) -> int:
    return threads_for(engine.threads, os.environ, len(os.sched_getaffinity(0)))


def threads_for(asked: int, environment: Mapping[str, str], cpus: int) -> int:
    """Threads for models on a CPU.

    One CPU is left to sources, front ends and the feed. More than 16 have not been tried.

    Args:
        asked: in the configuration; 0 for nothing.
        environment: of the process; what `OMP_NUM_THREADS` says comes next.
        cpus: that it may use.
    """
    if asked:
        return asked
    said = environment.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else max(1, min(16, cpus - 1))


def load_tagger(path: Path, engine: EngineConfig) -> Tagger:
    """One model, with a line in the log.

    Raises:
        BundleError: it cannot be used.
    """
    use_threads(engine)
    tagger = Tagger.load(path, engine.device)
    log.info("model %s on %s, checksum %.12s", tagger.card.name, tagger.device, tagger.checksum)
    return tagger
