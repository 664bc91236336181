"""The table of malformed inputs in `docs/malformed.md` is true."""

import re
from pathlib import Path

import pytest
from support.paths import ROOT

from streamtag.engine.engine import Engine
from streamtag.engine.events import StreamClosed, TagEnded, TagStarted
from streamtag.errors import SourceError
from streamtag.model.tagger import Tagger
from streamtag.sources.file import FileSource

TABLE = ROOT / "docs" / "malformed.md"
ROWS = re.findall(r"^\| `([^`]+)` \|.*\| ([^|]+) \|$", TABLE.read_text(), re.M)


def test_every_file_is_in_the_table(decoder_cases: Path) -> None:
    files = {path.name for path in decoder_cases.iterdir()} - {"README.md"}
    assert {name for name, _ in ROWS} == files


@pytest.mark.parametrize(("name", "outcome"), ROWS)
def test_the_outcome_of_a_file(
    decoder_cases: Path, toy_bundle: Path, name: str, outcome: str
) -> None:
    if outcome.startswith("error: "):
        with pytest.raises(SourceError, match=outcome.removeprefix("error: ")):
            list(FileSource(decoder_cases / name))
        return
    source = FileSource(decoder_cases / name)
    engine = Engine({"toy": Tagger.load(toy_bundle, "cpu")})
    events = engine.open("a", source.rate)
    for block in source:
        events += engine.feed("a", block)
    events += engine.close("a")
    samples, rate = map(int, re.findall(r"\d+", outcome))
    assert source.rate == rate
    assert isinstance(events[-1], StreamClosed)
    # Decoders of lossy formats differ in what they leave out at the ends.
    assert abs(events[-1].at - samples) < 0.1 * rate
    assert sum(isinstance(e, TagStarted) for e in events) == sum(
        isinstance(e, TagEnded) for e in events
    )
