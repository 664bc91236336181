"""Which servers to trust over TLS, and what is wrong with the certificate of one.

ffmpeg verifies the certificates. This module finds the authorities that the system knows (the list
of ffmpeg itself may be at a place of the machine that built it), and explains a failure.
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
"""Major version of ffmpeg that verifies host names with every TLS library, and the segments of a
playlist."""
UNVERIFIED_SEGMENTS = (
    "tls_verify = false does not reach the segments of a playlist; name in ca_file who signs them"
)
_VERSION = re.compile(r"ffmpeg version \D{0,2}(\d+)\.")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Which servers to trust over TLS."""

    verify: bool = True
    """Refuse certificates that are not signed by an authority, out of date, or for another name."""
    ca_file: str = ""
    """Certificates of the authorities, in PEM; empty for those that the system knows."""

    @property
    def authorities(self) -> str:
        """The file of the authorities."""
        return self.ca_file or system_authorities()

    def context(self) -> ssl.SSLContext:
        """For connections of our own."""
        context = ssl.create_default_context(cafile=self.authorities)
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


@functools.cache
def system_authorities() -> str:
    """The file with the authorities that this system knows, else those that certifi brings.

    `SSL_CERT_FILE` in the environment goes before.
    """
    if found := ssl.get_default_verify_paths().cafile:
        return found
    import certifi

    return certifi.where()


def certificate_problem(host: str, port: int, tls: TlsSettings, seconds: float = 5.0) -> str:
    """What is wrong with the certificate of a server, as a message; empty where nothing was found.

    Each step takes `seconds` at most.
    """
    try:
        with (
            socket.create_connection((host, port), seconds) as plain,
            tls.context().wrap_socket(plain, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not to be trusted: {error.verify_message}"
    except OSError:  # also ssl.SSLError: not a fault of the certificate
        return ""


@functools.cache
def ffmpeg_for_tls(ffmpeg: str) -> str:
    """The ffmpeg to use over TLS: this one, or that of imageio-ffmpeg where this one is too old.

    If both are too old, the log says so, once.
    """
    if verifies_everything(ffmpeg):
        return ffmpeg
    with contextlib.suppress(ImportError, RuntimeError):
        import imageio_ffmpeg

        other = str(imageio_ffmpeg.get_ffmpeg_exe())
        if (_version(other) or 0) >= SAFE_SINCE:
            log.info("%s is version %d: %s is used over TLS", ffmpeg, _version(ffmpeg), other)
            return other
    log.warning(
        "%s: expected version %d or later for https and rtsps, got %d: it may not compare the name "
        "in a certificate, and does not check who sends the segments of a playlist (HLS), so rtsps "
        "and playlists are refused; `pip install -U imageio-ffmpeg` brings a newer one",
        ffmpeg, SAFE_SINCE, _version(ffmpeg),
    )  # fmt: skip
    return ffmpeg


def verifies_everything(ffmpeg: str) -> bool:
    """Whether it verifies all certificates, as far as its version tells."""
    return (version := _version(ffmpeg)) is None or version >= SAFE_SINCE


def too_old(ffmpeg: str) -> str:
    """Why this ffmpeg is not used, as a message."""
    return (
        f"expected ffmpeg {SAFE_SINCE} or later, which checks all certificates, got version "
        f"{_version(ffmpeg)}; `pip install -U imageio-ffmpeg` brings one, and tls_verify = false "
        "accepts any server"
    )


@functools.cache
def _version(ffmpeg: str) -> int | None:
    """Its major version; None if it is not known."""
    try:
        done = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.match(done.stdout)
    return int(found[1]) if found else None
