"""The addresses of the pages of sign-in and settings."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from streamtag.bridges.web.access import SignIn
from streamtag.bridges.web.pages import Pages
from streamtag.bridges.web.parameters import check_names, read_settings
from streamtag.bridges.web.plain_pages import PageView, settings_page, sign_in_page
from streamtag.bridges.web.texts import Texts, best_language


def page_view(request: Request, pages: Pages) -> PageView:
    """How somebody wants to see a page."""
    chosen = read_settings(request.cookies)
    language = best_language(chosen.get("lang", ""), request.headers.get("accept-language", ""))
    return PageView(Texts(language), f"static/{pages.version}", chosen)


class PersonalPages:
    """Answers `GET /sign-in` and `GET /settings`."""

    def __init__(self, pages: Pages, sign_in: SignIn) -> None:
        self._pages, self._sign_in = pages, sign_in

    async def sign_in(self, request: Request) -> Response:
        """`GET /sign-in`."""
        check_names(request.query_params, ("next", "for", "again"))
        page = sign_in_page(page_view(request, self._pages), request.state.session)
        return HTMLResponse(page, headers=self._pages.written_headers)

    async def settings(self, request: Request) -> Response:
        """`GET /settings`."""
        check_names(request.query_params, ())
        needed, control = self._sign_in.needs_token, self._sign_in.can_control
        view = page_view(request, self._pages)
        page = settings_page(view, request.state.session, needed, control)
        return HTMLResponse(page, headers=self._pages.written_headers)
