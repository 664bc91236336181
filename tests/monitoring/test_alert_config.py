"""Malformed rules get an error with file, key, what was expected and what was got."""

import json
from pathlib import Path

import pytest

from streamtag.config.config import load_config
from streamtag.daemon.check import complaints_about
from streamtag.errors import ConfigError

RULES = [
    ('when = "silence"', "alert.0.name"),
    ('name = "x"', "missing key alert.0.when"),
    ('name = "a b"\nwhen = "silence"', "alert.0.name: expected 1 to 64 of the characters"),
    ('name = "x"\nwhen = "quiet"', "alert.0.when: expected 'tag_on'"),
    ('name = "x"\nwhen = "silence"\nfor = 3', "unknown key alert.0.for"),
    ('name = "x"\nwhen = "silence"\nfor_seconds = "1"', "alert.0.for_seconds: expected a valid"),
    ('name = "x"\nwhen = "silence"\nfor_seconds = -1', "got -1"),
    ('name = "x"\nwhen = "tag_on"', "alert.0.tags: expected tags or categories for 'tag_on'"),
    ('name = "x"\nwhen = "silence"\ntags = ["a"]', "tags: expected when = tag_on, tag_off"),
    ('name = "x"\nwhen = "title"', "alert.0.title: expected a value, since when is 'title'"),
    ('name = "x"\nwhen = "title"\ntitle = "("', "alert.0.title: expected a regular expression"),
    ('name = "x"\nwhen = "no_title"', "alert.0.for_seconds: expected how long"),
    ('name = "x"\nwhen = "share_below"\ntags = ["a"]\nshare = 1.5', "alert.0.share: expected less"),
    ('name = "x"\nwhen = "share_below"\ntags = ["a"]', "alert.0.share: expected a value"),
    ('name = "x"\nwhen = "gaps"\nfor_seconds = 1', "expected within_seconds for 'gaps'"),
    ('name = "x"\nwhen = "silence"\nquiet = ["25:00-06:00"]', "alert.0.quiet: expected such as"),
    ('name = "x"\nwhen = "silence"\nquiet = ["day 22:00-06:00"]', "alert.0.quiet: expected such"),
    ('name = "x"\nwhen = "silence"\nzone = "Mars/City"', "alert.0.zone: expected a time zone"),
    (
        'name = "x"\nwhen = "silence"\nnotify = ["mail"]',
        "notify: no target 'mail'; there are: none",
    ),
    ('name = "x"\nwhen = "stream_lost"\nstates = ["up"]', "alert.0.states.0: expected 'stalled'"),
    ('name = "x"\nwhen = "silence"\n[[alert]]\nname = "x"\nwhen = "silence"', "got 'x' twice"),
    ('name = "x"\nwhen = "silence"\n[notify]\ntargets = {}', "notify.targets: expected"),
    ('name = "x"\nwhen = "silence"\n[notify.targets.mail]', "url: expected one of url, url_file"),
]


@pytest.mark.parametrize(("text", "words"), RULES)
def test_a_malformed_rule(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(f'streams.radio.source = "device:"\n[[alert]]\n{text}\n')
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)
    assert any(words in line for line in complaints_about(path))


def test_an_address_is_never_quoted(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    for url in ("hunter2-is-secret", "unknown-kind://hunter2:hunter2@hunter2"):
        path.write_text(
            'streams.radio.source = "device:"\n[[alert]]\nname = "x"\nwhen = "silence"\n'
            f'[notify.targets.mail]\nurl = "{url}"\n'
        )
        found = "\n".join(complaints_about(path))
        assert "notify.targets.mail" in found
        assert "hunter2" not in found


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('when = "silence"\nstreams = ["tv*"]', "streams: expected patterns of radio, got tv*"),
        ('when = "tag_on"\ntags = ["kazoo"]', "no tagger knows 'kazoo'; known: "),
        ('when = "tag_on"\ntags = ["low"]', "'low', which is off in these streams"),
        ('when = "no_title"\nfor_seconds = 60', "expected streams that have titles, got radio"),
        ('when = "health"', "expected feed.stats_seconds above 0, got 0"),
        ('when = "silence"', ""),
        ('when = "tag_on"\ntags = ["HI*"]', ""),
    ],
)
def test_alerts_that_cannot_fire_are_named(
    tmp_path: Path, toy_bundle: Path, rule: str, words: str
) -> None:
    path = tmp_path / "my.toml"
    path.write_text(
        f"[taggers.toy]\nbundle = {json.dumps(str(toy_bundle))}\n"
        'tuning.deny = ["low"]\n[streams.radio]\nsource = "device:"\n[feed]\nstats_seconds = 0\n'
        f'[[alert]]\nname = "x"\n{rule}\n'
    )
    lines = complaints_about(path)
    assert len(lines) == bool(words), lines
    if words:
        assert lines[0].startswith(f"{path}: alert 'x': cannot fire: ")
        assert words in lines[0]
