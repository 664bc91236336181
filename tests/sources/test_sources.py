"""Files, pipes and the sound card: right samples, right positions, clear errors, never a hang."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.sounds import tone, write_wav

from streamtag.errors import SourceError
from streamtag.sources import file as decoder
from streamtag.sources import soundcard
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.sources.file import FileDecoder, FileSource
from streamtag.sources.pcm import PcmFormat, PcmSource
from streamtag.sources.soundcard import DeviceSettings, PortAudioRecorder
from streamtag.sources.source import AudioSource

SECONDS = 20


def collect(source: AudioSource) -> np.ndarray:
    """All samples; positions must follow on each other."""
    parts: list[np.ndarray] = []
    for block in source:
        assert block.start == sum(map(len, parts))
        assert (block.rate, block.samples.dtype) == (source.rate, np.float32)
        parts.append(block.samples)
    source.close()
    return np.concatenate(parts)


# Files


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
@pytest.mark.parametrize("n", [1, 2, 44099, 44100, 44101])
def test_a_wav_file_comes_out_to_the_last_bit(tmp_path: Path, rate: int, n: int) -> None:
    samples = np.round(tone(1.1, max(rate, 44100))[:n] * 32768) / 32768
    source = FileSource(write_wav(tmp_path / "a.wav", samples, rate))
    assert (source.rate, source.live) == (rate, False)
    np.testing.assert_array_equal(collect(source), samples.astype(np.float32))


def test_channels_are_mixed_to_their_mean(tmp_path: Path) -> None:
    parts = np.stack([tone(0.5, 48000, hertz) for hertz in (200, 300, 500)], axis=1)
    parts = np.round(parts * 32768) / 32768
    got = collect(FileSource(write_wav(tmp_path / "a.wav", parts, 48000)))
    np.testing.assert_allclose(got, parts.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "opus", "m4a", "aiff", "mka"])
def test_formats_give_the_tone_they_hold(tmp_path: Path, suffix: str) -> None:
    wav = write_wav(tmp_path / "a.wav", tone(2.0, 48000), 48000)
    path = tmp_path / f"-a:b.{suffix}"  # a name that looks like an option and a protocol
    command = [ffmpeg_path(), "-v", "error", "-i", wav, f"file:{path}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    source = FileSource(path)
    got = collect(source)
    assert len(got) == pytest.approx(2.0 * 48000, abs=2500)
    spectrum = np.abs(np.fft.rfft(got[24000:72000]))
    assert np.argmax(spectrum) == 440
    assert source.duration == pytest.approx(2.0, abs=0.06)


def test_a_duration_is_known_though_it_is_heard_after_the_first_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = FileDecoder._parse_duration

    def late(decoder: FileDecoder, line: str) -> None:
        time.sleep(0.5)
        parse(decoder, line)

    monkeypatch.setattr(FileDecoder, "_parse_duration", late)
    source = FileSource(write_wav(tmp_path / "a.wav", tone(2.0, 48000), 48000))
    assert source.duration == 2.0
    assert len(collect(source)) == 96000


def test_a_file_in_a_loop_goes_on_counting(tmp_path: Path) -> None:
    source = FileSource(write_wav(tmp_path / "a.wav", tone(0.3, 8000), 8000), loop=True)
    starts = [block.start for block, _ in zip(source, range(3), strict=False)]
    source.close()
    assert starts == [0, 2400, 4800]


def test_a_paced_file_is_not_ahead_of_the_clock(tmp_path: Path) -> None:
    source = FileSource(write_wav(tmp_path / "a.wav", tone(0.5, 8000), 8000), pace=True)
    begun = time.monotonic()
    for block in source:
        assert time.monotonic() - begun >= block.end / 8000 - 0.001
    assert source.live
    assert block.end == 4000


def test_close_ends_a_paced_file_from_another_thread(tmp_path: Path) -> None:
    source = FileSource(write_wav(tmp_path / "a.wav", tone(60, 8000), 8000), pace=True)
    blocks = iter(source)
    next(blocks)
    threading.Timer(0.05, source.close).start()
    assert sum(1 for _ in blocks) < 300


def test_a_source_that_is_never_read_leaves_no_process(tmp_path: Path) -> None:
    source = FileSource(write_wav(tmp_path / "a.wav", tone(60, 48000), 48000))
    source.close()
    source.close()
    assert not source._decoder.process.running


def fake_ffmpeg(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    path = folder / "ffmpeg"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    monkeypatch.setattr(decoder, "ffmpeg_path", lambda: str(path))


def test_an_ffmpeg_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(monkeypatch, tmp_path, "import time; time.sleep(600)")
    with pytest.raises(SourceError, match=r"a.wav: .*ffmpeg gave nothing for 0.2 s"):
        FileSource(write_wav(tmp_path / "a.wav", tone(1, 8000), 8000), stall=0.2)


def test_an_ffmpeg_that_dies_midway_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav = write_wav(tmp_path / "a.wav", tone(1, 8000), 8000)
    riff = "b'RIFF____WAVEfmt ' + struct.pack('<IHHIIHH', 16, 3, 1, 8000, 32000, 4, 32)"
    fake_ffmpeg(
        monkeypatch,
        tmp_path,
        "import os, struct, sys\n"
        f"os.write(1, {riff} + b'data____' + bytes(4000))\n"
        "os.write(2, b'[x @ 1] [error] the disk is on fire\\n')\n"
        "sys.exit(3)",
    )
    source = FileSource(wav)
    blocks = iter(source)
    assert len(next(blocks).samples) == 1000
    with pytest.raises(SourceError, match=r"ended with status 3 \(ffmpeg: the disk is on fire\)"):
        next(blocks)


def test_what_is_no_audio_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(SourceError, match=r"a.txt: expected audio, .*ffmpeg: .*Invalid data"):
        FileSource(tmp_path / "a.txt")
    with pytest.raises(SourceError, match="expected an audio file, got nothing there"):
        FileSource(tmp_path / "none.ogg")
    with pytest.raises(SourceError, match="expected an audio file, got a folder"):
        FileSource(tmp_path)
    with pytest.raises(SourceError, match="it decodes to 0 samples"):
        FileSource(write_wav(tmp_path / "empty.wav", tone(0, 8000), 8000))


def test_a_file_without_an_audio_stream_is_told(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    source = ["-f", "lavfi", "-i", "color=s=16x16:d=0.04", "-frames:v", "1"]
    subprocess.run(
        [ffmpeg_path(), "-v", "error", *source, picture], check=True, stdin=subprocess.DEVNULL
    )
    with pytest.raises(SourceError, match="got a file without an audio stream"):
        FileSource(picture)


def test_a_damaged_file_is_no_shorter_in_silence(tmp_path: Path) -> None:
    """A decoder that leaves out what it cannot read makes all that follows come too early."""
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 480000)
    wav, flac = write_wav(tmp_path / "a.wav", noise, 48000), tmp_path / "a.flac"
    command = [ffmpeg_path(), "-v", "error", "-i", wav, flac]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    data = bytearray(flac.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60_000] = bytes(60_000)
    flac.write_bytes(data)
    with pytest.raises(SourceError, match=r"only \d\.\d\d of 10\.00 s could be decoded"):
        collect(FileSource(flac))


# Length in seconds, or what the error says.
CASES: dict[str, float | str] = {
    "Guitar-A4-432-2.ogg": 13.29,
    "README.md": "Invalid data",
    "dubstep.aac": 6.87,
    "dubstep.mp3": 6.90,
    "empty_empty.aiff": "0 samples",
    "empty_empty.mp3": "0 samples",
    "empty_empty.ogg": "0 samples",
    "empty_empty.wav": "0 samples",
    "metadata_empty.mp3": 0.05,
    "metadata_test.ape": r"only 0.\d+ of 5.00 s could be decoded",
    "metadata_test.ogg": 5.0,
    "multichannel_4channels.flac": r"only 4.\d+ of 5.00 s could be decoded",
    "multistream_multistream1.mka": 3.09,
    "silence_silence.flac": 5.0,
    "synthesised_impulse_flac_bad_stream_info_impulses_1second_44100_bad_stream_info.flac": 10.0,
    "synthesised_impulse_flac_bad_stream_info_impulses_1second_48000_st_bad_stream_info.flac": 10.0,
    "synthesised_shortfiles_1024_samples.wav": 1024 / 44100,
    "synthesised_shortfiles_1989_samples.wav": 1989 / 44100,
    "unsupported.au": 5.0,
    "unsupported.sd2": "Invalid data",
}


@pytest.mark.parametrize("name", CASES)
def test_decoder_cases(decoder_cases: Path, name: str) -> None:
    expected = CASES[name]
    if isinstance(expected, str):
        with pytest.raises(SourceError, match=expected):
            collect(FileSource(decoder_cases / name))
        return
    source = FileSource(decoder_cases / name)
    assert len(collect(source)) / source.rate == pytest.approx(expected, abs=0.01)


# Pipes


@pytest.fixture
def pipe() -> Iterator[tuple[Any, Any]]:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as sink:
        yield source, sink


@pytest.mark.parametrize("cut", [1, 3, 7, 4096])
@pytest.mark.parametrize("format", PcmFormat)
def test_pcm_in_any_pieces(pipe: tuple[Any, Any], format: PcmFormat, cut: int) -> None:
    frames = np.round(np.stack([tone(0.05, 8000), tone(0.05, 8000, 99)], axis=1) * 32768) / 32768
    scale = 32768 if format is PcmFormat.S16LE else 1
    data = (frames * scale).astype(format.dtype).tobytes() + b"\0"  # and half a sample

    def write() -> None:
        with pipe[1] as sink:
            for i in range(0, len(data), cut):
                sink.write(data[i : i + cut])

    writer = threading.Thread(target=write)
    writer.start()
    got = collect(PcmSource(format, 8000, 2, pipe=pipe[0]))
    writer.join()
    np.testing.assert_allclose(got, frames.mean(axis=1), atol=1e-7)


def test_close_ends_a_pipe_that_is_silent(pipe: tuple[Any, Any]) -> None:
    source = PcmSource(PcmFormat.S16LE, 8000, 1, pipe=pipe[0])
    threading.Timer(0.05, source.close).start()
    assert list(source) == []


# The sound card, with a PortAudio made of nothing


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

    def say(self, samples: np.ndarray, at: float, overflow: bool = False) -> None:
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


def test_the_callback_copies_and_the_iterator_mixes(sound: FakeSound) -> None:
    recorder = PortAudioRecorder(DeviceSettings("Mixer"))
    assert (sound.options["channels"], sound.options["samplerate"]) == (2, 1000)
    sound.say(np.array([[0.25, 0.75], [1.0, 0.0]]), 5.0)
    start, samples = recorder.read()
    assert (start, recorder.rate, samples.tolist()) == (0, 1000, [0.5, 0.5])


def test_what_portaudio_threw_away_is_a_hole_of_its_length(sound: FakeSound) -> None:
    recorder = PortAudioRecorder(DeviceSettings())
    for at, overflow in ((5.0, False), (5.05, False), (5.4, True), (5.45, False)):
        sound.say(np.zeros((50, 1)), at, overflow)
    starts = [recorder.read()[0] for _ in range(4)]
    assert starts == [0, 50, 400, 450]  # 300 samples are missing before the third block


def test_what_does_not_fit_in_the_queue_is_a_hole_too(sound: FakeSound) -> None:
    recorder = PortAudioRecorder(DeviceSettings())
    n = soundcard.QUEUE_SECONDS * soundcard.BLOCKS_PER_SECOND
    for i in range(n + 7):
        sound.say(np.zeros((50, 1)), 0.05 * i)
    for i in range(n):
        assert recorder.read()[0] == 50 * i
    sound.say(np.zeros((50, 1)), 0.05 * (n + 7))
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
def test_without_portaudio_it_says_what_to_install(
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
