"""The tests of a file run on one worker: `pytest_collection_modifyitems` in conftest.py."""

import os
from types import SimpleNamespace

import pytest
from support.paths import ROOT


def test_a_worker_knows_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    """pytest-xdist 3.8 drops all groups without a word beside pytest 9.2: then every worker makes
    the fixtures of nearly every file, and tests of one file meet on one port."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("no parallel run")
    assert request.node.nodeid.endswith("@test_groups.py")


@pytest.mark.parametrize(
    ("nodeid", "plain"),
    [
        ("tests/a.py::test_b@a.py", "tests/a.py::test_b"),
        ("tests/a.py::test_b[u:p@x]@recipes of c", "tests/a.py::test_b[u:p@x]"),
        ("tests/a.py::test_b[u:p@x]", "tests/a.py::test_b[u:p@x]"),
    ],
)
def test_a_report_has_the_name_without_the_group(
    request: pytest.FixtureRequest, nodeid: str, plain: str
) -> None:
    plugins = request.config.pluginmanager
    conftest = plugins.get_plugin(str(ROOT / "tests" / "conftest.py"))
    report = SimpleNamespace(nodeid=nodeid)
    with pytest.MonkeyPatch.context() as patch:  # undone before this test is reported itself
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)
        conftest.pytest_runtest_logreport(report)  # type: ignore[union-attr]
    assert report.nodeid == plain
