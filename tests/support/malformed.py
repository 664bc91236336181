"""Malformed inputs by kind of malformation, and checks of the errors that they cause.

`STREAMTAG_FUZZ=100 pytest tests/feed/test_any_input.py` tries a hundred times as many, at random.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtag.errors import StreamtagError
from support.paths import ROOT

T = TypeVar("T")
TABLE = ROOT / "docs" / "malformed.md"
FACTOR = int(os.environ.get("STREAMTAG_FUZZ", "1"))
DEEP = 100_000
"""A depth of nesting that is beyond the limit of every parser."""

_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9),
    st.sampled_from([10**400, -(10**18), 2**31, 2**63, 0, -1, 1e308, 5e-324, "", "\0", "\ud800",
                     "a\nb", "‮", "x" * 5000, "nan", "inf", "1e999", "../..", "file:", "//"]),
)  # fmt: skip
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
"""Any value that Python's JSON parser can return."""


@st.composite
def cut_short(draw: st.DrawFn, valid: bytes) -> bytes:
    return valid[: draw(st.integers(0, max(0, len(valid) - 1)))]


@st.composite
def bytes_changed(draw: st.DrawFn, valid: bytes) -> bytes:
    changed = bytearray(valid)
    for _ in range(draw(st.integers(1, 5))):
        changed[draw(st.integers(0, len(valid) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


@st.composite
def bits_flipped(draw: st.DrawFn, valid: bytes) -> bytes:
    changed = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        changed[draw(st.integers(0, len(valid) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


@st.composite
def piece_missing(draw: st.DrawFn, valid: bytes) -> bytes:
    start, size = draw(st.integers(0, len(valid) - 1)), draw(st.integers(1, 40))
    return valid[:start] + valid[start + size :]


@st.composite
def piece_elsewhere(draw: st.DrawFn, valid: bytes) -> bytes:
    start, size = draw(st.integers(0, len(valid) - 1)), draw(st.integers(1, 40))
    at = draw(st.integers(0, len(valid)))
    return valid[:at] + valid[start : start + size] + valid[at:]


@st.composite
def bytes_put_in(draw: st.DrawFn, valid: bytes) -> bytes:
    at = draw(st.integers(0, len(valid)))
    return valid[:at] + draw(st.binary(min_size=1, max_size=20)) + valid[at:]


@st.composite
def nested(draw: st.DrawFn, valid: bytes) -> bytes:
    at, bracket = draw(st.integers(0, len(valid))), draw(st.sampled_from([b"[", b'{"a":', b"]"]))
    return valid[:at] + bracket * DEEP + valid[at:]


@st.composite
def long_number(draw: st.DrawFn, valid: bytes) -> bytes:
    places = [match.span() for match in re.finditer(rb"\d+", valid)] or [(0, 0)]
    start, end = draw(st.sampled_from(places))
    return valid[:start] + b"9" * draw(st.sampled_from([20, 400, 5000])) + valid[end:]


def anything(valid: bytes) -> st.SearchStrategy[bytes]:
    del valid
    return st.binary(max_size=300)


BYTES: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]] = {
    "cut short": cut_short,
    "bytes changed": bytes_changed,
    "bits flipped": bits_flipped,
    "a piece missing": piece_missing,
    "a piece twice": piece_elsewhere,
    "bytes put in": bytes_put_in,
    "nested without end": nested,
    "an endless number": long_number,
    "any bytes": anything,
}
"""Malformations of a file or a message, made from a valid one."""


def _paths(table: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values, including tables and lists."""
    pairs = table.items() if isinstance(table, dict) else enumerate(table)
    found = []
    for key, value in pairs:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += _paths(value, (*path, key))
    return found


def _copied(table: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(table))
    return copy


def _at(table: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        table = table[key]
    return table


@st.composite
def other_values(draw: st.DrawFn, valid: dict[str, Any]) -> dict[str, Any]:
    table = _copied(valid)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(_paths(table)))
        _at(table, tuple(path))[last] = draw(VALUES)
    return table


@st.composite
def keys_missing(draw: st.DrawFn, valid: dict[str, Any]) -> dict[str, Any]:
    table = _copied(valid)
    *path, last = draw(st.sampled_from(_paths(table)))
    del _at(table, tuple(path))[last]
    return table


@st.composite
def strange_keys(draw: st.DrawFn, valid: dict[str, Any]) -> dict[str, Any]:
    table = _copied(valid)
    places = [(), *(p for p in _paths(table) if isinstance(_at(table, p), dict))]
    _at(table, draw(st.sampled_from(places)))[draw(st.text(max_size=9))] = draw(VALUES)
    return table


TABLES: dict[str, Callable[[dict[str, Any]], st.SearchStrategy[dict[str, Any]]]] = {
    "values of any kind": other_values,
    "a key missing": keys_missing,
    "a key too many": strange_keys,
}
"""Malformations of a table, made from a valid one."""


def as_json(table: object) -> bytes:
    """JSON, including what only Python's encoder accepts (NaN, lone surrogates)."""
    return json.dumps(table).encode()


@dataclass(frozen=True)
class Parser:
    """A parser of external input."""

    valid: list[Any]
    """Valid inputs: bytes or tables."""
    read: Callable[[bytes], object]
    about: str
    """A pattern that its error messages must match."""
    encode: Callable[[Any], bytes] = as_json
    """Encodes a table as bytes."""

    def inputs(self, fault: str) -> st.SearchStrategy[bytes]:
        """Malformed inputs of one kind."""
        valid = st.sampled_from(self.valid)
        if fault in TABLES:
            return valid.flatmap(TABLES[fault]).map(self.encode)
        return valid.map(lambda s: s if isinstance(s, bytes) else self.encode(s)).flatmap(
            BYTES[fault]
        )


def outcomes(
    inputs: st.SearchStrategy[T], read: Callable[[T], object], about: str, examples: int
) -> Counter[str]:
    """Gives every input to a parser; counts how many were accepted and how many refused.

    Args:
        inputs: malformed inputs.
        read: raises StreamtagError or accepts the input.
        about: a pattern that error messages must match.
        examples: the number of inputs, multiplied by FACTOR.
    """
    counts: Counter[str] = Counter()

    @settings(
        max_examples=examples * FACTOR, deadline=None, derandomize=FACTOR == 1, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(inputs)
    def run(data: T) -> None:
        try:
            read(data)
        except StreamtagError as error:
            check_parts(str(error), about)
            counts["refused"] += 1
        else:
            counts["accepted"] += 1

    run()
    return counts


def check_parts(text: str, about: str) -> None:
    """An error message names the thing and says what was expected or what was found."""
    assert all(line.isprintable() for line in text.split("\n")), text
    assert re.search(about, text), text
    assert re.search(r"expected|unknown|missing|not a bundle|damaged|truncated|no tagger|made for "
                     r"|longer than|twice|leads? back", text), text  # fmt: skip
    text.encode()  # it can be logged and sent
    assert len(text) < 20_000


def as_toml(table: dict[str, Any]) -> bytes:
    """A table as TOML, without values that TOML cannot express."""
    lines = [f"{_toml(key)} = {_toml(value)}" for key, value in table.items() if value is not None]
    return "\n".join(lines).encode(errors="replace")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inside = (f"{_toml(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{ {', '.join(inside)} }}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(v) for v in value if v is not None)}]"
    if isinstance(value, str):
        escaped = "".join(
            c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value
        )
        return f'"{escaped}"'
    return str(value).lower()


def check_cell(name: str, parser: Parser, fault: str, outcome: str) -> None:
    """Checks one cell of the table."""
    counts = outcomes(parser.inputs(fault), parser.read, parser.about, 25)
    assert counts["refused"] or outcome != "error"
    assert not counts["accepted"] or outcome != "error"
    assert not counts["refused"] or outcome != "result"


def cells(section: str) -> list[tuple[str, str, str]]:
    """Parser, malformation and outcome of each cell below a heading of the table."""
    part = TABLE.read_text().partition(f"### {section}\n")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in part.splitlines() if line.startswith("|")]  # fmt: skip
    (_, *faults), _, *parsers = rows
    return [
        (name, fault, outcome)
        for name, *outcomes_ in parsers
        for fault, outcome in zip(faults, outcomes_, strict=True)
        if outcome != "–"
    ]
