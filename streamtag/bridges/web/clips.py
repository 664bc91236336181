"""Clips over HTTP: their files, and which there are."""

import asyncio
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from streamtag.bridges.web.access import rights_of
from streamtag.bridges.web.parameters import check_names, error_response, read_query
from streamtag.history.clips import clips_of
from streamtag.history.history import History
from streamtag.history.query import Query
from streamtag.monitoring.clip_files import find_clip

MEDIA_TYPES = {".flac": "audio/flac", ".opus": "audio/ogg"}


class Clips:
    """Answers questions about clips. Folder and journal are None where there is none."""

    def __init__(self, folder: Path | None, journal: Path | None) -> None:
        self._folder, self._journal = folder, journal
        self._one_at_a_time = asyncio.Semaphore(1)

    async def file(self, request: Request) -> Response:
        """`GET /clip/NAME`."""
        check_names(request.query_params, ())
        name = request.path_params["name"]
        path = self._folder and find_clip(self._folder, name)
        if not path or not await self._may_hear(request, name):
            expected = "the name of a clip that is there; old ones are removed"
            return error_response(404, "clip", expected, name)
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}
        return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=headers)

    async def known(self, request: Request) -> Response:
        """`GET /api/clips`."""
        check_names(request.query_params, ("stream", "from", "to"))
        query = read_query(request.query_params, rights_of(request))
        return JSONResponse({"clips": await self.rows(query)})

    async def rows(self, query: Query) -> list[dict[str, Any]]:
        """The clips that a query wants, as `clips_of` has them."""
        if self._journal is None or not self._journal.is_file():
            return []
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._read, self._journal, query)

    async def _may_hear(self, request: Request, name: str) -> bool:
        """Whether a clip is of a stream that may be seen."""
        query = Query(rights=rights_of(request))
        if not query.is_limited:
            return True
        return any(row["id"] == name for row in await self.rows(query))

    def _read(self, journal: Path, query: Query) -> list[dict[str, Any]]:
        history = History(journal)
        try:
            return clips_of(history, query, self._folder)
        finally:
            history.close()
