"""Rendered tunes with the truth of every moment, and programmes cut from them."""

from pathlib import Path

import numpy as np
import pytest

from streamtag.audio.front_end import frames_of
from streamtag.train.data.vocabulary import read_vocabulary
from streamtag.train.distillation.long_programme import LongProgrammes
from streamtag.train.distillation.mixing import LABEL_STEP, LabelledTrack, SoundMaterial
from streamtag.train.distillation.sets import NOW_SECONDS, instrument_recipe, student_targets
from streamtag.train.recipes.file import load_recipe
from streamtag.train.synthesis import performances as module
from streamtag.train.synthesis.performances import Performance, performances
from streamtag.train.synthesis.pieces import RenderedPiece
from streamtag.train.synthesis.stems import TICK

RECIPE = load_recipe("general-2", ["distil.tunes=8"])
OTHER = instrument_recipe(RECIPE)
VOCABULARY = read_vocabulary("general-2")
TAGS = tuple(tag.tag for tag in VOCABULARY)
CHANGE = 20.0
"""Seconds after which a choir follows a piano."""


def piano_then_choir(seconds: float = 60.0) -> Performance:
    truth = np.zeros((round(seconds / TICK), len(OTHER.tags)), np.float16)
    change = round(CHANGE / TICK)
    truth[:change, OTHER.tags.index("piano")] = 1
    truth[change:, OTHER.tags.index("choir")] = 1
    truth[:, OTHER.tags.index("synth")] = np.nan
    frames = frames_of(
        np.random.default_rng(0).normal(0, 0.1, round(seconds * 32000)).astype(np.float32),
        OTHER.features,
    )
    return Performance(frames.astype(np.float16), truth)


def test_targets_follow_what_plays() -> None:
    targets = piano_then_choir().targets(LABEL_STEP, NOW_SECONDS)
    piano, choir, synth = (targets[:, OTHER.tags.index(f)] for f in ("piano", "choir", "synth"))
    at = np.arange(len(targets)) * LABEL_STEP
    assert (piano[at <= CHANGE - 1] == 1).all()
    assert (piano[at >= CHANGE + 1] == 0).all()
    assert piano[at == CHANGE] == choir[at == CHANGE] == 0.5
    assert np.isnan(synth).all()


def test_a_programme_changes_its_targets_while_a_tune_goes_on() -> None:
    known = piano_then_choir()
    labels = student_targets(known.targets(LABEL_STEP, NOW_SECONDS), OTHER.tags, VOCABULARY)
    nothing = np.zeros((200, len(TAGS) + 3), np.float32)
    material = SoundMaterial(
        [LabelledTrack((known.frames,), nothing)], [], [], [],
        tunes=[LabelledTrack((known.frames,), labels)],
    )  # fmt: skip
    source = LongProgrammes(
        material, TAGS, RECIPE.features, RECIPE.window_frames, 1, (0, 1, 0, 0), frames=2880,
        segment=192, stride=96,
    )  # fmt: skip
    piano, choir, sad = (TAGS.index(tag) for tag in ("piano", "choir", "sad"))
    both = 0
    for i in range(40):
        targets = source.sample(0, 0, np.random.default_rng(i)).targets
        told = targets[~np.isnan(targets[:, sad])]
        assert (told[:, sad] == 0).all()  # of the recording; tunes say nothing of moods
        of_tunes = targets[np.isnan(targets[:, sad]) & ~np.isnan(targets[:, piano])]
        assert np.allclose(of_tunes[:, piano] + of_tunes[:, choir], 1, atol=0.3)
        assert (of_tunes[:, TAGS.index("singing")] == 0).all()
        both += bool((of_tunes[:, piano] > 0.9).any() and (of_tunes[:, choir] > 0.9).any())
    assert both >= 5


def test_each_tune_is_rendered_once_with_every_soundfont(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def render(name: str, written: object, font: str, tags: object, rate: int) -> RenderedPiece:
        made.append((name, font))
        audio = np.random.default_rng(0).normal(0, 0.1, 3 * rate).astype(np.float32)
        return RenderedPiece(name, audio, np.ones((60, len(OTHER.tags)), np.float32))

    monkeypatch.setattr(module, "render_piece", render)
    monkeypatch.setattr(module, "read_piece", lambda path: [])
    monkeypatch.setattr(
        module, "music", lambda recipe, split, data: {"tunes": [data / "a.mid", data / "b.mid"]}
    )
    first = performances(OTHER, tmp_path, tmp_path, lambda *a: None)
    again = performances(OTHER, tmp_path, tmp_path, lambda *a: None)
    assert OTHER.mixtures is not None
    assert len(made) == len(first) == 2 * len(OTHER.mixtures.soundfonts)
    assert len(set(made)) == len(made)
    np.testing.assert_array_equal(first[3].frames, again[3].frames)
    assert first[0].frames.shape[1] == OTHER.features.width
    assert not np.array_equal(first[0].frames, first[1].frames)  # another place or level
