"""Folders of recordings: tags and splits from their names."""

from collections import Counter
from pathlib import Path

import pytest
from support.paths import SHARED

from streamtag.errors import RecipeError
from streamtag.train.data.corpora import read_corpus

ESC = SHARED / "data" / "esc10"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.skipif(not ESC.is_dir(), reason="ESC-10 is not on this machine")
def test_the_folds_of_esc_10_are_its_official_ones() -> None:
    tested: list[str] = []
    for fold in range(1, 6):
        corpus = read_corpus(ESC, subset=f"fold={fold}")
        assert len(corpus.tags) == 10
        assert [len(corpus.of(s)) for s in ("train", "validation", "test")] == [240, 80, 80]
        assert {item.path.name[0] for item in corpus.of("test")} == {str(fold)}
        assert {item.path.name[0] for item in corpus.of("validation")} == {str(fold % 5 + 1)}
        assert corpus.targets(corpus.of("test")).sum(axis=0).tolist() == [8] * 10
        tested += [item.name for item in corpus.of("test")]
    assert len(set(tested)) == 400


def test_folders_above_the_tags_are_the_splits(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/dog/a.wav",
        "train/rain/deep/b.FLAC",
        "test/dog/a.wav",
        "test/dog/notes.txt",
    )
    touch(
        tmp_path, "validation/rain/c.opus", "validation/.hidden/d.wav", "validation/empty/readme.md"
    )
    corpus = read_corpus(tmp_path)
    assert corpus.tags == ("dog", "rain")
    assert {(item.name, item.split, item.tags) for item in corpus.items} == {
        ("train/dog/a.wav", "train", (0,)),
        ("train/rain/deep/b.FLAC", "train", (1,)),
        ("validation/rain/c.opus", "validation", (1,)),
        ("test/dog/a.wav", "test", (0,)),
    }


def test_without_a_split_a_checksum_decides_and_new_files_move_no_old_ones(tmp_path: Path) -> None:
    touch(tmp_path, *(f"dog/{i}.wav" for i in range(1000)))
    before = {item.name: item.split for item in read_corpus(tmp_path).items}
    sizes = Counter(before.values())
    assert 760 < sizes["train"] < 840
    assert 70 < sizes["validation"] < 130
    touch(tmp_path, *(f"cat/{i}.wav" for i in range(50)))
    after = {item.name: item.split for item in read_corpus(tmp_path).items}
    assert all(after[name] == split for name, split in before.items())


def test_names_are_safe_and_different_ones_stay_different(tmp_path: Path) -> None:
    touch(tmp_path, "Geräusch/ä b.wav", "Geräusch/ö b.wav")
    corpus = read_corpus(tmp_path)
    assert corpus.tags == ("Geräusch",)
    assert len({item.name for item in corpus.items}) == 2
    assert all(item.name.isascii() and " " not in item.name for item in corpus.items)


def test_what_is_ambiguous_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"expected folders of recordings, one per tag .* got none"
    ):
        read_corpus(tmp_path)
    touch(tmp_path, "train/dog/1-a.wav", "train/dog/2-b.wav")
    touch(tmp_path, "cat/c.wav")
    with pytest.raises(RecipeError, match="got 'train' beside 'cat'"):
        read_corpus(tmp_path)
    (tmp_path / "cat" / "c.wav").rename(tmp_path / "loose.wav")
    (tmp_path / "cat").rmdir()
    with pytest.raises(
        RecipeError, match=r"loose.wav: expected recordings inside folders named after"
    ):
        read_corpus(tmp_path)
    (tmp_path / "loose.wav").unlink()
    with pytest.raises(
        RecipeError, match=r"at least three folds, got fold=1; the names begin with 1, 2"
    ):
        read_corpus(tmp_path, subset="fold=1")
    touch(tmp_path, "train/dog/3-c.wav", "train/dog/x.wav")
    with pytest.raises(
        RecipeError, match=r"x.wav: expected a name that begins with the number of its"
    ):
        read_corpus(tmp_path, split="fold=1")
    with pytest.raises(
        RecipeError, match=r"subset: expected 'fold=K' or nothing .* got 'mood/theme'; use --set"
    ):
        read_corpus(tmp_path, subset="mood/theme")
    with pytest.raises(
        RecipeError, match=r"expected a folder of MTG-Jamendo, .* got nothing there"
    ):
        read_corpus(tmp_path / "nowhere")
