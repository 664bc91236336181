"""What the tests of several pages share: one browser a file."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.wall import browsing

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with browsing() as browser:
        yield browser
