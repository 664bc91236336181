"""Every parser of the daemon and the client makes something of its input, or says what is wrong."""

from collections.abc import Iterator

import pytest
from support.malformed import Parser, cells, check_cell
from support.parsers import parsers_in


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Parser]]:
    with parsers_in(tmp_path_factory.mktemp("any")) as found:
        yield found


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize(("name", "fault", "outcome"), cells("the daemon"))
def test_what_it_gets(parsers: dict[str, Parser], name: str, fault: str, outcome: str) -> None:
    check_cell(name, parsers[name], fault, outcome)


def test_every_parser_is_in_the_table(parsers: dict[str, Parser]) -> None:
    assert {name for name, _, _ in cells("the daemon")} == parsers.keys()
