"""The published checkpoints themselves, where they are beside the clone."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from support.paths import SHARED

from streamtag.audio.block import Block
from streamtag.audio.front_end import frames_of
from streamtag.engine.offline import tag_blocks
from streamtag.engine.settings import TaggerSettings
from streamtag.model.card import PastPadding
from streamtag.model.tagger import Tagger
from streamtag.train.data.vocabulary import built_in, requested_vocabulary
from streamtag.train.importing.checkpoint import (
    FILTER_BANK,
    check_front_end,
    fingerprint,
    read_checkpoint,
)
from streamtag.train.importing.importer import import_checkpoint
from streamtag.train.importing.published import KINDS, PUBLISHED

pytestmark = pytest.mark.usefixtures("one_thread", "loaded_once")

WEIGHTS = SHARED / "data" / "weights"
TOLERANCE = 1e-3
"""On probabilities, against the published nets."""


def need(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


def checkpoint_of(name: str) -> tuple[str, Path]:
    """Kind and file of a published checkpoint, such as `mtat_fcn`."""
    if name == "vggish":
        return "mtg-jamendo-vggish", need(WEIGHTS / "mtg-jamendo" / "vggish_moodtheme.pth")
    if name == "efficientat":
        return "efficientat-mn", need(WEIGHTS / "efficientat" / "mn04_as.pth")
    if name == "msd":
        return "msd-musicnn", need(WEIGHTS / "msd-musicnn" / "msd_musicnn.npz")
    return f"sota-{name.split('_')[1]}", need(WEIGHTS / "sota" / f"{name}.pth")


SOTA = [f"{tags}_{net}" for tags in ("mtat", "jamendo") for net in ("musicnn", "fcn", "crnn")]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tagger]:
    """Imports a published checkpoint once."""
    folder = tmp_path_factory.mktemp("imported")
    taggers: dict[str, Tagger] = {}

    def tagger(name: str) -> Tagger:
        if name not in taggers:
            kind, checkpoint = checkpoint_of(name)
            import_checkpoint(kind, checkpoint, None, folder / f"{name}.pt")
            taggers[name] = Tagger.load(folder / f"{name}.pt", "cpu")
        return taggers[name]

    return tagger


TEACHER_CLIPS = ("hungarian_dance", "vibe_ace", "speech", "on_the_run")


def full_band(clip: str, reference: Mapping[str, np.ndarray]) -> np.ndarray:
    """A clip of EfficientAT's reference, (n,) float32 at 32 kHz."""
    if clip == "on_the_run":
        return (reference["on_the_run|audio32k"] / np.float32(32768)).astype(np.float32)
    audio = np.load(WEIGHTS / "sota" / f"{clip}_16k.npy").astype(np.float32)
    from scipy import signal

    return np.ascontiguousarray(signal.resample_poly(audio, 2, 1), np.float32)


def cut(net: str, clip: np.ndarray, i: int) -> np.ndarray:
    """Audio of the i-th reference window: 3 s each, or the middle 29 s with zeros at the end."""
    if net == "musicnn":
        return clip[48000 * i : 48000 * (i + 1)]
    size = 29 * 16000
    middle = clip[max(0, (len(clip) - size) // 2) :][:size]
    return np.pad(middle, (0, size - len(middle)))


class TestPublished:
    """With the real checkpoints beside the clone."""

    @pytest.mark.parametrize("name", SOTA)
    def test_their_front_end_is_ours(self, name: str) -> None:
        kind, path = checkpoint_of(name)
        state = read_checkpoint(path)
        assert FILTER_BANK in state
        assert check_front_end(path, state, KINDS[kind].features) < 0.01  # dB

    @pytest.mark.parametrize("name", ["vggish", "efficientat", "msd", *SOTA])
    def test_they_are_recognised(self, name: str) -> None:
        kind, path = checkpoint_of(name)
        known = PUBLISHED[fingerprint(read_checkpoint(path))]
        assert known.kind == kind
        others = {"vggish": "moodtheme", "efficientat": "audioset"}
        assert known.vocabulary == others.get(name, name.split("_")[0])

    def test_vocabularies(self) -> None:
        mood = need(SHARED / "data" / "mtg-jamendo" / "moodtheme_split.txt")
        for name, file in (
            ("moodtheme", mood),
            ("mtat", WEIGHTS / "sota" / "tags_mtat.txt"),
            ("jamendo", WEIGHTS / "sota" / "tags_jamendo.txt"),
        ):
            names = file.read_text().split("\n")
            expected = [tag.strip() for tag in names if tag.strip()]
            if name == "moodtheme":
                expected = [tag.removeprefix("mood/theme---") for tag in expected]
            assert list(built_in(name).tags) == expected
            assert requested_vocabulary(file).name == name

    @pytest.mark.parametrize("clip", ["hungarian_dance", "vibe_ace"])
    def test_vggish_alone(self, published: Callable[[str], Tagger], clip: str) -> None:
        tagger = published("vggish")
        reference = np.load(WEIGHTS / "mtg-jamendo" / "reference.npz")
        assert list(reference["tags"]) == list(tagger.card.tags)
        frames = frames_of(reference[f"{clip}|audio12k"], tagger.card.features)
        difference = np.abs(tagger(frames[None])[0] - reference[f"{clip}|prob"])
        assert difference.max() < TOLERANCE

    @pytest.mark.parametrize("clip", ["hungarian_dance", "vibe_ace", "speech"])
    @pytest.mark.parametrize("name", SOTA)
    def test_sota_alone(self, published: Callable[[str], Tagger], name: str, clip: str) -> None:
        tagger, net = published(name), name.split("_")[1]
        reference = np.load(WEIGHTS / "sota" / "reference.npz")
        audio = np.load(WEIGHTS / "sota" / f"{clip}_16k.npy")
        logits = reference[f"{clip}|{name.replace('_', '|')}|logits"].astype(np.float64)
        for i, row in enumerate(logits[:4]):
            frames = frames_of(cut(net, audio, i), tagger.card.features)
            difference = np.abs(tagger(frames[None])[0] - 1 / (1 + np.exp(-row)))
            assert difference.max() < TOLERANCE

    @pytest.mark.parametrize("name", ["vggish", "mtat_musicnn", "jamendo_fcn", "jamendo_crnn"])
    def test_a_window_through_the_engine(
        self, published: Callable[[str], Tagger], name: str
    ) -> None:
        tagger = published(name)
        if name == "vggish":
            reference = np.load(WEIGHTS / "mtg-jamendo" / "reference.npz")
            audio, expected = reference["vibe_ace|audio12k"], reference["vibe_ace|prob"]
        else:
            reference = np.load(WEIGHTS / "sota" / "reference.npz")
            net = name.split("_")[1]
            audio = cut(net, np.load(WEIGHTS / "sota" / "vibe_ace_16k.npy"), 0)
            logits = reference[f"vibe_ace|{name.replace('_', '|')}|logits"][0].astype(np.float64)
            expected = 1 / (1 + np.exp(-logits))
        rate = tagger.card.features.sample_rate
        blocks = [Block(audio[i : i + 30011], i, rate) for i in range(0, len(audio), 30011)]
        result = tag_blocks(
            blocks, rate, {name: tagger}, settings={name: TaggerSettings(hop_seconds=20.0)},
            exact=True,
        )[name]  # fmt: skip
        last = result.scores[-1]
        assert not last.provisional
        assert last.start == 0
        assert last.end == pytest.approx(len(audio) / rate, abs=1e-9)
        assert np.abs(np.array(last.values) - expected).max() < TOLERANCE

    def test_cards_name_their_origin(self, published: Callable[[str], Tagger]) -> None:
        card = published("jamendo_musicnn").card
        assert card.name == "sota-musicnn-jamendo"
        assert card.padding is PastPadding.WRAP
        assert card.window_seconds == pytest.approx(3.0, abs=0.05)
        assert card.display["instrument---acousticguitar"] == "acoustic guitar"
        assert "non-commercial" in card.licence
        assert "not measured" in card.scores["published"]["what"]
        assert card.extra["imported"]["recognised"]
        cleared = card.extra["imported"]["weights_set_to_zero"]
        assert int(cleared.split()[0]) > 90_000  # an eighth of the weights


class TestTeachers:
    """EfficientAT and musicnn of the Million Song Dataset, with the real checkpoints."""

    @pytest.fixture
    def efficientat(self, published: Callable[[str], Tagger]) -> Tagger:
        return published("efficientat")

    @pytest.fixture
    def msd(self, published: Callable[[str], Tagger]) -> Tagger:
        return published("msd")

    @pytest.mark.parametrize("clip", TEACHER_CLIPS)
    def test_efficientat_alone(self, efficientat: Tagger, clip: str) -> None:
        reference = np.load(WEIGHTS / "efficientat" / "reference.npz")
        audio = full_band(clip, reference)
        for i, logits in enumerate(reference[f"{clip}|logit"][:2]):
            frames = frames_of(audio[320_000 * i : 320_000 * (i + 1)], efficientat.card.features)
            p = efficientat(frames[None])[0].astype(np.float64)
            np.testing.assert_allclose(np.log(p) - np.log1p(-p), logits, atol=TOLERANCE)

    @pytest.mark.parametrize("clip", TEACHER_CLIPS)
    def test_msd_musicnn_in_its_clip(self, msd: Tagger, clip: str) -> None:
        reference = np.load(WEIGHTS / "msd-musicnn" / "reference.npz")
        if clip == "on_the_run":
            audio = reference["on_the_run|audio16k"] / np.float32(32768)
        else:
            audio = np.load(WEIGHTS / "sota" / f"{clip}_16k.npy")
        frames = frames_of(audio, msd.card.features)
        for i, expected in enumerate(reference[f"{clip}|prob"]):
            window = frames[187 * i : 187 * (i + 1)]
            np.testing.assert_allclose(msd(window[None])[0], expected, atol=TOLERANCE)

    def test_a_window_through_the_engine(self, efficientat: Tagger) -> None:
        reference = np.load(WEIGHTS / "efficientat" / "reference.npz")
        audio = full_band("on_the_run", reference)
        blocks = [Block(audio[i : i + 30011], i, 32000) for i in range(0, len(audio), 30011)]
        last = tag_blocks(blocks, 32000, {"x": efficientat})["x"].scores[-1]
        p = np.array(last.values)
        assert (last.start, last.end, last.provisional) == (0, 10, False)
        expected = 1 / (1 + np.exp(-reference["on_the_run|logit"][0].astype(np.float64)))
        np.testing.assert_allclose(p, expected, atol=TOLERANCE)

    def test_cards(self, efficientat: Tagger, msd: Tagger) -> None:
        classes = need(WEIGHTS / "efficientat" / "classes.txt").read_text().splitlines()
        assert list(efficientat.card.tags) == classes
        assert (
            list(msd.card.tags)
            == (WEIGHTS / "msd-musicnn" / "tags.txt").read_text().split("\n")[:50]
        )
        assert efficientat.card.name == "efficientat-mn"
        assert efficientat.card.categories["Jazz"] == msd.card.categories["jazz"] == "genre"
        assert efficientat.card.scores["published"]["pr_auc_macro"] == 0.432
        assert "MIT" in efficientat.card.licence
        assert "not openly licensed" in msd.card.licence
        assert msd.card.trunk is not None
        assert msd.card.trunk.size == 64  # filters that are left of 561
