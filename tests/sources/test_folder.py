"""Folders of recordings: order, titles, gaps, new files, clear errors."""

import wave
from pathlib import Path

import numpy as np
import pytest
from support.sounds import tone, write_wav

from streamtag.audio.block import Block
from streamtag.errors import SourceError
from streamtag.sources.file import FileDecoder
from streamtag.sources.folder import FolderSource
from streamtag.sources.pcm import PcmFormat
from streamtag.sources.source import ConnectionLimits, SourceTitle

PATIENT = ConnectionLimits(connect=60, stall=60)
F32, S16 = PcmFormat.F32LE, PcmFormat.S16LE


def read_folder(source: FolderSource) -> tuple[list[str], list[tuple[int, int]], np.ndarray]:
    """Titles, positions of blocks, samples."""
    titles, spans, parts = [], [], []
    for item in source:
        if isinstance(item, SourceTitle):
            titles.append(item.title)
        else:
            spans.append((item.start, item.end))
            parts.append(item.samples)
    source.close()
    return titles, spans, np.concatenate(parts)


def test_a_folder_plays_its_files_one_after_the_other_at_one_rate(tmp_path: Path) -> None:
    write_wav(tmp_path / "b.wav", tone(0.5, 8000, 500), 8000)
    write_wav(tmp_path / "a.wav", tone(0.5, 16000, 1000), 16000)
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "notes.txt").write_text("no audio")
    (tmp_path / "inside").mkdir()
    source = FolderSource(tmp_path)
    assert (source.rate, source.live) == (16000, False)
    titles, spans, samples = read_folder(source)
    assert titles == ["a.wav", "b.wav"]
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert len(samples) == 16000
    assert np.argmax(np.abs(np.fft.rfft(samples[9000:15000]))) == pytest.approx(187, abs=2)


def test_a_folder_in_a_loop_goes_on_counting(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(0.5, 8000), 8000)
    source = FolderSource(tmp_path, loop=True)
    starts = []
    for item in source:
        if isinstance(item, Block):
            starts.append(item.start)
        if len(starts) == 3:
            source.close()
    assert starts == [0, 4000, 8000]


def test_a_file_that_breaks_off_leaves_a_gap_and_the_next_one_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, tone(2.5, 8000), 8000)
    real = FileDecoder.read

    def broken(self: FileDecoder, n: int) -> np.ndarray:
        if self.path.name == "a.wav" and getattr(self, "reads", 0) == 2:
            raise SourceError("a.wav: it breaks off")
        self.reads = getattr(self, "reads", 0) + 1  # type: ignore[attr-defined]
        return real(self, n)

    monkeypatch.setattr(FileDecoder, "read", broken)
    titles, spans, _ = read_folder(FolderSource(tmp_path))
    assert titles == ["a.wav", "b.wav"]
    audio = [(a, b) for a, b in spans if b > a]
    assert audio == [
        (0, 8000), (8000, 16000), (16001, 24001), (24001, 32001), (32001, 36001),
    ]  # fmt: skip


def test_new_files_are_picked_up_when_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtag.sources.folder.SCAN_SECONDS", 0.02)
    write_wav(tmp_path / "a.wav", tone(0.5, 8000), 8000)
    source = FolderSource(tmp_path, watch=True)
    titles: list[str] = []
    for item in source:
        if isinstance(item, SourceTitle):
            titles.append(item.title)
        elif titles == ["a.wav"]:
            write_wav(tmp_path / "new.wav", tone(0.5, 8000), 8000)
        else:
            source.close()
    assert titles == ["a.wav", "new.wav"]


def test_folders_that_cannot_be_played(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a folder, got nothing there"):
        FolderSource(tmp_path / "none")
    with pytest.raises(SourceError, match="expected audio files, got none"):
        FolderSource(tmp_path)
    with pytest.raises(SourceError, match="expected a key `rate`"):
        FolderSource(tmp_path, watch=True)
    with wave.open(str(tmp_path / "f.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
    with pytest.raises(SourceError, match="expected audio files, got none"):
        FolderSource(tmp_path)
    with pytest.raises(SourceError, match="expected a folder, got a file"):
        FolderSource(tmp_path / "f.wav")
