"""A small server on loopback that simulates the faults of real servers."""

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
from support.ports import blocks_of
from support.sounds import write_wav

CODECS = {
    "mp3": ["-c:a", "libmp3lame", "-b:a", "64k", "-write_xing", "0", "-f", "mp3"],
    "aac": ["-c:a", "aac", "-b:a", "64k", "-f", "adts"],
    "ogg": ["-c:a", "libvorbis", "-f", "ogg"],
    "opus": ["-c:a", "libopus", "-f", "ogg"],
    "flac": ["-c:a", "flac", "-f", "ogg"],
}
"""The codecs that Icecast serves, as options of ffmpeg."""
OK = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n"

Answer = Callable[["Connection"], None]


def encoded(
    folder: Path, samples: np.ndarray, rate: int, codec: str = "mp3", **comments: str
) -> bytes:
    """Encodes the samples with one of `CODECS` and metadata such as a title."""
    wav = write_wav(folder / "plain.wav", samples, rate)
    metadata = [word for key, value in comments.items() for word in ("-metadata", f"{key}={value}")]
    command = [ffmpeg_path(), "-v", "error", "-i", wav, *metadata, *CODECS[codec], "pipe:1"]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout


class Connection:
    """The connection of one client; `closing` is set when the server closes."""

    def __init__(self, client: socket.socket, closing: threading.Event, port: int) -> None:
        self.client, self.closing, self.port = client, closing, port
        self.last_request = b""
        """The last request that was read."""

    def request(self) -> bytes:
        """Reads a request."""
        data = b""
        while b"\r\n\r\n" not in data and (part := self.client.recv(4096)):
            data += part
        self.last_request = data
        return data

    def send(self, data: bytes) -> None:
        self.client.sendall(data)

    def freeze(self) -> None:
        """Keeps the connection open and sends nothing more."""
        self.closing.wait()


class Server:
    """Gives each connection the next of its answers; the last one is repeated.

    Args:
        answers: functions that serve one connection each.
        http: whether to read a request first.
        port: to bind; 0 is any free one.
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
        """Closes the server and all connections."""
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
        with client, contextlib.suppress(OSError):  # a client may disconnect
            if self._http:
                connection.request()
            answer(connection)
            client.shutdown(socket.SHUT_RDWR)


def sends(*parts: bytes, freeze: bool = False) -> Answer:
    """Sends the parts, then closes the connection or, with `freeze`, sends nothing more."""

    def answer(connection: Connection) -> None:
        for part in parts:
            connection.send(part)
        if freeze:
            connection.freeze()

    return answer


def status(line: str, *headers: str) -> Answer:
    """Sends only a status line and headers."""
    return sends("\r\n".join([f"HTTP/1.0 {line}", *headers, "", ""]).encode())


def redirect_loop(connection: Connection) -> None:
    """Redirects every request to the same URL."""
    location = f"Location: http://127.0.0.1:{connection.port}/a\r\n"
    connection.send(b"HTTP/1.0 302 Found\r\n" + location.encode() + b"\r\n")


def icy(data: bytes, titles: dict[int, bytes], interval: int = 2000, freeze: bool = True) -> Answer:
    """A SHOUTcast stream; `titles` is the text of a metadata block by its number."""
    head = b"ICY 200 OK\r\nicy-name: test\r\ncontent-type: audio/mpeg\r\n"
    head += b"icy-metaint: %d\r\n\r\n" % interval
    return sends(head, *_with_metadata(data, titles, interval), freeze=freeze)


def _with_metadata(data: bytes, titles: dict[int, bytes], interval: int) -> Iterator[bytes]:
    for number, at in enumerate(range(0, len(data) - interval + 1, interval)):
        text = titles.get(number, b"")
        size = -(-len(text) // 16)
        yield data[at : at + interval] + bytes([size]) + text.ljust(16 * size, b"\0")


def play_until_lost(source: UrlSource) -> tuple[float, SourceLost]:
    """Reads a source until it is lost; returns the seconds of audio and the error."""
    end = 0
    try:
        for item in blocks_of(source):
            end = item.end if isinstance(item, Block) else end
    except SourceLost as error:
        return end / source.rate, error
    finally:
        source.close()
    raise AssertionError("expected the source to raise SourceLost, but it ended normally")
