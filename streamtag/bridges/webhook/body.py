"""What a webhook's requests hold: messages, their keys, and the signature."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from streamtag.config.bridges import EVENTS, WebhookConfig
from streamtag.feed.client.tracker import FeedItem, MissedMessages
from streamtag.feed.messages import VERSION, Other, TagOff, TagOn, dump

Positions = dict[str, tuple[str, int]]
"""Topic -> epoch and number of the last message that needs no more telling."""


def wants(config: WebhookConfig, message: FeedItem) -> bool:
    """Whether a webhook is told of a message."""
    if isinstance(message, MissedMessages):
        name, stream = "missed", message.topic.split("/")[1]
    else:
        name = message.kind if isinstance(message, Other) else message.type
        stream = message.stream
    if not stream:
        return False
    known = EVENTS if config.events is None else config.events
    if name not in known and not (config.events is None and isinstance(message, Other)):
        return False
    if config.streams is not None and stream not in config.streams:
        return False
    if config.tags is None or not isinstance(message, TagOn | TagOff):
        return True
    return message.tag in config.tags


def key_of(message: FeedItem, positions: Mapping[str, tuple[str, int]]) -> str:
    """What is the same whenever this message is told again, and of no other: `EPOCH/TOPIC/SEQ`.

    Args:
        message: what is told.
        positions: where its topic stands before it.
    """
    if isinstance(message, MissedMessages):
        epoch, seq = positions.get(message.topic, ("", 0))
        return f"{epoch}/{message.topic}{seq}+missed"
    return f"{message.epoch}/{message.topic}{message.seq}"


def body_of(messages: Sequence[FeedItem], keys: Sequence[str], *, as_list: bool) -> bytes:
    """The body of a request: the message as on the feed, or a batch of them."""
    if not as_list:
        return _payload(messages[0])
    parts = [_payload(message).decode() for message in messages]
    listed = json.dumps(list(keys), separators=(",", ":"))
    joined = ",".join(parts)
    return f'{{"v":{VERSION},"type":"batch","ids":{listed},"messages":[{joined}]}}'.encode()


def signature(secret: str, body: bytes, now: int) -> str:
    """HMAC-SHA256 over time and body, as it stands in the header.

    Args:
        secret: shared with the receiver.
        body: of the request.
        now: seconds since 1970; the receiver refuses old ones.
    """
    digest = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={digest}"


def _payload(message: FeedItem) -> bytes:
    if isinstance(message, MissedMessages):
        body: dict[str, Any] = {"v": VERSION, "type": "missed", "topic": message.topic}
        body |= {"count": message.count, "restarted": message.restarted, "reason": message.reason}
    elif isinstance(message, Other):
        body = {"v": VERSION, "type": message.kind, "epoch": message.epoch, "seq": message.seq}
        body |= {"stream": message.stream, "t": message.t, "utc": message.utc} | message.fields
    else:
        return dump(message)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
