"""Playlists that lead to stations (.pls, .m3u, .xspf, .asx): what radio pages link to.

A playlist is a short text with the real addresses. HLS playlists (.m3u8) list the segments of one
stream; they are left to ffmpeg.
"""

import asyncio
import html
import random
import re
import time
from urllib.parse import urljoin, urlsplit

from streamtag.engine.events import Cause
from streamtag.errors import SourceError
from streamtag.sources.loss_causes import SourceLost, cause_of_error, cause_of_status
from streamtag.sources.tls import TlsSettings

SUFFIXES = (".pls", ".m3u", ".xspf", ".asx")
MAX_BYTES = 65_536
"""Bytes of a playlist that are read."""
MAX_NESTED = 3
"""Playlists, one leading to the next, that are followed."""
MAX_REDIRECTS = 10
MAX_ADDRESS = 4096
"""Characters of an address."""
MAX_ENTRIES = 100
"""Addresses of one playlist that are looked at."""
# No pattern here may take long for any text: a playlist is made by strangers.
_LOCATION = re.compile(r"<location>([^<]*)<|<ref\s[^<>]{0,200}?href\s?=\s?[\"']([^<>\"']*)", re.I)
"""An address in XSPF, and in ASX."""
_PLS_FILE = re.compile(r"file\d+\s*=(.*)", re.I)
"""An address in PLS."""


def is_playlist(url: str) -> bool:
    """Whether a URL looks like that of a playlist that leads to stations."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and parts.path.lower().endswith(SUFFIXES)


def choose_station(url: str, seconds: float, tls: TlsSettings) -> str:
    """A random address of the playlist, or its own URL if it holds none.

    Each step takes `seconds` at most.

    Raises:
        SourceLost: the playlist cannot be fetched.
        SourceError: the package httpx is not installed.
    """
    for _ in range(MAX_NESTED):
        if not is_playlist(url):
            return url
        found = entries(_fetch(url, seconds, tls), url)
        if not found:
            return url
        url = random.choice(found)
    if not is_playlist(url):
        return url
    got = "got one playlist after the other"
    raise SourceLost(Cause.REDIRECT, f"{url}: expected a station, {got}")


def entries(text: str, url: str) -> list[str]:
    """The addresses in a playlist, relative to its own; none where the text is something else."""
    if "#EXT-X-" in text or "\0" in text:
        return []
    if text.lstrip().startswith("<"):
        found = [html.unescape(xspf or asx) for xspf, asx in _LOCATION.findall(text)]
    else:
        lines = [line.strip() for line in text.splitlines()]
        if any(line.lower() == "[playlist]" for line in lines):
            files = [_PLS_FILE.match(line) for line in lines]
            found = [match[1] for match in files if match]
        else:
            found = [line for line in lines if line and line[0] not in "#["]
    addresses = [_address(url, entry.strip()) for entry in found[:MAX_ENTRIES]]
    return [address for address in addresses if address]


def _address(url: str, entry: str) -> str:
    """The address of an entry; empty where it is none of a station."""
    try:
        address = urljoin(url, entry)
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ""
    plain = len(address) <= MAX_ADDRESS and address.isprintable() and " " not in address
    return address if good and plain else ""


def _fetch(url: str, seconds: float, tls: TlsSettings) -> str:
    """The text of a playlist."""
    try:
        import httpx
    except ImportError:
        raise SourceError(
            f"{url}: expected the package httpx, which fetches playlists, got none; "
            "`pip install httpx`"
        ) from None
    try:
        # The time limit ends a header that never ends, too.
        return asyncio.run(asyncio.wait_for(_download(url, seconds, tls), 2 * seconds))
    except (httpx.TimeoutException, TimeoutError):
        cause, got = Cause.TIMEOUT, f"nothing complete for {seconds:g} s"
    except httpx.ConnectError as error:
        cause, got = cause_of_error(_os_error(error)), str(error)
    except (httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
        cause, got = Cause.REDIRECT, str(error)
    except httpx.NetworkError as error:
        cause, got = Cause.UNREACHABLE, str(error) or repr(error)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        cause, got = Cause.HTTP, str(error) or repr(error)
    raise SourceLost(cause, f"{url}: expected a playlist, got {got}")


async def _download(url: str, seconds: float, tls: TlsSettings) -> str:
    """The first `MAX_BYTES` of a page, or what came of them in time."""
    import httpx

    headers = {"User-Agent": "streamtag", "Accept-Encoding": "identity"}
    client = httpx.AsyncClient(
        verify=tls.context(), timeout=seconds, headers=headers,
        follow_redirects=True, max_redirects=MAX_REDIRECTS,
    )  # fmt: skip
    async with client, client.stream("GET", url) as response:
        if response.status_code >= 300:
            got = f"HTTP {response.status_code} {response.reason_phrase}"
            raise SourceLost(
                cause_of_status(response.status_code), f"{url}: expected a playlist, got {got}"
            )
        data, deadline = b"", time.monotonic() + seconds
        async for part in response.aiter_raw():
            data += part
            if len(data) >= MAX_BYTES or time.monotonic() > deadline:
                break
    return data[:MAX_BYTES].decode("utf-8-sig", errors="replace")


def _os_error(error: BaseException) -> BaseException:
    """The system's own error behind one of a library."""
    while not isinstance(error, OSError) or type(error) is OSError:
        inner = error.__cause__ or error.__context__
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        if inner is None:
            break
        error = inner
    return error
