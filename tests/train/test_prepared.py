"""Windows in the cache are used again for the sounds that they were made from alone."""

from pathlib import Path

import pytest

from streamtag.errors import RecipeError
from streamtag.train.recipes.file import load_recipe
from streamtag.train.synthesis import prepared


def no_progress(what: str, done: int, total: int) -> None:
    """Nothing is shown."""


def test_windows_of_other_sounds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in ("_prepare_mixtures", "_prepare_music", "_prepare_non_music"):
        monkeypatch.setattr(prepared, step, lambda *_: None)
    data, recipe = tmp_path / "data", load_recipe("instruments")
    for name in ("midi/a.mid", "esc10/1.opus", "beside.txt"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("sound")
    folder = prepared.prepare(recipe, data, tmp_path / "cache", no_progress)
    (data / "beside.txt").write_text("no sound at all")
    moved = data.rename(tmp_path / "moved")
    assert prepared.prepare(recipe, moved, tmp_path / "cache", no_progress) == folder
    (moved / "midi" / "b.mid").write_text("new")
    (moved / "midi" / "a.mid").write_text("longer than before")
    with pytest.raises(RecipeError, match=r"from others: 3 files differ, first: 'midi/a\.mid'"):
        prepared.prepare(recipe, moved, tmp_path / "cache", no_progress)
