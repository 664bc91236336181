"""The pages of alerts: `/alerts`, where they can be acknowledged, and `/api/alerts`."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from streamtag.bridges.web.access import read_form, rights_of
from streamtag.bridges.web.control import Control
from streamtag.bridges.web.hub import FeedHub
from streamtag.bridges.web.pages import Pages
from streamtag.bridges.web.parameters import check_names
from streamtag.bridges.web.personal import page_view
from streamtag.bridges.web.plain_pages import alerts_page
from streamtag.bridges.web.sessions import Role, Session


class AlertPages:
    """Answers `/alerts` and `GET /api/alerts`. Without `control` nobody can acknowledge."""

    def __init__(self, hub: FeedHub, pages: Pages, control: Control | None) -> None:
        self._hub, self._pages, self._control = hub, pages, control

    async def rows(self, request: Request) -> Response:
        """`GET /api/alerts`."""
        check_names(request.query_params, ())
        return JSONResponse({"alerts": self._rows(request)})

    async def page(self, request: Request) -> Response:
        """`GET` and `POST /alerts`."""
        check_names(request.query_params, ())
        fault = ""
        if request.method == "POST":
            if self._control is None:
                raise HTTPException(405, headers={"Allow": "GET"})
            form = await read_form(request)
            fault = await self._control.obey_form(request, form)
            if not fault:
                return (
                    Response(status_code=204)
                    if form.get("stay")
                    else RedirectResponse("alerts", 303)
                )
        session: Session | None = request.state.session
        may = self._control is not None and session is not None and session.role is Role.CONTROLLER
        page = alerts_page(page_view(request, self._pages), self._rows(request), may, fault)
        return HTMLResponse(page, headers=self._pages.written_headers)

    def _rows(self, request: Request) -> list[dict[str, Any]]:
        """The alerts, for those who may see them: they are about all streams."""
        return self._hub.alerts.rows() if rights_of(request).sees_kind("alert") else []
