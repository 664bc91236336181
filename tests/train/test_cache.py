"""The feature cache: the front end's own frames, made once, whatever happens on the way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.paths import SHARED

from streamtag.audio.block import Resampler
from streamtag.audio.feature_config import FeatureConfig, FrameKind, Log
from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.model.shipped import demo_piece
from streamtag.sources.file import FileSource
from streamtag.train.data.cache import FeatureCache
from streamtag.train.data.corpora import Item, read_corpus
from streamtag.train.data.corpora.jamendo import JAMENDO_MEL
from streamtag.train.data.extraction import partial_file

DATA = SHARED / "data"
CONFIG = FeatureConfig(sample_rate=8000, n_fft=256, hop=128, n_mels=16)
CENTRED = replace(JAMENDO_MEL, n_mels=32)
RAW = FeatureConfig(kind=FrameKind.RAW, sample_rate=8000, gain=0.5)


def heard(path: Path, rate: int) -> np.ndarray:
    """A whole file as `streamtag tag` hears it."""
    source = FileSource(path)
    resampler = Resampler(source.rate, rate)
    parts = [resampler.push(block.samples) for block in source]
    return np.concatenate([*parts, resampler.close()])


def noise(path: Path, seconds: float = 1.0, rate: int = 8000, seed: int = 0) -> Item:
    """A recording of soft noise, and its item."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return Item(path.stem, path, (0,), "train")


@pytest.mark.parametrize("config", [CONFIG, CENTRED])
def test_frames_are_those_of_the_whole_file_to_the_last_bit(
    tmp_path: Path, config: FeatureConfig
) -> None:
    item = Item("piece", demo_piece(), (), "train")
    cache = FeatureCache(tmp_path, config)
    report = cache.build([item], workers=1)
    assert (report.made, report.found, report.broken) == (1, 0, ())
    expected = frames_of(heard(item.path, config.sample_rate), config)
    frames = cache.frames(item)
    assert isinstance(frames, np.memmap)
    assert np.array_equal(frames, expected)
    assert cache.n_frames(item) == len(expected)
    assert np.array_equal(cache.window(item, 5, 9), expected[5:9])


def test_top_db_can_refer_to_the_whole_recording(tmp_path: Path) -> None:
    """As librosa clips a clip; live, and by default, only what came before is known."""
    config = replace(CONFIG, log=Log.DB, top_db=30.0)
    samples = np.random.default_rng(0).standard_normal(16000) * np.geomspace(1e-4, 0.3, 16000)
    soundfile.write(tmp_path / "louder.wav", samples, 8000, subtype="PCM_16")
    whole = Item("louder", tmp_path / "louder.wav", (0,), "train")
    items = [whole, replace(whole, name="half", end=1.0)]
    found = {}
    for whole_peak in (False, True):
        cache = FeatureCache(tmp_path / "cache", config, Louder(3.0), whole_peak=whole_peak)
        report = cache.build(items, variants=1, workers=1)
        assert (report.made, report.broken) == (4, ())
        found[whole_peak] = [cache.frames(item, v) for item in items for v in (0, 1)]
    for stream, clip in zip(found[False], found[True], strict=True):
        assert np.array_equal(np.maximum(stream, stream.max() - 30), clip)
        assert (clip > stream).mean() > 0.1
    assert not list((tmp_path / "cache").glob("**/*.part"))


def test_raw_samples_are_kept_as_16_bit_integers(tmp_path: Path) -> None:
    item = noise(tmp_path / "a.wav")
    cache = FeatureCache(tmp_path / "cache", RAW)
    cache.build([item], workers=1)
    exact, _ = soundfile.read(item.path, dtype="float32")
    assert np.array_equal(cache.frames(item)[:, 0], 0.5 * exact)
    assert np.array_equal(cache.window(item, 7, 11)[:, 0], 0.5 * exact[7:11])
    assert sum(f.stat().st_size for f in cache.folder.glob("*.npy")) < 2.1 * len(exact)


def test_parts_of_a_recording_are_those_of_the_cut_out_audio(tmp_path: Path) -> None:
    whole = noise(tmp_path / "whole.wav", 5.0)
    samples, _ = soundfile.read(whole.path, dtype="float32")
    parts = [replace(whole, name=f"p{s}", start=s, end=e) for s, e in ((0, 2), (1.25, 2.5), (4, 0))]
    beyond = replace(whole, name="beyond", start=7.0)
    cache = FeatureCache(tmp_path / "cache", CONFIG)
    report = cache.build([*parts, beyond, whole], workers=1)
    assert report.made == 4
    assert [(b.name, "at least one frame" in b.reason) for b in report.broken] == [("beyond", True)]
    for part, cut in zip(
        parts, (samples[:16000], samples[10000:20000], samples[32000:]), strict=True
    ):
        assert np.array_equal(cache.frames(part), frames_of(cut, CONFIG))
    assert np.array_equal(cache.frames(whole), frames_of(samples, CONFIG))


def test_nothing_is_done_twice_until_a_recording_or_the_front_end_changes(tmp_path: Path) -> None:
    items = [noise(tmp_path / f"{i}.wav", seed=i) for i in range(3)]
    seen: list[tuple[str, int, int]] = []
    cache = FeatureCache(tmp_path / "cache", CONFIG)
    report = cache.build(items, workers=1, progress=lambda *step: seen.append(step))
    assert seen == [("features", 1, 3), ("features", 2, 3), ("features", 3, 3)]
    again = FeatureCache(tmp_path / "cache", CONFIG)
    report = again.build(items, workers=1)
    assert (report.made, report.found) == (0, 3)
    noise(tmp_path / "1.wav", seconds=2.0, seed=9)
    report = again.build(items, workers=1)
    assert (report.made, report.found) == (1, 2)
    assert again.n_frames(items[1]) == CONFIG.n_frames(16000)
    os.utime(tmp_path / "2.wav", ns=(0, 0))  # as long as before, but of another time
    report = again.build(items, workers=1)
    assert (report.made, report.found) == (1, 2)
    for other in (replace(CONFIG, log=Log.DB), replace(CONFIG, hop=127)):
        report = FeatureCache(tmp_path / "cache", other).build(items, workers=1)
        assert (report.made, report.found) == (3, 0)


def test_broken_recordings_are_named_counted_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = noise(tmp_path / "good.wav")
    text = tmp_path / "text.mp3"
    text.write_text("no audio\n" * 100)
    short = noise(tmp_path / "short.wav", seconds=0.01)
    bad = [Item("text", text, (), "train"), short, Item("gone", tmp_path / "gone", (), "test")]
    cache = FeatureCache(tmp_path / "cache", CONFIG)
    report = cache.build([good, *bad], workers=1)
    assert report.made == 1
    reasons = {b.name: b.reason for b in report.broken}
    assert "expected audio" in reasons["text"]
    assert "at least one frame, got 0.010 s" in reasons["short"]
    assert "nothing there" in reasons["gone"]
    assert "3 broken (text: " in str(report)
    assert [cache.has(item) for item in (good, *bad)] == [True, False, False, False]
    with pytest.raises(RecipeError, match="expected 'text', got nothing: expected audio"):
        cache.frames(bad[0])

    def decode(*_: object) -> None:
        raise AssertionError("was decoded again")

    monkeypatch.setattr("streamtag.train.data.extraction.FileSource", decode)
    assert FeatureCache(tmp_path / "cache", CONFIG).build([good, *bad]).broken == report.broken
    monkeypatch.undo()
    noise(tmp_path / "short.wav", seconds=0.5)
    report = cache.build([good, *bad], workers=1)
    assert (report.made, [b.name for b in report.broken]) == (1, ["text", "gone"])


def test_damaged_files_of_all_kinds_do_no_harm(decoder_cases: Path, tmp_path: Path) -> None:
    items = [Item(p.name, p, (), "train") for p in sorted(decoder_cases.iterdir())]
    cache = FeatureCache(tmp_path, CONFIG)
    report = cache.build(items, workers=2)
    names = {b.name for b in report.broken}
    assert {"empty_empty.wav", "empty_empty.ogg", "README.md", "metadata_test.ape"} <= names
    assert report.made == len(items) - len(names) >= 10
    assert all(b.reason and "\n" not in b.reason for b in report.broken)
    for item in items:
        assert cache.has(item) is (item.name not in names)
        assert item.name in names or np.isfinite(cache.frames(item)).all()


@pytest.mark.skipif(not (DATA / "esc10").is_dir(), reason="ESC-10 is not on this machine")
def test_a_real_data_set_is_made_by_several_processes(tmp_path: Path) -> None:
    corpus = read_corpus(DATA / "esc10", subset="fold=1")
    cache = FeatureCache(tmp_path, CONFIG)
    report = cache.build(corpus.of("test"), workers=2)
    assert (report.made, report.broken) == (80, ())
    for item in corpus.of("test")[::20]:
        expected = frames_of(heard(item.path, 8000), CONFIG)
        assert np.array_equal(cache.frames(item), expected)
        assert 300 < len(expected) < 330  # five seconds


@dataclass(frozen=True)
class Louder:
    """A chain for tests: a random gain, written down by its effect."""

    most: float

    def __call__(self, samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        assert rate == 8000
        return samples * np.float32(rng.uniform(1, self.most))

    def cache_key(self) -> bytes:
        return repr(self).encode()


def test_versions_went_through_the_chain_with_seeds_of_their_own(tmp_path: Path) -> None:
    items = [noise(tmp_path / f"{i}.wav", seed=i) for i in range(2)]
    cache = FeatureCache(tmp_path / "cache", RAW, Louder(3.0))
    report = cache.build(items, variants=2, workers=2)
    assert report.made == 6
    gains = []
    for item in items:
        clean = cache.frames(item)
        for version in (1, 2):
            changed = cache.frames(item, variant=version)
            gains.append(float(np.median(changed[clean != 0] / clean[clean != 0])))
            assert np.abs(changed - gains[-1] * clean).max() < 2e-3
    assert len({round(gain, 2) for gain in gains}) == 4
    assert all(1 < gain < 3 for gain in gains)
    same = FeatureCache(tmp_path / "cache", RAW, Louder(3.0)).build(items, variants=3)
    assert (same.made, same.found) == (2, 6)
    other = FeatureCache(tmp_path / "cache", RAW, Louder(2.0)).build(items, variants=2)
    assert (other.made, other.found) == (4, 2)


def test_long_recordings_go_through_the_chain_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtag.train.data.extraction.PIECE_SECONDS", 2)
    item = noise(tmp_path / "a.wav", seconds=5.5)
    lengths: list[int] = []

    class Counts:
        def __call__(self, samples: np.ndarray, rate: int, rng: object) -> np.ndarray:
            lengths.append(len(samples))
            return samples

        def cache_key(self) -> bytes:
            return b"counts"

    cache = FeatureCache(tmp_path / "cache", CONFIG, Counts())
    cache.build([item], variants=1, workers=1)
    assert lengths == [16000, 16000, 12000]
    assert np.array_equal(cache.frames(item, 1), cache.frames(item))


def mels(path: Path, n_frames: int = 50) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = np.random.default_rng(0).uniform(-200, 50, (96, n_frames)).astype(np.float32)
    np.save(path, made)
    return made


def test_published_mels_are_used_as_they_are_for_just_their_front_end(tmp_path: Path) -> None:
    made = mels(tmp_path / "a.npy")
    alone = Item("alone", tmp_path / "a.npy", (), "train")
    beside = replace(noise(tmp_path / "b.wav"), mels=tmp_path / "a.npy")
    part = replace(alone, name="part", start=0.2, end=0.5)
    np.save(tmp_path / "strange.npy", np.zeros((5, 96), np.float32))
    strange = Item("strange", tmp_path / "strange.npy", (), "train")
    for config in (JAMENDO_MEL, replace(JAMENDO_MEL, f_max=0.0)):
        cache = FeatureCache(tmp_path / "cache", config)
        report = cache.build([alone, beside, part, strange], workers=1)
        assert (report.made, report.found) == (0, 3)
        assert "shape (96, T), got float32 of shape (5, 96)" in report.broken[0].reason
        assert np.array_equal(cache.frames(alone), made.T)
        assert np.array_equal(cache.frames(beside), made.T)
        assert np.array_equal(cache.frames(part), made.T[9:23])
        assert np.array_equal(cache.window(alone, 48, 52), made.T[48:])
        assert cache.n_frames(alone) == 50
    other = FeatureCache(tmp_path / "cache", CONFIG)
    report = other.build([alone, beside], workers=1)
    assert report.made == 1
    assert other.n_frames(beside) == CONFIG.n_frames(8000)
    assert "the recipe has another front end" in report.broken[0].reason
    with pytest.raises(
        RecipeError, match=r"audio_variants: expected 0 where there are only published"
    ):
        FeatureCache(tmp_path, JAMENDO_MEL, Louder(2.0)).build([alone], variants=1)


@pytest.mark.skipif(not (DATA / "weights").is_dir(), reason="no published mels on this machine")
def test_published_mels_are_what_our_front_end_gives(tmp_path: Path) -> None:
    """So it does not matter which of the two a training saw."""
    with np.load(DATA / "weights" / "mtg-jamendo" / "reference.npz") as reference:
        name = next(key.partition("|")[0] for key in reference if key.endswith("|mel"))
        audio, published = reference[f"{name}|audio12k"], reference[f"{name}|mel"]
    if published.shape[0] != 96:
        published = published.T
    np.save(tmp_path / "a.npy", published)
    soundfile.write(tmp_path / "a.wav", audio, 12000, subtype="FLOAT")
    cache = FeatureCache(tmp_path / "cache", JAMENDO_MEL)
    items = [Item(n, tmp_path / n, (), "train") for n in ("a.npy", "a.wav")]
    cache.build(items, workers=1)
    theirs, ours = (cache.frames(item) for item in items)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours)[theirs > -100].max() < 0.05


BUILD = """
import sys
from pathlib import Path
from streamtag.audio.feature_config import FeatureConfig
from streamtag.train.data.cache import FeatureCache
from streamtag.train.data.corpora import Item
from streamtag.errors import RecipeError

def main():
    folder, workers, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    items = [Item(p.stem, p, (0,), "train") for p in sorted(folder.glob("*.wav"))]
    config = FeatureConfig(sample_rate=8000, n_fft=256, hop=128, n_mels=16)
    try:
        FeatureCache(folder / "cache", config).build(
            items, workers=workers, progress=lambda what, i, n: print(i, n, flush=True))
    except RecipeError as error:
        print("error", error)

if __name__ == "__main__":
    main()
"""


def children_of(pid: int) -> list[int]:
    """Processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks into /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_without_warning_it_goes_on_where_it_was(tmp_path: Path, workers: int) -> None:
    items = [noise(tmp_path / f"{i:02}.wav", seconds=2.0, seed=i) for i in range(40)]
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    command = [sys.executable, str(script), str(tmp_path), str(workers), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("10 "):
                break
        started = children_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_until_gone(started)
    cache = FeatureCache(tmp_path / "cache", CONFIG)
    kept = ["0123.elsewhere-1.part", partial_file(Path("4567.npy")).name]  # others still write them
    left = partial_file(Path("89ab.npy")).name.replace(f"-{os.getpid()}", f"-{process.pid}")
    for name in (*kept, left):
        (cache.folder / name).touch()
    report = cache.build(items, workers=1)
    assert report.found >= 10
    assert report.made == 40 - report.found
    assert sorted(p.name for p in cache.folder.glob("*.part")) == kept
    for i, item in enumerate(items):
        samples, _ = soundfile.read(item.path, dtype="float32")
        assert np.array_equal(cache.frames(item), frames_of(samples, CONFIG)), i


def wait_until_gone(pids: Sequence[int]) -> None:
    """Workers leave when their parent is gone; the limit is only for when they do not."""
    limit = time.monotonic() + 60
    while any(map(is_running, pids)):
        assert time.monotonic() < limit, "processes stay behind"
        time.sleep(0.01)


def test_files_cut_short_are_made_again(tmp_path: Path) -> None:
    item = noise(tmp_path / "a.wav")
    cache = FeatureCache(tmp_path / "cache", CONFIG)
    cache.build([item], workers=1)
    expected = np.array(cache.frames(item))
    file = next(cache.folder.glob("*.npy"))
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1]):
        file.write_bytes(damaged)
        fresh = FeatureCache(tmp_path / "cache", CONFIG)
        assert not fresh.has(item)
        assert fresh.build([item], workers=1).made == 1
        assert np.array_equal(fresh.frames(item), expected)


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    item = noise(tmp_path / "a.wav")
    (tmp_path / "file").touch()
    with pytest.raises(
        RecipeError, match="expected a folder to write the feature cache to, got: Not"
    ):
        FeatureCache(tmp_path / "file", CONFIG).build([item])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_an_error_and_breaks_no_recording(tmp_path: Path, workers: int) -> None:
    items = [noise(tmp_path / f"{i}.wav", seconds=60.0) for i in range(2)]
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    command = [sys.executable, str(script), str(tmp_path), str(workers), "100000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        "expected room and permission to write the feature cache, got: File too large"
        in done.stdout
    )
    cache = FeatureCache(tmp_path / "cache", CONFIG)
    assert sorted(p.suffix for p in cache.folder.iterdir()) == [".json"]
    assert cache.build(items, workers=1).made == 2


def test_frames_that_were_never_made_are_an_error(tmp_path: Path) -> None:
    item = noise(tmp_path / "a.wav")
    cache = FeatureCache(tmp_path / "cache", CONFIG)
    for ask in (cache.frames, cache.n_frames):
        with pytest.raises(RecipeError, match="expected 'a', got nothing: build it first"):
            ask(item)
    with pytest.raises(RecipeError, match="variants: expected 0 without a chain, got 1"):
        cache.build([item], variants=1)
