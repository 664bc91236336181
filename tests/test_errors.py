"""Pydantic's errors in our words, for models and for dataclasses."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from streamtag.errors import BundleError, complaint, raises, table_of


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(default=1, ge=1)


@dataclass(config=ConfigDict(extra="forbid"))
class Outer:
    name: str
    inner: Inner | None = None
    by_name: dict[str, Inner] = Field(default_factory=dict)
    several: tuple[Inner, ...] = ()


@raises(BundleError, "part: ")
@dataclass(frozen=True)
class Part:
    size: int


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "missing key name"),
        ({"name": 3}, "name: expected a valid string, got 3"),
        ({"name": "a", "nam": 1}, "unknown key nam; allowed here: name, inner, by_name, several"),
        ({"name": "a", "inner": {"x": 1}}, "unknown key inner.x; allowed here: size"),
        ({"name": "a", "by_name": {"b": {"x": 1}}}, "unknown key by_name.b.x; allowed here: size"),
        ({"name": "a", "several": [{"x": 1}]}, "unknown key several.0.x; allowed here: size"),
        ({"name": "a", "several": 3}, "several: expected a valid list, got 3"),
        (
            {"name": "a", "inner": {"size": 0}},
            "inner.size: expected greater than or equal to 1, got 0",
        ),
    ],
)
def test_an_error_names_key_expectation_and_value(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer(**table)
    (fault,) = caught.value.errors()
    assert complaint(dict(fault), Outer) == message


def test_a_constructor_raises_our_error() -> None:
    assert Part(size=3).size == 3
    with pytest.raises(BundleError, match=r"^part: size: expected a valid integer, .*, got 'x'$"):
        Part(size="x")  # type: ignore[arg-type]


def test_the_table_in_an_optional_table() -> None:
    assert table_of(Inner | None) is Inner
    assert table_of(Inner) is Inner
