"""The ffmpeg that fetches and decodes a URL: its command line, environment and bounds."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from streamtag.sources.file import ffmpeg_path
from streamtag.sources.tls import TlsSettings, safest

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtp", "udp", "sdp", "srt")
SECURE = {"https": 443, "rtsps": 322}
"""Schemes over TLS, and their ports."""
_WEB = "http,https,httpproxy,tls,tcp,crypto,data"
_PROTOCOLS = {
    "http": _WEB,
    "https": _WEB,
    "rtsp": "rtsp,rtp,rtcp,udp,tcp",
    "rtsps": "rtsp,rtsps,tls,rtp,rtcp,udp,tcp",
    "rtp": "rtp,rtcp,udp",
    "udp": "udp",
    "sdp": "file,rtp,rtcp,udp",
    "srt": "srt,udp",
}
"""What ffmpeg may open: a play list from outside must not make it read files."""
SEAM = np.float32(1e30)
"""A sample that no audio has: ffmpeg begins with it, and puts one wherever it had to begin anew
because sample rate or channels changed, so that what is joined there can be told."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may take; times in seconds."""

    connect: float = 10.0
    """Until the first audio."""
    stall: float = 10.0
    """Without audio, afterwards."""
    memory: int = 1024
    """Address space of the decoder, in MiB; 0 for no limit."""


def command(
    url: str, rate: int, limits: ConnectionLimits, trust: TlsSettings, *, watch: bool = False
) -> list[str]:
    """What to run for samples, float32 with little end first, on standard output.

    They are mono; with `watch` there are three channels: left, right, and what mono would be.
    """
    scheme = urlsplit(url).scheme
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+verbose", "-threads", "1"]
    source = ["-protocol_whitelist", _PROTOCOLS[scheme], "-fflags", "+discardcorrupt"]
    # Should we be gone, ffmpeg ends itself; else our own times are shorter.
    patience = str(round(2e6 * max(limits.connect, limits.stall) + 1e6))
    if scheme in ("http", "https"):
        source += ["-rw_timeout", patience, "-icy", "1", "-user_agent", "streamtag"]
        source += ["-probesize", "131072", "-analyzeduration", "3000000"]
    elif scheme in ("rtsp", "rtsps"):
        source += ["-timeout", patience, "-rtsp_flags", "prefer_tcp"]
    elif scheme == "udp":
        source += ["-overrun_nonfatal", "1", "-analyzeduration", "1000000"]
    elif scheme == "srt":
        source += ["-rw_timeout", patience, "-connect_timeout", str(round(1000 * limits.connect))]
        source += ["-analyzeduration", "1000000"]
    ffmpeg = ffmpeg_path()
    if scheme in SECURE:
        source += _tls(trust)
        ffmpeg = safest(ffmpeg) if trust.verify else ffmpeg
    place = "file:" + url.removeprefix("sdp:") if scheme == "sdp" else url
    sink = ["-c:a", "pcm_f32le", "-flush_packets", "1", "-f", "f32le", "pipe:1"]
    return [ffmpeg, *quiet, *source, "-i", place, *_mix(rate, watch), *sink]


def environment(trust: TlsSettings) -> dict[str, str]:
    """The environment to run it in: the parts of a play list (HLS) do not inherit its options."""
    return os.environ | {"SSL_CERT_FILE": trust.authorities}


def limit_memory(pid: int, mebibytes: int) -> None:
    """Bounds the address space of a process, where the system can."""
    import resource

    if mebibytes and hasattr(resource, "prlimit"):
        size = mebibytes * 2**20
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, (size, size))


def memory_kills() -> int:
    """How often the kernel has ended a process for want of memory: here, or else anywhere."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        return _counter(Path(f"/sys/fs/cgroup{group}/memory.events"))
    with contextlib.suppress(OSError, ValueError, IndexError):
        return _counter(Path("/proc/vmstat"))
    return 0


def stretches(frames: np.ndarray) -> Iterator[np.ndarray]:
    """The audio between seams, which are left out; at least one part, perhaps empty.

    Args:
        frames: (n, n_channels) float32, the last one mono.
    """
    mixed = frames[:, -1]
    if not len(mixed) or mixed.max() < SEAM:
        yield frames
        return
    begin = 0
    for seam in np.flatnonzero(mixed == SEAM).tolist():
        yield frames[begin:seam]
        begin = seam + 1
    yield frames[begin:]


def _counter(path: Path) -> int:
    """`oom_kill` of a file of names and numbers."""
    return int(path.read_text().split("oom_kill ", 1)[1].split()[0])


def _tls(trust: TlsSettings) -> list[str]:
    if not trust.verify:
        return ["-tls_verify", "0"]
    return ["-tls_verify", "1", "-ca_file", trust.authorities]


def _mix(rate: int, watch: bool) -> list[str]:
    """The mean of the channels at a rate, after a seam; beside left and right, where watched."""
    says = "ametadata=print"  # the comments of the next song, in one Ogg stream after the other
    mono = f"aresample={rate}:ochl=mono:osf=flt:rematrix_maxval=1"
    if watch:
        # amerge puts front left and right before the centre.
        sound = (
            f"[0:a:0]{says},asplit[a][b];[a]{mono}[centre];[b]aresample={rate}:ochl=stereo:osf=flt[sides];"
            "[sides][centre]amerge[sound]"
        )
    else:
        sound = f"[0:a:0]{says},{mono}[sound]"
    n, layout = (3, "3.0") if watch else (1, "mono")
    values = "|".join([f"{SEAM:.0e}"] * n)
    # Its own samples would be doubles, to which all that follows would be turned and back.
    seam = f"aevalsrc={values}:s={rate}:c={layout},aformat=flt,atrim=end_sample=1[seam]"
    graph = f"{seam};{sound};[seam][sound]concat=n=2:v=0:a=1[out]"
    return ["-filter_complex_threads", "1", "-filter_complex", graph, "-map", "[out]"]
