"""Audio files: right samples, right positions, clear errors, never a hang."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.sounds import tone, write_wav

from streamtag.errors import SourceError
from streamtag.sources import file as decoder
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.sources.file import FileDecoder, FileSource
from streamtag.sources.source import AudioSource

SECONDS = 60


def collect(source: AudioSource) -> np.ndarray:
    """All samples; positions must follow on each other."""
    parts: list[np.ndarray] = []
    for block in source:
        assert block.start == sum(map(len, parts))
        assert (block.rate, block.samples.dtype) == (source.rate, np.float32)
        parts.append(block.samples)
    source.close()
    return np.concatenate(parts)


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


def test_a_duration_that_is_logged_after_the_first_samples(
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
    assert source._decoder.process._process.poll() is not None


def fake_ffmpeg(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    path = folder / "ffmpeg"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    monkeypatch.setattr(decoder, "ffmpeg_path", lambda: str(path))


def test_an_ffmpeg_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(monkeypatch, tmp_path, "import time; time.sleep(600)")
    with pytest.raises(SourceError, match=r"a.wav: .*ffmpeg gave nothing for 0.2 s"):
        FileSource(write_wav(tmp_path / "a.wav", tone(1, 8000), 8000), stall=0.2)


def test_an_ffmpeg_that_dies_midway_is_reported(
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


def test_what_is_no_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(SourceError, match=r"a.txt: expected audio, .*ffmpeg: .*Invalid data"):
        FileSource(tmp_path / "a.txt")
    with pytest.raises(SourceError, match="expected an audio file, got nothing there"):
        FileSource(tmp_path / "none.ogg")
    with pytest.raises(SourceError, match="expected an audio file, got a folder"):
        FileSource(tmp_path)
    with pytest.raises(SourceError, match="it decodes to 0 samples"):
        FileSource(write_wav(tmp_path / "empty.wav", tone(0, 8000), 8000))


def test_a_file_without_an_audio_stream_is_refused(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    source = ["-f", "lavfi", "-i", "color=s=16x16:d=0.04", "-frames:v", "1"]
    subprocess.run(
        [ffmpeg_path(), "-v", "error", *source, picture], check=True, stdin=subprocess.DEVNULL
    )
    with pytest.raises(SourceError, match="got a file without an audio stream"):
        FileSource(picture)


def test_a_damaged_file_is_not_shortened_silently(tmp_path: Path) -> None:
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
