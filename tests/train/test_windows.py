"""Windows of recordings: each cut and filling as the papers have it."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamtag.audio.feature_config import FeatureConfig, FrameKind
from streamtag.errors import RecipeError
from streamtag.model.bundle import silence_frame
from streamtag.train.data import cache as cache_module
from streamtag.train.data.cache import FeatureCache
from streamtag.train.data.corpora import Corpus, Item
from streamtag.train.data.samples import moments, statistics
from streamtag.train.data.windows import RecordingSamples, fill_window
from streamtag.train.recipes.recipe import (
    Augment,
    Cut,
    Fit,
    Net,
    Recipe,
    Recordings,
    Short,
    Stage,
    Task,
)

RATE = 1000
LENGTHS = {"long": 950, "exact": 100, "short": 30, "longer": 411}
RNG = np.random.default_rng


def recipe(size: int = 100, **recordings: object) -> Recipe:
    """Windows of raw samples, so that a frame's value says where it is from."""
    return Recipe(
        name="t",
        net=Net("small"),
        features=FeatureConfig(kind=FrameKind.RAW, sample_rate=RATE, gain=32768.0),
        window_frames=size,
        hop_frames=size,
        first_frames=size,
        fit=Fit(4, (Stage(1, 1e-3),)),
        recordings=Recordings(**recordings),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Recordings that count their samples from 1000 · number on, the same ones in every split."""
    folder = tmp_path_factory.mktemp("recordings")
    items = []
    for number, (name, length) in enumerate(LENGTHS.items(), 1):
        path = folder / f"{name}.wav"
        samples = (1000 * number + np.arange(length)).astype(np.int16)
        soundfile.write(path, samples, RATE, subtype="PCM_16")
        for split in ("train", "validation", "test"):
            tags = (number % 2, 2) if name != "short" else ()
            items.append(Item(f"{split}/{name}", path, tags, split, side=(number, 0.5)))
    broken = folder / "broken.wav"
    broken.write_text("no audio")
    items.append(Item("train/broken", broken, (0,), "train"))
    return Corpus("counting", ("even", "odd", "any"), tuple(items))


@pytest.fixture(scope="module")
def cache(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    made = FeatureCache(tmp_path_factory.mktemp("cache"), recipe().features)
    report = made.build(corpus.items, workers=1)
    assert [b.name for b in report.broken] == ["train/broken"]
    return made


def starts(samples: RecordingSamples, epoch: int = 0, seed: int = 0) -> list[tuple[int, int]]:
    """Per window, number of the recording and first frame; the window must be full of it."""
    found = []
    for i in range(len(samples)):
        frames = samples.sample(i, epoch, RNG([seed, i])).frames
        assert frames.dtype == np.float32
        if len(np.unique(frames)) == len(frames):
            assert np.array_equal(np.diff(frames[:, 0]), np.ones(len(frames) - 1))
            side = samples.items[samples.owners[i]].side
            assert not side or side[0] == int(frames[0, 0]) // 1000
        found.append((int(frames[0, 0]) // 1000, int(frames[0, 0]) % 1000))
    return found


def test_centre_first_segments_and_consecutive_windows(corpus: Corpus, cache: FeatureCache) -> None:
    centre = RecordingSamples(recipe(test=Cut.CENTRE), corpus, "test", cache)
    assert starts(centre) == [(1, 425), (2, 0), (3, 0), (4, 155)]
    assert centre.owners.tolist() == [0, 1, 2, 3]
    first = RecordingSamples(recipe(test=Cut.FIRST), corpus, "test", cache)
    assert starts(first) == [(1, 0), (2, 0), (3, 0), (4, 0)]
    four = RecordingSamples(recipe(test=Cut.SEGMENTS, segments=4), corpus, "test", cache)
    assert starts(four) == [
        (1, 0), (1, 100), (1, 200), (1, 300), (2, 0), (3, 0), (4, 0), (4, 100), (4, 200), (4, 300),
    ]  # fmt: skip
    every = RecordingSamples(recipe(test=Cut.CONSECUTIVE), corpus, "test", cache)
    whole = [(1, 100 * i) for i in range(9)] + [(2, 0), (3, 0)] + [(4, 100 * i) for i in range(4)]
    assert starts(every) == whole
    assert every.owners.tolist() == [0] * 9 + [1, 2] + [3] * 4


def test_the_segments_of_the_bilstm(tmp_path: Path) -> None:
    """911 frames give 4 windows of 227; 3 frames are left over (Polimi tagger)."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.arange(1000, 1911, dtype=np.int16), RATE, subtype="PCM_16")
    clip = Corpus("clip", ("a",), (Item("clip", path, (0,), "train"),))
    wanted = recipe(227, train=Cut.SEGMENTS, segments=4)
    made = FeatureCache(tmp_path / "cache", wanted.features)
    made.build(clip.items, workers=1)
    samples = RecordingSamples(wanted, clip, "train", made)
    assert [start for _, start in starts(samples)] == [0, 227, 454, 681]


def test_random_windows_are_new_in_each_epoch_and_drawn_ones_are_not(
    corpus: Corpus, cache: FeatureCache
) -> None:
    wanted = recipe(train=Cut.RANDOM, validation=Cut.DRAWN, segments=5)
    random = RecordingSamples(wanted, corpus, "train", cache)
    assert len(random) == 20
    assert starts(random, seed=1) == starts(random, seed=1) != starts(random, seed=2)
    every = {s for seed in range(300) for n, s in starts(random, seed=seed) if n == 4}
    assert min(every) == 0
    assert max(every) == 311  # 411 - 100: the last window is possible too
    drawn = RecordingSamples(wanted, corpus, "validation", cache)
    once = starts(drawn, epoch=0, seed=1)
    assert once == starts(drawn, epoch=7, seed=2)
    assert len({s for n, s in once if n == 1}) > 1
    assert starts(RecordingSamples(wanted, corpus, "validation", cache)) == once
    other = RecordingSamples(replace(wanted, seed=2), corpus, "validation", cache)
    assert starts(other) != once


def test_drawn_windows_do_not_depend_on_the_other_recordings(
    corpus: Corpus, cache: FeatureCache
) -> None:
    wanted = recipe(validation=Cut.DRAWN, segments=3)
    some = replace(corpus, items=corpus.of("validation")[3:])
    few = RecordingSamples(wanted, some, "validation", cache)
    every = RecordingSamples(wanted, corpus, "validation", cache)
    assert [s for _, s in starts(every)][-3:] == [s for _, s in starts(few)]


def test_a_stretched_window_is_the_whole_recording(corpus: Corpus, cache: FeatureCache) -> None:
    wanted = recipe(test=Cut.STRETCHED, short_judged=Short.DISCARD)
    samples = RecordingSamples(wanted, corpus, "test", cache)
    sizes = [len(samples.sample(i, 0, RNG(0)).frames) for i in range(len(samples))]
    assert sizes == list(LENGTHS.values())


def test_recordings_that_are_broken_or_discarded_are_left_out(
    corpus: Corpus, cache: FeatureCache
) -> None:
    wanted = recipe(short=Short.DISCARD)
    train = RecordingSamples(wanted, corpus, "train", cache)
    assert [item.name for item in train.items] == ["train/long", "train/exact", "train/longer"]
    assert train.left_out == 2
    assert train.truth().tolist() == [[0, 1, 1], [1, 0, 1], [1, 0, 1]]
    judged = RecordingSamples(wanted, corpus, "test", cache)
    assert judged.left_out == 0
    assert judged.truth().tolist() == [[0, 1, 1], [1, 0, 1], [0, 0, 0], [1, 0, 1]]
    assert judged.sample(2, 0, RNG(0)).targets.tolist() == [0, 0, 0]


HEARD = np.array([[5, -1], [3, 2], [4, 9]], np.float32)


def test_short_recordings_are_filled_by_the_recipe() -> None:
    wrapped = fill_window(HEARD, 7, Short.WRAP, RNG(0))
    assert wrapped[:, 0].tolist() == [5, 3, 4, 5, 3, 4, 5]
    low = fill_window(HEARD, 7, Short.MINIMUM, RNG(0))
    assert low[:, 0].tolist() == [-1, -1, 5, 3, 4, -1, -1]
    odd = fill_window(HEARD, 6, Short.MINIMUM, RNG(0))
    assert odd[:, 1].tolist() == [-1, -1, 2, 9, -1, -1]
    silence = np.array([-20, -30], np.float32)
    late = fill_window(HEARD, 5, Short.SILENCE, RNG(0), silence)
    assert late.tolist() == [[-20, -30], [-20, -30], *HEARD.tolist()]
    for short in Short:
        assert fill_window(HEARD, 3, short, RNG(0), silence).tolist() == HEARD.tolist()
        assert fill_window(HEARD, 8, short, RNG(0), silence).shape == (8, 2)


def test_either_filling_comes_by_chance_and_in_the_middle() -> None:
    found = [fill_window(HEARD, 8, Short.EITHER, RNG(i))[:, 0].tolist() for i in range(400)]
    wrapped, low = [3, 4, 5, 3, 4, 5, 3, 4], [-1, -1, 5, 3, 4, -1, -1, -1]
    assert np.pad(HEARD[:, 0], (2, 3), "wrap").tolist() == wrapped
    assert all(one in (wrapped, low) for one in found)
    assert 160 < found.count(wrapped) < 240


def test_silence_is_the_front_ends_own(tmp_path: Path) -> None:
    features = FeatureConfig(sample_rate=8000, n_fft=256, hop=128, n_mels=16)
    wanted = replace(recipe(20, short=Short.SILENCE), features=features)
    path = tmp_path / "a.wav"
    soundfile.write(path, RNG(0).uniform(-0.1, 0.1, 256 + 9 * 128), 8000)
    one = Corpus("one", ("a",), (Item("a", path, (0,), "train"),))
    made = FeatureCache(tmp_path / "cache", features)
    made.build(one.items, workers=1)
    frames = RecordingSamples(wanted, one, "train", made).sample(0, 0, RNG(0)).frames
    assert np.array_equal(frames[:10], np.repeat([silence_frame(features)], 10, axis=0))
    assert np.array_equal(frames[10:], made.frames(one.items[0]))


class Negated:
    """A chain for tests: versions are told by their sign, and are a little shorter."""

    def __call__(self, samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return -samples[:-60]

    def cache_key(self) -> bytes:
        return b"negated"


def test_epochs_use_the_versions_of_a_recording_in_turn(corpus: Corpus, tmp_path: Path) -> None:
    wanted = replace(
        recipe(train=Cut.CONSECUTIVE, validation=Cut.CENTRE), augment=Augment(audio_variants=2)
    )
    made = FeatureCache(tmp_path, wanted.features, Negated())
    some = tuple(item for item in corpus.items if not item.name.endswith("broken"))
    made.build(some, workers=1)  # the last one gets no versions
    made.build(some[:-3], variants=2, workers=1)
    train = RecordingSamples(wanted, corpus, "train", made)
    signs = [[np.sign(train.sample(i, epoch, RNG(0)).frames).mean() for i in (0, 8, 11)]
             for epoch in range(4)]  # fmt: skip
    assert signs == [[1, 1, 1], [-1, -1, 1], [-1, -1, 1], [1, 1, 1]]
    end = train.sample(8, 1, RNG(0)).frames[:, 0]  # of 890 samples: the last whole window
    assert end.tolist() == [-(1000 + i) for i in range(790, 890)]
    judged = RecordingSamples(wanted, corpus, "validation", made)
    assert all(judged.sample(0, epoch, RNG(0)).frames.min() > 0 for epoch in range(3))
    with pytest.raises(
        RecipeError, match=r"audio_variants: expected 0 for a cache without a chain"
    ):
        RecordingSamples(wanted, corpus, "train", FeatureCache(tmp_path, wanted.features))


def test_side_values_come_with_every_window(corpus: Corpus, cache: FeatureCache) -> None:
    samples = RecordingSamples(recipe(side=2), corpus, "test", cache)
    side = samples.sample(3, 0, RNG(0)).side
    assert side is not None
    assert (side.tolist(), side.dtype) == ([4, 0.5], np.float32)
    assert RecordingSamples(recipe(), corpus, "test", cache).sample(0, 0, RNG(0)).side is None
    with pytest.raises(
        RecipeError, match=r"test/long: recordings.side: expected 22 .* got 2 \(4 such"
    ):
        RecordingSamples(recipe(side=22), corpus, "test", cache)
    without = replace(
        corpus, items=tuple(replace(i, side=()) for i in corpus.items[:3]) + corpus.items[3:]
    )
    assert RecordingSamples(recipe(side=2), without, "test", cache).left_out == 1


def test_samples_can_be_sent_to_other_processes(corpus: Corpus, cache: FeatureCache) -> None:
    samples = RecordingSamples(recipe(), corpus, "train", cache)
    sent = pickle.loads(pickle.dumps(samples))
    assert np.array_equal(sent.sample(2, 3, RNG(4)).frames, samples.sample(2, 3, RNG(4)).frames)


def test_statistics_are_those_of_the_windows(corpus: Corpus, cache: FeatureCache) -> None:
    samples = RecordingSamples(recipe(test=Cut.CONSECUTIVE), corpus, "test", cache)
    every = np.concatenate([samples.sample(i, 0, RNG(0)).frames for i in range(len(samples))])
    mean, scale = statistics(samples)
    assert mean == pytest.approx(every.mean(axis=0), rel=1e-5)
    assert scale == pytest.approx(every.std(axis=0), rel=1e-4)


def test_normalisation_is_over_all_frames_of_the_training(
    corpus: Corpus, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every recording that is learned from, also where no window is cut; read once."""
    wanted = recipe(train=Cut.CENTRE, short=Short.DISCARD)
    samples = RecordingSamples(wanted, corpus, "train", cache)
    every = np.concatenate([cache.frames(item) for item in samples.items]).astype(np.float64)
    assert len(every) == 950 + 100 + 411
    monkeypatch.setattr(cache_module, "BLOCK", 64)
    told: list[tuple[str, int, int]] = []
    mean, deviation = samples.moments(lambda *now: told.append(now))
    assert mean == pytest.approx(every.mean(axis=0), rel=1e-6)
    assert deviation == pytest.approx(every.std(axis=0), rel=1e-6)
    assert told[-1] == ("normalisation", 3, 3)
    monkeypatch.setattr(FeatureCache, "window", lambda *_: pytest.fail("read again"))
    assert np.array_equal(np.stack(samples.moments()), np.stack([mean, deviation]))


def test_moments_are_exact_far_from_zero() -> None:
    frames = RNG(0).normal([-200, 1e4], [1e-2, 1], (999, 2))
    mean, deviation = moments([frames[:1], frames[1:700], frames[700:]])
    assert mean == pytest.approx(frames.mean(axis=0))
    assert deviation == pytest.approx(frames.std(axis=0), rel=1e-6)


def test_a_split_without_usable_recordings_is_an_error_with_the_reason(
    corpus: Corpus, cache: FeatureCache
) -> None:
    train = replace(corpus, items=corpus.of("train"))
    with pytest.raises(RecipeError, match=r"'test', got none .* \(5 train, 0 validation, 0 test\)"):
        RecordingSamples(recipe(), train, "test", cache)
    broken = replace(corpus, items=corpus.items[-1:])
    with pytest.raises(RecipeError, match="train/broken: expected audio, but it cannot be decoded"):
        RecordingSamples(recipe(), broken, "train", cache)
    short = replace(corpus, items=tuple(i for i in corpus.items if i.name.endswith("short")))
    with pytest.raises(RecipeError, match="train/short: shorter than a window of 100 frames"):
        RecordingSamples(recipe(short=Short.DISCARD), short, "train", cache)
    nameless = replace(corpus, tags=(), items=tuple(replace(i, tags=()) for i in corpus.items))
    with pytest.raises(RecipeError, match="expected tags to learn, got recordings without any"):
        RecordingSamples(recipe(), nameless, "train", cache)
    rebuilt = RecordingSamples(replace(recipe(), task=Task.RECONSTRUCT), nameless, "train", cache)
    assert rebuilt.truth().shape == (4, 0)
