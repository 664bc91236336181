"""No artist and no source is in two splits."""

from pathlib import Path

import pytest
from support.paths import SHARED

from streamtag.errors import RecipeError
from streamtag.train.distillation.splits import (
    TEST,
    Recording,
    groups,
    read_recordings,
    split_recordings,
)

DATA = SHARED / "data"


def recording(name: str, source: str, *artists: str) -> Recording:
    return Recording(Path(name), source, artists, "CC0", 60.0)


MANY = [recording(f"many {i}", "collection", f"artist {i}") for i in range(9)]
SOME = [
    recording("a", "album", "ann"),
    recording("b", "album"),
    recording("c", "game", "ann", "bob"),
    recording("d", "song", "bob"),
    recording("e", "other"),
    recording("f", "collection", "ann"),
    recording("g", "collection"),
]


def test_what_shares_an_artist_or_a_source_belongs_together() -> None:
    found = groups([*SOME, *MANY])
    by_name = {path.name: group for path, group in found.items()}
    assert len({by_name[name] for name in "abcdf"}) == 1
    alone = {by_name[name] for name in ("e", "g", *(r.path.name for r in MANY))}
    assert len(alone) == 11  # a collection does not tie its artists together
    assert by_name["a"] not in alone


def test_whole_groups_are_kept_for_the_test() -> None:
    found = split_recordings([*SOME, *MANY], {"bob", "artist 3"})
    assert {r.path.name for r in found["test"]} == {*"abcdf", "many 3"}
    assert sum(map(len, found.values())) == len(SOME) + len(MANY)


def test_names_that_nobody_has() -> None:
    with pytest.raises(RecipeError, match="test: expected sources or artists, got 'zoe'"):
        split_recordings(SOME, {"bob", "zoe"})


TABLE = "file\tsource\tauthor\tlicence\tseconds\tvocals\tgenre\n"


def test_tables_are_read(tmp_path: Path) -> None:
    for folder, table in (("music", "train.tsv"), ("songs", "tracks.tsv")):
        (tmp_path / folder).mkdir()
        row = "x.opus\tsrc\tby Ann & The Bobs (live) | CC0\tCC0\t61.5\tyes (male)\tpop, folk; old\n"
        (tmp_path / folder / table).write_text(TABLE + row)
    first, second = read_recordings(tmp_path)
    assert first.path == tmp_path / "music" / "x.opus"
    assert second.artists == ("ann", "the bobs")
    assert (second.seconds, second.vocals, second.words) == (61.5, "yes", ("pop", "folk", "old"))
    (tmp_path / "songs" / "tracks.tsv").write_text("file\tsource\nx\ty\n")
    with pytest.raises(RecipeError, match=r"tracks\.tsv: expected a table with file.*'author'"):
        read_recordings(tmp_path)


@pytest.mark.skipif(not (DATA / "songs").is_dir(), reason="no shared/data/songs beside us")
def test_the_split_of_general_2() -> None:
    found = split_recordings(read_recordings(DATA), TEST)
    hours = {split: sum(r.seconds for r in some) / 3600 for split, some in found.items()}
    assert hours["train"] > 5.5
    assert hours["validation"] > 0.5
    assert hours["test"] > 1.0
    for split, some in found.items():
        others = [r for name, rest in found.items() if name != split for r in rest]
        assert not {a for r in some for a in r.artists} & {a for r in others for a in r.artists}
        with_voice = [r for r in some if r.vocals in ("yes", "likely")]
        assert len({r.artists for r in with_voice}) >= 3, split
