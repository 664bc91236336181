"""A device in a process of its own: its samples, its holes, its faults, and an end at any time."""

import threading
from pathlib import Path

import numpy as np
import pytest

from streamtag.audio.block import Block
from streamtag.engine.events import Cause
from streamtag.errors import SourceError
from streamtag.sources import soundcard
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.soundcard import DeviceSettings, SoundCardSource

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


def hear(source: SoundCardSource) -> tuple[list[Block], SourceError]:
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


def test_samples_and_holes_come_through_and_a_device_that_falls_silent_is_lost() -> None:
    source = SoundCardSource(DeviceSettings("Mic", stall=1.0))
    assert source.rate == 1000
    blocks, lost = hear(source)
    assert [block.start for block in blocks] == [0, 50, 100, 650, 700]
    for i, block in enumerate(blocks):
        np.testing.assert_array_equal(block.samples, np.full(50, i / 2, np.float32))
    assert isinstance(lost, SourceLost)
    assert lost.cause is Cause.STALLED
    assert "device 'Mic': expected audio, got none for 1 s" in str(lost)
    assert not source._process.running  # though PortAudio hangs


def test_both_channels_where_they_are_watched() -> None:
    plain, _ = hear(SoundCardSource(DeviceSettings("Mic", stall=1.0)))
    blocks, _ = hear(SoundCardSource(DeviceSettings("Mic", stall=1.0, watch=True)))
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
    blocks, lost = hear(SoundCardSource(DeviceSettings("Crashes", stall=60)))
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
    assert not source._process.running
