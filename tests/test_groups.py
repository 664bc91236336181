"""The tests of a file run on one worker: `pytest_collection_modifyitems` in conftest.py."""

import os

import pytest


def test_a_worker_knows_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    """pytest-xdist 3.8 drops all groups without a word beside pytest 9.2: then every worker makes
    the fixtures of nearly every file, and tests of one file meet on one port."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("no parallel run")
    assert request.node.nodeid.endswith("@test_groups.py")
