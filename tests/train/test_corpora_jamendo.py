"""MTG-Jamendo: the published facts about its tables, its layouts, and faults of a table."""

import re
from collections import Counter
from pathlib import Path

import pytest
from support.paths import SHARED

from streamtag.errors import RecipeError
from streamtag.train.data.corpora import read_corpus
from streamtag.train.data.corpora.jamendo import read_tracks
from streamtag.train.data.vocabulary import built_in

REAL = SHARED / "data" / "mtg-jamendo"
COUNTS = """
action 296/55/56 · adventure 264/78/106 · advertising 363/147/163 · background 404/32/60
ballad 193/58/83 · calm 267/104/86 · children 152/119/185 · christmas 368/74/181
commercial 191/70/167 · cool 170/34/47 · corporate 349/118/142 · dark 620/231/351
deep 429/69/137 · documentary 339/123/150 · drama 253/90/81 · dramatic 195/34/88
dream 498/207/246 · emotional 499/357/415 · energetic 857/233/267 · epic 601/167/214
fast 62/26/31 · film 746/187/569 · fun 220/187/73 · funny 109/23/71 · game 169/26/66
groovy 78/74/42 · happy 927/392/338 · heavy 98/33/25 · holiday 98/35/43 · hopeful 137/36/43
inspiring 561/136/180 · love 493/212/204 · meditative 374/161/207 · melancholic 228/111/102
melodic 598/368/247 · motivational 372/75/188 · movie 207/113/93 · nature 137/65/57
party 127/84/55 · positive 376/64/99 · powerful 106/47/85 · relaxing 763/278/309
retro 139/41/33 · romantic 363/118/146 · sad 375/147/227 · sexy 59/37/26 · slow 295/53/89
soft 208/128/129 · soundscape 415/36/29 · space 362/93/48 · sport 201/38/58 · summer 261/91/153
trailer 159/71/40 · travel 89/49/33 · upbeat 216/132/96 · uplifting 449/139/105
"""
"""Tracks with each tag in training/validation/test of split-0, as published."""
HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
ROWS = {
    "train": [
        ("24", "3524", "mood/theme---happy", "mood/theme---deep"),
        ("25", "3525", "mood/theme---sad"),
    ],
    "validation": [("26", "3526", "mood/theme---sad")],
    "test": [("27", "3527", "mood/theme---deep")],
}


def table(rows: list[tuple[str, ...]]) -> bytes:
    lines = [HEADER]
    for folder, number, *tags in rows:
        ids = f"track_{number:>07}\tartist_{number:>06}\talbum_{number:>06}"
        lines.append("\t".join([ids, f"{folder}/{number}.mp3", "266.1", *tags]))
    return ("\r\n".join(lines) + "\r\n").encode()


def write(place: Path, stem: str = "autotagging_moodtheme") -> None:
    place.mkdir(parents=True, exist_ok=True)
    for part, rows in ROWS.items():
        (place / f"{stem}-{part}.tsv").write_bytes(table(rows))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """As the data set's repository is laid out, audio linked into it."""
    write(tmp_path / "data" / "splits" / "split-0")
    for rows in ROWS.values():
        for folder, number, *_ in rows:
            touch(tmp_path / "audio" / folder / f"{number}.mp3")
    return tmp_path


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not on this machine")
def test_the_real_tables_have_the_published_numbers_of_tracks_artists_and_tags() -> None:
    tracks = read_tracks(REAL, "mood/theme")
    sizes = Counter(track.split for track in tracks)
    assert sizes == {"train": 9949, "validation": 3802, "test": 4231}
    artists = {part: {t.artist for t in tracks if t.split == part} for part in sizes}
    assert [len(artists[part]) for part in ("train", "validation", "test")] == [874, 307, 327]
    assert not artists["train"] & artists["test"]
    count = {p: Counter(tag for t in tracks if t.split == p for tag in t.tags) for p in sizes}
    published = re.findall(r"(\w+) (\d+)/(\d+)/(\d+)", COUNTS)
    assert tuple(tag for tag, *_ in published) == built_in("moodtheme").tags
    for tag, *wanted in published:
        got = [count[part][f"mood/theme---{tag}"] for part in ("train", "validation", "test")]
        assert got == list(map(int, wanted)), tag
    assert min(t.seconds for t in tracks) >= 30
    per_track = [sum(count[part].values()) / sizes[part] for part in sizes]
    assert per_track == pytest.approx([1.798, 1.659, 1.788], abs=5e-4)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not on this machine")
def test_the_real_tables_become_a_corpus_in_the_published_order(tmp_path: Path) -> None:
    for path in REAL.iterdir():
        (tmp_path / path.name).symlink_to(path)
    touch(tmp_path / "audio" / "48" / "948.mp3")
    (tmp_path / "tags").mkdir()
    (tmp_path / "tags" / "moodtheme_split.txt").symlink_to(REAL / "moodtheme_split.txt")
    corpus = read_corpus(tmp_path, subset="mood/theme", split="split-0")
    assert corpus.tags == built_in("moodtheme").tags
    assert "9949 train, 3802 validation, 4231 test" in corpus.note
    test = corpus.of("test")
    assert (test[0].name, test[0].group) == ("24/3524", "artist_000530")
    assert [corpus.tags[i] for i in test[0].tags] == ["melodic"]
    assert corpus.targets(test).mean() == pytest.approx(0.0319, abs=5e-5)


def test_line_ends_and_ragged_rows_leave_no_trace_in_the_tags(repository: Path) -> None:
    corpus = read_corpus(repository, subset="mood/theme")
    assert corpus.tags == ("deep", "happy", "sad")
    assert [(i.name, i.split, i.tags) for i in corpus.items] == [
        ("24/3524", "train", (0, 1)),
        ("25/3525", "train", (2,)),
        ("26/3526", "validation", (2,)),
        ("27/3527", "test", (0,)),
    ]
    assert corpus.items[0].path == repository / "audio" / "24" / "3524.mp3"


@pytest.mark.parametrize("inner", ["data", "data/splits", "data/splits/split-0"])
def test_the_folder_may_be_named_at_any_depth(repository: Path, inner: str) -> None:
    if inner == "data":
        (repository / "audio").rename(repository / "data" / "audio")
    if inner == "data/splits":
        (repository / "audio").rename(repository / "data" / "splits" / "audio")
    corpus = read_corpus(repository / inner)
    assert len(corpus.items) == 4
    assert all(item.path.exists() for item in corpus.items)


def test_the_order_of_the_tags_is_the_published_one_if_it_is_there(repository: Path) -> None:
    tags = repository / "data" / "tags" / "moodtheme_split.txt"
    tags.parent.mkdir()
    tags.write_text("\n".join(f"mood/theme---{tag}" for tag in ("sad", "deep", "calm", "happy")))
    corpus = read_corpus(repository)
    assert corpus.tags == ("sad", "deep", "calm", "happy")
    assert corpus.items[0].tags == (1, 3)


def test_low_quality_audio_other_endings_and_mels_are_found(repository: Path) -> None:
    audio = repository / "audio"
    (audio / "24" / "3524.mp3").rename(audio / "24" / "3524.low.mp3")
    (audio / "25" / "3525.mp3").rename(audio / "25" / "3525.opus")
    (audio / "26" / "3526.mp3").unlink()
    mels = [touch(repository / "melspecs" / n) for n in ("24/3524.npy", "26/3526.npy")]
    low, opus, silent, plain = read_corpus(repository).items
    assert (low.path.name, low.mels) == ("3524.low.mp3", mels[0])
    assert (opus.path.name, opus.mels) == ("3525.opus", None)
    assert (silent.path, silent.mels) == (mels[1], mels[1])
    assert (plain.path.name, plain.mels) == ("3527.mp3", None)


def test_other_splits_and_subsets_are_chosen_by_name(repository: Path) -> None:
    splits = repository / "data" / "splits"
    write(splits / "split-3")
    write(splits / "split-0", "autotagging")
    assert "split-3" in read_corpus(repository, split="3", subset="moodtheme").name
    assert read_corpus(repository).tags == (
        "mood/theme---deep",
        "mood/theme---happy",
        "mood/theme---sad",
    )
    with pytest.raises(
        RecipeError, match=r"split: expected one of split-0, split-3, got 'split-1'"
    ):
        read_corpus(repository, split="split-1")
    with pytest.raises(
        RecipeError, match=r"whose tables are here \(all, mood/theme\), got 'genre'"
    ):
        read_corpus(repository, subset="genre")


def test_no_audio_at_all_is_an_error_but_a_missing_file_is_not(repository: Path) -> None:
    (repository / "audio" / "24" / "3524.mp3").unlink()
    assert not read_corpus(repository).items[0].path.exists()
    (repository / "audio").rename(repository / "elsewhere")
    with pytest.raises(
        RecipeError, match=r"24/3524\.mp3 or \.npy .* got none; link their folder as"
    ):
        read_corpus(repository)


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ("track_1\tartist_1\talbum_1\t24/3524.mp3\t266.1", 6, "at least 6 columns"),
        ("track_1\tartist_1\talbum_1\t24/3524.mp3\t266.1\t\t", 6, "at least one tag|at least 6"),
        (
            "track_1\tartist_1\talbum_1\t../../etc.mp3\t2\tmood/theme---x",
            4,
            "a path like 24/3524.mp3",
        ),
        ("track_1\tartist_1\talbum_1\t24/3524.mp3\tlong\tmood/theme---x", 5, "seconds"),
        (
            "track_1\tartist_1\talbum_1\t24/3524.mp3\t2\tmood/theme---x\tcolour---red",
            7,
            "a tag like",
        ),
        (
            "track_1\tartist_1\talbum_1\t24/3524.mp3\t2\tgenre---rock",
            6,
            "a tag like mood/theme---NAME",
        ),
    ],
)
def test_a_bad_row_is_named_by_line_and_column(
    repository: Path, row: str, column: int, expected: str
) -> None:
    path = repository / "data" / "splits" / "split-0" / "autotagging_moodtheme-validation.tsv"
    path.write_bytes(path.read_bytes() + row.encode() + b"\r\n")
    with pytest.raises(
        RecipeError, match=rf"validation.tsv: line 3, column {column} .*({expected})"
    ):
        read_corpus(repository)


def test_missing_tables_bad_headers_doubles_and_strange_bytes_are_refused(repository: Path) -> None:
    path = repository / "data" / "splits" / "split-0" / "autotagging_moodtheme-test.tsv"
    whole = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + whole)  # a byte order mark is fine
    assert len(read_corpus(repository).items) == 4
    path.write_bytes(whole.replace(b"TRACK_ID", b"TRACK"))
    with pytest.raises(
        RecipeError, match=r"test.tsv: line 1, column 1: expected the header TRACK_ID"
    ):
        read_corpus(repository)
    path.write_bytes(whole.replace(b"deep", b"d\xe9ep"))
    with pytest.raises(
        RecipeError, match=r"test.tsv: line 2, column \d+: expected UTF-8, got the byte 0xe9"
    ):
        read_corpus(repository)
    path.write_bytes(table(ROWS["train"]))
    with pytest.raises(RecipeError, match=r"every recording once, got '24/3524' 2 times"):
        read_corpus(repository)
    path.unlink()
    with pytest.raises(
        RecipeError, match=r"test.tsv: expected the table of this part, got nothing"
    ):
        read_corpus(repository)
