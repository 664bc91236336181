"""Loading of the models of a configuration, and the threads that they may use."""

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
    """The models of a configuration by tagger. A bundle that two taggers use is loaded once.

    Raises:
        BundleError: one cannot be used.
        ConfigError: settings do not fit a model.
    """
    paths = {name: bundle_of(tagger) for name, tagger in config.taggers.items()}
    loaded = {path: load_tagger(path, config.engine) for path in set(paths.values())}
    taggers = {name: loaded[path] for name, path in paths.items()}
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
    """Threads for models on a CPU.

    One CPU is left to sources, front ends and the feed. More than 16 threads were never tried.

    Args:
        configured: in the configuration; 0 if it is not.
        environment: of the process. `OMP_NUM_THREADS` comes next.
        cpus: number of CPUs that the process may use.
    """
    if configured:
        return configured
    variable = environment.get("OMP_NUM_THREADS", "")
    return int(variable) if variable.isdecimal() and int(variable) else max(1, min(16, cpus - 1))


def load_tagger(path: Path, engine: EngineConfig) -> Tagger:
    """Loads one model, with a line in the log.

    Raises:
        BundleError: it cannot be used.
    """
    use_threads(engine)
    tagger = Tagger.load(path, engine.device)
    log.info("model %s on %s, checksum %.12s", tagger.card.name, tagger.device, tagger.checksum)
    return tagger
