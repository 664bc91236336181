"""Published checkpoints become bundles that say what the published nets say."""

import functools
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.paths import ROOT, SHARED
from train.test_nets import FRAMES, net_with_history, windows

from streamtag.errors import BundleError
from streamtag.model.bundle import read_card
from streamtag.model.tagger import Tagger, flush_denormal_weights
from streamtag.train.data.vocabulary import (
    NAMES,
    built_in,
    check_agreement,
    read_vocabulary,
    requested_vocabulary,
    short,
)
from streamtag.train.importing import importer
from streamtag.train.importing.checkpoint import FILTER_BANK, WINDOW, State
from streamtag.train.importing.importer import import_checkpoint, thresholds
from streamtag.train.importing.published import KINDS
from streamtag.train.recipes.file import load_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = SHARED / "data" / "weights"
TOLERANCE = 1e-3
"""On probabilities, against the published nets."""

Save = Callable[..., Path]


@functools.cache
def mel_bank(*, htk: bool) -> torch.Tensor:
    """The triangles of the published front end as librosa makes them, (257, 96)."""
    import librosa  # takes seconds

    bank = librosa.filters.mel(sr=16000, n_fft=512, n_mels=96, fmax=8000, htk=htk, norm=None)
    return torch.from_numpy(bank.T.copy())


def random_state(kind: str, n_tags: int) -> State:
    """Weights as a checkpoint of this kind has them, front end included."""
    state = dict(net_with_history(KINDS[kind].net, n_tags).state_dict())
    if kind.startswith("sota"):
        state |= {FILTER_BANK: mel_bank(htk=True), WINDOW: torch.hann_window(512)}
    return state


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def to_file(state: object, name: str = "checkpoint.pth") -> Path:
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return to_file


@pytest.fixture
def fcn(save: Save) -> Path:
    return save(random_state("sota-fcn", 50))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "bundle.pt"


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_gives_the_scores_of_the_net(kind: str, save: Save, out: Path) -> None:
    checkpoint = save(random_state(kind, 3))
    (tags := checkpoint.with_name("tags.txt")).write_text("b\nmood---a\nc\n")
    card = import_checkpoint(kind, checkpoint, tags, out)
    assert card == read_card(out)
    assert card.tags == ("b", "mood---a", "c")
    assert card.display == {"mood---a": "a"}
    assert card.name == "bundle"
    assert "unknown" in card.licence
    inputs = windows(KINDS[kind].net, 1)
    mean, scale = KINDS[kind].band
    with torch.inference_mode():
        eager = net_with_history(KINDS[kind].net, 3)((inputs - mean) / scale).numpy()
    np.testing.assert_allclose(Tagger.load(out, "cpu")(inputs.numpy()), eager, atol=1e-5)


def test_tiny_weights_are_cleared_and_change_nothing(save: Save, out: Path) -> None:
    state = random_state("sota-musicnn", 50)
    generator = torch.Generator().manual_seed(3)
    for name in ("layer1.conv.weight", "dense1.weight", "layers.0.conv.weight"):
        small = torch.rand(state[name].shape, generator=generator) < 0.2
        sizes = torch.tensor([1e-39, -3e-41, 1e-30])[torch.arange(int(small.sum())) % 3]
        state[name][small] = sizes
    net = net_with_history("musicnn", 50)
    net.load_state_dict({k: v for k, v in state.items() if not k.startswith("spec.")})
    inputs = windows("musicnn", 1)
    with torch.inference_mode():
        before = net(inputs)
        assert flush_denormal_weights(net) > 20_000
        assert torch.equal(net(inputs), before)
    card = import_checkpoint("sota-musicnn", save(state), Path("mtat"), out)
    assert not card.extra["imported"]["weights_set_to_zero"].startswith("0 ")
    saved = torch.cat([p.flatten() for p in torch.jit.load(str(out)).parameters()]).abs()
    assert not ((saved > 0) & (saved < 1e-20)).any()


class TestCheckpoint:
    """What is no checkpoint of the kind is refused, in words that help."""

    def refused(self, checkpoint: Path, message: str, kind: str = "sota-fcn") -> None:
        out = checkpoint.with_name("bundle.pt")
        with pytest.raises(BundleError, match=message):
            import_checkpoint(kind, checkpoint, Path("mtat"), out)
        assert not out.exists()

    def test_another_kind(self, fcn: Path) -> None:
        self.refused(fcn, r"weights of sota-crnn, got no layer5.*for sota-fcn$", "sota-crnn")
        self.refused(fcn, "got no bn_init.*this is a checkpoint for sota-fcn", "mtg-jamendo-vggish")
        self.refused(fcn, "expected one of mtg-jamendo-vggish, .*sota-fcn.*got 'fcn'", "fcn")

    def test_another_shape_or_name(self, save: Save) -> None:
        state = random_state("sota-fcn", 50)
        state["layer2.conv.weight"] = torch.zeros(128, 64, 5, 5)
        state["attention"] = torch.zeros(1)
        self.refused(save(state), r"an unknown attention, layer2.*\(128, 64, 5, 5\).*no kind fits")

    def test_no_file(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "none.pth", "none.pth: expected a checkpoint.*No such file")
        self.refused(tmp_path, "Is a directory")

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and no more", b"\x80\x02"])
    def test_garbage(self, tmp_path: Path, content: bytes) -> None:
        (path := tmp_path / "x.pth").write_bytes(content)
        self.refused(path, "x.pth: expected a checkpoint")

    @pytest.mark.parametrize("size", [1000, 900_000, -1])
    def test_truncated(self, fcn: Path, size: int) -> None:
        fcn.write_bytes(fcn.read_bytes()[:size])
        self.refused(fcn, "expected a checkpoint")

    @pytest.mark.parametrize(
        "what", [[1], {}, torch.ones(2), {"state_dict": {}}, {1: torch.ones(1)}]
    )
    def test_something_else(self, save: Save, what: object) -> None:
        self.refused(save(what), "expected a checkpoint")

    def test_code_is_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> object:
                return os.mkdir, (str(tmp_path / "ran"),)

        (path := tmp_path / "evil.pth").write_bytes(pickle.dumps({"w": Evil()}))
        self.refused(path, "expected a checkpoint")
        assert not (tmp_path / "ran").exists()

    def test_numbers_that_are_none(self, save: Save) -> None:
        state = random_state("sota-fcn", 50)
        state["dense.bias"][3] = float("nan")
        self.refused(save(state), "dense.bias: expected finite numbers, got 1 of 50")
        state["dense.bias"][3] = 0
        state["layer1.bn.running_var"][0] = -1
        self.refused(save(state), "layer1.bn.running_var: expected variances, got -1")

    def test_other_mels(self, save: Save) -> None:
        state = random_state("sota-fcn", 50)
        state[FILTER_BANK] = mel_bank(htk=False)
        self.refused(save(state), "its own front end .* differs from ours by .* other mels")
        state[FILTER_BANK] = torch.zeros(257, 128)
        self.refused(save(state), r"512 samples and 96 bands, got .* of shape \(257, 128\)")


def test_the_bundle_is_not_the_checkpoint(fcn: Path) -> None:
    content = fcn.read_bytes()
    with pytest.raises(BundleError, match="another file than the checkpoint"):
        import_checkpoint("sota-fcn", fcn, Path("mtat"), fcn)
    assert fcn.read_bytes() == content


def test_a_place_that_cannot_be_written_to(fcn: Path) -> None:
    with pytest.raises(BundleError, match="expected a place to write to"):
        import_checkpoint("sota-fcn", fcn, Path("mtat"), fcn / "bundle.pt")


class TestTags:
    """Names of outputs are known or said, never guessed."""

    def test_two_vocabularies_of_one_size(self, fcn: Path, out: Path) -> None:
        with pytest.raises(BundleError, match="use --tags mtat or --tags jamendo or --tags FILE"):
            import_checkpoint("sota-fcn", fcn, None, out)

    def test_number(self, fcn: Path, out: Path, tmp_path: Path) -> None:
        (tags := tmp_path / "tags.txt").write_text("a\nb\n")
        with pytest.raises(BundleError, match=r"tags.txt: expected 50 tags.*got 2"):
            import_checkpoint("sota-fcn", fcn, tags, out)
        with pytest.raises(BundleError, match=r"moodtheme: expected 50 tags.*got 56"):
            import_checkpoint("sota-fcn", fcn, Path("moodtheme"), out)

    def test_one_vocabulary_of_a_kind(
        self,
        save: Save,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(importer, "export", lambda net, card, path: card)
        checkpoint = save(random_state("mtg-jamendo-vggish", 56))
        with caplog.at_level(logging.WARNING):
            card = import_checkpoint("mtg-jamendo-vggish", checkpoint, None, out)
        assert card.tags == built_in("moodtheme").tags
        assert "not the published weights" in caplog.text
        checkpoint = save(random_state("mtg-jamendo-vggish", 40))
        with pytest.raises(BundleError, match=r"names of its 40 outputs.*use --tags FILE"):
            import_checkpoint("mtg-jamendo-vggish", checkpoint, None, out)

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"a\nb\na\n", "'a' twice"), (b"\xff\xfea", "no UTF-8"), (b"a\nb\x1b[2J\n", "the line")],
    )
    def test_no_list_of_tags(self, tmp_path: Path, content: bytes, message: str) -> None:
        (path := tmp_path / "tags.txt").write_bytes(content)
        with pytest.raises(BundleError, match=message):
            requested_vocabulary(path)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(
            BundleError, match="one of moodtheme, jamendo, mtat, audioset, msd, got: No such"
        ):
            requested_vocabulary(tmp_path / "none.txt")

    @pytest.mark.parametrize("name", NAMES)
    def test_a_file_with_known_names_is_that_vocabulary(self, tmp_path: Path, name: str) -> None:
        known = built_in(name)
        lines = [f"mood/theme---{short(tag)}" for tag in known.tags]
        (path := tmp_path / "tags.txt").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
        vocabulary = requested_vocabulary(path)
        assert (vocabulary.name, vocabulary.tags) == (name, tuple(lines))
        assert vocabulary.rates == known.rates
        assert set(map(short, vocabulary.silent)) == set(map(short, known.silent))

    def test_known_weights_are_not_relabelled(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        mtat, jamendo = built_in("mtat"), built_in("jamendo")
        with pytest.raises(BundleError, match="'mtat' tags, but jamendo has the 'jamendo' tags"):
            check_agreement(jamendo, Path("jamendo"), "mtat", "x.pth")
        (path := tmp_path / "tags.txt").write_text("\n".join(sorted(mtat.tags)))
        mixed_up = requested_vocabulary(path)
        with pytest.raises(BundleError, match=r"another order than the outputs of x\.pth"):
            check_agreement(mixed_up, path, "mtat", "x.pth")
        with caplog.at_level(logging.WARNING):
            check_agreement(mixed_up, path, "", "x.pth")
        assert "another order than usual" in caplog.text
        check_agreement(mtat, Path("mtat"), "mtat", "x.pth")
        path.write_text("\n".join(f"Etikett {i}" for i in range(50)))
        check_agreement(
            requested_vocabulary(path), path, "mtat", "x.pth"
        )  # a translation, for instance


class TestVocabularies:
    @pytest.mark.parametrize(
        ("name", "size"),
        [("moodtheme", 56), ("jamendo", 50), ("mtat", 50), ("audioset", 527), ("msd", 50)],
    )
    def test_tables(self, name: str, size: int) -> None:
        vocabulary = built_in(name)
        assert len(vocabulary.tags) == len(set(vocabulary.tags)) == len(vocabulary.display) == size
        assert len(vocabulary.categories) == (size if name in ("audioset", "msd") else 0)
        if name == "audioset":
            assert vocabulary.rates == ()
            return
        assert len(vocabulary.rates) == size
        assert all(0 < rate < 0.5 for rate in vocabulary.rates)
        by_rate = name in ("mtat", "msd")
        order = list(vocabulary.rates) if by_rate else list(vocabulary.tags)
        assert order == sorted(order, reverse=by_rate)

    def test_the_teachers_of_general_2_have_the_words_that_it_hears(self) -> None:
        words = read_vocabulary("general-2")
        teachers = {name: set(map(short, built_in(name).tags)) for name in NAMES}
        unknown = [
            (word.tag, vocabulary, heard)
            for word in words
            for vocabulary, heard in word.teacher_tags
            if heard not in teachers[vocabulary]
        ]
        assert unknown == []
        assert all(word.teacher_tags and word.definition for word in words)
        own = [word.tag for word in words]
        assert not set(own) & {synonym for word in words for synonym in word.synonyms}
        families = {word.family for word in words if word.family}
        assert families == set(load_recipe("instruments").tags)

    def test_one_tag_of_each_meaning_makes_events(self) -> None:
        mtat = built_in("mtat")
        shown = dict(zip(mtat.tags, mtat.display, strict=True))
        loud = [shown[tag] for tag in mtat.tags if tag not in mtat.silent]
        assert len(loud) == len(set(loud))
        assert set(loud) == set(mtat.display) - {"no vocals"}

    def test_frequent_tags_need_more(self) -> None:
        on = thresholds([0.0001, 0.02, 0.2, 3.0], 0.5)
        assert on == (0.02, 0.1, 0.3162, 0.9)


def test_every_kind_is_on_the_page() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []


def test_frames_are_known_for_every_kind() -> None:
    assert set(FRAMES) == {kind.net for kind in KINDS.values()}
