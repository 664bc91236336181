"""Where a webhook stands, in a file, so that whoever goes on repeats and leaves out nothing."""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from streamtag.bridges.webhook.body import Positions
from streamtag.errors import StreamtagError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """Messages, since the position was begun."""

    delivered: int = 0
    given_up: int = 0
    """Not delivered: refused by the receiver, or tried for too long."""


@dataclass(slots=True)
class Position:
    """What a webhook needs to go on."""

    path: Path
    topics: Positions = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    saved: str = ""
    """As it is on the disk."""

    def save(self) -> None:
        """Writes it, in one step, if it has changed.

        Raises:
            StreamtagError: the file cannot be written.
        """
        body = {
            "v": 1,
            "delivered": self.counts.delivered,
            "given_up": self.counts.given_up,
            "topics": self.topics,
        }
        text = json.dumps(body, indent=1)
        if text == self.saved:
            return
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            with partial.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise StreamtagError(
                f"{self.path}: expected a file to write a webhook's position to, "
                f"got {error.strerror}; give webhook.position"
            ) from None
        self.saved = text


def load_position(path: Path) -> Position:
    """The position in a file; a new one where there is none.

    A file that cannot be understood is left aside, which the log says; the webhook then begins with
    what is in force.

    Raises:
        StreamtagError: it is there and cannot be read.
    """
    try:
        body = json.loads(path.read_bytes())
        topics = {str(t): (str(epoch), int(seq)) for t, (epoch, seq) in body["topics"].items()}
        return Position(path, topics, Counts(int(body["delivered"]), int(body["given_up"])))
    except FileNotFoundError:
        return Position(path)
    except OSError as error:
        raise StreamtagError(
            f"{path}: expected a webhook's position, got {error.strerror}"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        log.error("%s: expected a webhook's position, got %r; set aside as %s", path, error, aside)
        return Position(path)
