"""Features of the key: what stands out of the frames, as pitch classes, compared with keys."""

import numpy as np
import pytest
import torch

from streamtag.audio.front_end import frames_of
from streamtag.train.nets.efficientat import Chroma, KeyFeatures, band_pitch_classes
from streamtag.train.recipes.file import load_recipe

FEATURES = load_recipe("general-2").features
SEMITONES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 11),
}


def scale(tonic: int, mode: str) -> torch.Tensor:
    """(frames, 128) of a scale with its triad, three octaves of decaying partials."""
    triad = [0, 3 if mode == "minor" else 4, 7]
    steps = [*SEMITONES[mode], *triad, *triad, *triad]
    time = np.arange(round(0.25 * FEATURES.sample_rate)) / FEATURES.sample_rate
    notes = []
    for step in steps:
        pitches = [440 * 2 ** ((tonic + step) / 12 + octave) for octave in (0, 1)]
        partials = [np.sin(2 * np.pi * f * k * time) / k for f in pitches for k in (1, 2, 3)]
        notes.append(np.sum(partials, axis=0) * np.hanning(len(time)) * 0.05)
    return torch.from_numpy(frames_of(np.concatenate(notes).astype(np.float32), FEATURES))


@pytest.mark.parametrize("tonic", [0, 3, 7])
def test_at_first_they_are_the_likeness_to_major_and_minor(tonic: int) -> None:
    size = len(scale(tonic, "major")) // 4 * 4
    chroma, key = Chroma(128, FEATURES.f_max, size, size), KeyFeatures(2)
    with torch.inference_mode():
        of = {
            mode: key(chroma(scale(tonic, mode)[None, :size])[:, 0])[0]
            for mode in ("major", "minor")
        }
    assert of["major"][0] - of["major"][1] > of["minor"][0] - of["minor"][1] + 0.02


def test_transposed_pitch_classes_have_the_same_features() -> None:
    key, chroma = KeyFeatures(6), torch.rand(3, 12)
    torch.testing.assert_close(key(chroma.roll(5, dims=1)), key(chroma))
    assert not torch.allclose(key(chroma.flip(dims=(1,))), key(chroma), atol=1e-3)


def test_level_does_not_matter_and_nothing_is_no_key() -> None:
    key, chroma = KeyFeatures(6), torch.rand(3, 12) * 10
    torch.testing.assert_close(key(7 * chroma), key(chroma), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(key(torch.ones(1, 12))[0], key.profiles.bias)


def test_a_band_counts_as_the_pitch_class_of_its_frequency() -> None:
    fold = band_pitch_classes(128, 15000.0)
    assert fold.shape == (12, 128)
    torch.testing.assert_close(fold.sum(dim=1), torch.ones(12))
    used = fold.sum(dim=0) > 0
    assert not used[:9].any()  # wider than a semitone
    assert not used[-30:].any()  # few partials
