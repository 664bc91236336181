"""Whom to trust: where certificates of authorities are, and what is wrong with a server's.

ffmpeg does the checking. What this adds are the authorities that this system knows (ffmpeg's own
list may be at a place of its builder's machine), and words for people when a check has failed.
"""

import contextlib
import functools
import logging
import re
import socket
import ssl
import subprocess
from dataclasses import dataclass

log = logging.getLogger(__name__)

SAFE_SINCE = 9
"""ffmpeg's major version that checks names with every TLS library, and the parts of a play list."""
PARTS = "tls_verify = false does not reach the parts of a play list; name in ca_file who signs them"
_VERSION = re.compile(r"ffmpeg version \D{0,2}(\d+)\.")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Which servers may be listened to over TLS."""

    verify: bool = True
    """Refuse certificates that are not signed by an authority, out of date, or for another name."""
    ca_file: str = ""
    """Certificates of the authorities, in PEM; empty for those that the system knows."""

    @property
    def authorities(self) -> str:
        """The file of the authorities."""
        return self.ca_file or authorities()


@functools.cache
def authorities() -> str:
    """The file with the authorities that this system knows, else those that certifi brings.

    `SSL_CERT_FILE` in the environment goes before.
    """
    if found := ssl.get_default_verify_paths().cafile:
        return found
    import certifi

    return certifi.where()


def complaint(host: str, port: int, trust: TlsSettings, seconds: float = 5.0) -> str:
    """What is wrong with a server's certificate, for people; empty where nothing was found.

    Args:
        host: its name or address.
        port: of TCP.
        trust: whom to believe.
        seconds: to wait at most for each step.
    """
    try:
        context = ssl.create_default_context(cafile=trust.authorities)
        with (
            socket.create_connection((host, port), seconds) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not to be trusted: {error.verify_message}"
    except OSError:  # also ssl.SSLError: no certificate's fault
        return ""


@functools.cache
def safest(ffmpeg: str) -> str:
    """The ffmpeg to use over TLS: this one, or the one of imageio-ffmpeg where this one is too old.

    Where both are, the log says so, once.
    """
    if is_safe(ffmpeg):
        return ffmpeg
    with contextlib.suppress(ImportError, RuntimeError):
        import imageio_ffmpeg

        other = str(imageio_ffmpeg.get_ffmpeg_exe())
        if (_version(other) or 0) >= SAFE_SINCE:
            log.info("%s is version %d: %s is used over TLS", ffmpeg, _version(ffmpeg), other)
            return other
    log.warning(
        "%s: expected version %d or later for https and rtsps, got %d: it may not compare the name "
        "in a certificate, and does not check who sends the parts of a play list (HLS), so rtsps "
        "and play lists are refused; `pip install -U imageio-ffmpeg` brings a newer one",
        ffmpeg, SAFE_SINCE, _version(ffmpeg),
    )  # fmt: skip
    return ffmpeg


def is_safe(ffmpeg: str) -> bool:
    """Whether it checks whom it hears over TLS, as far as its version tells."""
    return (version := _version(ffmpeg)) is None or version >= SAFE_SINCE


def too_old(ffmpeg: str) -> str:
    """Why it is not used, for people."""
    return (
        f"expected ffmpeg {SAFE_SINCE} or later, which checks all certificates, got version "
        f"{_version(ffmpeg)}; `pip install -U imageio-ffmpeg` brings one, and tls_verify = false "
        "listens to anybody"
    )


@functools.cache
def _version(ffmpeg: str) -> int | None:
    """Its major version; None where it does not say."""
    try:
        done = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.match(done.stdout)
    return int(found[1]) if found else None
