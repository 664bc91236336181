"""What a configuration says of the feed: keys, and addresses that need them."""

import json
from pathlib import Path

import pytest
from feed.test_authentication import SECONDS, UP

from streamtag.config.config import Config, parse_config
from streamtag.config.feed import feed_keys
from streamtag.daemon.check import complaints_about
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput
from streamtag.errors import ConfigError, FeedError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.keys import generate
from streamtag.feed.messages import StreamUp


def config(tmp_path: Path, **feed: object) -> Config:
    return parse_config(
        {"streams": {"a": {"source": "stdin:", "rate": 8000}}, "feed": feed}, tmp_path
    )


@pytest.mark.parametrize(
    "address",
    [
        "tcp://0.0.0.0:5757",
        "tcp://*:1",
        "tcp://[::]:1",
        "tcp://eth0:1",
        "tcp://10.0.0.1:1",
        "tcp://radio.example:1",
        "ws://10.0.0.1:80",
    ],
)
@pytest.mark.parametrize("key", ["bind", "replay"])
def test_a_public_address_needs_keys_or_permission(tmp_path: Path, key: str, address: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"feed.{key}: expected an address of this machine alone"
    ):
        config(tmp_path, **{key: address})
    config(tmp_path, **{key: address}, plaintext_on_public_address=True)
    config(tmp_path, **{key: address}, secret_key="a", authorised_keys="b")


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:1",
        "tcp://127.1.2.3:1",
        "tcp://localhost:1",
        "tcp://[::1]:1",
        "tcp://lo:1",
        "ipc:///run/feed",
    ],
)
def test_a_local_address_needs_no_keys(tmp_path: Path, address: str) -> None:
    config(tmp_path, bind=address)


def test_keys_come_in_pairs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"feed.authorised_keys: expected a path, since there is"):
        config(tmp_path, secret_key="a")
    with pytest.raises(ConfigError, match=r"feed.secret_key: expected a path, since there is"):
        config(tmp_path, authorised_keys="a")
    with pytest.raises(FeedError, match=r"expected key, too, where server_key is given"):
        Subscriber("tcp://127.0.0.1:1", server_key="a")


def test_a_feed_with_keys_admits_only_authorised_clients(tmp_path: Path) -> None:
    generate(tmp_path / "daemon")
    (tmp_path / "in").mkdir()
    made = config(
        tmp_path, bind="tcp://127.0.0.1:0", secret_key="daemon.key_secret", authorised_keys="in"
    )
    output = EventOutput(made.feed, Monitor())
    with Subscriber(output.address, **feed_keys(made.feed)) as feed:
        output.publish([UP])
        message = feed.receive(SECONDS)
        assert isinstance(message, StreamUp)
    output.close(0)
    assert feed_keys(config(tmp_path).feed) == {}


def test_check_reports_invalid_keys(tmp_path: Path, toy_bundle: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        "exit_when_done = false\nstreams = {}\n"
        f"taggers.toy.bundle = {json.dumps(str(toy_bundle))}\n"
        '[feed]\nsecret_key = "daemon.key_secret"\nauthorised_keys = "in"\n'
    )
    found = "\n".join(complaints_about(path))
    assert f"feed.secret_key: {tmp_path}/daemon.key_secret: expected a key file" in found
    assert f"feed.authorised_keys: {tmp_path}/in: expected a folder of public keys" in found
    generate(tmp_path / "daemon")[0].chmod(0o644)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.key").write_text("nothing")
    found = "\n".join(complaints_about(path))
    assert "got mode 0644" in found
    assert "in/a.key: expected a key file" in found
    (tmp_path / "daemon.key_secret").chmod(0o600)
    (tmp_path / "in" / "a.key").unlink()
    assert complaints_about(path) == []
