"""What a journal knows of a stream in a range of time."""

from streamtag.history.history import History
from streamtag.history.intervals import StreamIntervals, stream_intervals


def read_timeline(
    history: History, stream: str, since: int, until: int, end: int | None
) -> StreamIntervals:
    """The intervals of a stream, right within [since, until), in nanoseconds since 1970.

    For `end` see `stream_intervals`.
    """
    events = history.events_between([stream], since, until)
    return stream_intervals(events[stream], end) if stream in events else StreamIntervals()
