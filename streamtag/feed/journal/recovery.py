"""Recovery after a crash: ends the tags and streams that the last daemon left active."""

from msgspec.structs import replace

from streamtag.engine.events import Reason
from streamtag.feed import messages
from streamtag.feed.journal.journal import Journal
from streamtag.feed.messages import DERIVED_TOPICS, Message, parse

DETAIL = "the daemon ended without a goodbye"


def recover(journal: Journal) -> tuple[list[Message], dict[str, int]]:
    """Messages that end what was in force, at the last known moment of each stream.

    Returns:
        The messages, to be published first, and the newest number of each topic after them.
    """
    last = journal.last()
    topics: dict[str, list[Message]] = {}
    for body in journal.current_state():
        message = parse(body)
        if message.topic.startswith(DERIVED_TOPICS):
            continue  # it may outlast a daemon
        topics.setdefault(message.topic, []).append(message)
    endings: list[Message] = []
    for topic, in_force in topics.items():
        newest = [parse(body) for body in journal.newest(topic)]
        end = max([*newest, *in_force], key=lambda message: message.utc)
        for message in endings_of(in_force, end):
            last[topic] += 1
            endings.append(replace(message, seq=last[topic]))
    return endings, last


def endings_of(in_force: list[Message], end: Message, detail: str = DETAIL) -> list[Message]:
    """Ends a stream's tags, its silence and the stream itself, at the moment and under the lease of
    its last message; the messages have no number yet."""
    head = {"epoch": end.epoch, "seq": 0, "stream": end.stream, "t": end.t, "utc": end.utc}
    head["lease"] = end.lease
    title = next((m.title for m in in_force if isinstance(m, messages.Title)), "")
    endings: list[Message] = []
    for began in in_force:
        since = {"since": began.t, "since_utc": began.utc}
        if isinstance(began, messages.TagOn):
            endings.append(
                messages.TagOff(
                    **head,  # type: ignore[arg-type]
                    **since,  # type: ignore[arg-type]
                    tagger=began.tagger,
                    tag=began.tag,
                    decided=max(end.t, began.decided),
                    peak=began.probability,
                    reason=Reason.RECOVERED.value,
                    title=title,
                )
            )
        elif isinstance(began, messages.SilenceOn):
            endings.append(messages.SilenceOff(**head, **since, decided=end.t))  # type: ignore[arg-type]
    down = messages.StreamDown(**head, reason=Reason.RECOVERED.value, detail=detail)  # type: ignore[arg-type]
    return [*endings, down]
