"""A subscriber that writes each message to a file as a line, until it is killed.

python subscriber_program.py ADDRESS REPLAY RECEIVED
"""

import sys
from pathlib import Path

from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.messages import dump


def main(address: str, replay: str, received: str) -> None:
    """Runs until the process is killed."""
    with Path(received).open("wb") as file, Subscriber(address, replay=replay) as feed:
        for message in feed:
            if isinstance(message, MissedMessages):
                file.write(f"{message}\n".encode())
            elif message.topic.startswith("event/"):
                file.write(dump(message) + b"\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
