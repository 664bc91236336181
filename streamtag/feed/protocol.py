"""What goes between a feed and its subscribers beside messages: the state's head, replay."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

V = Literal[1]


class FeedState(TypedDict):
    """Head of the present state, the answer to `hello/WORD/`; the messages in force follow."""

    v: V
    type: Literal["state"]
    epoch: str
    """Of the topics that the journal does not keep."""
    replay: str
    """Address of the socket that answers requests; empty where nothing is kept."""
    last: dict[str, tuple[str, int]]
    """Epoch and newest number of every topic."""


ReplayRequest = TypedDict(
    "ReplayRequest",
    {
        "v": V,
        "type": Literal["replay"],
        "id": NotRequired[int],
        "topic": str,
        "epoch": str,
        "from": int,
        "to": int,
    },
)
"""Asks for the messages [from, to] of a topic; `id` comes back with the answer."""

ReplayAnswer = TypedDict(
    "ReplayAnswer",
    {
        "v": V,
        "type": Literal["replay"],
        "id": int,
        "topic": str,
        "epoch": str,
        "from": int,
        "to": int,
        "next": int,
        "missed": list[tuple[int, int, str]],
    },
)
"""Head of an answer; the messages follow. `next`: where to ask on, or 0; `missed`: first, last and
reason of what cannot be had."""


class Refusal(TypedDict):
    """The answer to a request that was not understood."""

    v: V
    type: Literal["error"]
    id: int
    error: str
    """For people."""
