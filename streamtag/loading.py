"""Models for a daemon: the bundles that a configuration means, loaded."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from streamtag.config import Config
from streamtag.fitting import bundle_of, check_fit
from streamtag.tagger import Tagger

log = logging.getLogger(__name__)


def load_taggers(config: Config) -> dict[str, Tagger]:
    """The models of a configuration, by name; one that is used twice is loaded once.

    Raises:
        BundleError: one cannot be used.
        ConfigError: settings that do not fit a model.
    """
    limit_threads(config.engine.threads)
    paths = {name: bundle_of(tagger) for name, tagger in config.taggers.items()}
    loaded = {path: load_tagger(path, config.engine.device) for path in set(paths.values())}
    taggers = {name: loaded[path] for name, path in paths.items()}
    check_fit(config, {name: tagger.card for name, tagger in taggers.items()})
    return taggers


def limit_threads(asked: int) -> None:
    """Bounds the threads of model calls that the calling thread makes.

    PyTorch hands a bound on to other threads, but each one's first call comes before that.

    Args:
        asked: in the configuration; 0 for nothing.
    """
    if threads := threads_for(asked, os.environ, len(os.sched_getaffinity(0))):
        torch.set_num_threads(threads)


def threads_for(asked: int, environment: Mapping[str, str], cpus: int) -> int:
    """Threads of one model call on a CPU; 0 for what PyTorch does by itself.

    One CPU is left to sources and front ends, and a call of one window has little to share for more
    than four threads (not measured on large machines); what `OMP_NUM_THREADS` says goes before.

    Args:
        asked: in the configuration; 0 for nothing.
        environment: of the process.
        cpus: that it may use.
    """
    if asked or "OMP_NUM_THREADS" in environment:
        return asked
    return max(1, min(4, cpus - 1))


def load_tagger(path: Path, device: str) -> Tagger:
    """One model, with a line in the log.

    Raises:
        BundleError: it cannot be used.
    """
    tagger = Tagger.load(path, device)
    log.info("model %s on %s, checksum %.12s", tagger.card.name, tagger.device, tagger.checksum)
    return tagger
