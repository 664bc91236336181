"""Sign-in: cookies, wrong tokens, other sites' pages, and no token in an address."""

from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError
from support.web_server import SECONDS, Feed, Server, serving, wait_for

from streamtag.bridges.web.server import _gate
from streamtag.bridges.web.sessions import (
    LIFETIME_SECONDS,
    WINDOW_SECONDS,
    WRONG_IN_ALL,
    WRONG_PER_ADDRESS,
    Role,
    Session,
    Sessions,
    Token,
    WrongTokens,
)
from streamtag.config.bridges import WebConfig
from streamtag.errors import ConfigError

PAGE = {"Streamtag-Request": "1"}
TABLE = 'token = "read"\ncontrol = true\ncontrol_token = "change"'


def test_a_cookie_is_valid_for_its_tokens_and_its_time_only() -> None:
    sessions = Sessions("read", "change")
    for session in (Session(Role.READER, "Ana"), Session(Role.CONTROLLER, "Ünal <b>")):
        cookie = sessions.cookie(session, 1000.0)
        assert cookie.isascii()
        assert sessions.read(cookie, 1000.0) == session
        assert sessions.read(cookie, 999.0 + LIFETIME_SECONDS) == session
        assert sessions.read(cookie, 1000.0 + LIFETIME_SECONDS) is None
        assert Sessions("other", "another").read(cookie, 1000.0) is None
        assert Sessions("", "").read(cookie, 1000.0) is None
        text, _, signature = cookie.partition(".")
        for forged in (text, f"{text}.", f"{text[:-4]}.{signature}", f"{text}x.{signature}", "é.é"):
            assert sessions.read(forged, 1000.0) is None
    reader = sessions.cookie(Session(Role.READER, ""), 0.0)
    promoted = Sessions("change", "read").read(reader, 0.0)  # the other way round
    assert promoted is None
    assert sessions.read("x" * 10_000, 0.0) is None


def test_roles_of_tokens() -> None:
    sessions = Sessions("read", "change")
    assert sessions.find("read") == Token(Role.READER, "read")
    assert sessions.find("change") == Token(Role.CONTROLLER, "change")
    assert sessions.find("") is sessions.find("Read") is None
    assert Sessions("", "change").find("") is None


def test_wrong_tokens_are_limited_by_address_and_in_all() -> None:
    wrong = WrongTokens()
    for _ in range(1000):  # a screen with an old token
        wrong.add("10.0.0.1", "old", 0.0)
    assert wrong.wait_seconds("10.0.0.1", 1.0) == 0
    for k in range(WRONG_PER_ADDRESS - 1):
        wrong.add("10.0.0.1", f"guess {k}", 10.0)
    assert wrong.wait_seconds("10.0.0.1", 20.0) == WINDOW_SECONDS - 20  # until the first is old
    assert wrong.wait_seconds("10.0.0.2", 20.0) == 0
    assert wrong.wait_seconds("10.0.0.1", WINDOW_SECONDS) == 0
    for k in range(WRONG_PER_ADDRESS):  # one customer has a whole network
        wrong.add(f"2001:db8::{k:x}", f"guess {k}", 100.0)
    assert wrong.wait_seconds("2001:db8::ffff%eth0", 100.0) > 0
    assert wrong.wait_seconds("2001:db8:1::1", 100.0) == 0
    for k in range(WRONG_IN_ALL):
        wrong.add(f"host {k}", f"guess {k}", 200.0)
    assert wrong.wait_seconds("anybody", 200.0) > 0
    assert wrong.wait_seconds("anybody", 200.0 + WINDOW_SECONDS) == 0
    assert not wrong._seen


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sessions")
    feed = Feed(folder / "j.db")
    feed.up("radio")
    with serving(folder, feed, folder / "j.db", TABLE) as server:
        yield server
    feed.close()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=server.url, timeout=SECONDS, trust_env=False, verify=False
    ) as client:
        yield client


def test_signing_in_and_out(server: Server, client: httpx.Client) -> None:
    assert client.get("/api/session").json() == {
        **{"role": None, "name": "", "needs_token": True, "can_control": True}
    }
    assert client.get("/api/state").status_code == 401
    answer = client.post("/api/session", json={"token": "read", "name": "Ana\n"}, headers=PAGE)
    assert answer.json()["role"] == "reader"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # there is no TLS here
    assert client.get("/api/state").status_code == 200
    assert client.get("/report/radio").status_code == 200
    assert client.get("/api/session").json()["name"] == "Ana"
    client.request("DELETE", "/api/session", headers=PAGE)
    assert client.get("/api/state").status_code == 401
    wait_for(lambda: any("sign-in: Ana at 127.0.0.1 as reader" in line for line in server.log))


def test_behind_a_proxy_with_tls_the_cookie_is_secure(client: httpx.Client) -> None:
    headers = PAGE | {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    answer = client.post("/api/session", json={"token": "read"}, headers=headers)
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("headers", "parameter"),
    [
        ({}, "Streamtag-Request"),
        ({**PAGE, "Origin": "https://evil.example"}, "Origin"),
        ({**PAGE, "Origin": "null"}, "Origin"),
    ],
)
def test_other_sites_cannot_sign_in(
    client: httpx.Client, headers: dict[str, str], parameter: str
) -> None:
    for method, path in (("POST", "/api/session"), ("DELETE", "/api/session")):
        answer = client.request(method, path, json={"token": "read"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["parameter"]) == (403, parameter)


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/control", "/alerts"])
@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://127.0.0.1"])
def test_other_sites_cannot_send_our_forms(
    client: httpx.Client, path: str, origin: str | None
) -> None:
    form = {"token": "change", "command": "pause", "name": "radio"}
    headers = {"Authorization": "Bearer change"} | ({"Origin": origin} if origin else {})
    answer = client.post(path, data=form, headers=headers | PAGE)
    assert (answer.status_code, answer.json()["error"]["parameter"]) == (403, "Origin")


def test_forms_of_our_own(server: Server, client: httpx.Client) -> None:
    own = {"Origin": server.url}
    wrong = client.post("/sign-in", data={"token": "guess"}, headers=own)
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    assert "That is not the token." in wrong.text
    form = {"token": " read\n", "name": "Ana"}
    answer = client.post("/sign-in?next=report/radio%3Fday%3Dtoday", data=form, headers=own)
    assert (answer.status_code, answer.headers["location"]) == (303, "./report/radio?day=today")
    assert client.get("/api/session").json()["name"] == "Ana"
    only = client.post("/sign-in?for=control", data=form, headers=own)
    assert "This token is for reading." in only.text
    again = client.get("/sign-in?for=control&next=control")
    assert again.status_code == 200  # until there is the right token
    assert client.get("/sign-in?next=wall").headers["location"] == "./wall"
    for there in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:x"):
        place = client.get("/sign-in", params={"next": there}).headers["location"]
        assert place == "./"
    assert client.post("/control", data={"command": "pause"}, headers=own).status_code == 303
    out = client.post("/sign-out", headers=own)
    assert (out.status_code, out.headers["location"]) == (303, "settings")
    assert client.get("/api/session").json()["role"] is None
    assert client.post("/settings", data={"language": "de"}).status_code == 403  # from where?
    kept = client.post("/settings", data={"language": "de", "zone": "Asia/Tokyo"}, headers=own)
    assert (kept.status_code, kept.headers["location"]) == (303, "settings")
    for path in ("/", "/wall", "/settings"):
        assert '<html lang="de"' in client.get(path).text
    assert 'data-zone="Asia/Tokyo"' in client.get("/").text
    assert client.post("/sign-in", data={"token": "x" * 20_000}, headers=own).status_code == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 9000, b'{"token": 1}', b"x" * 20_000])
def test_nonsense_does_not_sign_in(client: httpx.Client, body: bytes) -> None:
    headers = PAGE | {"X-Forwarded-For": "203.0.113.7"}
    answer = client.post("/api/session", content=body, headers=headers)
    assert answer.status_code in (400, 401)
    assert "set-cookie" not in answer.headers


def test_too_many_wrong_tokens_make_the_right_one_wait(client: httpx.Client) -> None:
    here = {"X-Forwarded-For": "203.0.113.1"}
    for k in range(WRONG_PER_ADDRESS):
        wrong = client.post("/api/session", json={"token": f"{k}"}, headers=PAGE | here)
        assert wrong.status_code == 401
    right = client.post("/api/session", json={"token": "read"}, headers=PAGE | here)
    assert right.status_code == 429
    assert 0 < int(right.headers["retry-after"]) <= 60
    bearer = {"Authorization": "Bearer read"}
    assert client.get("/api/state", headers=here | bearer).status_code == 429
    assert client.get("/api/state", headers=bearer).status_code == 200  # from elsewhere


def test_a_token_in_an_address_is_for_event_streams_only(client: httpx.Client) -> None:
    assert client.get("/api/history?token=read").status_code == 401
    with client.stream("GET", "/events?token=read") as answer:
        assert answer.status_code == 200
    page = client.get("/report/radio?day=today", headers={"Accept": "text/html"})
    assert page.status_code == 303
    assert page.headers["location"] == "../sign-in?next=report/radio%3Fday%3Dtoday"


@pytest.mark.parametrize("path", ["/sign-in", "/settings"])
def test_the_pages_need_no_token_and_say_nothing(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert "radio" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    german = client.get(path, headers={"Cookie": "streamtag-settings=lang=de&mode=dark"}).text
    assert '<html lang="de" data-mode="dark">' in german
    assert "{" not in german
    nonsense = client.get(path, headers={"Cookie": "streamtag-settings=mode=%22%3E&zone=%3Cb%3E"})
    assert "<b>" not in nonsense.text


def test_control_is_a_page_for_its_token(client: httpx.Client) -> None:
    for token in (None, "read"):
        if token:
            client.post("/api/session", json={"token": token}, headers=PAGE)
        answer = client.get("/control?stream=radio")
        assert answer.status_code == 303
        there = "sign-in?for=control&next=control%3Fstream%3Dradio"
        assert answer.headers["location"] == there
    client.post("/api/session", json={"token": "change", "name": "<b>Ana"}, headers=PAGE)
    assert "radio" in client.get("/control").text
    settings = client.get("/settings").text
    assert "&lt;b&gt;Ana" in settings
    assert 'id="sign-out"' in settings


@pytest.mark.parametrize("keys", [{"control": True}, {"control_token": "x"}])
def test_control_and_its_token_belong_together(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="control: expected true together with one of contr"):
        WebConfig.model_validate(keys)


def test_both_tokens_must_differ() -> None:
    keys = {"token": "x", "control": True, "control_token": "x"}
    with pytest.raises(ConfigError, match=r"web\.control_token: expected another token than"):
        _gate(WebConfig.model_validate(keys))
