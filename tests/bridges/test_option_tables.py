"""The tables of options on the pages of the bridges name every key with its default."""

import re
from typing import Any

import pytest
from support.paths import ROOT

from streamtag.config.alerts import AlertConfig, NotifyConfig
from streamtag.config.bridges import MqttConfig, OscConfig, WebConfig, WebhookConfig
from streamtag.config.nats import NatsConfig

DESCRIBED = {
    "port",
    "client_id",
    "streams",
    "tags",
    "events",
    "position",
    "name",
    "url",
    "targets",
} | {*("when", "parts", "notify", "state")}
"""Keys whose default is required, or is described in words."""
WRITTEN = {"False": "false", "True": "true"}
"""Python's spelling of a default -> that of TOML."""


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("mqtt", MqttConfig),
        ("osc", OscConfig),
        ("nats", NatsConfig),
        ("web", WebConfig),
        ("webhooks", WebhookConfig),
        ("alerts", AlertConfig),
        ("alerts", NotifyConfig),
    ],
)
def test_the_table_of_options_shows_every_key_and_default(page: str, table: Any) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", text.partition("## Options")[2], re.M)
    shown = {key: default for keys, default in rows for key in re.findall(r"`(\w+)`", keys)}
    assert table.model_fields.keys() <= shown.keys()
    for key in table.model_fields.keys() - DESCRIBED:
        default = table.model_fields[key].default
        default = list(default) if isinstance(default, tuple) else default
        written = "{}" if default == {} else WRITTEN.get(str(default), repr(default))
        assert shown[key].strip("`") == written.replace("'", '"'), key
