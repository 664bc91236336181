"""What a decoder may touch. It reads bytes from strangers, so a flaw in it must gain little."""

import contextlib
import ctypes
import logging
import os

log = logging.getLogger(__name__)

FILES = 256
"""Files and connections that a decoder may have open."""
_PASSED_ON = (
    "PATH",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "OPENSSL_CONF",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
"""Variables of our environment that a decoder gets. The others may hold passwords."""
_PR_SET_NO_NEW_PRIVS = 38


def decoder_environment(**more: str) -> dict[str, str]:
    """The environment of a decoder: what it needs of ours, and what it is given besides."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | more


def confine(pid: int, mebibytes: int = 0) -> None:
    """Limits a decoder, where the system can: no bytes into files, no core file, few open files.

    Args:
        pid: the process; one that has ended is no error.
        mebibytes: bound of its address space; 0 for none.
    """
    import resource

    if not hasattr(resource, "prlimit"):
        return
    limits = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: FILES}
    if mebibytes:
        limits[resource.RLIMIT_AS] = mebibytes * 2**20
    with contextlib.suppress(ProcessLookupError):
        for limit, most in limits.items():
            allowed = resource.prlimit(pid, limit)[1]
            bound = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
            resource.prlimit(pid, limit, (bound, bound))


def renounce_new_privileges() -> None:
    """No process started from now on gains rights by a set-user-ID program (`prctl(2)`)."""
    try:
        failed = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    except (OSError, AttributeError):  # not Linux
        failed = 1
    if failed:
        log.info("this system cannot forbid new privileges to decoders")
