"""Play lists that lead to stations (.pls, .m3u …): the addresses that people find on their pages.

What is copied from there is a short text with the real addresses. Lists of the parts of one stream
(HLS) are something else, and are left to ffmpeg.
"""

import base64
import html
import http.client
import random
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from streamtag.engine.events import Cause
from streamtag.sources.loss_causes import SourceLost, of_error
from streamtag.sources.tls import TlsSettings

ENDINGS = (".pls", ".m3u", ".xspf", ".asx")
LONGEST = 65_536
"""Bytes of a list that are read."""
HOPS = 3
"""Lists, one after the other, that are followed."""
LONGEST_ADDRESS = 4096
"""Characters."""
MOST = 100
"""Addresses of one list that are looked at."""
# No pattern here may take long for any text: a list is made by strangers.
_MARKED = re.compile(r"<location>([^<]*)<|<ref\s[^<>]{0,200}?href\s?=\s?[\"']([^<>\"']*)", re.I)
"""In XSPF, and in ASX."""


def is_play_list(url: str) -> bool:
    """Whether a URL looks like one of a list that leads to stations."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and parts.path.lower().endswith(ENDINGS)


def station(url: str, seconds: float, trust: TlsSettings) -> str:
    """The address to listen to: one of the list's, by chance; the list itself if it holds none.

    Args:
        url: of the list.
        seconds: to wait at most for each step.
        trust: whom to believe, over TLS.

    Raises:
        SourceLost: the list cannot be had.
    """
    for _ in range(HOPS):
        if not is_play_list(url):
            return url
        found = entries(_fetch(url, seconds, trust), url)
        if not found:
            return url
        url = random.choice(found)
    if not is_play_list(url):
        return url
    raise SourceLost(
        Cause.REDIRECT, f"{url}: expected a station, got one play list after the other"
    )


def entries(text: str, url: str) -> list[str]:
    """The addresses in a list; none where it is no such list.

    Args:
        text: of the list.
        url: where it is from; addresses may be relative to it.
    """
    if "#EXT-X-" in text or "\0" in text:
        return []
    if text.lstrip().startswith("<"):
        found = [html.unescape(xspf or asx) for xspf, asx in _MARKED.findall(text)]
    else:
        lines = [line.strip() for line in text.splitlines()]
        if any(line.lower() == "[playlist]" for line in lines):
            pairs = [line.partition("=") for line in lines]
            found = [value for key, _, value in pairs if _is_file(key.strip().lower())]
        else:
            found = [line for line in lines if line and line[0] not in "#["]
    places = [_address(url, word.strip()) for word in found[:MOST]]
    return [place for place in places if place]


def _address(url: str, word: str) -> str:
    """The address that a word means in a list; empty where it is none to listen to."""
    try:
        place = urljoin(url, word)
        parts = urlsplit(place)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ""
    plain = len(place) <= LONGEST_ADDRESS and place.isprintable() and " " not in place
    return place if good and plain else ""


def _is_file(key: str) -> bool:
    return key.startswith("file") and key[4:].isdecimal()


def _fetch(url: str, seconds: float, trust: TlsSettings) -> str:
    made: list[http.client.HTTPConnection] = []
    timer = threading.Timer(2 * seconds, _cut, args=(made,))
    timer.daemon = True
    timer.start()
    try:
        with _opener(trust, made).open(_request(url), timeout=seconds) as response:
            return _text(response, seconds)
    except urllib.error.HTTPError as error:
        error.close()
        raise _lost(_of_status(error.code), url, f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        reason = error.reason
        cause = _of_error(reason) if isinstance(reason, OSError) else Cause.OTHER
        raise _lost(cause, url, str(reason)) from None
    except OSError as error:
        raise _lost(_of_error(error), url, str(error)) from None
    except http.client.HTTPException as error:
        raise _lost(Cause.HTTP, url, repr(error)) from None
    finally:
        timer.cancel()
        timer.join()


def _text(response: Any, seconds: float) -> str:
    data, deadline = b"", time.monotonic() + seconds
    while len(data) < LONGEST and time.monotonic() < deadline and (part := response.read1(4096)):
        data += part
    return data.decode("utf-8-sig", errors="replace")


def _opener(
    trust: TlsSettings, made: list[http.client.HTTPConnection]
) -> urllib.request.OpenerDirector:
    """For http and https alone; `made` gets every connection, as soon as there is one."""
    context = ssl.create_default_context(cafile=trust.authorities)
    if not trust.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def plain(host: str, **options: Any) -> http.client.HTTPConnection:
        made.append(http.client.HTTPConnection(host, **options))
        return made[-1]

    def secure(host: str, **options: Any) -> http.client.HTTPConnection:
        made.append(http.client.HTTPSConnection(host, context=context, **options))
        return made[-1]

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(plain, req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(secure, req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), Plain(), Secure(), urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def _request(url: str) -> urllib.request.Request:
    """With the user's name and password as a header: urllib would take them for the host's name."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)))
    request.add_header("User-Agent", "streamtag")
    if user:
        word = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {word}")
    return request


def _cut(made: list[http.client.HTTPConnection]) -> None:
    """Whoever says a header without an end is not listened to for ever."""
    for connection in made:
        with suppress(OSError, AttributeError):
            connection.sock.shutdown(SHUT_RDWR)


def _lost(cause: Cause, url: str, got: str) -> SourceLost:
    return SourceLost(cause, f"{url}: expected a play list, got {got}")


def _of_status(code: int) -> Cause:
    if code in (401, 403, 407):
        return Cause.AUTH
    if code in (404, 410):
        return Cause.NOT_FOUND
    return Cause.REDIRECT if 300 <= code < 400 else Cause.HTTP


def _of_error(error: OSError) -> Cause:
    return Cause.TLS if isinstance(error, ssl.SSLError) else of_error(error)
