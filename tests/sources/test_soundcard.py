"""Sound cards: the process of a device, and in it a PortAudio made of nothing."""

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streamtag.audio.block import Block
from streamtag.engine.events import Cause
from streamtag.errors import SourceError
from streamtag.sources import soundcard
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.soundcard import DeviceSettings, PortAudioRecorder, SoundCardSource

FAKE = """
import os, threading, time, types
import numpy as np

class PortAudioError(Exception): pass

def query_devices(device=None, kind=None):
    if device == "Nothing": raise ValueError("No input device matching 'Nothing'")
    return {"default_samplerate": 1000.0, "max_input_channels": 2}

class InputStream:
    def __init__(self, device, callback, **options):
        self.device, self.callback = device, callback
    def start(self):
        if self.device == "Hangs": time.sleep(999)
        threading.Thread(target=self.run, daemon=True).start()
    def run(self):
        for i in range(5):
            samples = np.stack([np.full(50, i, "f4"), np.zeros(50, "f4")], 1)
            late = 0.5 if i >= 3 else 0
            status = types.SimpleNamespace(input_overflow=i == 3)
            times = types.SimpleNamespace(inputBufferAdcTime=9 + 0.05 * i + late)
            self.callback(samples, 50, times, status)
        if self.device == "Crashes": time.sleep(0.5); os.abort()
    def close(self, ignore_errors): time.sleep(999)
"""
"""A sounddevice whose streams say a little and then nothing, and never close."""


@pytest.fixture(autouse=True)
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounddevice.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def read_all(source: SoundCardSource) -> tuple[list[Block], SourceError]:
    """All blocks, and how it ended."""
    blocks = []
    try:
        for block in source:
            blocks.append(block)
    except SourceError as error:
        return blocks, error
    finally:
        source.close()
    raise AssertionError("a device ended well")


def test_samples_and_gaps_arrive_and_a_silent_device_is_lost() -> None:
    source = SoundCardSource(DeviceSettings("Mic", stall=1.0))
    assert source.rate == 1000
    blocks, lost = read_all(source)
    assert [block.start for block in blocks] == [0, 50, 100, 650, 700]
    for i, block in enumerate(blocks):
        np.testing.assert_array_equal(block.samples, np.full(50, i / 2, np.float32))
    assert isinstance(lost, SourceLost)
    assert lost.cause is Cause.STALLED
    assert "device 'Mic': expected audio, got none for 1 s" in str(lost)
    assert source._process._process.poll() is not None  # though PortAudio hangs


def test_both_channels_where_they_are_watched() -> None:
    plain, _ = read_all(SoundCardSource(DeviceSettings("Mic", stall=1.0)))
    blocks, _ = read_all(SoundCardSource(DeviceSettings("Mic", stall=1.0, watch=True)))
    for i, (block, alone) in enumerate(zip(blocks, plain, strict=True)):
        np.testing.assert_array_equal(block.samples, alone.samples)
        assert alone.sides is None
        assert block.sides is not None
        np.testing.assert_array_equal(block.sides, np.stack([np.full(50, i), np.zeros(50)], 1))


def test_no_such_device_may_come_later() -> None:
    with pytest.raises(SourceLost, match="No input device matching 'Nothing'") as caught:
        SoundCardSource(DeviceSettings("Nothing"))
    assert caught.value.cause is Cause.DEVICE


def test_a_device_that_hangs_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundcard, "OPEN_SECONDS", 1.0)
    with pytest.raises(SourceLost, match="stuck") as caught:
        SoundCardSource(DeviceSettings("Hangs"))
    assert caught.value.cause is Cause.STALLED


def test_a_crash_of_portaudio_is_one_more_loss() -> None:
    blocks, lost = read_all(SoundCardSource(DeviceSettings("Crashes", stall=60)))
    assert len(blocks) == 5
    assert isinstance(lost, SourceLost)
    assert lost.cause is Cause.DEVICE


def test_without_portaudio_another_try_is_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    with pytest.raises(SourceError, match="install it") as caught:
        SoundCardSource(DeviceSettings())
    assert not isinstance(caught.value, SourceLost)


def test_close_ends_it_from_another_thread_and_without_any_reading() -> None:
    source = SoundCardSource(DeviceSettings("Mic", stall=60))
    threading.Timer(0.1, source.close).start()
    assert len(list(source)) <= 5
    source = SoundCardSource(DeviceSettings("Mic", stall=60))
    source.close()
    source.close()
    assert source._process._process.poll() is not None


# PortAudio in the process


class FakeSound:
    """As much of the module sounddevice as is used."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        self.default = SimpleNamespace(device=[1, 0])
        self.callback: Any = None

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "Fake"}]

    def query_devices(self, device: Any = None, kind: str | None = None) -> Any:
        names = [("Speaker", 0), ("Mic", 1), ("Mixer", 18)]
        found = [
            {"name": n, "max_input_channels": c, "hostapi": 0, "default_samplerate": 1000.0}
            for n, c in names
        ]
        if kind is None:
            return found
        if device == "Nothing":
            raise ValueError("No input device matching 'Nothing'")
        return found[1] if device is None else found[2]

    def InputStream(self, **options: Any) -> "FakeSound":
        self.options, self.callback = options, options["callback"]
        return self

    def start(self) -> None: ...

    def close(self, ignore_errors: bool = True) -> None: ...

    def deliver(self, samples: np.ndarray, at: float, overflow: bool = False) -> None:
        """PortAudio calls back; its buffer is used again afterwards."""
        buffer = samples.astype(np.float32)
        status = SimpleNamespace(input_overflow=overflow)
        self.callback(buffer, len(buffer), SimpleNamespace(inputBufferAdcTime=at), status)
        buffer[:] = np.nan


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> FakeSound:
    fake = FakeSound()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)  # type: ignore[arg-type]
    return fake


def test_the_callback_copies_and_the_recorder_mixes(sound: FakeSound) -> None:
    recorder = PortAudioRecorder(DeviceSettings("Mixer"))
    assert (sound.options["channels"], sound.options["samplerate"]) == (2, 1000)
    sound.deliver(np.array([[0.25, 0.75], [1.0, 0.0]]), 5.0)
    start, samples = recorder.read()
    assert (start, recorder.rate, samples.tolist()) == (0, 1000, [0.5, 0.5])


def test_what_portaudio_dropped_is_a_gap_of_its_length(sound: FakeSound) -> None:
    recorder = PortAudioRecorder(DeviceSettings())
    for at, overflow in ((5.0, False), (5.05, False), (5.4, True), (5.45, False)):
        sound.deliver(np.zeros((50, 1)), at, overflow)
    starts = [recorder.read()[0] for _ in range(4)]
    assert starts == [0, 50, 400, 450]  # 300 samples are missing before the third block


def test_what_does_not_fit_in_the_queue_is_a_gap(sound: FakeSound) -> None:
    recorder = PortAudioRecorder(DeviceSettings())
    n = soundcard.QUEUE_SECONDS * soundcard.BLOCKS_PER_SECOND
    for i in range(n + 7):
        sound.deliver(np.zeros((50, 1)), 0.05 * i)
    for i in range(n):
        assert recorder.read()[0] == 50 * i
    sound.deliver(np.zeros((50, 1)), 0.05 * (n + 7))
    assert recorder.read()[0] == 50 * (n + 7)


def test_devices_that_can_record(sound: FakeSound) -> None:
    found = soundcard.devices()
    assert [(d.index, d.name, d.channels, d.default) for d in found] == [
        (1, "Mic", 1, True),
        (2, "Mixer", 18, False),
    ]


def test_no_such_device(sound: FakeSound) -> None:
    with pytest.raises(SourceError, match=r"No input device matching.*`streamtag devices` lists"):
        PortAudioRecorder(DeviceSettings("Nothing"))


@pytest.mark.parametrize("wanted", [soundcard.devices, lambda: PortAudioRecorder(DeviceSettings())])
def test_without_portaudio_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Any
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(SourceError, match="got PortAudio library not found; install it: `apt inst"):
        wanted()


def test_the_sources_do_not_load_portaudio() -> None:
    code = "import sys, streamtag.sources.factory; print('sounddevice' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
