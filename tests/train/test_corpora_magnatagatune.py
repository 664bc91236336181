"""MagnaTagATune: the tag merge, the splits of the papers, and one without a leak."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from streamtag.errors import RecipeError
from streamtag.train.data.corpora import read_corpus
from streamtag.train.data.corpora.magnatagatune import (
    EMPTY,
    NEGATIVE,
    SYNONYMS,
    Annotations,
    artist_parts,
    merged,
    most_frequent,
    random_parts,
)

MERGED = """acoustic, acoustic guitar, airy, ambient, arabic, banjo, baroque, bass, bells, birds,
blues, bongos, calm, cello, celtic, chant, chimes, choir, chorus, clapping, clarinet, classical,
classical guitar, country, dance, dark, deep, different, disco, drone, drum, duet, eastern, echo,
eerie, electric guitar, electro, english, fast, female, female opera, fiddle, flute, folk,
foreign, funk, funky, girl, guitar, happy, hard, harp, harpsichord, heavy, hip hop, horn, house,
india, industrial, instrumental, irish, jazz, jungle, keyboard, light, lol, loud, low, lute, male,
male opera, medieval, mellow, middle eastern, modern, monks, new age, noise, oboe, old, opera,
orchestra, organ, oriental, percussion, piano, piano solo, plucking, pop, punk, quiet, rap,
reggae, repetitive, rock, sad, sax, scary, singer, sitar, slow, soft, soft rock, solo, soprano,
space, spanish, strange, string, synth, talking, techno, trance, tribal, trumpet, upbeat, viola,
violin, vocal, water, wind, woodwind, world"""
"""The 123 tags that the authors of the merge print."""


def all_tags() -> tuple[str, ...]:
    """The 188 tags of the data set, in an order of our own."""
    names = " ".join(MERGED.split()).split(", ")
    others = [other for group in SYNONYMS.values() for other in group]
    return (*sorted(NEGATIVE), *reversed(names), *others)


def annotations(on: np.ndarray, tags: tuple[str, ...]) -> Annotations:
    ids = tuple(map(str, range(len(on))))
    return Annotations(ids, tuple(f"{i % 16:x}/a-b-{i}.mp3" for i in range(len(on))), tags, on)


def test_the_merge_leaves_the_published_123_of_188_tags() -> None:
    tags = all_tags()
    assert len(tags) == len(set(tags)) == 188
    assert len(NEGATIVE) == 17
    on = np.eye(188, dtype=bool)
    whole = merged(annotations(on, tags))
    assert list(whole.tags) == " ".join(MERGED.split()).split(", ")
    got = {tag: {t for t, row in zip(whole.tags, whole.on[i], strict=True) if row}
           for i, tag in enumerate(tags)}  # fmt: skip
    assert got["woman singing"] == {"female"}
    assert got["beats"] == got["drum"] == {"drum"}
    assert got["instrumental"] == {"instrumental"}
    assert got["no singing"] == set()


def test_synonyms_are_joined_by_or() -> None:
    on = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    whole = merged(annotations(on, ("beat", "drums", "no drums")))
    assert whole.tags == ("drum",)
    assert whole.on[:, 0].tolist() == [True, True, True, False]


def test_the_most_frequent_tags_come_last_after_the_merge_and_first_without_it() -> None:
    on = np.zeros((6, 4), bool)
    for column, count in enumerate((2, 5, 2, 3)):
        on[:count, column] = True
    whole = annotations(on, ("a", "b", "c", "d"))
    assert most_frequent(whole, 3, first=False).tags == ("c", "d", "b")
    assert most_frequent(whole, 0, first=False).tags == ("a", "c", "d", "b")
    assert most_frequent(whole, 3, first=True).tags == ("b", "d", "a")
    assert most_frequent(whole, 3, first=True).on.sum(axis=0).tolist() == [5, 3, 2]
    names = tuple(f"{i:02}" for i in range(60))
    counts = np.array([[1] * 60, [0, 1] * 30], bool)  # 1 and 2 in turns
    many = annotations(counts, names)
    assert most_frequent(many, 0, first=True).tags == (*names[1::2], *names[::2])
    assert most_frequent(many, 50, first=False).tags == (*names[20::2], *names[1::2])
    with pytest.raises(RecipeError, match="expected at most 4 tags, got 5"):
        most_frequent(whole, 5, first=True)


def test_the_random_split_has_the_published_sizes_and_is_scikit_learns() -> None:
    parts = random_parts(25860)
    assert Counter(parts) == {"train": 20480, "validation": 1920, "test": 3460}
    split = pytest.importorskip("sklearn.model_selection").train_test_split
    rest, test = split(
        np.arange(25860), train_size=0.866203, test_size=1 - 0.866203, random_state=42
    )
    train, validation = split(rest, train_size=0.91429, test_size=1 - 0.91429, random_state=42)
    for part, rows in (("train", train), ("validation", validation), ("test", test)):
        assert {i for i, name in enumerate(parts) if name == part} == set(rows.tolist())


def test_no_artist_is_on_both_sides_of_the_split_by_artists() -> None:
    rng = np.random.default_rng(0)
    groups = [f"artist {i}" for i in rng.geometric(0.01, 20000)]
    parts = artist_parts(groups)
    of: dict[str, set[str]] = {}
    for group, part in zip(groups, parts, strict=True):
        of.setdefault(group, set()).add(part)
    assert all(len(found) == 1 for found in of.values())
    sizes = Counter(parts)
    assert 0.78 < sizes["train"] / 20000 < 0.84
    assert 0.07 < sizes["validation"] / 20000 < 0.13


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixteen folders with two clips each; the second one without tags; and the empty clips."""
    tags = ("beat", "drums", "guitar", "no guitar")
    lines = ["\t".join(f'"{name}"' for name in ("clip_id", *tags, "mp3_path"))]
    info = ["clip_id\ttitle\tartist\tmp3_path"]
    clip = 0
    for number in range(16):
        for labels in ("1001", "0000"):
            path = f"{number:x}/artist{number % 8}-song-{clip}-29.mp3"
            lines.append("\t".join(f'"{c}"' for c in (str(clip), *labels, path)))
            info.append(f'{clip}\tThe "best" song\tArtist {number % 8}\t{path}')
            (tmp_path / "mp3" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mp3" / path).touch()
            clip += 1
    for path in sorted(EMPTY):
        lines.append("\t".join((str(clip), "1", "1", "1", "1", path)))
        clip += 1
    (tmp_path / "annotations_final.csv").write_bytes("\r\n".join(lines).encode())
    (tmp_path / "clip_info_final.csv").write_bytes("\n".join(info).encode() + b"\n")
    return tmp_path


def parts_of(folder: Path, **wanted: str) -> dict[str, set[str]]:
    corpus = read_corpus(folder, **wanted)
    return {s: {i.name[0] for i in corpus.of(s)} for s in ("train", "validation", "test")}


def test_folders_are_split_as_in_the_literature_and_clips_without_tags_left_out(
    folder: Path,
) -> None:
    literature = parts_of(folder, subset="2-unmerged", split="folders")
    assert literature == {"train": set("0123456789ab"), "validation": {"c"}, "test": set("def")}
    hung = parts_of(folder, subset="2-unmerged", split="folders-0c")
    assert hung == {"train": set("0123456789abc"), "validation": {"d"}, "test": set("ef")}
    assert len(read_corpus(folder, subset="2-unmerged", split="folders").items) == 16


def test_the_random_split_keeps_clips_without_tags_and_drops_the_empty_ones(folder: Path) -> None:
    corpus = read_corpus(folder, split="random")
    assert corpus.tags == ("guitar", "drum")
    assert len(corpus.items) == 32
    assert sum(not item.tags for item in corpus.items) == 16
    assert corpus.items[0].path == folder / "mp3" / "0" / "artist0-song-0-29.mp3"
    assert corpus.items[0].tags == (1,)
    assert corpus.items[0].group == "Artist 0"


def test_the_split_by_artists_needs_to_know_them(folder: Path) -> None:
    corpus = read_corpus(folder, split="artists")
    seen = {s: {i.group for i in corpus.of(s)} for s in ("train", "validation", "test")}
    assert not seen["train"] & (seen["validation"] | seen["test"])
    (folder / "clip_info_final.csv").unlink()
    assert read_corpus(folder).items[0].group == "artist0"
    with pytest.raises(
        RecipeError, match=r"clip_info_final.csv: expected it for the split 'artists'"
    ):
        read_corpus(folder, split="artists")


def test_faults_are_named(folder: Path) -> None:
    table = folder / "annotations_final.csv"
    whole = table.read_text()
    with pytest.raises(RecipeError, match=r"expected one of random, folders, .* got 'split-0'"):
        read_corpus(folder, split="split-0")
    with pytest.raises(RecipeError, match=r"expected a number of tags such as '50' .* got 'genre'"):
        read_corpus(folder, subset="genre")
    for bad, message in (
        ('"2"\t"1"\t"0"\t"0"\t"1"', r"line 4, column 6 \(the row\): expected 6 columns, not 5"),
        (
            '"2"\t"1"\t"2"\t"0"\t"1"\t"1/x.mp3"',
            r"line 4, column 3 \(drums\): expected 0 or 1, got '2'",
        ),
        (
            '"2"\t"1"\t"0"\t"0"\t"1"\t"x.mp3"',
            r"line 4, column 6 \(mp3_path\): expected a path like",
        ),
    ):
        lines = whole.split("\n")
        lines[3] = bad
        table.write_text("\n".join(lines))
        with pytest.raises(RecipeError, match=message):
            read_corpus(folder)
    table.write_text(whole.replace("clip_id", "id"))
    with pytest.raises(
        RecipeError, match=r"line 1, column 1: expected a header clip_id, tags, mp3_path"
    ):
        read_corpus(folder)
    table.write_text(whole)
    (folder / "mp3").rename(folder / "elsewhere")
    with pytest.raises(
        RecipeError, match=r"expected clips such as 0/artist0.* link their folder as"
    ):
        read_corpus(folder)
