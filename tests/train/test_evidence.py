"""Teachers combined by evidence, labels that follow the truth, windows of what stations send."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.model.card import Card, PastPadding
from streamtag.train.data.corpora import Item
from streamtag.train.data.known import KnownItem
from streamtag.train.data.vocabulary import VocabularyTag
from streamtag.train.distillation.evidence import Combination, learn
from streamtag.train.distillation.labels import judging_truth, learn_labels
from streamtag.train.distillation.long_programme import LongProgrammes, ProgrammePart
from streamtag.train.distillation.mixing import LabelledTrack, SoundMaterial
from streamtag.train.distillation.programme import ProgrammeWindows
from streamtag.train.distillation.sets import instrument_recipe, validation_windows
from streamtag.train.distillation.teachers import TeacherScores
from streamtag.train.evaluation.metrics import rank_correlation
from streamtag.train.nets.dimensions import with_dimensions
from streamtag.train.nets.efficientat import StreamedEfficientAt
from streamtag.train.nets.model import model_of
from streamtag.train.nets.net import past_windows
from streamtag.train.recipes.file import load_recipe
from streamtag.train.training.embedded import embedded_windows
from streamtag.train.training.predictions import cross_entropy

RECIPE = load_recipe("general-2")
TAGS = ("speech", "music", "silence", "noise", "rock", "male voice")
N_TARGETS = len(TAGS) + 3 + 2
VOCABULARY = (
    VocabularyTag("rock", "genre", (("a", "rock"),), ""),
    VocabularyTag("sad", "mood/theme", (("a", "sad"),), ""),
)


KINDS = tuple(
    VocabularyTag(tag, "kind", (("audioset", tag.title()),), "")
    for tag in ("music", "singing", "silence", "speech")
)
KIND_CARD = Card(
    name="t", net="n", features=RECIPE.features, window_frames=1, hop_frames=1,
    first_frames=1, padding=PastPadding.SILENCE, tags=("Music", "Singing", "Silence", "Speech"),
    on_thresholds=(0.2,) * 4, off_thresholds=(0.1,) * 4,
)  # fmt: skip


def learned(truth: float = np.nan) -> tuple[Combination, np.ndarray]:
    """Two teachers that hear the same in 40 recordings, and one that guesses."""
    rng = np.random.default_rng(0)
    heard = rng.normal(size=(40, 1, 2, 1))
    logits = np.concatenate([heard * 2 - 5, heard + 0.1 * rng.normal(size=heard.shape),
                             rng.normal(size=heard.shape)], axis=3)  # fmt: skip
    known = np.full((40, 2), truth)
    if not np.isnan(truth):
        known[:, 0] = (heard[:, 0, 0, 0] > 0) == bool(truth)
    return learn(VOCABULARY, ("a", "b", "c"), list(logits), known), logits[:, 0]


class TestEvidence:
    def test_teachers_that_agree_with_nobody_are_not_heard(self) -> None:
        made, _ = learned()
        assert (made.weights[:, 2] < 0.15).all()
        assert made.weights.sum(axis=1) == pytest.approx(1)

    def test_the_truth_overrules_agreement(self) -> None:
        made, _ = learned(truth=0)
        assert np.nanmax(made.truth[0, :2]) < 0.2
        assert made.weights[0, 2] >= made.weights[0, :2].max()

    def test_labels_follow_the_order_of_the_teachers_whatever_their_scale(self) -> None:
        made, logits = learned()
        labels = made.soft_labels(logits, 2.0)
        for tag in range(2):
            assert rank_correlation(labels[:, tag], logits[:, tag, 0]) > 0.95

    def test_a_recording_that_a_teacher_did_not_hear_has_labels(self) -> None:
        made, logits = learned()
        missing = logits.copy()
        missing[:, :, 1:] = np.nan
        assert np.isfinite(made.soft_labels(missing, 2.0)).all()
        missing[:] = np.nan
        assert np.isnan(made.soft_labels(missing, 2.0)).all()

    def test_what_may_be_no_music_is_not_called_music(self) -> None:
        known = KnownItem(Item("a", Path("a"), (), "train", "a", 0, 9), {"music": 1.0})
        piece, wind, voice = (
            {"audioset": TeacherScores(np.arange(4.0), np.array([heard] * 4, np.float32))}
            for heard in ((0.9, 0.001, 0.01, 0.0), (0.1, 0.001, 0.01, 0.0), (0.1, 0.5, 0.01, 0.0))
        )
        made = learn_labels(KINDS, {"audioset": KIND_CARD}, [(known, piece), (known, voice)], 1.3)
        assert (made.labels(piece, known)[:, 0] == 1).all()
        assert np.isnan(made.labels(wind, known)[:, 0]).all()
        assert (made.labels(voice, known)[:, 0] == 1).all()

    def test_who_is_known_to_sing_does_not_speak(self) -> None:
        item = Item("a", Path("a"), (), "train", "a", 0, 9)
        anybody, singer = KnownItem(item), KnownItem(item, {"singing": 1.0})
        heard = {
            "patter": (0.9, 0.5, 0.01, 0.6),  # AudioSet hears singing and speech
            "introduction": (0.9, 0.001, 0.01, 0.6),  # nobody sings yet
        }
        scores = {
            name: {"audioset": TeacherScores(np.arange(4.0), np.array([p] * 4, np.float32))}
            for name, p in heard.items()
        }
        training = [(anybody, own) for own in scores.values()]
        made = learn_labels(KINDS, {"audioset": KIND_CARD}, training, 1.3)
        for own in scores.values():
            assert (made.labels(own, anybody)[:, 3] > 0.5).all()
        assert (made.labels(scores["patter"], singer)[:, 3] < 0.1).all()
        assert (made.labels(scores["patter"], singer, sung_speech=1.0)[:, 3] > 0.5).all()
        assert (made.labels(scores["introduction"], singer)[:, 3] > 0.5).all()

    def test_the_table_has_a_row_per_tag(self) -> None:
        rows = learned()[0].table(["rock", "sad"]).splitlines()
        assert [row.split("|")[1].strip() for row in rows[2:]] == ["rock", "sad"]

    def test_a_named_genre_excludes_the_others_and_silence_about_it_says_nothing(self) -> None:
        vocabulary = (*VOCABULARY, VocabularyTag("jazz", "genre", (), ""))
        item = Item("x", Path("x.opus"), (), "train")
        named = judging_truth(vocabulary, KnownItem(item, {"rock": 1.0}))
        np.testing.assert_array_equal(named, [1, np.nan, 0])
        assert np.isnan(judging_truth(vocabulary, KnownItem(item))).all()


def noise(seconds: float, level: float) -> np.ndarray:
    """Frames of noise of so much power per band."""
    n = round(seconds * RECIPE.features.frame_rate)
    rng = np.random.default_rng(1)
    power = level * rng.gamma(4, 0.25, (n, RECIPE.features.n_mels))
    return np.log(power + RECIPE.features.log_offset).astype(np.float16)


def windows(tone: float | None = None, **more: object) -> ProgrammeWindows:
    labels = np.zeros((200, N_TARGETS), np.float32)
    labels[:, 1], labels[:, 4] = 1, np.linspace(0.2, 0.9, 200)
    labels[:, len(TAGS) : len(TAGS) + 3] = 0.5, -0.5, 1
    labels[:, -2:] = 3
    track = LabelledTrack((noise(40, 1.0),), labels)
    if tone is not None:
        samples = tone * np.sin(np.arange(20 * 32000) * 2 * np.pi * 200 / 32000)
        track = LabelledTrack((frames_of(samples.astype(np.float32), RECIPE.features),), labels)
        more["plain"] = True
    material = SoundMaterial([track], [], [noise(12, 0.1)], [noise(12, 0.3)])
    settings: dict[str, object] = {"shares": (0.6, 0.0, 0.3, 0.1), "count": 10} | more
    return ProgrammeWindows(material, TAGS, RECIPE.features, 960, **settings)  # type: ignore[arg-type]


class TestProgramme:
    def test_half_of_the_validation_is_music_to_which_nothing_is_done(self) -> None:
        sounds = windows(shares=(0.0, 0.0, 1.0, 0.0))
        made = validation_windows(sounds, windows(plain=True), 10)
        assert made.targets.shape == (10, len(TAGS))
        assert (np.nan_to_num(made.targets[:5, 1]) == 0).all()
        assert (made.targets[5:, 1] == 1).all()
        assert made.dimensions is not None
        assert made.dimensions[:, 2].tolist() == [0.0] * 5 + [1.0] * 5

    def test_plain_windows_have_the_labels_of_their_track(self) -> None:
        sample = windows(plain=True).sample(0, 0, np.random.default_rng(2))
        assert sample.frames.shape == (960, RECIPE.features.n_mels)
        assert sample.targets[1] == 1
        assert 0.2 <= sample.targets[4] <= 0.9
        assert sample.targets[-2:].tolist() == [3, 3]

    def test_whatever_is_drawn_has_targets_in_range_and_finite_frames(self) -> None:
        source, taught = windows(), 0
        for i in range(60):
            sample = source.sample(i, 0, np.random.default_rng(i))
            tags = sample.targets[: len(TAGS)]
            assert np.isfinite(sample.frames).all()
            assert ((tags >= 0) & (tags <= 1) | np.isnan(tags)).all()
            assert sample.targets[len(TAGS) + 2] in (0, 1)
            if tags[0] == 1:  # who speaks is unknown, and what a teacher heard was music alone
                assert np.isnan(tags[5])
                assert np.isnan(sample.targets[-2:]).all()
            taught += int(np.isfinite(sample.targets[-1]))
        assert taught

    def test_quiet_music_keeps_its_labels_and_a_pause_is_silence(self) -> None:
        """A faint low tone has little power after pre-emphasis, but is no silence."""
        quiet, pause = (windows(tone=level).sample(0, 0, np.random.default_rng(3)).targets
                        for level in (1e-2, 0.0))  # fmt: skip
        assert quiet[[1, 2]].tolist() == [1, 0]
        assert pause[[1, 2]].tolist() == [0, 1]

    def test_each_mixture_is_as_likely_as_any_other_however_large_its_set(self) -> None:
        one, two = (np.full((n, len(TAGS)), 0.1 * n, np.float32) for n in (1, 7))
        frames = np.stack([noise(9.6, 1.0)] * 7)
        track = LabelledTrack((noise(20, 1.0),), np.zeros((40, N_TARGETS), np.float32))
        material = SoundMaterial([track], [(frames[:1], one), (frames, two)], [], [])
        source = ProgrammeWindows(material, TAGS, RECIPE.features, 960, 1, (0, 1, 0, 0))
        drawn = [source.sample(0, 0, np.random.default_rng(i)).targets[5] for i in range(400)]
        assert 20 <= np.isclose(drawn, 0.1).sum() <= 80  # 50 expected
        assert np.isclose(drawn, 0.7).sum() >= 320

    def test_tunes_and_pieces_are_rendered_if_the_recipe_has_tunes(self) -> None:
        for tunes, windows_per_piece in ((0, 0), (48, 10)):
            changed = load_recipe("general-2", [f"distil.tunes={tunes}"])
            found = instrument_recipe(changed).mixtures
            assert found is not None
            assert found.windows_per_piece == windows_per_piece
            assert not tunes or found.tunes == tunes
        with pytest.raises(RecipeError, match="tunes: expected 0, or 8 or more, got 3"):
            load_recipe("general-2", ["distil.tunes=3"])

    def test_a_track_without_all_columns_is_refused(self) -> None:
        track = LabelledTrack((noise(20, 1.0),), np.zeros((4, len(TAGS)), np.float32))
        material = SoundMaterial([track], [], [], [])
        with pytest.raises(RecipeError, match="dimensions and their weight"):
            ProgrammeWindows(material, TAGS, RECIPE.features, 960, 1, (1, 0, 0, 0))


class TestLongProgramme:
    """Two tracks, one of which has tag 4, speech and noise."""

    @pytest.fixture
    def source(self) -> LongProgrammes:
        labels = np.zeros((2, 200, N_TARGETS), np.float32)
        labels[:, :, 1], labels[1, :, 4] = 1, 1
        labels[:, :, -2:] = 3
        tracks = [LabelledTrack((noise(40, 1.0),), rows) for rows in labels]
        material = SoundMaterial(tracks, [], [noise(12, 0.1)], [noise(12, 0.3)])
        shares = (0.7, 0.0, 0.2, 0.1)
        return LongProgrammes(
            material, TAGS, RECIPE.features, 960, 20, shares, frames=2880, segment=192, stride=96
        )

    def test_it_has_targets_for_every_moment(self, source: LongProgrammes) -> None:
        changes = 0
        for i in range(30):
            sample = source.sample(i, 0, np.random.default_rng(i))
            assert sample.frames.shape == (2880, RECIPE.features.n_mels)
            assert sample.targets.shape == (29, N_TARGETS)
            assert np.isfinite(sample.frames).all()
            tags = sample.targets[:, : len(TAGS)]
            assert ((tags >= 0) & (tags <= 1) | np.isnan(tags)).all()
            changes += int((np.diff(np.nan_to_num(tags[:, 4])) != 0).any())
        assert changes > 3

    def test_after_a_cut_the_targets_are_those_of_the_new_part(
        self, source: LongProgrammes
    ) -> None:
        old, new = (np.full((1, N_TARGETS), value, np.float32) for value in (0.0, 1.0))
        parts = [ProgrammePart(np.ones((1000, 128), np.float32), rows) for rows in (old, new)]
        at = {end: source._now(parts, [0, 1000], end)[4] for end in (960, 1050, 1100, 1140)}
        assert (at[960], at[1050], at[1140]) == (0, 0, 1)
        assert np.isnan(at[1100])

    def test_what_the_published_net_said_holds_for_windows_of_one_part(
        self, source: LongProgrammes
    ) -> None:
        rows = np.full((1, N_TARGETS), 3, np.float32)
        parts = [ProgrammePart(np.ones((2880, 128), np.float32), rows)]
        known = [bool(np.isfinite(source._now(parts, [0], end)[-1])) for end in (480, 960, 2880)]
        assert known == [False, True, True]


class TestStreamedEfficientAt:
    @pytest.fixture
    def net(self) -> StreamedEfficientAt:
        torch.manual_seed(1)
        made = StreamedEfficientAt(3, width=16, window_frames=96, segment_frames=32, taught=4,
                                   scales=(32, 96))  # fmt: skip
        return made.eval()

    def test_it_begins_with_the_published_classes(self, net: StreamedEfficientAt) -> None:
        weight = torch.tensor([[0, 2.0, 0, 0], [0, 0, 0, 1.0]])
        net.begin_dense(weight, torch.tensor([0.5, -1]))
        frames = torch.randn(2, 96, 16)
        published = net.base.logits_of(net.embed(frames))
        ours = net.logits(frames)
        torch.testing.assert_close(ours[:, 0], 2 * published[:, 1] + 0.5)
        torch.testing.assert_close(ours[:, 1], published[:, 3] - 1)

    def test_taught_columns_train_the_published_layer_and_unknown_ones_do_not(
        self, net: StreamedEfficientAt
    ) -> None:
        frames, targets = torch.randn(4, 96, 16), torch.rand(4, 7)
        net.train()
        net.losses(frames, targets, cross_entropy).backward()
        last = net.base.classifier[5].weight
        assert float(last.grad.abs().sum()) > 0
        net.zero_grad()
        targets[:, 3:] = torch.nan
        net.losses(frames, targets, cross_entropy).backward()
        assert last.grad is None or float(last.grad.abs().sum()) == 0

    @pytest.fixture
    def attentive(self) -> StreamedEfficientAt:
        torch.manual_seed(1)
        made = StreamedEfficientAt(
            3, width=16, window_frames=96, segment_frames=32, stride_frames=16,
            scales=(32, 96), attention=2, taught=4,
        )  # fmt: skip
        return made.eval()

    def test_a_head_alone_learns_from_embeddings(self) -> None:
        torch.manual_seed(1)
        net = StreamedEfficientAt(8, window_frames=960, segment_frames=192, taught=4)
        model = model_of(net, 4, 128, n_dimensions=2)
        labels = np.zeros((80, N_TARGETS), np.float32)
        known = np.eye(4, dtype=np.float32)[[0, 1, 3, 0]]
        mixtures = [(np.stack([noise(9.6, 1.0)] * 4).astype(np.float16), known)]
        material = SoundMaterial(
            [LabelledTrack((noise(30, 1.0),), labels)], mixtures, [noise(12, 0.1)], []
        )
        source = LongProgrammes(
            material, TAGS[:4], RECIPE.features, 960, 2, (1.0, 0.0, 0.0, 0.0),
            frames=2880, segment=192, stride=192,
        )  # fmt: skip
        samples = embedded_windows(model, source, 2, lambda *_: None)
        drawn = samples.sample(0, 0, np.random.default_rng(1))
        assert drawn.frames.shape == (16, 5, 384)
        assert drawn.targets.shape[0] == 16
        assert samples.mixtures is not None
        assert len(samples.mixtures.targets) == 4
        np.testing.assert_array_equal(samples.mixtures.targets[:, :4], known)
        before = model.trunk(torch.zeros(1, 960, 128))
        model.train()
        frames, targets = (torch.from_numpy(x)[None] for x in (drawn.frames, drawn.targets))
        model.loss(frames, targets, None, with_dimensions(cross_entropy, 4)).backward()
        learned = {name for name, p in net.named_parameters() if p.grad is not None}
        assert "dense.weight" in learned
        assert not any(name.startswith("base.features") for name in learned)
        torch.testing.assert_close(model.eval().trunk(torch.zeros(1, 960, 128)), before)

    def test_data_without_programmes_has_no_embeddings(self) -> None:
        with pytest.raises(RecipeError, match="embedded: expected a net with a trunk"):
            embedded_windows(model_of(nn.Identity(), 3, 8), None, 2, print)  # type: ignore[arg-type]

    def test_every_moment_of_a_programme_has_the_window_that_ends_there(
        self, attentive: StreamedEfficientAt
    ) -> None:
        frames = torch.randn(2, 160, 16)
        windows = past_windows(attentive.embed(frames), attentive.columns)
        assert windows.shape == (2, 9, 5, 384)
        for k in range(4, 9):
            alone = attentive.embed(frames[:, 16 * (k - 4) : 16 * (k + 2)])
            torch.testing.assert_close(windows[:, k], alone)
        torch.testing.assert_close(windows[:, 0, 0], windows[:, 0, 4])  # the past is wrapped

    def test_each_known_moment_of_a_programme_teaches(self, attentive: StreamedEfficientAt) -> None:
        torch.nn.init.normal_(attentive.dense.bias)
        frames, targets = torch.randn(2, 160, 16), torch.rand(2, 9, 7)
        targets[:, :, 3:] = torch.nan
        loss = attentive.losses(frames, targets, cross_entropy)
        targets[:, 4] = torch.nan
        assert attentive.losses(frames, targets, cross_entropy).item() != loss.item()

    def test_it_begins_with_the_published_classes_of_an_attentive_mean(
        self, attentive: StreamedEfficientAt
    ) -> None:
        attentive.begin_dense(torch.tensor([[0, 2.0, 0, 0]]), torch.tensor([0.5]))
        with torch.no_grad():
            attentive.attend.query.weight.zero_()  # all are alike: the mean
            attentive.attend.query.bias.zero_()
        frames = torch.randn(2, 96, 16)
        published = attentive.base.logits_of(attentive.embed(frames))
        torch.testing.assert_close(attentive.logits(frames)[:, 0], 2 * published[:, 1] + 0.5)

    def test_its_bundle_has_no_training_parts(self, net: StreamedEfficientAt) -> None:
        frames = torch.randn(2, 96, 16)
        model = model_of(net, 3, 16).eval()
        before = model(frames)
        net.drop_training_parts()
        torch.testing.assert_close(torch.jit.script(model)(frames), before)
        assert not [name for name, _ in net.named_parameters() if "classifier.5" in name]
