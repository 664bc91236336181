"""Every mistake of a configuration is told once, and no other thing."""

import contextlib
import copy
import datetime
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.config.all_errors import validate_all
from streamtag.config.config import Config
from streamtag.daemon.check import checked_config, complaints_about
from streamtag.errors import ConfigError, table_of

GOOD = """
[streams.a]
source = "device:"
tuning.default.tag.low.min_on_seconds = 1
level.mono_db = -50
[taggers.default.tuning.tag.low]
[languages.de]
[feed]
journal = "events.db"
[engine]
[metrics]
[log]
[level]
[defaults.tuning.tag.low]
[control]
[web]
[mqtt]
[nats]
[fleet]
[clips]
[[alert]]
name = "speech"
when = "tag_on"
tags = ["speech"]
[notify.targets.mail]
url = "json://localhost"
[report]
every = "day"
[osc]
targets = ["desk:1"]
[[webhook]]
name = "a"
url = "http://host"
[[webhook]]
name = "b"
url = "http://host"
"""
WRONG = datetime.date(2026, 11, 21)
"""What no key takes."""


def leaves(
    model: type[BaseModel], at: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    """Paths to all keys that hold no tables; tables in dicts and lists as GOOD has them."""
    for name, field in model.model_fields.items():
        kind = table_of(field.annotation)
        inner = (typing.get_args(kind) or (kind, kind))[typing.get_origin(kind) is dict]
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            yield (*path, name)
        elif inner is kind:
            yield from leaves(inner, at.get(name, {}), (*path, name))
        else:
            found = at.get(name, {})
            for key in found if isinstance(found, dict) else range(len(found)):
                yield from leaves(inner, found[key], (*path, name, key))


def put(table: dict[str, Any], path: tuple[Any, ...], value: object) -> None:
    *outer, last = path
    at: Any = table
    for part in outer:
        at = at[part] if isinstance(at, list) else at.setdefault(part, {})
    at[last] = value


LEAVES = list(leaves(Config, tomllib.loads(GOOD)))


def test_the_walk_finds_keys_of_every_depth() -> None:
    found = {".".join(map(str, path)) for path in LEAVES}
    assert validate_all(tomllib.loads(GOOD))[1] == []
    assert len(found) > 150
    assert found > {
        "exit_when_done",
        "osc.targets",
        "webhook.1.url",
        "streams.a.source",
        "streams.a.tuning.default.tag.low.min_on_seconds",
    }


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_one_error_is_one_complaint(path: tuple[Any, ...]) -> None:
    table = tomllib.loads(GOOD)
    put(table, path, WRONG)
    config, lines = validate_all(table)
    assert config is not None
    (line,) = lines
    assert line.startswith(".".join(map(str, path)) + ": expected ")


def test_all_errors_at_once_are_as_many_complaints() -> None:
    table = tomllib.loads(GOOD)
    for path in LEAVES:
        put(table, path, WRONG)
    config, lines = validate_all(table)
    assert config is not None
    keys = {line.partition(": expected ")[0] for line in lines}
    assert keys == {".".join(map(str, path)) for path in LEAVES}
    assert len(lines) == len(LEAVES)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in LEAVES
        if path[-1] in ("source", "targets", "url", "when") and path[0] != "notify"
    ],
)
def test_a_missing_key_is_reported_once(path: tuple[Any, ...]) -> None:
    table = tomllib.loads(GOOD)
    *outer, last = path
    at: Any = table
    for part in outer:
        at = at[part]
    del at[last]
    assert validate_all(table)[1] == [f"missing key {'.'.join(map(str, path))}"]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("osc.targets = []", ["osc.targets"]),
        ('osc = {targets = ["desk"], prefix = "x", mood = 3}', ["mood", "targets", "prefix"]),
        ('streams.b = {source = 5, taggers = ["toys"], pace = true}', ["b.source", "b"]),
        ('streams.b = {pace = 3, taggers = ["toys"]}', ["b.pace", "key streams.b.source", "b"]),
        (
            'streams.b = {source = "device:", pace = true, loop = true, watch = true}',
            ["b.loop", "b.pace", "b.watch"],
        ),
        (
            'webhook = [{url = "x", events = ["q"]}, {name = "n", url = 3}]',
            ["key webhook.0.name", "webhook.1.url", "webhook.0.url", "webhook.0.events"],
        ),
        ('web = {bind = "x", token = "a", token_env = "b"}', ["web.bind", "web.token"]),
        ("webhook = [1]\nfeed = 2", ["feed", "webhook.0"]),
        ("taggers = {}\nstreams.b = 3", ["streams.b", "taggers"]),
    ],
)
def test_errors_that_would_hide_each_other(text: str, keys: list[str]) -> None:
    _, lines = validate_all(tomllib.loads(f'{text}\nstreams.a.source = "device:"'))
    assert len(lines) == len(keys), lines
    for line, key in zip(lines, keys, strict=True):
        assert line.partition(": ")[0].endswith(key), lines


BAD = """
exit_when_done = 3
streams.a = { source = "device:", taggers = ["toys"] }
streams.b = { source = "file:none.ogg", pace = 1 }
osc.targets = []
taggers.x.bundle = "none.pt"
"""


def test_run_refuses_with_the_complaints_of_check(tmp_path: Path) -> None:
    (path := tmp_path / "c.toml").write_text(BAD)
    found = complaints_about(path)
    assert [line.split(": ")[1] for line in found] == [
        *("streams.b.pace", "osc.targets", "exit_when_done"),
        *("streams.a", "taggers.x.bundle", "streams.b.source"),
    ]
    error = CliRunner().invoke(app, ["run", str(path)]).exception
    assert isinstance(error, ConfigError)
    assert str(error).splitlines() == found
    assert CliRunner().invoke(app, ["check", str(path)]).stdout.splitlines() == found


def test_a_missing_audio_file_refuses_nothing(tmp_path: Path) -> None:
    (path := tmp_path / "c.toml").write_text('streams.a.source = "file:none.ogg"')
    assert "streams.a.source: expected an existing file" in complaints_about(path)[0]
    assert checked_config(path).stream("a").place == str(tmp_path / "none.ogg")


def test_what_needs_a_restart_is_reported_with_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    bad = 'streams.a.source = "device:"\nlanguages.de.tuba = "Tuba"\n'
    path.write_text(bad)
    also = ["feed.bind: restart it"]
    with pytest.raises(ConfigError) as caught:
        checked_config(path, lambda config: also)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "feed.bind",
        "languages.de",
    ]
    path.write_text(bad + "osc.targets = []")  # then the rest is not what the file says
    with pytest.raises(ConfigError) as caught:
        checked_config(path, lambda config: also)
    assert "feed.bind" not in str(caught.value)


def test_a_valid_table_is_not_changed() -> None:
    table = tomllib.loads(GOOD)
    before = copy.deepcopy(table)
    validate_all(table)
    assert table == before


KEYS = st.sampled_from(sorted({str(part) for path in LEAVES for part in path} | {"streams", "b"}))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70_000) | st.floats() | st.sampled_from(
        ["", "device:", "stdin:", "file:x", "desk:1", "http://host", "default", "low", "a/b", "\0"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
CHANGES = st.lists(st.tuples(st.sampled_from(LEAVES), st.integers(1, 5), VALUES), max_size=6)


@settings(max_examples=300)
@given(CHANGES)
def test_any_table_leaves_a_valid_configuration(
    changes: list[tuple[tuple[Any, ...], int, Any]],
) -> None:
    table = tomllib.loads(GOOD)
    for path, depth, value in changes:
        with contextlib.suppress(TypeError, KeyError, IndexError, AttributeError):
            put(table, path[:depth], copy.deepcopy(value))
    config, lines = validate_all(table)
    assert config is not None
    assert len(lines) == len(set(lines))
    assert validate_all(copy.deepcopy(table))[1] == []  # what is left is sound
