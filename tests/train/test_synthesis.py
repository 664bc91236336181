"""Training data: honest splits, exact labels, the same frames and padding as in service."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from support.paths import SHARED

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import frames_of
from streamtag.engine.windows import pad_past
from streamtag.errors import RecipeError
from streamtag.model.bundle import silence_frame
from streamtag.model.card import PastPadding
from streamtag.train.data.effects import in_random_place, power
from streamtag.train.recipes.file import load_recipe
from streamtag.train.synthesis import stems
from streamtag.train.synthesis.midi import Note, parts, write_midi
from streamtag.train.synthesis.mixtures import (
    StemLibrary,
    WindowShape,
    draw_mixture,
    draw_non_music,
    excerpt,
    target_of_coverage,
)
from streamtag.train.synthesis.notes import (
    SPLITS,
    change_pitch,
    melody,
    rhythm,
    samples,
    split_of,
    trim,
)
from streamtag.train.synthesis.pieces import merge_parts, orchestrated, truth
from streamtag.train.synthesis.prepared import folder_of
from streamtag.train.synthesis.renders import FAMILIES
from streamtag.train.synthesis.stems import TICK, Stem, activity, make_stem

DATA = SHARED / "data"
RATE = 8000
FEATURES = FeatureConfig(sample_rate=RATE, n_fft=256, hop=128, n_mels=16, log_offset=1e-6)
SHAPE = WindowShape(FEATURES, window_frames=64, first_frames=16, tags=("low", "high"))


def tone_stem(family: str, hertz: float, seconds: float = 4.0) -> Stem:
    time = np.arange(round(seconds * RATE)) / RATE
    made = make_stem(family, "real", np.sin(2 * np.pi * hertz * time).astype(np.float32), RATE)
    assert made is not None
    return made


def library() -> StemLibrary:
    return StemLibrary([tone_stem("low", 300), tone_stem("high", 2500)], [], SHAPE.tags)


def test_the_same_seed_gives_the_same_window_and_another_one_another() -> None:
    one, other = (draw_mixture(library(), SHAPE, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])
    third = draw_mixture(library(), SHAPE, np.random.default_rng(6))
    assert not np.array_equal(one[0], third[0])


def test_targets_match_the_frames() -> None:
    """Where a tag is surely on, its tone stands out of the spectrum; where off, it does not."""
    rng = np.random.default_rng(0)
    on: list[float] = []
    off: list[float] = []
    for _ in range(400):
        frames, targets = draw_mixture(library(), SHAPE, rng)
        mean = frames.mean(axis=0)
        contrast = float(mean[10:].max() - np.median(mean))
        if targets[1] == 1 and targets[0] == 0:
            on.append(contrast)
        if targets[1] == 0 and targets[0] == 1:
            off.append(contrast)
    assert min(len(on), len(off)) > 20
    assert np.median(on) > np.median(off) + 3


@pytest.mark.parametrize("n_frames", [16, 63, 64, 65])
def test_a_window_is_padded_as_the_engine_pads(n_frames: int) -> None:
    rng = np.random.default_rng(1)
    sound = (0.1 * rng.standard_normal(FEATURES.span(0, n_frames)[1])).astype(np.float32)
    heard = frames_of(sound, FEATURES)[-64:]
    served = np.zeros((64, 16), np.float32)
    served[64 - len(heard) :] = heard
    pad_past(served, len(heard), PastPadding.SILENCE, silence_frame(FEATURES))
    assert np.array_equal(SHAPE.frames(sound), served)


@pytest.mark.parametrize(
    ("coverage", "expected"), [(0, 0), (0.25, 0), (0.5, 0.5), (0.75, 1), (1, 1)]
)
def test_a_tag_counts_half_when_it_sounds_for_half_the_window(
    coverage: float, expected: float
) -> None:
    assert target_of_coverage(coverage) == expected


def test_an_excerpt_knows_for_how_long_it_sounds() -> None:
    rng = np.random.default_rng(3)
    shares, levels = [], []
    for _ in range(200):
        audio, share = excerpt(tone_stem("low", 300), RATE, RATE, rng)
        loud = np.abs(audio) > 0.2
        assert share == pytest.approx(loud.mean() / (2 / np.pi * 1.4), abs=0.25)
        shares.append(share)
        levels.append(np.sqrt(power(audio[loud])))
    assert min(shares) < 0.3
    assert np.mean(np.array(shares) > 0.95) > 0.5
    assert np.median(levels) == pytest.approx(1.0, rel=0.2)


def test_activity_follows_a_phrase_and_bridges_the_gaps_of_a_rhythm() -> None:
    audio = np.zeros(4 * RATE, np.float32)
    audio[RATE : RATE + 400] = 1
    audio[RATE + 1600 : RATE + 2000] = 1
    active = activity(audio, RATE)
    assert len(active) == 80
    assert not active[:20].any()
    assert active[20:30].all()
    assert not active[31:].any()
    assert make_stem("low", "real", np.zeros(RATE, np.float32), RATE) is None


def test_silence_stays_silence_and_nothing_is_on() -> None:
    quiet = StemLibrary([tone_stem("low", 300), tone_stem("high", 900)], [], SHAPE.tags)
    rng = np.random.default_rng(4)
    silence = math.log(1e-10 + 1e-6)
    empty = [f for f, t in (draw_mixture(quiet, SHAPE, rng) for _ in range(300)) if not t.any()]
    assert any(np.allclose(frames, silence, atol=1e-3) for frames in empty)


def test_a_tag_without_stems_is_refused() -> None:
    with pytest.raises(RecipeError, match="tag 'high': expected stems"):
        StemLibrary([tone_stem("low", 300)], [], SHAPE.tags)


def test_a_place_changes_the_sound_but_not_much_its_power() -> None:
    dry = np.sin(np.arange(RATE) * 0.3).astype(np.float32)
    ratios = []
    for seed in range(30):
        wet = in_random_place(dry, RATE, np.random.default_rng(seed))
        assert wet.shape == dry.shape
        assert wet.dtype == np.float32
        ratios.append(power(wet) / power(dry))
    assert 0.3 < float(np.median(ratios)) < 3
    assert len({round(r, 6) for r in ratios}) > 10


def test_notes_become_phrases_of_the_length_wanted() -> None:
    rng = np.random.default_rng(1)
    note = np.sin(np.arange(RATE) * 0.2).astype(np.float32)
    for make in (melody, rhythm):
        made = make([note, note[::2]], RATE, 3.0, rng)
        assert made.shape == (3 * RATE,)
        assert np.abs(made).max() == pytest.approx(1.0)
    assert len(change_pitch(note, 12)) == pytest.approx(RATE / 2, abs=2)
    padded = np.concatenate([np.zeros(500, np.float32), 0.1 * note, np.zeros(500, np.float32)])
    assert len(trim(padded, RATE)) == pytest.approx(RATE, abs=100)
    assert len(trim(np.zeros(100, np.float32), RATE)) == 0


# -- MIDI ----------------------------------------------------------------------------------------


def test_midi_files_come_back_as_they_were_written(tmp_path: Path) -> None:
    notes = [Note(0.0, 0.5, 60, 100), Note(0.5, 1.0, 64, 90), Note(0.5, 2.0, 67, 80)]
    hits = [Note(0.25, 0.35, 36, 110)]
    path = tmp_path / "written.mid"
    write_midi(path, [(40, False, notes), (0, True, hits)])
    back = parts(path)
    assert [(p, d) for p, d, _ in back] == [(40, False), (0, True)]
    for found, wrote in zip(back[0][2], notes, strict=True):
        assert (found.pitch, found.velocity) == (wrote.pitch, wrote.velocity)
        assert found.start == pytest.approx(wrote.start, abs=2e-3)
        assert found.end == pytest.approx(wrote.end, abs=2e-3)


def test_the_truth_of_a_piece_is_what_its_parts_play() -> None:
    tags = ("strings", "drums", "synth", "guitar")
    written = [
        (40, False, [Note(1.0, 2.0, 60, 90)]),
        (0, True, [Note(4.0, 4.01, 36, 90)]),
        (46, False, [Note(0.0, 1.0, 60, 90)]),  # a harp: perhaps a guitar
        (24, False, [Note(0.5, 0.6, 60, 90)]),  # a guitar: certainly one
    ]
    table = truth(written, tags, 5.0)
    assert table.shape == (100, 4)
    strings, drums, synth, guitar = table.T
    assert strings.nonzero()[0].tolist() == list(range(20, 46))
    assert drums.nonzero()[0].tolist() == list(range(80, 90))
    assert not synth.any()
    assert np.isnan(guitar[:10]).all()
    assert (guitar[10:18] == 1).all()
    assert np.isnan(guitar[18:26]).all()
    assert (guitar[26:] == 0).all()


def test_parts_of_one_program_are_merged_and_the_fullest_kept() -> None:
    note = Note(0.0, 1.0, 60, 90)
    written = [(p, False, [note] * (p + 1)) for p in range(20)] + [(3, False, [note])]
    written += [(5, True, [note]), (9, True, [note])]
    together = merge_parts(written)
    assert len(together) == 16
    assert {p for p, d, _ in together if not d} == set(range(5, 20))
    assert [len(n) for p, d, n in together if d] == [2]


def test_a_tune_is_orchestrated_with_the_families_asked_for() -> None:
    melody = [Note(0.5 * i, 0.5 * i + 0.45, 72 + i % 5, 80) for i in range(100)]
    chords = [Note(2.0 * i, 2.0 * i + 1.9, p, 70) for i in range(25) for p in (45, 52, 57)]
    written = [(0, False, melody), (0, False, chords)]
    tags = ("strings", "brass", "bass", "drums")
    made = [orchestrated(written, tags, np.random.default_rng(seed)) for seed in range(12)]
    allowed = {p for tag in tags[:3] for p in FAMILIES[tag]}
    table = np.mean([truth(parts, tags, 50.0).mean(axis=0) for parts in made], axis=0)
    assert all(0.1 < share < 0.8 for share in table)
    for parts_ in made:
        assert {p for p, drums, _ in parts_ if not drums} <= allowed
        assert all(0 <= n.start < n.end <= 60 for _, _, notes in parts_ for n in notes)
        begins = {round(min(n.start for n in notes)) for _, _, notes in parts_}
        assert len(begins) >= 3  # the instruments change on the way
    again = orchestrated(written, tags, np.random.default_rng(3))
    assert again == made[3]
    assert orchestrated([], tags, np.random.default_rng(0)) == []


def test_every_family_has_its_programs_and_shares_none() -> None:
    programs = [p for some in FAMILIES.values() for p in some]
    assert len(programs) == len(set(programs))
    assert set(FAMILIES) | {"drums"} == set(load_recipe("instruments").tags)


# -- splits --------------------------------------------------------------------------------------


def test_splits_are_stable() -> None:
    """A changed hash would move test notes into training."""
    known = {"cello A3": "train", "d_e1m1": "test", "tam-tam": "test", "oboe C5": "test"}
    assert {key: split_of(key) for key in known} == known
    shares = np.array([[split_of(str(i)) == s for s in SPLITS] for i in range(2000)]).mean(axis=0)
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_no_recording_and_no_piece_is_in_two_splits() -> None:
    if not (DATA / "philharmonia").is_dir():
        pytest.skip(f"{DATA} is not on this machine")
    found = samples(DATA)
    assert len(found) > 3000
    by_key: dict[str, set[str]] = {}
    for sample in found:
        by_key.setdefault(sample.key, set()).add(split_of(sample.key))
    assert all(len(splits) == 1 for splits in by_key.values())
    for family in ("strings", "woodwind", "brass", "guitar", "drums"):
        assert {split_of(s.key) for s in found if s.family == family} == set(SPLITS)
    written = [set(stems.pieces(DATA, split)) for split in SPLITS]
    assert sum(map(len, written)) == len(set().union(*written))


def test_unbowed_strings_and_whistles_are_no_examples() -> None:
    if not (DATA / "philharmonia").is_dir():
        pytest.skip(f"{DATA} is not on this machine")
    names = [s.path.stem for s in samples(DATA)]
    strings = [s.path.stem for s in samples(DATA) if s.family == "strings"]
    assert not [name for name in strings if "pizz" in name or "col-legno" in name]
    assert not [name for name in names if "whistle" in name or "motor-horn" in name]


def test_a_missing_soundfont_is_an_error_with_the_folders() -> None:
    with pytest.raises(RecipeError, match=r"soundfont Nobody: expected Nobody.sf2 or .sf3 in /usr"):
        stems.soundfont("Nobody")
    with pytest.raises(RecipeError, match="expected the folders philharmonia and sonic-pi"):
        samples(Path("/nowhere"))
    with pytest.raises(RecipeError, match="midi/nottingham: expected MIDI files"):
        stems.pieces(Path("/nowhere"), "train")


def test_data_is_shared_by_recipes_that_differ_only_in_the_fit(tmp_path: Path) -> None:
    recipe = load_recipe("instruments")
    slower = dataclasses.replace(recipe, fit=dataclasses.replace(recipe.fit, clip_norm=0.5))
    other = dataclasses.replace(recipe, first_frames=60)
    assert folder_of(recipe, tmp_path) == folder_of(slower, tmp_path)
    assert folder_of(recipe, tmp_path) != folder_of(other, tmp_path)


def test_ticks_are_shorter_than_a_hop() -> None:
    recipe = load_recipe("instruments")
    assert recipe.hop_frames / recipe.features.frame_rate > 4 * TICK


def test_non_music_windows_have_any_level_and_place() -> None:
    rng = np.random.default_rng(9)
    sounds = [rng.standard_normal(3 * RATE).astype(np.float32), np.ones(100, np.float32)]
    silence = frames_of(np.zeros(FEATURES.n_fft, np.float32), FEATURES)[0]
    made = [draw_non_music(sounds, SHAPE, rng) for _ in range(60)]
    assert {frames.shape for frames in made} == {(64, 16)}
    assert all(np.isfinite(frames).all() for frames in made)
    padded = [np.array_equal(frames[0], silence) for frames in made]
    assert 3 < sum(padded) < 50
    loudest = [float(frames.max()) for frames in made]
    assert max(loudest) - min(loudest) > 4
