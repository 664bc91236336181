"""The daemon on a sound card without a card: PulseAudio and JACK die and come back."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.peers import Processes, require_programs, wait_until
from support.sounds import tone, write_wav

from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.messages import Gap, Message, StreamStatus, StreamUp, TagOff, TagOn
from streamtag.feed.publisher import READY

SECONDS = 60
RATE = 32000
SHARED_MEMORY = Path("/dev/shm")
JACK_SERVERS = SHARED_MEMORY / "jack-shm-registry"
MOST_JACKS = 8


class SoundServer:
    """A private PulseAudio whose only microphone hears what is played."""

    def __init__(self, folder: Path) -> None:
        self.processes = Processes(folder)
        self._folder, self.socket = folder, folder / "native"
        for name in ("run", "home", "state"):
            (folder / name).mkdir(mode=0o700)
        (folder / "cfg.pa").write_text(
            f"load-module module-native-protocol-unix auth-anonymous=1 socket={self.socket}\n"
            f"load-module module-null-sink sink_name=st rate={RATE} channels=1 format=float32le\n"
            "set-default-sink st\nset-default-source st.monitor\n"
        )
        (folder / "asound.conf").write_text(
            "</usr/share/alsa/alsa.conf>\n"
            'pcm.!default { type pulse hint { show on description "test (pulse)" } }\n'
            "ctl.!default { type pulse }\n"
        )
        self.env = os.environ | {
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "HOME": str(folder / "home"),
            "PULSE_RUNTIME_PATH": str(folder / "run"),
            "PULSE_STATE_PATH": str(folder / "state"),
            "PULSE_COOKIE": str(folder / "cookie"),
            "PULSE_SERVER": f"unix:{self.socket}",
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
        }

    def start(self, wav: Path) -> subprocess.Popen[bytes]:
        """Starts it and plays a recording over and over."""
        self.socket.unlink(missing_ok=True)
        options = "--daemonize=no --use-pid-file=no --exit-idle-time=-1 --disallow-exit=1"
        options += " --disable-shm=1 --realtime=no --high-priority=no"
        command = ["pulseaudio", "-n", "-F", str(self._folder / "cfg.pa"), *options.split()]
        server = self.processes.start(*command, env=self.env)
        info = ["pactl", "info"]
        wait_until(
            lambda: subprocess.run(info, env=self.env, capture_output=True).returncode == 0,
            self.processes.logs,
        )
        self.processes.start("paplay", "--latency-msec=50", str(wav), env=self.env)
        return server


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def jack_name() -> str:
    """A name for a server: one that an earlier test left behind, else a new one.

    JACK's list of servers has eight places for the whole machine, and a server that was killed
    keeps its place until somebody comes by the same name.
    """
    known = JACK_SERVERS.read_bytes() if JACK_SERVERS.exists() else b""
    names = [name.decode() for name in re.findall(rb"jack-\d+:([^:\0]+):", known)]
    numbers = [int(name[9:]) for name in names if re.fullmatch(r"streamtag\d+", name)]
    left = [number for number in numbers if not running(number)]
    if not left and len(set(names)) >= MOST_JACKS:
        pytest.skip(f"JACK's list of servers is full: {', '.join(names)}; delete {JACK_SERVERS}")
    return f"streamtag{random.choice(left) if left else os.getpid()}"


class Jack:
    """A private JACK server without a card, and a program that sends a tone of 240 Hz."""

    def __init__(self, folder: Path) -> None:
        self.processes = Processes(folder)
        self.env = os.environ | {
            "JACK_DEFAULT_SERVER": jack_name(),
            "JACK_NO_AUDIO_RESERVATION": "1",
            "JACK_NO_START_SERVER": "1",
        }
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the server."""
        server = ["jackd", "-r", "-d", "dummy", "-r", "48000", "-p", "1024"]
        process = self.processes.start(*server, env=self.env)
        wait_until(lambda: "system:capture_1" in self._ports(), self.processes.logs)
        self._server = process
        return process

    def close(self) -> None:
        """Ends everything; the server itself with time to leave JACK's list."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(SECONDS)
        self.processes.close()
        name = self.env["JACK_DEFAULT_SERVER"]
        for pattern in (f"jack_{name}_*", f"jack_sem.*_{name}_*"):
            for path in SHARED_MEMORY.glob(pattern):
                path.unlink(missing_ok=True)

    def play(self) -> subprocess.Popen[bytes]:
        """Starts the program: PortAudio takes it for a device to record from."""
        process = self.processes.start("jack_simple_client", env=self.env)
        wait_until(lambda: "jack_simple_client:output1" in self._ports(), self.processes.logs)
        return process

    def _ports(self) -> str:
        done = subprocess.run(["jack_lsp"], env=self.env, capture_output=True, text=True)
        return done.stdout


def _portaudio() -> None:
    try:
        import sounddevice  # noqa: F401
    except OSError:
        pytest.skip("libportaudio2 is not installed; `.ci/run` lists the packages")


@pytest.fixture
def jack(tmp_path: Path) -> Iterator[Jack]:
    require_programs("jackd", "jack_lsp", "jack_simple_client")
    _portaudio()
    folder = tmp_path / "jack"
    folder.mkdir()
    server = Jack(folder)
    yield server
    server.close()


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[SoundServer]:
    require_programs("pulseaudio", "paplay", "pactl")
    if not any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        pytest.skip("libasound2-plugins is not installed; `.ci/run` lists the packages")
    _portaudio()
    folder = tmp_path / "sound"
    folder.mkdir()
    server = SoundServer(folder)
    yield server
    server.processes.close()


@contextmanager
def daemon(folder: Path, bundle: Path, source: str, env: dict[str, str]) -> Iterator[Subscriber]:
    """`streamtag run` with one device, and its feed; it is ended with SIGTERM."""
    config = folder / "daemon.toml"
    config.write_text(
        f'[feed]\nbind = "tcp://127.0.0.1:0"\nwait_for_subscriber_seconds = {SECONDS}\n'
        '[engine]\ndevice = "cpu"\nthreads = 1\n'
        f"[taggers.toy]\nbundle = {json.dumps(str(bundle))}\n"
        f"[streams]\nmic = {{ {source}, retry_seconds = 0.2, longest_retry_seconds = 0.5 }}\n"
    )
    command = [sys.executable, "-m", "streamtag", "run", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stderr is not None
    drain = threading.Thread(target=lambda: None)
    try:
        lines = iter(process.stderr)
        address = next(line.rpartition(READY)[2].strip() for line in lines if READY in line)
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        with Subscriber(address) as feed:
            yield feed
            process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        if drain.ident is not None:
            drain.join(SECONDS)
        process.stderr.close()


def is_low(message: Message) -> bool:
    return isinstance(message, TagOn) and message.tag == "low"


def is_lost(message: Message) -> bool:
    return isinstance(message, StreamStatus) and bool(message.cause)


def test_a_sound_card_that_disappears_and_returns(
    tmp_path: Path, toy_bundle: Path, sound: SoundServer
) -> None:
    wav = write_wav(tmp_path / "tone.wav", np.tile(tone(1, RATE, 200, 0.4), 120), RATE)
    server = sound.start(wav)
    source = 'source = "device:", rate = 32000, stall_seconds = 4'
    with daemon(tmp_path, toy_bundle, source, sound.env) as feed:
        messages = until(feed, is_low)
        server.kill()
        server.wait()
        messages += until(feed, is_lost)
        sound.start(wav)
        messages += until(feed, is_low)
    assert next(m.reason for m in messages if isinstance(m, TagOff)) == "stream_lost"
    assert {m.cause for m in messages if isinstance(m, StreamStatus)} <= {"", "stalled", "device"}
    gaps = [m for m in messages if isinstance(m, Gap)]
    assert gaps
    assert "stream_down" not in {m.type for m in messages}


def test_jack_and_a_device_that_is_plugged_in_later_pulled_and_plugged_in_again(
    tmp_path: Path, toy_bundle: Path, jack: Jack
) -> None:
    server = jack.start()
    source = 'source = "device:jack_simple_client", stall_seconds = 2'
    with daemon(tmp_path, toy_bundle, source, jack.env) as feed:
        messages = until(feed, is_lost)
        assert isinstance(messages[-1], StreamStatus)
        assert messages[-1].cause == "device"
        jack.play()
        messages += until(feed, is_low)
        server.kill()
        server.wait()
        messages += until(feed, is_lost)
        jack.start()
        jack.play()
        messages += until(feed, is_low)
    assert next(m.reason for m in messages if isinstance(m, TagOff)) == "stream_lost"
    assert sum(isinstance(m, StreamUp) and m.rate == 48000 for m in messages) == 1
    assert [m for m in messages if isinstance(m, Gap)]


def until(feed: Subscriber, enough: Callable[[Message], bool]) -> list[Message]:
    """Everything up to the first message that is enough."""
    messages: list[Message] = []
    while not messages or not enough(messages[-1]):
        message = feed.receive(SECONDS)
        assert message is not None, [str(m) for m in messages]
        assert not isinstance(message, MissedMessages)
        messages.append(message)
    return messages
