"""Distillation: what teachers say, how it becomes labels, and how windows are blended."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.sounds import tone, write_wav
from torch import nn

from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.model.card import Card, PastPadding
from streamtag.model.tagger import Tagger
from streamtag.train.data.corpora import Item
from streamtag.train.data.vocabulary import (
    CATEGORIES,
    VocabularyTag,
    built_in,
    read_vocabulary,
)
from streamtag.train.distillation import sets as distilled
from streamtag.train.distillation.mixing import (
    SILENT_DB,
    KindColumns,
    LabelledTrack,
    MixedWindows,
    SoundMaterial,
    fixed_windows,
)
from streamtag.train.distillation.teachers import (
    TeacherScores,
    leniencies,
    logit_margins,
    score_recording,
    soft_labels,
    teacher_scores,
)
from streamtag.train.nets.model import Gate, Model, gate_of
from streamtag.train.recipes.file import load_recipe
from streamtag.train.recipes.recipe import Distil
from streamtag.train.synthesis import sounds

RECIPE = load_recipe("general")
FEATURES, SIZE, RATE = RECIPE.features, RECIPE.window_frames, RECIPE.features.sample_rate
TAGS = ("speech", "music", "silence", "rock", "brass")
COLUMNS = KindColumns(0, 1, 2)
OFFSET = np.log(np.float32(FEATURES.log_floor + FEATURES.log_offset))


class TestTeachers:
    def test_teacher_scores_are_those_of_the_window_around_a_moment(self, toy_bundle: Path) -> None:
        tagger = Tagger.load(toy_bundle, "cpu")
        rate, size = tagger.card.features.sample_rate, tagger.card.window_frames
        samples = np.concatenate([tone(3, rate, 200, 0.4), tone(3, rate, 3000, 0.4)])
        said = score_recording(tagger, samples, 0.5)
        frames = frames_of(samples, tagger.card.features)
        first = round(2 * 0.5 * tagger.card.features.frame_rate)
        np.testing.assert_allclose(said.scores[2], tagger(frames[None, first : first + size])[0])
        np.testing.assert_allclose(said.scores[-1], tagger(frames[None, -size:])[0])
        assert said.moments[2] == pytest.approx(1.0 + tagger.card.window_seconds / 2)
        assert (np.diff(said.moments) > 0).all()
        assert said.scores[1, 0] > 0.5 > said.scores[1, 1]
        assert said.scores[-1, 1] > 0.5 > said.scores[-1, 0]

    def test_a_short_recording_is_repeated(self, toy_bundle: Path) -> None:
        tagger = Tagger.load(toy_bundle, "cpu")
        said = score_recording(tagger, tone(0.4, tagger.card.features.sample_rate, 200, 0.4), 1.0)
        assert said.scores.shape == (1, 3)
        assert said.scores[0, 0] > 0.5

    def test_between_moments_it_is_linear_and_beyond_them_constant(self) -> None:
        said = TeacherScores(np.array([1.0, 3.0]), np.array([[0.0], [1.0]], np.float32))
        at = said.at(np.array([0.0, 1.5, 9.0]))
        assert at[:, 0].tolist() == [0, 0.25, 1]

    def test_nobody_is_asked_twice_but_another_teacher_is(
        self, tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rate = Tagger.load(toy_bundle, "cpu").card.features.sample_rate
        path = write_wav(tmp_path / "a.wav", tone(2, rate, 200, 0.4), rate)
        item, teachers = Item("a", path, (), "train"), {"x-toy": Tagger.load(toy_bundle, "cpu")}
        first = teacher_scores(teachers, item, {"x-toy": 0.5}, tmp_path / "said")
        path.unlink()
        again = teacher_scores(teachers, item, {"x-toy": 0.5}, tmp_path / "said")
        np.testing.assert_allclose(first["x-toy"].scores, again["x-toy"].scores, atol=1e-3)
        other = teachers | {"y-toy": teachers["x-toy"]}
        with pytest.raises(Exception, match=r"a\.wav"):
            teacher_scores(other, item, {"x-toy": 0.5, "y-toy": 0.5}, tmp_path / "said")


class TestLessons:
    def test_the_vocabulary_names_outputs_that_there_are(self) -> None:
        words = read_vocabulary("general")
        assert {word.category for word in words} <= set(CATEGORIES)
        assert {"speech", "music", "silence"} <= {word.tag for word in words}
        outputs = {
            name: {tag.rpartition("---")[2] for tag in built_in(name).tags}
            for name in ("jamendo", "mtat", "moodtheme")
        }
        families = load_recipe("instruments").tags
        for word in words:
            assert all(tag in outputs[vocabulary] for vocabulary, tag in word.teacher_tags), word
            assert word.family in (*families, "")
            assert word.teacher_tags or word.family or word.category == "kind", word
        assert {word.family for word in words} >= set(families)

    def test_a_soft_decision_is_one_half_at_the_thresholds(self) -> None:
        z = said({"a-net": 0.2, "a-crnn": 0.2}, VocabularyTag("rock", "genre", ROCK, ""))
        assert z == pytest.approx(0, abs=1e-6)
        assert soft_labels(np.array([[z]]), np.zeros(1), 2.0)[0, 0] == pytest.approx(0.5)

    def test_teachers_are_averaged_in_odds_above_their_own_thresholds(self) -> None:
        z = said({"a-net": 0.5, "a-crnn": 0.2}, VocabularyTag("rock", "genre", ROCK, ""))
        assert z == pytest.approx(0.5 * np.log(4), rel=1e-4)
        q = float(soft_labels(np.array([[z]]), np.array([0.3]), 3.0)[0, 0])
        assert np.log(q / (1 - q)) == pytest.approx(3 * (z + 0.3), rel=1e-4)

    def test_an_instrument_needs_one_vocabulary_a_genre_needs_both(self) -> None:
        heard = (("a", "rock"), ("b", "rock"))
        both = {"a-net": 0.9, "b-net": 0.001}
        assert said(both, VocabularyTag("rock", "instrument", heard, "")) > 3
        assert said(both, VocabularyTag("rock", "genre", heard, "")) < 0

    def test_tags_without_a_teacher_are_unknown(self) -> None:
        z = said({"a-net": 0.9}, VocabularyTag("brass", "instrument", (), "brass"))
        assert np.isnan(z)
        assert np.isnan(soft_labels(np.array([[z]]), np.zeros(1), 2.0)).all()

    def test_a_word_that_a_teacher_does_not_have_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="expected a tag 'rokc'"):
            said({"a-net": 0.9}, VocabularyTag("rock", "genre", (("a", "rokc"),), ""))

    def test_less_is_asked_for_rare_tags_within_limits(self) -> None:
        want = dataclasses.replace(distil(), leniency=(0.5, 1.0), common=0.1)
        often, rare, never = np.linspace(-3, 3, 1001), np.linspace(-3, -0.5, 1001), -9.0
        table = np.stack([often, rare, np.full(1001, never), np.full(1001, np.nan)], axis=1)
        found = leniencies(table, want)
        assert found.tolist() == [0.5, pytest.approx(0.75, abs=0.01), 1.0, 1.0]
        on = soft_labels(table, found, 2.0) >= 0.5
        assert on[:, 1].mean() == pytest.approx(0.1, abs=0.002)
        assert not on[:, 2].any()

    def test_recordings_with_rare_tags_are_drawn_oftener(self) -> None:
        labels = [np.array([[0.9, 0.1, np.nan]])] * 99 + [np.array([[0.9, 0.9, np.nan]])]
        found = distilled.sampling_weights(labels)
        assert found[:99].tolist() == [1] * 99
        assert found[99] == pytest.approx(np.sqrt(0.1 / 0.01))


ROCK = (("a", "rock"),)


def distil() -> Distil:
    assert RECIPE.distil is not None
    return RECIPE.distil


def said(teachers: dict[str, float], word: VocabularyTag) -> float:
    """What teachers with thresholds of 0.2 say of one word, at one moment."""
    card = Card(
        name="t", net="n", features=FEATURES, window_frames=1, hop_frames=1, first_frames=1,
        padding=PastPadding.SILENCE, tags=("genre---rock",), on_thresholds=(0.2,),
        off_thresholds=(0.1,),
    )  # fmt: skip
    found = {
        n: TeacherScores(np.array([1.0]), np.array([[p]], np.float32)) for n, p in teachers.items()
    }
    table = logit_margins((word,), found, dict.fromkeys(teachers, card), np.array([5.0]))
    assert table.shape == (1, 1)
    return float(table[0, 0])


def loud(frames: int = 400, level: float = 0.0) -> np.ndarray:
    """Frames of something loud, (frames, width)."""
    noise = np.random.default_rng(0).normal(0, 1, (frames, FEATURES.n_mels))
    return (noise + 2 + level).astype(np.float32)


def material() -> SoundMaterial:
    labels = np.tile(np.array([np.nan, np.nan, np.nan, 0.8, np.nan], np.float32), (20, 1))
    mixed = np.array([[np.nan, 1, np.nan, np.nan, 1]], np.float32)
    return SoundMaterial([LabelledTrack((loud(), loud()), labels)], [(loud(SIZE)[None], mixed)],
                    [loud(50, -1)], [loud(300, 1)])  # fmt: skip


def blend(*shares: float, plain: bool = False, source: SoundMaterial | None = None) -> MixedWindows:
    some = source or material()
    return MixedWindows(some, TAGS, COLUMNS, FEATURES, SIZE, 42, 64, shares, plain=plain)  # type: ignore[arg-type]


def drawn(source: MixedWindows, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    some = [source.sample(i, 0, np.random.default_rng(i)) for i in range(n)]
    return np.stack([s.frames for s in some]), np.stack([s.targets for s in some])


class TestBlend:
    def test_plain_music_is_as_it_is(self) -> None:
        track = material().tracks[0].versions[0]
        frames, targets = drawn(blend(1, 0, 0, 0, plain=True), 5)
        assert targets[:, :4].tolist() == [[0, 1, 0, pytest.approx(0.8)]] * 5
        assert np.isnan(targets[:, 4]).all()
        starts = [np.abs(track[:, 0] - f[0, 0]).argmin() for f in frames]
        for f, start in zip(frames, starts, strict=True):
            np.testing.assert_allclose(f, track[start : start + SIZE], atol=1e-4)

    def test_labels_are_those_of_the_windows_middle(self) -> None:
        labels = np.full((20, 5), np.nan, np.float32)
        labels[:, 3] = np.arange(20) / 20
        ramp = np.tile(np.arange(400, dtype=np.float32)[:, None] / 100, (1, FEATURES.n_mels))
        source = SoundMaterial([LabelledTrack((ramp,), labels)], [], [], [])
        frames, targets = drawn(blend(1, 0, 0, 0, plain=True, source=source), 20)
        middle = (frames[:, 0, 0] * 100 + SIZE / 2) / FEATURES.frame_rate
        assert targets[:, 3] == pytest.approx(np.round(middle / 0.5) / 20, abs=0.051)

    def test_speech_over_music_is_both_or_hides_it(self) -> None:
        _, targets = drawn(blend(1, 0, 0, 0))
        spoken = targets[:, 0] == 1
        assert 0.05 < spoken.mean() < 0.18
        assert (targets[spoken, 1] == 1).all()
        assert set(np.isnan(targets[spoken, 3])) == {True, False}
        assert not np.isnan(targets[~spoken, 3]).any()

    def test_sounds_have_none_of_the_musics_tags(self) -> None:
        _, targets = drawn(blend(0, 0, 1, 0))
        assert (targets[:, 1:] == 0).all()
        assert 0.4 < (targets[:, 0] == 1).mean() < 0.8

    def test_mixtures_keep_their_truth(self) -> None:
        _, targets = drawn(blend(0, 1, 0, 0), 5)
        assert targets[:, [1, 4]].tolist() == [[1, 1]] * 5
        assert np.isnan(targets[:, [0, 3]]).all()

    def test_silence_is_silence_and_nothing_else(self) -> None:
        frames, targets = drawn(blend(0, 0, 0, 1))
        assert (targets[:, 2] == 1).mean() > 0.85  # the rest was made louder
        assert (targets[:, [0, 1, 3, 4]] == 0).all()
        assert frames.max() < 0

    def test_half_of_it_silent_is_half_silence(self) -> None:
        quiet = np.full((SIZE // 2, FEATURES.n_mels), OFFSET, np.float32)
        labels = np.full((5, 5), 1.0, np.float32)
        both = np.concatenate([loud(SIZE - SIZE // 2), quiet])
        source = SoundMaterial([LabelledTrack((both,), labels)], [], [], [])
        _, targets = drawn(blend(1, 0, 0, 0, plain=True, source=source), 1)
        assert targets[0].tolist() == [0, 0.5, 0.5, 0.5, 0.5]

    def test_its_limit_is_noise_of_a_known_level(self) -> None:
        rng = np.random.default_rng(1)
        noise = rng.standard_normal(4 * RATE).astype(np.float32)
        shares = []
        for decibel in (SILENT_DB - 3, SILENT_DB + 3):
            frames = frames_of(noise * np.float32(10 ** (decibel / 20)), FEATURES)
            labels = np.full((20, 5), np.nan, np.float32)
            source = SoundMaterial([LabelledTrack((frames,), labels)], [], [], [])
            shares.append(drawn(blend(1, 0, 0, 0, plain=True, source=source), 3)[1][:, 2].mean())
        assert shares[0] > 0.9
        assert shares[1] < 0.1

    def test_beginnings_of_streams_are_padded_with_silence(self) -> None:
        frames, _ = drawn(blend(0, 1, 0, 0))
        empty = (frames == OFFSET).all(axis=2)
        begun = empty[:, 0]
        assert 0.1 < begun.mean() < 0.3
        heard = SIZE - empty[begun].sum(axis=1)
        assert heard.min() >= 42
        assert (np.diff(empty[begun].astype(int), axis=1) <= 0).all()

    def test_the_same_generator_gives_the_same_window(self) -> None:
        one, other = drawn(blend(0.4, 0.3, 0.2, 0.1), 20), drawn(blend(0.4, 0.3, 0.2, 0.1), 20)
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])

    def test_fixed_windows_have_hard_targets(self) -> None:
        kept = fixed_windows(blend(0.5, 0.3, 0.1, 0.1), 40, 1)
        truth = kept.truth()
        assert truth.shape == (len(kept), len(TAGS))
        assert set(np.unique(truth[~np.isnan(truth)])) == {0, 1}
        assert set(truth[:, 3][~np.isnan(truth[:, 3])]) == {0, 1}
        first = kept.sample(3, 0, np.random.default_rng(0))
        again = kept.sample(3, 5, np.random.default_rng(9))
        np.testing.assert_array_equal(first.frames, again.frames)


class Says(nn.Module):
    """The same logits to every window."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.register_buffer("said", torch.tensor(logits))

    def logits(self, frames: torch.Tensor) -> torch.Tensor:
        return self.said.expand(frames.shape[0], -1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.logits(frames))


class TestGate:
    def test_no_genre_without_music(self) -> None:
        said = [0.5, -1.0, 2.0, -3.0, 30.0]
        frames, free = torch.zeros(2, 4, 3), torch.sigmoid(torch.tensor(said))
        model = Model(Says(said), 5, 3, Gate(1, (2, 3, 4))).eval()
        for module in (model, torch.jit.script(model)):
            p = module(frames)[0]
            assert torch.allclose(p[:2], free[:2])
            assert torch.allclose(p[2:], free[2:] * free[1], atol=1e-6)
        assert torch.isfinite(model.logits(frames)).all()

    def test_certain_music_changes_nothing_and_finitely(self) -> None:
        said = [40.0, 40.0, -40.0]
        model = Model(Says(said), 3, 3, Gate(0, (1, 2)))
        found = model.logits(torch.zeros(1, 4, 3))[0]
        assert torch.isfinite(found).all()
        assert found[1] > 14
        assert found[2] == pytest.approx(-40, abs=1e-3)

    def test_in_training_tags_are_free(self) -> None:
        model = Model(Says([-9.0, 2.0]), 2, 3, Gate(0, (1,)))
        heard: list[torch.Tensor] = []

        def criterion(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            heard.append(logits)
            return logits.sum()

        model.loss(torch.zeros(1, 4, 3), torch.zeros(1, 2), None, criterion)
        assert heard[0].tolist() == [[-9.0, 2.0]]

    def test_weights_do_not_know_of_it(self) -> None:
        gated, free = Model(Says([0.0, 1.0]), 2, 3, Gate(0, (1,))), Model(Says([0.0, 1.0]), 2, 3)
        assert gated.state_dict().keys() == free.state_dict().keys()

    def test_of_the_recipe_is_everything_but_kinds(self) -> None:
        gate = gate_of(RECIPE)
        words = read_vocabulary("general")
        assert gate is not None
        assert words[gate.by].tag == "music"
        assert {words[i].category for i in gate.tags} == {"genre", "instrument", "mood/theme"}
        assert gate_of(load_recipe("instruments")) is None


class TestSounds:
    def test_joined_recordings_are_of_one_voice_with_pauses(self) -> None:
        parts = [tone(0.5, 8000, 300 + 50 * i, 0.3) for i in range(80)]
        found = sounds.join_recordings(parts, 8000, np.random.default_rng(1))
        assert len(found) >= 2
        assert all(14 <= len(s) / 8000 < 16 for s in found)
        assert all((s == 0).mean() > 0.05 for s in found)

    def test_silent_parts_are_left_out(self) -> None:
        assert sounds.join_recordings([np.zeros(80000, np.float32)] * 9, 8000,
                                np.random.default_rng(1)) == []  # fmt: skip

    def test_synthetic_noises_are_as_long_as_told_at_many_levels(self) -> None:
        found = sounds.synthetic_noises(8000, 1)
        assert len(found) == sounds.SYNTHETIC_NOISES
        assert all(
            len(s) == sounds.SYNTHETIC_SECONDS * 8000 and np.abs(s).max() <= 1 for s in found
        )
        levels = [float(np.sqrt(np.mean(s**2))) for s in found]
        assert min(levels) < 0.01
        assert max(levels) > 0.1
        again = sounds.synthetic_noises(8000, 1)
        assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))

    def test_no_voice_and_no_language_is_in_two_splits(self) -> None:
        for table in (
            sounds.ANNOUNCERS,
            sounds.ESPEAK_LANGUAGES,
            sounds.WORD_LANGUAGES,
            sounds.FLITE_VOICES,
        ):
            everyone = [name for some in table.values() for name in some]
            assert len(everyone) == len(set(everyone))
        assert not any("Allison" in v for v in (*sounds.ANNOUNCERS["validation"],))


class TestSplit:
    def test_whole_sources_and_single_tracks_are_kept_away(self, tmp_path: Path) -> None:
        rows = [f"t{i}.opus\t{'kept/away' if i % 10 == 0 else 'seen/some'}" for i in range(400)]
        (tmp_path / "music").mkdir()
        table = "\n".join(["file\tsource", *rows])
        (tmp_path / "music" / "train.tsv").write_text(table + "\n")
        want = dataclasses.replace(distil(), unseen_sources=("kept/away",))
        items = distilled.music_items(want, tmp_path)
        assert {i.group for i in items["unseen sources"]} == {"kept/away"}
        assert len(items["unseen sources"]) == 40
        assert all(i.group == "seen/some" for part in ("train", "validation", "unseen tracks")
                   for i in items[part])  # fmt: skip
        assert sum(map(len, items.values())) == 400
        assert 200 < len(items["train"]) < 320
        assert min(len(items["validation"]), len(items["unseen tracks"])) > 15

    def test_a_source_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "music").mkdir()
        (tmp_path / "music" / "train.tsv").write_text("file\tsource\na.opus\tb\n")
        with pytest.raises(RecipeError, match=r"unseen_sources: .*, got '"):
            distilled.music_items(distil(), tmp_path)

    def test_truth_of_mixtures_is_spread_over_the_students_columns(self) -> None:
        words = read_vocabulary("general")
        families = load_recipe("instruments").tags
        one = np.zeros((2, len(families)), np.float32)
        one[0, families.index("brass")] = 1
        table = distilled.student_targets(one, families, words)
        row = dict(zip((w.tag for w in words), table[0], strict=True))
        assert (row["brass"], row["drums"], row["music"], row["vocals"]) == (1, 0, 1, 0)
        assert np.isnan([row["rock"], row["speech"], row["happy"]]).all()
        assert np.isnan(table[1, [w.tag for w in words].index("music")])
