"""docs/python.md: its examples run, and its tables name what there is."""

import inspect
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from support import forked
from support.paths import ROOT
from support.sounds import tone, write_wav

import streamtag
from streamtag.engine import events
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.publisher import Publisher

PAGE = (ROOT / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
ADDRESS = "tcp://127.0.0.1:5757"
SECONDS = 120


def run(code: str, folder: Path) -> str:
    done = forked.run("-c", code, cwd=folder, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", [code for code in EXAMPLES if ADDRESS not in code])
def test_an_example_runs(code: str, tmp_path: Path) -> None:
    write_wav(tmp_path / "song.wav", tone(8, 22050, 200), 22050)
    printed = run(code, tmp_path)
    if "# (122, 96)" in code:
        assert printed == "(122, 96)\n"
    elif "to_dict" in code:
        assert '"file": "song.wav"' in printed
    elif "tagger(windows)" in code:
        assert len(printed.splitlines()) > 5


@pytest.mark.parametrize("code", [code for code in EXAMPLES if ADDRESS in code])
def test_an_example_of_a_subscriber_runs(code: str, tmp_path: Path) -> None:
    publisher = Publisher("tcp://127.0.0.1:0")
    encoder = EventEncoder({"m": ("calm",)}, 10**18)

    def publish() -> None:
        assert publisher.wait_for_subscriber(SECONDS)
        for event in (
            events.StreamOpened("radio", 0, 1000, 10**18, ("m",)),
            events.TagStarted("radio", "m", "calm", 1, 2, 0.5, False),
            events.StreamClosed("radio", 9, events.Reason.STREAM_CLOSED),
        ):
            publisher.publish(encoder.message(event))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        printed = run(code.replace(ADDRESS, publisher.address), tmp_path)
    finally:
        thread.join()
        publisher.close()
    assert "calm" in printed


def test_there_are_six_examples() -> None:
    assert len(EXAMPLES) == 6


def test_every_public_name_is_on_the_page_and_can_be_imported() -> None:
    for name in set(streamtag.__all__) - {"__version__"}:
        assert getattr(streamtag, name) is not None
        assert f"`{name}" in PAGE, name


def test_every_argument_and_field_that_the_page_names_exists() -> None:
    fields = streamtag.TaggedRecording.__dataclass_fields__
    assert all(f"`{name}`" in PAGE for name in fields)
    arguments = inspect.signature(streamtag.Subscriber).parameters
    table = PAGE.partition("| argument |")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row[:60])]
    assert {"address", "streams", "key"} <= set(named)
    assert set(named) <= arguments.keys()


def test_a_recording_is_returned_as_values(tmp_path: Path, toy_bundle: Path) -> None:
    samples = np.concatenate([tone(2, 22050, 200), tone(2, 22050, 3000)])
    path = write_wav(tmp_path / "song.wav", samples, 22050)
    done: list[tuple[float, float | None]] = []
    result = streamtag.tag_file(
        path, toy_bundle, device="cpu", on_progress=lambda *now: done.append(now)
    )
    assert [event.tag for event in result.events] == ["low", "high"]
    assert (result.file, result.model, result.seconds) == (str(path), "toy-1", 4.0)
    assert done[-1] == (4.0, 4.0)
    assert len(result.scores[0].values) == len(result.tags) == 3
    assert "scores" not in result.to_dict()
