"""MQTT without a broker: configuration, topics, what differs."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtag.bridges.mqtt.discovery import slug, steps
from streamtag.bridges.mqtt.topics import level
from streamtag.bridges.retained import Retained
from streamtag.config.config import load_config
from streamtag.config.fields import read_secret
from streamtag.daemon.check import complaints_about
from streamtag.errors import ConfigError

HEAD = 'streams.a.source = "device:"\n[mqtt]\n'


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("hots = 1", "unknown key mqtt.hots; allowed here: host, port,"),
        ("port = 70000", "mqtt.port: expected less than or equal to 65535, got 70000"),
        ('prefix = "a/+"', "mqtt.prefix: expected levels of a topic such as streamtag"),
        ('prefix = ""', "mqtt.prefix: expected levels of a topic such as streamtag"),
        ('discovery = "a//b"', "mqtt.discovery: expected levels of a topic"),
        ('password = "x"', "mqtt.user: expected with a password, got none"),
        (
            'user = "x"\npassword = "x"\npassword_env = "X"',
            "mqtt.password: expected one of password, password_file, password_env, got several",
        ),
        ('ca_file = "x"', "mqtt.tls: expected true with certificates, got false"),
        ('tls = true\nkey_file = "x"', "mqtt.certificate_file: expected with key_file, got none"),
        ('tls = true\nca_file = "x.pem"', "mqtt.ca_file: expected an existing file, got '/"),
        ('streams = ["a b"]', "mqtt.streams.0: expected 1 to 64 of the characters"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, table: str, complaint: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(HEAD + table)
    (line,) = complaints_about(path)
    assert line.startswith(f"{path}: {complaint}")


def test_the_port_is_that_of_the_kind_of_connection(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(HEAD)
    assert not complaints_about(path)
    mqtt = load_config(path).mqtt
    assert mqtt is not None
    assert mqtt.address == ("127.0.0.1", 1883)
    assert mqtt.model_copy(update={"tls": True}).address[1] == 8883


def test_a_secret_is_read_from_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.write_text("open sesame\n")
    assert read_secret("k", "", str(path), "", {}) == "open sesame"
    assert read_secret("k", "", "", "WORD", {"WORD": "x"}) == "x"
    assert read_secret("k", "inline", "", "", {}) == "inline"
    path.write_text("\n")
    for file, words in ((str(path), "got an empty file"), ("none", "No such file")):
        with pytest.raises(ConfigError, match=f"k_file: .*{words}"):
            read_secret("k", "", file, "", {})
    with pytest.raises(ConfigError, match=r"k_env: expected a secret .*'WORD', got nothing"):
        read_secret("k", "", "", "WORD", {})


@given(st.lists(st.text(max_size=12), unique=True, max_size=6))
def test_names_stay_different_and_safe(names: list[str]) -> None:
    assert len({slug(name) for name in names}) == len(names)
    assert len({level(name) for name in names}) == len(names)
    for name in names:
        assert not set(level(name)) & set("+#/\0\n")
        assert all(c.isascii() and (c.isalnum() or c in "_-") for c in slug(name))


def test_only_what_differs_is_due() -> None:
    retained = Retained()
    retained.want("a", {"x": b"1", "y": b"2"})
    retained.connected({"x": b"1", "old": b"9"})
    assert list(retained.due()) == [("y", b"", b"2")]
    retained.put("y", b"2")
    assert retained.strangers() == {"old": b"9"}
    retained.sweep()
    assert list(retained.due()) == [("old", b"9", b"")]
    retained.put("old", b"")
    retained.want("a", {"y": b"3"})
    retained.want("a", {"y": b"4"})  # the broker was slow: only the last counts
    assert sorted(retained.due()) == [("x", b"1", b""), ("y", b"2", b"4")]
    assert len(retained) == 1


def test_a_topic_may_pass_from_one_group_to_another() -> None:
    retained = Retained()
    retained.want("a", {"x": b"1"})
    retained.want("a", {})
    retained.want("b", {"x": b"1"})
    assert list(retained.due()) == [("x", b"", b"1")]


def test_components_that_go_are_named_once_more() -> None:
    def payload(*names: str) -> bytes:
        parts = {name: {"platform": "sensor", "unique_id": name} for name in names}
        return json.dumps({"components": parts}).encode()

    first, last = steps(payload("a", "b"), payload("b", "c"))
    assert json.loads(first)["components"]["a"] == {"platform": "sensor"}
    assert last == payload("b", "c")
    for old, new in ((b"", payload("a")), (payload("a"), b""), (b"[1]", payload("a"))):
        assert steps(old, new) == [new]
