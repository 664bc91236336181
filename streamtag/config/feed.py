"""The table `[feed]` of the daemon's configuration."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self, TypedDict

from pydantic import Field, model_validator

from streamtag.config.tuning import Seconds, Table, Text
from streamtag.feed.keys import KeyPair, read_pair


class FeedConfig(Table):
    """Where and what to publish."""

    bind: Text = "tcp://127.0.0.1:5757"
    """ZeroMQ address; the default is for this machine only."""
    secret_key: Text = ""
    """Path, relative to the configuration file, of the daemon's key (`streamtag keygen`): the feed
    is encrypted, and only who has an authorised key may subscribe."""
    authorised_keys: Text = ""
    """Folder, relative to the configuration file, of public keys, one a file (`NAME.key`); it may
    change while the daemon runs."""
    plaintext_on_public_address: bool = False
    """Let everybody who can reach the machine read along, without a key."""
    encoding: Literal["json", "msgpack"] = "json"
    """How messages are encoded."""
    scores: bool = True
    """Also publish what each single window got."""
    mood: bool = True
    """Also publish where each stream stands on the mood plane, once a second, for taggers whose
    tags say something of moods."""
    stats_seconds: Seconds = 10.0
    """How often counters are published; 0 for never."""
    wait_for_subscriber_seconds: Seconds = 0.0
    """Wait so long, at most, for somebody to listen before the first stream is opened."""
    high_water: Annotated[int, Field(ge=1)] = 10_000
    """Messages kept for a slow subscriber before it must ask for what it missed."""
    journal: Text = ""
    """Path, relative to the configuration file, where every event is kept before it is published;
    empty: only as long as the daemon runs."""
    journal_days: Annotated[float, Field(gt=0, le=36500)] = 30.0
    """How long events are kept."""
    journal_megabytes: Annotated[float, Field(gt=0)] = 1024.0
    """How large the journal may become before the oldest are removed sooner."""
    journal_scores: bool = False
    """Also keep scores and moods."""
    journal_durable: bool = False
    """Wait for the disk at every write: a power cut loses nothing either."""
    replay: Text = ""
    """Where missed events are asked for; empty for the port after `bind`'s."""
    beat_seconds: Seconds = 1.0
    """Between two signs of life; 0 for none."""

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        if bool(self.secret_key) != bool(self.authorised_keys):
            had, missing = ("secret_key", "authorised_keys")[:: 1 if self.secret_key else -1]
            raise ValueError(f"{missing}: expected a path, since there is {had}, got none")
        for key in ("bind", "replay"):
            address = getattr(self, key)
            if is_public(address) and not self.secret_key and not self.plaintext_on_public_address:
                raise ValueError(
                    f"{key}: expected an address of this machine alone, such as "
                    f"tcp://127.0.0.1:5757, or secret_key and authorised_keys, or "
                    f"plaintext_on_public_address = true; got {address!r} without any of them"
                )
        return self

    def paths(self) -> dict[str, str]:
        """The keys that are paths and are given."""
        keys = ("journal", "secret_key", "authorised_keys")
        return {key: path for key in keys if (path := getattr(self, key))}


def is_public(address: str) -> bool:
    """Whether others than this machine's programs could reach a ZeroMQ address."""
    transport, found, place = address.partition("://")
    if not found or transport in ("ipc", "inproc"):
        return False
    host = place.rpartition(":")[0].strip("[]")
    if host in ("localhost", "lo"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:  # `*`, the name of a card or of a host
        return True


class FeedKeys(TypedDict, total=False):
    """The keys of a subscriber on the daemon's own machine; empty where the feed has no keys."""

    key: KeyPair
    server_key: str


def feed_keys(feed: FeedConfig) -> FeedKeys:
    """Keys for `Subscriber(address, **feed_keys(config.feed))`: the daemon accepts its own key.

    Raises:
        FeedError: the file of the key cannot be used.
    """
    if not feed.secret_key:
        return {}
    pair = read_pair(Path(feed.secret_key))
    return {"key": pair, "server_key": pair.public}
