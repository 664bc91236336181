"""The messages of the feed, contract version 1.

What they hold is in `message` (common to all), `stream_messages`, `tag_messages` and
`feed_messages`; how they are spelt in `encoding`, and read back in `parsing`. Readers ignore fields
that they do not know and take types that they do not know as `Other`, so both may be added without
a new version.
"""

from streamtag.feed.codec import TYPES, Encoding, dump
from streamtag.feed.feed_messages import Beat, Goodbye, JournalStatus, Notice, Stats
from streamtag.feed.message import VERSION, Message, Other, clock
from streamtag.feed.parser import parse
from streamtag.feed.stream_messages import (
    Channels,
    Clipping,
    Dropped,
    Gap,
    SilenceOff,
    SilenceOn,
    StreamDown,
    StreamStatus,
    StreamUp,
    TaggersChanged,
    Title,
)
from streamtag.feed.tag_messages import Mood, Scores, TagOff, TagOn

__all__ = [
    "TYPES",
    "VERSION",
    "Beat",
    "Channels",
    "Clipping",
    "Dropped",
    "Encoding",
    "Gap",
    "Goodbye",
    "JournalStatus",
    "Message",
    "Mood",
    "Notice",
    "Other",
    "Scores",
    "SilenceOff",
    "SilenceOn",
    "Stats",
    "StreamDown",
    "StreamStatus",
    "StreamUp",
    "TagOff",
    "TagOn",
    "TaggersChanged",
    "Title",
    "clock",
    "dump",
    "parse",
]
