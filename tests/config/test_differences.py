"""The difference between two configurations."""

import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamtag.config.config import Config, parse_config
from streamtag.config.differences import Changes, changes, restart_needed

TAGGERS = st.dictionaries(
    st.sampled_from(["x", "y", "z"]),
    st.fixed_dictionaries({"bundle": st.sampled_from(["", "one.pt", "two.pt"])}),
    min_size=1,
)
STREAM = st.fixed_dictionaries(
    {"source": st.sampled_from(["file:a", "file:b"])},
    optional={"pace": st.booleans(), "language": st.just("en")},
)
TABLES = st.fixed_dictionaries(
    {"streams": st.dictionaries(st.sampled_from("abcd"), STREAM, min_size=1), "taggers": TAGGERS},
    optional={"defaults": st.fixed_dictionaries({}, optional={"pace": st.booleans()})},
)


def parsed(table: dict[str, Any]) -> Config:
    return parse_config(table, Path("/"))


@given(TABLES, TABLES)
def test_every_name_is_in_one_part_and_only_differences_are_in_the_summary(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = parsed(before), parsed(after)
    what = changes(old, new)
    parts = [what.added, what.removed, what.restarted, what.kept]
    names = [name for part in parts for name in part]
    assert sorted(names) == sorted(old.streams.keys() | new.streams.keys())
    assert {*old.streams} - {*what.removed} | {*what.added} == {*new.streams}
    for name in what.kept:
        assert old.stream(name).source == new.stream(name).source
        assert old.stream(name).pace == new.stream(name).pace
    for name in what.restarted:
        mine, other = old.stream(name), new.stream(name)
        assert (mine.source, mine.pace) != (other.source, other.pace)
    taggers = {*old.taggers} - {*what.taggers_removed} | {*what.taggers_added}
    assert taggers == {*new.taggers}
    for name in {*old.taggers} & {*new.taggers}:
        differs = old.taggers[name].bundle != new.taggers[name].bundle
        assert (name in what.taggers_swapped) == differs


@given(TABLES)
def test_equal_configurations_have_no_changes(table: dict[str, Any]) -> None:
    config = parsed(table)
    assert changes(config, parsed(table)) == Changes(kept=tuple(config.streams))
    assert not list(restart_needed(config, parsed(table)))
    assert changes(config, config, frozenset(config.taggers)).taggers_swapped == (*config.taggers,)


def test_another_language_or_tuning_keeps_the_source() -> None:
    text = "streams.a.source = 'file:a'\n"
    old = parsed(tomllib.loads(text))
    tuned = text + "streams.a.tuning.default.deny = ['x']\nstreams.a.language = 'en'"
    assert changes(old, parsed(tomllib.loads(tuned))).kept == ("a",)
    louder = text + "level.threshold_dbfs = -40"
    assert changes(old, parsed(tomllib.loads(louder))).restarted == ("a",)


def test_streams_with_other_settings_are_retuned() -> None:
    streams = {"a": {"source": "stdin:", "rate": 8000}, "b": {"source": "file:b", "taggers": ["y"]}}
    old = {"streams": streams, "taggers": {"x": {}, "y": {}}}
    for change, retuned in (
        ({"taggers": {"x": {"tuning": {"deny": ["l"]}}, "y": {}}}, ("a",)),
        ({"defaults": {"tuning": {"min_on_seconds": 3}}}, ("a", "b")),
        ({"streams": streams | {"b": streams["b"] | {"language": "en"}}}, ("b",)),
        ({"feed": {"scores": False}}, ()),
    ):
        found = changes(Config.model_validate(old), Config.model_validate(old | change))
        assert found.retuned == retuned
        assert found.summary() == ({"retuned": list(retuned)} if retuned else {})


def test_what_needs_a_restart_is_refused() -> None:
    text = "streams.a.source = 'file:a'\n"
    old = parsed(tomllib.loads(text))
    new = parsed(tomllib.loads(text + "feed.bind = 'ipc://x'\nengine.max_batch = 4"))
    assert list(restart_needed(old, new)) == [
        "feed.bind: expected 'tcp://127.0.0.1:5757' as long as the daemon runs, got 'ipc://x'; "
        "restart it",
        "engine.max_batch: expected 32 as long as the daemon runs, got 4; restart it",
    ]
