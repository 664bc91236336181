"""What makes a training in a test quick: no processes that prepare recordings, and no pictures."""

import pytest

from streamtag.train import job
from streamtag.train.data import extraction
from streamtag.train.training import loop


@pytest.fixture(autouse=True)
def _without_processes_and_pictures(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both take longer than the epochs of a test; tests marked `complete` have them."""
    if request.node.get_closest_marker("complete") is None:
        monkeypatch.setattr(extraction, "_cores", lambda: 1)
        monkeypatch.setattr(loop, "draw", lambda *args: None)
        monkeypatch.setattr(job, "reliability_plot", lambda *args: None)
