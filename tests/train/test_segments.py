"""Segments of tunes, mixtures and sounds for the small net beside a trunk."""

import numpy as np

from streamtag.train.distillation.mixing import LabelledTrack, SoundMaterial
from streamtag.train.distillation.segments import GROUP, FamilySegments
from streamtag.train.recipes.file import load_recipe

FEATURES = load_recipe("general-2").features
TAGS = ("music", "piano", "choir")


def frames(n: int, level: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    power = level * rng.gamma(4, 0.25, (n, FEATURES.n_mels))
    return np.log(power + FEATURES.log_offset).astype(np.float16)


def segments(*, tunes: bool = True, mixtures: bool = True, sounds: bool = True) -> FamilySegments:
    of_tune = np.tile(np.array([1, 1, 0], np.float32), (120, 1))
    of_mixture = np.array([[1, 0.5, 1], [1, 0, 1]], np.float32)
    material = SoundMaterial(
        [],
        [(np.stack([frames(960, 1.0)] * 2), of_mixture)] * mixtures,
        [frames(400, 0.1)] * sounds,
        [],
        tunes=[LabelledTrack((frames(6000, 1.0),), of_tune)] * tunes,
    )
    return FamilySegments(material, TAGS, (1, 2), FEATURES, 192, 64)


def test_a_sample_is_a_group_of_segments_with_the_families_of_each() -> None:
    source = segments()
    assert source.tags == ("piano", "choir")
    assert len(source) == 64 // GROUP
    sample = source.sample(0, 0, np.random.default_rng(0))
    assert sample.frames.shape == (GROUP * 192, FEATURES.n_mels)
    assert sample.targets.shape == (GROUP, 2)
    assert np.isfinite(sample.frames).all()
    assert source.truth().shape == (64, 2)


def test_tunes_mixtures_and_sounds_have_the_targets_that_are_known() -> None:
    source = segments()
    rows = np.concatenate(
        [source.sample(0, 0, np.random.default_rng(i)).targets for i in range(40)]
    )
    assert set(np.unique(rows[~np.isnan(rows)])) == {0, 1}
    assert not np.isnan(rows[:, 1]).any()
    unknown, both, none = (
        np.isnan(rows[:, 0]).mean(), (rows == 1).all(axis=1).mean(), (rows == 0).all(axis=1).mean()
    )  # fmt: skip
    assert 0.05 < unknown < 0.25  # a mixture whose piano begins or ends, not over a piano
    assert 0.03 < both < 0.3  # two at once
    assert 0.01 < none < 0.15  # noise


def test_without_tunes_or_sounds_mixtures_are_left() -> None:
    source = segments(tunes=False, sounds=False)
    rows = np.concatenate(
        [source.sample(0, 0, np.random.default_rng(i)).targets for i in range(10)]
    )
    assert (rows[:, 1] == 1).all()
