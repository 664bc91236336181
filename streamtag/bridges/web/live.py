"""News over HTTP while it happens: server-sent events and WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamtag.bridges.web.hub import Hub, News, WebClient, as_json, missed, wants
from streamtag.history.query import ResumePoint

KEEP_SECONDS = 10.0
"""Between two signs of life where nothing happens."""
SEND_SECONDS = 20.0
"""How long a listener may take for one message."""
PAGE = 500
"""Entries fetched from the journal at once for somebody who comes back."""
SLOW = "this listener is too slow; come back with the last id"
TRY_AGAIN = 1013
"""WebSocket's code for "try again later"."""


async def news_for(
    hub: Hub, listener: WebClient, resume: ResumePoint | None
) -> AsyncIterator[list[News]]:
    """What a listener is to be told: what it missed (or the present), then what happens.

    An empty list is a sign of life. No hole and no repeat: between the last look into the journal
    and being put on the list nothing else runs.
    """
    if resume is not None:
        if resume.missed:
            yield [missed("", count, reason) for count, reason in resume.missed]
        after = resume.after
        while hub.history is not None and after < hub.cursor:
            page = hub.history.after(after, PAGE)
            entries = [entry for entry in page.entries if entry.number <= hub.cursor]
            news = [News(e.message.type, as_json(e.body), e.id, e.message) for e in entries]
            after = entries[-1].number if entries else hub.cursor
            yield [one for one in news if wants(listener.query, one)]
    hub.listeners.add(listener)
    try:
        if resume is None or resume.missed:
            yield [News("state", json.dumps(hub.state()), cursor_key(hub))]
        while not listener.slow and not listener.over:
            yield await listener.take(KEEP_SECONDS)
        if listener.slow:
            yield [News("slow", json.dumps({"type": "slow", "detail": SLOW}))]
    finally:
        hub.listeners.discard(listener)


def cursor_key(hub: Hub) -> str:
    """Where the hub stands; empty without a journal."""
    return "" if hub.history is None else hub.history.id_of(hub.cursor)


class EventStream:
    """An answer that does not end: `text/event-stream`."""

    def __init__(self, hub: Hub, listener: WebClient, resume: ResumePoint | None) -> None:
        self._hub, self._listener, self._resume = hub, listener, resume

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _until_either(_gone(receive), self._send(send))

    async def _send(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx would collect
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _patiently(send, b"retry: 2000\n\n", more=True)
        told = news_for(self._hub, self._listener, self._resume)
        try:
            async for news in told:
                text = "".join(map(as_event, news)) or self._sign_of_life()
                await _patiently(send, text.encode(), more=True)
            await _patiently(send, b"", more=False)
        except TimeoutError:  # it takes nothing: the connection is given up
            return
        finally:
            await told.aclose()  # type: ignore[attr-defined]

    def _sign_of_life(self) -> str:
        """Moves the last id on where nothing was wanted, so that less is read when it is back."""
        quiet = self._listener in self._hub.listeners and not self._listener.waiting
        key = cursor_key(self._hub) if quiet else ""
        return f"id: {key}\n: beat\n\n" if key else ": beat\n\n"


def as_event(news: News) -> str:
    """In the words of server-sent events."""
    head = f"id: {news.id}\n" if news.id else ""
    return f"{head}event: {news.kind}\ndata: {news.data}\n\n"


async def _patiently(send: Send, body: bytes, *, more: bool) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _gone(receive: Receive) -> None:
    """Returns when the other side has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def tell_socket(
    socket: WebSocket, hub: Hub, listener: WebClient, resume: ResumePoint | None
) -> None:
    """Tells a WebSocket that was accepted, until either side ends it."""
    await _until_either(_left(socket), _tell(socket, hub, listener, resume))


async def _until_either(*work: Coroutine[None, None, None]) -> None:
    """Runs both until one ends; what it raises is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(
    socket: WebSocket, hub: Hub, listener: WebClient, resume: ResumePoint | None
) -> None:
    told = news_for(hub, listener, resume)
    try:
        async for news in told:
            for one in news:
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_text(with_id(one))
        await socket.close(TRY_AGAIN if listener.slow else 1001)
    except (TimeoutError, WebSocketDisconnect):
        with suppress(RuntimeError):
            await socket.close(TRY_AGAIN)
    finally:
        await told.aclose()  # type: ignore[attr-defined]


def with_id(news: News) -> str:
    """The JSON object with its id first."""
    return f'{{"id":"{news.id}",{news.data[1:]}' if news.id else news.data


async def _left(socket: WebSocket) -> None:
    """Returns when the other side has left; what it says is not looked at."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
