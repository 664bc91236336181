"""Log lines: one per change, readable by people or programs, and no flood."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from streamtag.daemon.ops.logs import FORMATTERS, LogStyle, RateLimit


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def logger(clock: list[float]) -> Iterator[tuple[logging.Logger, logging.Handler, io.StringIO]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(RateLimit(lambda: clock[0]))
    made = logging.Logger("test")
    made.addHandler(handler)
    yield made, handler, out
    handler.close()


Logger = tuple[logging.Logger, logging.Handler, io.StringIO]


def written(logger: Logger, style: LogStyle) -> tuple[logging.Logger, io.StringIO]:
    logger[1].setFormatter(FORMATTERS[style]())
    return logger[0], logger[2]


def test_json_has_the_stream_in_a_field(logger: Logger) -> None:
    log, out = written(logger, "json")
    log.warning("stream %s: gap [%d, %d)", "radio", 5, 9)
    log.info('ready, publishing on "tcp"')
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["level"], first["stream"], first["msg"]) == ("warning", "radio", "gap [5, 9)")
    assert first["ts"].endswith("Z")
    assert second["msg"] == 'ready, publishing on "tcp"'
    assert "stream" not in second


def test_key_value_quotes_what_needs_it(logger: Logger) -> None:
    log, out = written(logger, "keyvalue")
    log.error("stream %s: lost: %s", "radio", 'said "no"\nand left')
    (line,) = out.getvalue().splitlines()
    assert 'stream=radio msg="lost: said \\"no\\"\\nand left"' in line
    assert "level=error" in line


def test_an_error_has_its_trace_in_one_line(logger: Logger) -> None:
    log, out = written(logger, "json")
    try:
        raise ValueError("oh")
    except ValueError:
        log.exception("it failed")
    assert "ValueError: oh" in json.loads(out.getvalue())["trace"]


def test_a_flood_is_cut_per_stream_and_kind_and_counted(logger: Logger, clock: list[float]) -> None:
    log, out = written(logger, "json")

    def gap(name: str) -> None:
        log.warning("stream %s: gap", name)

    for _ in range(50):
        gap("a")
    gap("b")
    log.warning("stream a: another kind")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["stream"] for line in lines] == ["a"] * 10 + ["b", "a"]
    clock[0] = 60.0
    gap("a")
    gap("a")
    last = [json.loads(line) for line in out.getvalue().splitlines()][-2:]
    assert [line.get("suppressed", 0) for line in last] == [40, 0]


def test_the_text_format_shows_the_number_of_suppressed_lines(
    logger: Logger, clock: list[float]
) -> None:
    log, out = written(logger, "text")
    for k in range(12):
        clock[0] = 61.0 if k == 11 else 0.0
        log.info("again")
    assert out.getvalue().endswith("again (1 more like this before)\n")
