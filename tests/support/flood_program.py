"""Sends an endless series of subscriptions, as fast as the peer reads them, as raw ZMTP bytes.

    python flood_program.py PORT SEED

It runs until it is killed. It reconnects when a connection is refused or closed.
"""

import contextlib
import random
import socket
import sys
import time

GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\4\x19\5READY\x0bSocket-Type\0\0\0\3SUB"
SIZE = 200
"""The number of bytes of each topic."""


def flood(port: int, rng: random.Random) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(GREETING)
        connection.recv(64)
        connection.sendall(READY)
        head = bytes([0, SIZE + 1, 1])
        while True:
            topics = rng.randbytes(20_000 * SIZE)
            pieces = (topics[i : i + SIZE] for i in range(0, len(topics), SIZE))
            connection.sendall(b"".join(head + topic for topic in pieces))


if __name__ == "__main__":
    rng = random.Random(sys.argv[2])
    while True:
        with contextlib.suppress(OSError):
            flood(int(sys.argv[1]), rng)
        time.sleep(0.01)
