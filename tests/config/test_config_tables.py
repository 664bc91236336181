"""Defaults, tables per tag, languages; and that no table does worse than a ConfigError."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.one_stream import OneStream, Smoother
from support.toy import card

from streamtag.config.config import Config, load_config, parse_config
from streamtag.config.model_fit import display_names
from streamtag.engine.smoothing import SwitchSettings
from streamtag.errors import ConfigError

TEXT = """
[defaults]
pace = true
stall_seconds = 3
language = "de"
[defaults.tuning]
smoothing_seconds = 4
deny = ["loud", "unheard"]
tag.low.min_on_seconds = 2
[languages.de]
low = "tief"
[taggers.toy.tuning]
smoothing_seconds = 5
tag.low.smoothing_seconds = 1
on_thresholds.low = 0.7
[streams.file]
source = "file:a"
[streams.own]
source = "file:a"
pace = false
language = "en"
tuning.toy.deny = ["high"]
tuning.toy.tag.low.min_on_seconds = 3
[streams.radio]
source = "http://host/x"
stall_seconds = 7
"""


def parsed(text: str) -> Config:
    return parse_config(tomllib.loads(text), Path("/"))


def test_defaults_apply_where_a_stream_has_no_value_and_its_kind_has_the_key() -> None:
    config = parsed(TEXT)
    file, own, radio = (config.stream(name) for name in config.streams)
    assert (file.pace, own.pace, radio.pace) == (True, False, False)
    assert (radio.stall_seconds, radio.connect_seconds) == (7, 10)
    assert (file.language, own.language) == ("de", "en")
    assert not {"stall_seconds"} & file.model_fields_set


def test_settings_of_a_stream_override_the_taggers_tag_by_tag() -> None:
    toy = card()
    config = parsed(TEXT)
    file, own = (config.settings(name, {"toy": toy})["toy"] for name in ("file", "own"))
    smoothing, on, off = file.times(toy)
    assert smoothing.tolist() == [1, 5, 5]
    assert on.tolist() == [2, 0.1, 0.1]
    assert off.tolist() == [0.2] * 3
    assert own.times(toy)[1].tolist() == [3, 0.1, 0.1]
    assert np.isinf(file.thresholds(toy)[0]).tolist() == [False, False, True]
    assert np.isinf(own.thresholds(toy)[0]).tolist() == [False, True, False]
    assert file.thresholds(toy)[0][0] == 0.7


def test_display_names() -> None:
    toy = card(display={"low": "bass", "high": "treble"})
    config = parsed(TEXT)
    assert display_names(config, "de", toy) == {"low": "tief", "high": "treble", "loud": "loud"}
    assert display_names(config, "en", toy)["low"] == "bass"
    assert display_names(config, None, toy) == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("defaults.language = 'fr'", r"defaults.language: expected one of de, en, got 'fr'"),
        ("streams.file.rate = 3", "streams.file.rate: expected greater than or equal to 1000"),
        ("defaults.rate = 8000", "unknown key defaults.rate; allowed here: .*pace"),
        ("defaults.taggers = ['x']", "defaults: no tagger 'x'; there are: toy"),
        (
            "taggers.toy.tuning.tag.low.min = 1",
            "unknown key taggers.toy.tuning.tag.low.min; allowed here: smoothing_seconds, min_on",
        ),
        ('taggers.toy.bundle = "a\\u0000"', "taggers.toy.bundle: expected text without NUL"),
        ("exit_when_done = 1", "exit_when_done: expected a valid boolean, got 1"),
    ],
)
def test_errors_in_tables_of_defaults_and_languages(text: str, complaint: str) -> None:
    table = tomllib.loads(TEXT)
    for key, value in _leaves(tomllib.loads(text)):
        at = table
        for part in key[:-1]:
            at = at.setdefault(part, {})
        at[key[-1]] = value
    with pytest.raises(ConfigError, match=complaint):
        parse_config(table, Path("/"))


def _leaves(table: dict[str, Any], key: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _leaves(value, (*key, name))
        else:
            found.append(((*key, name), value))
    return found


def test_no_stream_is_needed_without_exit_when_done() -> None:
    assert not parsed("exit_when_done = false\n[streams]").streams
    with pytest.raises(ConfigError, match="streams: expected at least one, got none"):
        parsed("[streams]")


WORDS = """streams defaults taggers feed engine control languages a toy tag tuning source bind rate
tags deny on_thresholds language low exit_when_done bundle socket [key] 0 a/b pace batch_sizes"""
KEYS = st.just("") | st.sampled_from(WORDS.split())
LEAVES = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=8), st.dates(), st.times(),
    st.sampled_from(["file:a", "stdin:", "device:", "http://h", "tcp://h:1", "de", "tcp://[:1"]),
)  # fmt: skip
TABLES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@example({"streams": {"": {"[key]": 0}}})
@given(st.dictionaries(KEYS, TABLES, max_size=6))
def test_any_table_is_a_configuration_or_a_ConfigError(table: dict[str, Any]) -> None:
    try:
        config = parse_config(table, Path("/"))
    except ConfigError:
        return
    assert config.streams or not config.exit_when_done
    for name in config.streams:
        config.stream(name)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_file_is_a_configuration_or_a_ConfigError(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"any\.toml: "):
        load_config(path)


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000])
def test_text_that_breaks_the_toml_parser_is_a_ConfigError(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="expected TOML"):
        load_config(path)


def test_smoothing_per_tag_is_each_tags_own() -> None:
    rng = np.random.default_rng(1)
    seconds = [0.5, 0.0, 2.0, 0.5]
    together = Smoother(100 * np.array(seconds))
    alone = [Smoother(100 * s) for s in seconds]
    for end in (100, 130, 190, 200):
        new = rng.uniform(size=4).astype(np.float32)
        separately = [s.smooth(new[i : i + 1], end)[0] for i, s in enumerate(alone)]
        assert together.smooth(new, end).tolist() == separately


def test_times_per_tag_and_a_retuned_switch() -> None:
    high, low = np.full(2, 0.6), np.full(2, 0.4)
    machine = OneStream(SwitchSettings(high, low, np.array([0.0, 150.0])))
    probabilities = np.array([0.9, 0.9])
    assert [s.tag for s in machine.update(probabilities, 0, 100)] == [0]
    assert [s.tag for s in machine.update(probabilities, 100, 300)] == [1]
    other = SwitchSettings(np.array([np.inf, 0.6]), low)
    banned = machine.bank.update_settings(machine.row, other, 400)
    assert [(s.tag, s.on, s.at, s.since) for s in banned] == [(0, False, 400, 0)]
    assert not machine.update(probabilities, 300, 500)
    assert [s.tag for s in machine.update(np.zeros(2), 400, 600)] == [1]
