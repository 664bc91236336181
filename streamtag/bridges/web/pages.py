"""The pages and their files, in `static/`.

The address of a file has the digest of all files, so browsers may keep it for ever, and relative
imports between modules stay within one version.
"""

import hashlib
import json
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from streamtag.bridges.web.parameters import MODES, kept_settings
from streamtag.bridges.web.texts import STATIC, Texts, best_language
from streamtag.config.bridges import WebConfig

MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".frag": "text/plain",
    ".vert": "text/plain",
    ".wav": "audio/wav",
}
"""Of the files that pages load; the system's own table may lack or change some."""
LOGO_TYPES = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
FOR_EVER = "public, max-age=31536000, immutable"
IMAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""An SVG file that somebody opens by its address may have styles, but runs nothing."""
DIGITS = 16
"""Hexadecimal digits of the digest in an address."""
PLACES = re.compile(r"\{(\w+)\}")
"""What each answer fills in, in a page."""
WORDS = re.compile(r' data-text="(\w+)"><')
LABELS = re.compile(r'data-(label|hint)="(\w+)"')
"""Keys of texts in a page: of what an element contains, and of its attributes."""
KINDS = {"label": "aria-label", "hint": "placeholder"}
THEMES = ("field", "constellation", "type")
PARTS = {"mood": "mood", "genre": "genre", "instruments": "instrument", "title": "title"}
"""Of a wall: what `?show=` names, and the elements of the page."""


class Pages:
    """Answers requests for pages, for their files and for logos. The files are read once."""

    def __init__(self, config: WebConfig) -> None:
        self._logos = Path(config.logos) if config.logos else None
        self._files = {
            path.relative_to(STATIC).as_posix(): path.read_bytes()
            for path in sorted(STATIC.rglob("*"))
            if path.is_file()
        }
        digest = hashlib.sha256()
        for name, body in self._files.items():
            digest.update(f"{name}\0{len(body)}\0".encode() + body)
        self.version = digest.hexdigest()[:DIGITS]
        """Digest of all files. A page of another version is out of date."""
        self._headers = {
            "Content-Security-Policy": content_policy(config.frame_origins),
            "Cache-Control": "no-cache",
            "Referrer-Policy": "same-origin",  # with no-referrer, forms would have no `Origin`
            "X-Content-Type-Options": "nosniff",
        }
        self.written_headers = {**self._headers, "Cache-Control": "no-store"}
        """Of pages that the server writes: they say much about streams."""

    async def desk(self, request: Request) -> Response:
        """`GET /`."""
        return self._page(request, "desk.html")

    async def stream(self, request: Request) -> Response:
        """`GET /stream/STREAM`."""
        return self._page(request, "stream-page.html")

    async def wall(self, request: Request) -> Response:
        """`GET /wall` and `GET /wall/STREAM`. A value that is not known counts as none."""
        asked = request.query_params
        parts = [part.strip() for part in asked.get("show", ",".join(PARTS)).split(",")]
        theme = asked.get("theme", "")
        logo = asked.get("logo")
        values = {
            "theme": theme if theme in THEMES else THEMES[0],
            "ground": "transparent" if asked.get("background") == "transparent" else "",
            "show": " ".join(PARTS[part] for part in PARTS if part in parts),
            "logo": f'<img id="logo" src="{_up(request)}logos/{quote(logo, safe="")}" alt="">'
            if logo
            else "",
        }
        mode = asked.get("mode", "")
        return self._page(request, "wall.html", mode if mode in MODES else "dark", **values)

    async def file(self, request: Request) -> Response:
        """`GET /static/VERSION/PATH`."""
        body = self._files.get(request.path_params["path"])
        if body is None or request.path_params["version"] != self.version:
            raise HTTPException(404)
        headers = {"Cache-Control": FOR_EVER, "X-Content-Type-Options": "nosniff"}
        kind = MEDIA_TYPES.get(Path(request.path_params["path"]).suffix)
        return Response(body, media_type=kind, headers=headers)

    async def logo(self, request: Request) -> Response:
        """`GET /logos/NAME`."""
        name = request.path_params["name"]
        if self._logos is None or name.startswith(".") or Path(name).suffix not in LOGO_TYPES:
            raise HTTPException(404)
        if not (path := self._logos / name).is_file():
            raise HTTPException(404)
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": IMAGE_POLICY}
        return FileResponse(path, media_type=LOGO_TYPES[path.suffix], headers=headers)

    def _page(self, request: Request, name: str, mode: str = "", **values: str) -> Response:
        """A page in the language of `?lang=`, of the settings, or of the browser; `values` are HTML
        for its places.

        The way from its address to the files also holds behind a proxy's prefix.
        """
        settings = kept_settings(request.cookies)
        chosen = request.query_params.get("lang") or settings["lang"]
        texts = Texts(best_language(chosen, request.headers.get("accept-language", "")))
        stream, up = request.path_params.get("stream", ""), _up(request)
        data = {
            **settings,
            "chosen": chosen,
            "mode": mode or settings["mode"],
            "stream": stream,
            "texts": json.dumps(texts.of_pages(), ensure_ascii=False),
        }
        known = " ".join(f'data-{key}="{escape(value)}"' for key, value in data.items())
        values |= {
            "page": f'lang="{texts.language}" {known}',
            "static": f"{up}static/{self.version}",
            "root": up,
            "stream": quote(stream, safe=""),
            "name": escape(stream),
        }
        html = WORDS.sub(lambda found: f">{escape(texts[found[1]])}<", self._files[name].decode())
        html = LABELS.sub(lambda found: f'{KINDS[found[1]]}="{escape(texts[found[2]])}"', html)
        html = PLACES.sub(lambda found: values[found[1]], html)
        return HTMLResponse(html, headers={**self._headers, "Vary": "Accept-Language, Cookie"})


def _up(request: Request) -> str:
    """The way from a page's address to the server's root."""
    return "../" if request.path_params else ""


def content_policy(frame_origins: tuple[str, ...]) -> str:
    """The Content-Security-Policy of the pages: only this server's own files run or are shown."""
    ancestors = " ".join(frame_origins) or "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
        f"require-trusted-types-for 'script'; frame-ancestors {ancestors}"
    )
