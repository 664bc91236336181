"""Models for a daemon: the bundles that a configuration means, loaded."""

import logging
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
    if config.engine.threads:
        torch.set_num_threads(config.engine.threads)
    paths = {name: bundle_of(tagger) for name, tagger in config.taggers.items()}
    loaded = {path: load_tagger(path, config.engine.device) for path in set(paths.values())}
    taggers = {name: loaded[path] for name, path in paths.items()}
    check_fit(config, {name: tagger.card for name, tagger in taggers.items()})
    return taggers


def load_tagger(path: Path, device: str) -> Tagger:
    """One model, with a line in the log.

    Raises:
        BundleError: it cannot be used.
    """
    tagger = Tagger.load(path, device)
    log.info("model %s on %s, checksum %.12s", tagger.card.name, tagger.device, tagger.checksum)
    return tagger
