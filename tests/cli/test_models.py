"""The commands `streamtag inspect` and `streamtag import`."""

import json
from pathlib import Path

import pytest
from support.commands import make_song, run_here, run_process

from streamtag.model.bundle import checksum


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_song(tmp_path_factory.mktemp("audio"))


def test_inspect(toy_bundle: Path) -> None:
    result = run_here("inspect", toy_bundle)
    assert result.exit_code == 0
    for words in ("toy-1", checksum(toy_bundle), "Apache-2.0", "accuracy: 1", "For tests."):
        assert words in result.stdout
    assert ["low", "0.500", "0.400"] in [line.split() for line in result.stdout.splitlines()]
    card = json.loads(run_here("inspect", toy_bundle, "--json").stdout)
    assert (card["sha256"], card["name"]) == (checksum(toy_bundle), "toy-1")


def test_help_of_import_names_all_kinds() -> None:
    from streamtag.train.importing.published import KINDS

    text = run_here("import", "--help").stdout
    assert all(kind in text for kind in KINDS)


def test_import_refuses_an_unknown_kind(tmp_path: Path, song: Path) -> None:
    done = run_process("import", "hearsay", song, "-o", tmp_path / "a.pt")
    assert done.returncode == 1
    assert "expected one of mtg-jamendo-vggish" in done.stderr
