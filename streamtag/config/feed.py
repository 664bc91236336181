"""The table `[feed]` of the daemon's configuration."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypedDict

from pydantic import Field, model_validator

from streamtag.config.fields import ConfigTable, FilePath, Seconds, Text, is_public
from streamtag.config.rights import RightsConfig
from streamtag.feed.keys import KeyPair, read_pair
from streamtag.feed.rights import EVERYTHING, ViewPlan


class AccessConfig(RightsConfig):
    """A table `[feed.access.NAME]`: what the owners of some keys may see, and where."""

    keys: tuple[Text, ...] | None = Field(default=None, strict=False)
    """Names of the keys: their files without `.key`. None for the name of the table."""
    bind: Text = ""
    """ZeroMQ address where they subscribe. Empty for that of the feed, which is only for those who
    may see everything."""


class FeedConfig(ConfigTable):
    """Where and what to publish."""

    bind: Text = "tcp://127.0.0.1:5757"
    """ZeroMQ address; the default is for this machine only."""
    secret_key: FilePath = ""
    """Path, relative to the configuration file, of the daemon's key (`streamtag keygen`). With it
    the feed is encrypted, and only clients with an authorised key may subscribe."""
    authorised_keys: FilePath = ""
    """Folder, relative to the configuration file, of public keys, one per file (`NAME.key`). It may
    change while the daemon runs."""
    plaintext_on_public_address: bool = False
    """Allow subscribers on other machines without a key."""
    encoding: Literal["json", "msgpack"] = "json"
    """How messages are encoded."""
    scores: bool = True
    """Publish the scores of each window, too."""
    mood: bool = True
    """Publish the mood of each stream once a second, too, for taggers whose tags say anything of
    moods."""
    levels: bool = False
    """Publish the level of each stream twice a second, too."""
    loudness: bool = False
    """Publish it with its momentary loudness by EBU R 128."""
    sections: bool = False
    """Publish the sections of each stream's programme, too: speech, music, silence."""
    stats_seconds: Seconds = 10.0
    """Time between two publications of the counters; 0 for never."""
    wait_for_subscriber_seconds: Seconds = 0.0
    """The longest wait for a subscriber before the first stream is opened."""
    high_water: Annotated[int, Field(ge=1)] = 10_000
    """Messages kept for a slow subscriber before it must ask for what it missed."""
    journal: FilePath = ""
    """Path, relative to the configuration file, where every event is written before it is
    published. Empty for a journal that lasts as long as the daemon runs."""
    journal_days: Annotated[float, Field(gt=0, le=36500)] = 30.0
    """How long events are kept."""
    journal_megabytes: Annotated[float, Field(gt=0)] = 1024.0
    """The largest size of the journal. The oldest events are removed sooner if it is reached."""
    journal_scores: bool = False
    """Keep scores and moods, too."""
    journal_durable: bool = False
    """Wait for the disk at every write, so that a power cut loses nothing either."""
    replay: Text = ""
    """Address where subscribers request missed events; empty for the port after that of `bind`."""
    beat_seconds: Seconds = 1.0
    """Time between two heartbeats; 0 for none."""
    access: dict[Text, AccessConfig] = Field(default={})
    """Who may see what, by the names of keys. Without any table every authorised key may see
    everything; with one, keys that no table names are refused."""

    @property
    def measures_levels(self) -> bool:
        """Whether levels are published."""
        return self.levels or self.loudness

    @property
    def views(self) -> tuple[ViewPlan, ...]:
        """The public sockets, the feed's own first, and whom they are for."""
        tables = {name: (one.keys or (name,), one) for name, one in self.access.items()}
        full = {key for keys, one in tables.values() if not one.bind for key in keys}
        own = ViewPlan(self.bind, EVERYTHING, frozenset(full) if tables else None)
        others = [
            ViewPlan(one.bind, one.rights, frozenset(keys))
            for keys, one in tables.values()
            if one.bind
        ]
        return (own, *others)

    @model_validator(mode="after")
    def _shares_out_keys(self) -> Self:
        owners: dict[str, str] = {}
        for name, table in self.access.items():
            if not self.secret_key:
                raise ValueError(f"access.{name}: expected secret_key with rights, got none")
            if not table.bind and table.rights != EVERYTHING:
                raise ValueError(
                    f"access.{name}.bind: expected an address of its own for limited rights, such "
                    "as tcp://0.0.0.0:5760, got none"
                )
            for key in table.keys or (name,):
                if (other := owners.setdefault(key, name)) != name:
                    raise ValueError(
                        f"access.{name}.keys: expected each key in one table, got {key!r:.60} "
                        f"in {other}, too"
                    )
        return self

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        if bool(self.secret_key) != bool(self.authorised_keys):
            had, missing = ("secret_key", "authorised_keys")[:: 1 if self.secret_key else -1]
            raise ValueError(f"{missing}: expected a path, since there is {had}, got none")
        has_protection = self.secret_key or self.plaintext_on_public_address
        for key in ("bind", "replay"):
            address = getattr(self, key)
            if is_public_address(address) and not has_protection:
                raise ValueError(
                    f"{key}: expected an address of this machine alone, such as "
                    f"tcp://127.0.0.1:5757, or secret_key and authorised_keys, or "
                    f"plaintext_on_public_address = true; got {address!r} without any of them"
                )
        return self


def is_public_address(address: str) -> bool:
    """Whether programs on other machines could reach a ZeroMQ address."""
    transport, found, place = address.partition("://")
    if not found or transport in ("ipc", "inproc"):
        return False
    host = place.rpartition(":")[0].strip("[]")
    return host != "lo" and is_public(host)


class FeedKeys(TypedDict, total=False):
    """The keys of a subscriber on the daemon's own machine. Empty if the feed has no keys."""

    key: KeyPair
    server_key: str


def feed_keys(feed: FeedConfig) -> FeedKeys:
    """Keys for `Subscriber(address, **feed_keys(config.feed))`. The daemon accepts its own key.

    Raises:
        FeedError: the key's file cannot be used.
    """
    if not feed.secret_key:
        return {}
    pair = read_pair(Path(feed.secret_key))
    return {"key": pair, "server_key": pair.public}
