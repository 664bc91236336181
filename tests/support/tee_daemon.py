"""Runs `streamtag run CONFIG` and writes every message to a file before it is published, one JSON
line each.

    python tee_daemon.py EMITTED CONFIG
"""

import os
import sys
from pathlib import Path

from streamtag.config.config import load_config
from streamtag.daemon.daemon import serve
from streamtag.daemon.ops.logs import configure_logging
from streamtag.feed.messages import Message, dump
from streamtag.feed.publisher import Publisher

real = Publisher.publish


def main(emitted: str, config: str) -> int:
    """Runs the daemon as the command does."""
    handle = os.open(emitted, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def publish(self: Publisher, *messages: Message) -> None:
        for message in messages:
            os.write(handle, dump(message) + b"\n")
        real(self, *messages)

    Publisher.publish = publish  # type: ignore[method-assign]
    checked = load_config(Path(config))
    configure_logging(checked.log.style, verbose=False)
    return serve(checked, Path(config))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
