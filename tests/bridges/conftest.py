"""What several tests share: one browser a file, a feed with a bridge to NATS."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.nats_server import NatsServer
from support.wall import browsing

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from support.nats_bridge import Station


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def station(tmp_path: Path, server: NatsServer) -> Iterator["Station"]:
    from support.nats_bridge import Station

    made = Station(tmp_path / "station", server.address)
    yield made
    made.close()
