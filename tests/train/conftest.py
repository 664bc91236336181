"""What makes a training in a test quick: no processes that prepare recordings, and no pictures."""

from collections.abc import Iterator

import pytest
from support import quick_models


@pytest.fixture(autouse=True)
def _without_processes_and_pictures(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both take longer than the epochs of a test; tests marked `complete` have them."""
    if request.node.get_closest_marker("complete") is None:
        quick_models.without_processes_and_pictures(monkeypatch)


@pytest.fixture
def loaded_once() -> Iterator[None]:
    """For tests of what a model says: that a bundle can be loaded, its export has just proved."""
    with quick_models.loaded_once():
        yield
