"""What a bundle must fulfil before it enters a daemon: pin, signature, trial.

Nothing here imports torch.
"""

import logging
from pathlib import Path

from streamtag.config.config import Config, ModelsConfig
from streamtag.config.model_fit import bundle_of
from streamtag.errors import BundleError
from streamtag.model.bundle import BundleFile
from streamtag.model.shipped import KNOWN_CHECKSUMS
from streamtag.model.signature import check_signature
from streamtag.model.trial import TrialLimits, ensure_tried, is_known

log = logging.getLogger(__name__)


def trusted_bundle(path: Path, models: ModelsConfig, pin: str = "") -> BundleFile:
    """Reads a bundle and checks everything that needs none of its code to run.

    Args:
        path: of the bundle.
        models: the rules.
        pin: the SHA-256 that it must have; empty for any.

    Raises:
        BundleError: it cannot be used, is another file than the pinned one, or is not signed by a
            trusted key. A pinned bundle and those that come with streamtag need no signature.
    """
    file = BundleFile.read(path)
    check_pin(path, pin, file.checksum)
    if models.trusted_keys and not pin and file.checksum not in KNOWN_CHECKSUMS:
        check_signature(file, models.trusted_keys)
    _ = file.card
    file.check_code()
    return file


def check_pin(path: Path, pin: str, checksum: str) -> None:
    """Refuses another file than the pinned one.

    Raises:
        BundleError: the checksums differ.
    """
    if pin and pin != checksum:
        raise BundleError(
            f"{path}: expected the pinned file with sha256 {pin}, got one with {checksum}; "
            "restore it, or change the pin if you trust the new one"
        )


def admit(path: Path, models: ModelsConfig, pin: str = "") -> BundleFile:
    """The same, and tries the bundle in a confined process unless it is known.

    Raises:
        BundleError: it is refused, with the reason.
    """
    file = trusted_bundle(path, models, pin)
    if models.trial and not is_known(file.checksum):
        log.info("model %s is tried in a process of its own", path)
        ensure_tried(file, TrialLimits(models.trial_seconds, models.trial_megabytes))
    return file


def admit_all(config: Config) -> None:
    """Admits every bundle of a configuration, so that engines find it known.

    Raises:
        BundleError: one is refused.
    """
    for tagger in config.taggers.values():
        admit(bundle_of(tagger), config.models, tagger.sha256)
