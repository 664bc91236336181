"""Events for web clients while they happen: server-sent events and WebSocket."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, suppress

from starlette.responses import StreamingResponse
from starlette.types import Message as AsgiMessage
from starlette.types import Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamtag.bridges.web.hub import (
    ClientQueue,
    FeedHub,
    ServerEvent,
    as_json,
    missed,
    wants,
)
from streamtag.bridges.web.live_scores import ScoreViewer
from streamtag.history.query import ResumePoint

BEAT_SECONDS = 10.0
"""Time between two signs of life while nothing happens."""
SEND_SECONDS = 20.0
"""How long a client may take to receive a message before it is disconnected."""
PAGE_SIZE = 500
"""Number of journal entries read at once for a client that comes back."""
SLOW = "this listener is too slow; come back with the last id"
"""Text of the event `slow`."""
TRY_AGAIN_LATER = 1013
"""WebSocket's close code for this."""
GOING_AWAY = 1001
"""WebSocket's close code for the end of the server."""


async def events_for(
    hub: FeedHub, client: ClientQueue, resume: ResumePoint | None
) -> AsyncGenerator[list[ServerEvent], None]:
    """The events of a client: what it missed, or the current state; then what happens.

    An empty list is a sign of life. Nothing is lost or repeated: nothing else runs between the last
    read of the journal and the moment at which the client is added to the hub.
    """
    if resume is not None:
        if resume.missed:
            # A number of entries of all streams is not for everybody; 0 says that it is not known.
            all_ = not client.query.is_limited
            yield [missed("", count if all_ else 0, reason) for count, reason in resume.missed]
        after = resume.after
        while hub.history is not None and after < hub.cursor:
            page = hub.history.after(after, PAGE_SIZE)
            entries = [entry for entry in page.entries if entry.number <= hub.cursor]
            events = [
                ServerEvent(e.message.type, as_json(e.body), e.id, e.message) for e in entries
            ]
            after = entries[-1].number if entries else hub.cursor
            yield [event for event in events if wants(client.query, event)]
    hub.clients.add(client)
    try:
        if resume is None or resume.missed:
            yield [ServerEvent("state", json.dumps(hub.state(client.query)), hub.cursor_id())]
        while not client.slow and not client.closed:
            yield await client.get_all(BEAT_SECONDS)
        if client.slow:
            yield [ServerEvent("slow", json.dumps({"type": "slow", "detail": SLOW}))]
    finally:
        hub.clients.discard(client)


class EventStream(StreamingResponse):
    """Server-sent events: a response that ends only when a side leaves or the client is slow."""

    def __init__(self, hub: FeedHub, client: ClientQueue, resume: ResumePoint | None) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would buffer
        super().__init__(
            _event_stream(hub, client, resume), media_type="text/event-stream", headers=headers
        )

    async def stream_response(self, send: Send) -> None:
        """Sends the response, each part of it within `SEND_SECONDS`."""

        async def send_in_time(message: AsgiMessage) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        with suppress(TimeoutError):
            await super().stream_response(send_in_time)


async def _event_stream(
    hub: FeedHub, client: ClientQueue, resume: ResumePoint | None
) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    async with aclosing(events_for(hub, client, resume)) as batches:
        async for events in batches:
            yield "".join(map(as_event, events)) or _beat(hub, client)


def _beat(hub: FeedHub, client: ClientQueue) -> str:
    """A sign of life. It moves the client's last id on, so that less is read when it comes back."""
    id = hub.cursor_id() if client in hub.clients and not client.waiting else ""
    return f"id: {id}\n: beat\n\n" if id else ": beat\n\n"


def as_event(event: ServerEvent) -> str:
    """An event in the format of server-sent events."""
    head = f"id: {event.id}\n" if event.id else ""
    return f"{head}event: {event.type}\ndata: {event.data}\n\n"


def with_id(event: ServerEvent) -> str:
    """An event as a JSON object with its id first."""
    return f'{{"id":"{event.id}",{event.data[1:]}' if event.id else event.data


async def serve_socket(
    socket: WebSocket, hub: FeedHub, client: ClientQueue, resume: ResumePoint | None
) -> None:
    """Sends events to an accepted WebSocket until one side ends it."""
    await _until_first_ends(_wait_for_disconnect(socket), _send(socket, hub, client, resume))


async def _until_first_ends(*work: Coroutine[None, None, None]) -> None:
    """Runs coroutines until one ends, and raises what it raises."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send(
    socket: WebSocket, hub: FeedHub, client: ClientQueue, resume: ResumePoint | None
) -> None:
    try:
        async with aclosing(events_for(hub, client, resume)) as batches:
            async for events in batches:
                for event in events:
                    async with asyncio.timeout(SEND_SECONDS):
                        await socket.send_text(with_id(event))
        await socket.close(TRY_AGAIN_LATER if client.slow else GOING_AWAY)
    except (TimeoutError, WebSocketDisconnect):
        with suppress(RuntimeError):
            await socket.close(TRY_AGAIN_LATER)


async def serve_scores(socket: WebSocket, hub: FeedHub, stream: str) -> None:
    """Sends a stream's scores as bytes to an accepted WebSocket until one side ends it."""
    viewer = hub.live_scores.join(stream)
    try:
        await _until_first_ends(_wait_for_disconnect(socket), _send_scores(socket, viewer))
    finally:
        hub.live_scores.leave(stream, viewer)


async def _send_scores(socket: WebSocket, viewer: ScoreViewer) -> None:
    try:
        while not viewer.slow:
            packet = await viewer.get()
            async with asyncio.timeout(SEND_SECONDS):
                if isinstance(packet, str):
                    await socket.send_text(packet)
                else:
                    await socket.send_bytes(packet)
        await socket.close(TRY_AGAIN_LATER)
    except (TimeoutError, WebSocketDisconnect):
        with suppress(RuntimeError):
            await socket.close(TRY_AGAIN_LATER)


async def _wait_for_disconnect(socket: WebSocket) -> None:
    """Ignores what the client sends."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
