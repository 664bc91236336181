"""The MQTT bridge without a broker: configuration, topics, desired state."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtag.bridges.mqtt.topics import device_updates, level, slug
from streamtag.bridges.state_bridge import DesiredState
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
def test_an_error_names_its_key(tmp_path: Path, table: str, complaint: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(HEAD + table)
    (line,) = complaints_about(path)
    assert line.startswith(f"{path}: {complaint}")


def test_the_default_port_depends_on_tls(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(HEAD)
    assert not complaints_about(path)
    mqtt = load_config(path).mqtt
    assert mqtt is not None
    assert mqtt.address == ("127.0.0.1", 1883)
    assert mqtt.model_copy(update={"tls": True}).address[1] == 8883


def test_secrets_are_read_from_text_file_or_variable(tmp_path: Path) -> None:
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
def test_escaped_names_are_unique_and_safe(names: list[str]) -> None:
    assert len({slug(name) for name in names}) == len(names)
    assert len({level(name) for name in names}) == len(names)
    for name in names:
        assert not set(level(name)) & set("+#/\0\n")
        assert all(c.isascii() and (c.isalnum() or c in "_-") for c in slug(name))


def test_only_differences_are_changes() -> None:
    state = DesiredState()
    state.set_group("a", {"x": b"1", "y": b"2"})
    state.reset_published({"x": b"1", "old": b"9"})
    assert list(state.changes()) == [("y", b"", b"2")]
    state.mark_published("y", b"2")
    assert state.leftovers() == {"old": b"9"}
    state.remove_leftovers()
    assert list(state.changes()) == [("old", b"9", b"")]
    state.mark_published("old", b"")
    state.set_group("a", {"y": b"3"})
    state.set_group("a", {"y": b"4"})  # the broker was slow: only the last counts
    assert sorted(state.changes()) == [("x", b"1", b""), ("y", b"2", b"4")]
    assert len(state.desired) == 1


def test_a_topic_may_move_to_another_group() -> None:
    state = DesiredState()
    state.set_group("a", {"x": b"1"})
    state.set_group("a", {})
    state.set_group("b", {"x": b"1"})
    assert list(state.changes()) == [("x", b"", b"1")]


def test_removed_components_are_named_with_their_platform() -> None:
    def payload(*names: str) -> bytes:
        parts = {name: {"platform": "sensor", "unique_id": name} for name in names}
        return json.dumps({"components": parts}).encode()

    first, last = device_updates(payload("a", "b"), payload("b", "c"))
    assert json.loads(first)["components"]["a"] == {"platform": "sensor"}
    assert last == payload("b", "c")
    for old, new in ((b"", payload("a")), (payload("a"), b""), (b"[1]", payload("a"))):
        assert device_updates(old, new) == [new]
