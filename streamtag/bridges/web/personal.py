"""The addresses of the pages of sign-in and settings."""

import re

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from streamtag.bridges.web.access import SignIn, read_form
from streamtag.bridges.web.pages import Pages
from streamtag.bridges.web.parameters import (
    SETTINGS_COOKIE,
    check_names,
    read_settings,
    settings_cookie,
)
from streamtag.bridges.web.plain_pages import PageView, settings_page, sign_in_page
from streamtag.bridges.web.sessions import Role, Session
from streamtag.bridges.web.texts import Texts, best_language

SETTINGS_SECONDS = 365 * 24 * 3600
"""How long settings are kept."""


def page_view(request: Request, pages: Pages) -> PageView:
    """How somebody wants to see a page."""
    chosen = read_settings(request.cookies)
    language = best_language(chosen.get("lang", ""), request.headers.get("accept-language", ""))
    return PageView(Texts(language), f"static/{pages.version}", chosen)


class PersonalPages:
    """Answers `/sign-in`, `/sign-out` and `/settings`."""

    def __init__(self, pages: Pages, sign_in: SignIn) -> None:
        self._pages, self._sign_in = pages, sign_in

    async def sign_in(self, request: Request) -> Response:
        """`GET` and `POST /sign-in`. Who may enter is sent on to `next`."""
        params = request.query_params
        check_names(params, ("next", "for", "again"))
        session: Session | None = request.state.session
        wait, fault, name = 0.0, "", ""
        if is_form := request.method == "POST":
            form = await read_form(request)
            token, name = (form.get(key, "").strip() for key in ("token", "name"))
            session, wait = self._sign_in.enter(request, token, name)
            fault = "set_wait" if wait else "" if session else "set_wrong"
        enough = session and (params.get("for") != "control" or session.role is Role.CONTROLLER)
        answer: Response
        if enough and (is_form or not params.get("again")):
            answer = RedirectResponse(_place_after(params.get("next", "")), 303)
        else:
            view = page_view(request, self._pages)
            fault = "set_only_reader" if is_form and session else fault
            page = sign_in_page(view, fault, name)
            status = 429 if wait else 401 if fault else 200
            answer = HTMLResponse(page, status, headers=self._pages.written_headers)
        if is_form and session:
            self._sign_in.keep(request, session, answer)
        return answer

    async def sign_out(self, request: Request) -> Response:
        """`POST /sign-out`."""
        answer = RedirectResponse("settings", 303)
        self._sign_in.forget(answer)
        return answer

    async def settings(self, request: Request) -> Response:
        """`GET` and `POST /settings`. They are kept in a cookie for a year."""
        check_names(request.query_params, ())
        if request.method == "POST":
            kept = settings_cookie(await read_form(request))
            answer = RedirectResponse("settings", 303)
            answer.set_cookie(SETTINGS_COOKIE, kept, SETTINGS_SECONDS, path=None)
            return answer
        needed, control = self._sign_in.needs_token, self._sign_in.can_control
        view = page_view(request, self._pages)
        page = settings_page(view, request.state.session, needed, control)
        return HTMLResponse(page, headers=self._pages.written_headers)


def _place_after(wanted: str) -> str:
    """Where to go after the sign-in, from `/sign-in`: never to another site."""
    ours = re.match(r"[\w.-]*:|[/\\]", wanted) is None
    return f"./{wanted}" if ours else "./"
