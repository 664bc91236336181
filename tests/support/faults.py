"""A small server on loopback that does to its clients what real ones do on bad days."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from streamtag.audio.block import Block
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.url import UrlSource
from support.sounds import write_wav

CODECS = {
    "mp3": ["-c:a", "libmp3lame", "-b:a", "64k", "-write_xing", "0", "-f", "mp3"],
    "aac": ["-c:a", "aac", "-b:a", "64k", "-f", "adts"],
    "ogg": ["-c:a", "libvorbis", "-f", "ogg"],
    "opus": ["-c:a", "libopus", "-f", "ogg"],
    "flac": ["-c:a", "flac", "-f", "ogg"],
}
"""What Icecast serves, as ffmpeg's options."""
OK = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n"

Answer = Callable[["Connection"], None]


def encoded(
    folder: Path, samples: np.ndarray, rate: int, codec: str = "mp3", **comments: str
) -> bytes:
    """The samples as one of `CODECS`, with a title, an artist …"""
    wav = write_wav(folder / "plain.wav", samples, rate)
    told = [word for key, value in comments.items() for word in ("-metadata", f"{key}={value}")]
    command = [ffmpeg_path(), "-v", "error", "-i", wav, *told, *CODECS[codec], "pipe:1"]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout


class Connection:
    """One client, and when the server ends."""

    def __init__(self, client: socket.socket, closing: threading.Event, port: int) -> None:
        self.client, self.closing, self.port = client, closing, port
        self.asked = b""
        """The request, once it was read."""

    def request(self) -> bytes:
        """What the client asks."""
        data = b""
        while b"\r\n\r\n" not in data and (part := self.client.recv(4096)):
            data += part
        self.asked = data
        return data

    def send(self, data: bytes) -> None:
        self.client.sendall(data)

    def freeze(self) -> None:
        """Keeps the connection and says nothing more."""
        self.closing.wait()


class Server:
    """Answers each connection with the next of its answers, the last one for ever.

    Args:
        answers: what to do with the clients.
        http: whether to read a request first.
        port: where to listen; 0 takes a free one.
    """

    def __init__(self, *answers: Answer, http: bool = True, port: int = 0) -> None:
        self._answers, self._http = list(answers), http
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/a"
        self.connections = 0
        self._closing = threading.Event()
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        """Ends, with every connection."""
        self._closing.set()
        with contextlib.suppress(OSError):  # wakes `accept`
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        self._threads[0].join()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        self._socket.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            client, _ = self._socket.accept()
            if self._closing.is_set():
                client.close()
                return
            answer = self._answers[min(self.connections, len(self._answers) - 1)]
            self.connections += 1
            self._clients.append(client)
            thread = threading.Thread(target=self._answer, args=(client, answer))
            self._threads.append(thread)
            thread.start()

    def _answer(self, client: socket.socket, answer: Answer) -> None:
        connection = Connection(client, self._closing, self.port)
        with client, contextlib.suppress(OSError):  # clients that go are no fault of ours
            if self._http:
                connection.request()
            answer(connection)
            client.shutdown(socket.SHUT_RDWR)


def says(*parts: bytes, freeze: bool = False) -> Answer:
    """Sends this and closes, or keeps silent afterwards."""

    def answer(connection: Connection) -> None:
        for part in parts:
            connection.send(part)
        if freeze:
            connection.freeze()

    return answer


def status(line: str, *headers: str) -> Answer:
    """Nothing but a status."""
    return says("\r\n".join([f"HTTP/1.0 {line}", *headers, "", ""]).encode())


def in_a_circle(connection: Connection) -> None:
    """An endless redirect."""
    where = f"Location: http://127.0.0.1:{connection.port}/a\r\n"
    connection.send(b"HTTP/1.0 302 Found\r\n" + where.encode() + b"\r\n")


def icy(data: bytes, titles: dict[int, bytes], interval: int = 2000, freeze: bool = True) -> Answer:
    """A SHOUTcast stream with metadata blocks: block number -> text."""
    head = b"ICY 200 OK\r\nicy-name: test\r\ncontent-type: audio/mpeg\r\n"
    head += b"icy-metaint: %d\r\n\r\n" % interval
    return says(head, *_with_metadata(data, titles, interval), freeze=freeze)


def _with_metadata(data: bytes, titles: dict[int, bytes], interval: int) -> Iterator[bytes]:
    for number, at in enumerate(range(0, len(data) - interval + 1, interval)):
        text = titles.get(number, b"")
        size = -(-len(text) // 16)
        yield data[at : at + interval] + bytes([size]) + text.ljust(16 * size, b"\0")


def hear(source: UrlSource) -> tuple[float, SourceLost]:
    """Seconds of audio, and how it ended."""
    end = 0
    try:
        for item in source:
            end = item.end if isinstance(item, Block) else end
    except SourceLost as error:
        return end / source.rate, error
    finally:
        source.close()
    raise AssertionError("a stream without an end ended well")
