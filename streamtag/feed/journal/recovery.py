"""After a crash: the tags that were on are switched off, and the streams that were up end."""

from dataclasses import replace

from streamtag.engine.events import Reason
from streamtag.feed import messages
from streamtag.feed.journal.journal import Journal
from streamtag.feed.messages import Message, parse

DETAIL = "the daemon ended without a goodbye"


def recover(journal: Journal) -> tuple[list[Message], dict[str, int]]:
    """Messages that close what was in force, at the last moment known of each stream.

    Returns:
        The messages, to be published first, and the newest number of each topic after them.
    """
    last = journal.last()
    topics: dict[str, list[Message]] = {}
    for body in journal.current_state():
        message = parse(body)
        topics.setdefault(message.topic, []).append(message)
    closing: list[Message] = []
    for topic, standing in topics.items():
        newest = [parse(body) for body in journal.newest(topic)]
        for message in _endings(standing, max([*newest, *standing], key=lambda m: m.utc)):
            last[topic] += 1
            closing.append(replace(message, seq=last[topic]))
    return closing, last


def _endings(standing: list[Message], end: Message) -> list[Message]:
    """What ends a stream's tags, its silence and itself; not numbered yet."""
    head = {"epoch": end.epoch, "seq": 0, "stream": end.stream, "t": end.t, "utc": end.utc}
    title = next((m.title for m in standing if isinstance(m, messages.Title)), "")
    endings: list[Message] = []
    for opened in standing:
        since = {"since": opened.t, "since_utc": opened.utc}
        if isinstance(opened, messages.TagOn):
            endings.append(
                messages.TagOff(
                    **head,  # type: ignore[arg-type]
                    **since,  # type: ignore[arg-type]
                    tagger=opened.tagger,
                    tag=opened.tag,
                    decided=max(end.t, opened.decided),
                    peak=opened.probability,
                    reason=Reason.RECOVERED.value,
                    title=title,
                )
            )
        elif isinstance(opened, messages.SilenceOn):
            endings.append(messages.SilenceOff(**head, **since, decided=end.t))  # type: ignore[arg-type]
    down = messages.StreamDown(**head, reason=Reason.RECOVERED.value, detail=DETAIL)  # type: ignore[arg-type]
    return [*endings, down]
