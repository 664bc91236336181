"""A subscriber that writes down all that it hears, a line each, until it is killed.

python hearer.py ADDRESS REPLAY HEARD
"""

import sys
from pathlib import Path

from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.messages import dump


def main(address: str, replay: str, heard: str) -> None:
    """For ever."""
    with Path(heard).open("wb") as file, Subscriber(address, replay=replay) as feed:
        for message in feed:
            if isinstance(message, MissedMessages):
                file.write(f"{message}\n".encode())
            elif message.topic.startswith("event/"):
                file.write(dump(message) + b"\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
