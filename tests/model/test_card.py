import json

import pytest
from support.toy import FEATURES, TAGS, card

from streamtag.errors import BundleError
from streamtag.model.card import Card, Golden, PastPadding, Settling


def settling(on: float = 0.9, off: float = 0.1, n: int = 3) -> Settling:
    return Settling(change=0.1, seconds=5.0, on_thresholds=(on,) * n, off_thresholds=(off,) * n)


def test_a_card_survives_json() -> None:
    full = card(
        settling=settling(),
        golden=Golden((0.1, 0.2, 0.3), 1e-4),
        padding=PastPadding.WRAP,
        display={"low": "bass"},
        categories={"low": "instrument"},
        off_by_default=("loud",),
        scores={"f1": 0.5},
        data="made up",
        licence="Apache-2.0",
        description="Für Tests.",
        extra={"revision": 3},
    )
    assert Card(**json.loads(json.dumps(full.to_dict()))) == full
    assert Card(**card().to_dict()) == card()


def test_integers_stay_integers() -> None:
    table = card(smoothing_seconds=1, golden=Golden((0, 1, 0.5), 0)).to_dict()
    text = json.dumps(table)
    assert '"smoothing_seconds": 1,' in text
    assert '"probabilities": [0, 1, 0.5], "tolerance": 0,' in text
    assert json.dumps(Card(**json.loads(text)).to_dict()) == text


def test_seconds_are_those_of_the_audio() -> None:
    assert card().hop_seconds == 0.1
    assert card().window_seconds == (49 * 80 + 256) / 8000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_frames": 0}, "window_frames: expected greater than or equal to 1, got 0"),
        ({"hop_frames": 0}, "hop_frames: expected greater than or equal to 1"),
        ({"first_frames": 51}, "first_frames: expected at most 50, got 51"),
        ({"tags": ()}, "tags: expected at least one"),
        ({"tags": ("low", "low", "loud")}, "no name twice"),
        ({"on_thresholds": (0.5,)}, "on_thresholds: expected 3 numbers, one per tag, got 1"),
        ({"off_thresholds": (0.4, 0.4, 0.7)}, "thresholds of 'loud': expected 0 < off <= on < 1"),
        ({"on_thresholds": (0.5, 1.0, 0.5)}, "thresholds of 'high'"),
        ({"settling": settling(on=0.4)}, "settling thresholds of 'low': expected 0 < off <= 0.45 "),
        ({"settling": settling(off=0.5)}, "settling thresholds of 'low'"),
        ({"settling": settling(n=2)}, "settling.on_thresholds: expected 3 numbers, one per tag"),
        ({"off_by_default": ("lowd",)}, "off_by_default: expected only names of tags, got 'lowd'"),
        ({"display": {"x": "y"}}, "display: expected only names of tags, got 'x'"),
        (
            {"golden": Golden((0.5,))},
            "golden.probabilities: expected 3 numbers, one per tag, got 1",
        ),
        (
            {"smoothing_seconds": -1.0},
            "smoothing_seconds: expected greater than or equal to 0, got -1",
        ),
        (
            {"min_on_seconds": float("nan")},
            "min_on_seconds: expected greater than or equal to 0, got nan",
        ),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        card(**change)


def test_unknown_and_missing_keys_are_named() -> None:
    table = card().to_dict()
    with pytest.raises(BundleError, match="unknown key hops; allowed here: name, net"):
        Card(**(table | {"hops": 1}))
    with pytest.raises(BundleError, match="missing key tags"):
        Card(**({k: v for k, v in table.items() if k != "tags"}))
    with pytest.raises(BundleError, match=r"unknown key features\.n_ftt; allowed here: kind"):
        Card(**(table | {"features": FEATURES.to_dict() | {"n_ftt": 512}}))
    with pytest.raises(BundleError, match=r"padding: expected 'silence', .*, got 'sideways'"):
        Card(**(table | {"padding": "sideways"}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window_frames", "50"),
        ("hop_frames", 1.5),
        ("tags", "abc"),
        ("tags", [1, 2, 3]),
        ("on_thresholds", ["a", "b", "c"]),
        ("smoothing_seconds", None),
        ("golden", {"tolerance": 0.002}),
        ("golden", {"probabilities": [0.1, 0.2, 0.3], "tolerance": 0.2}),
        ("golden", [0.1]),
        ("features", 3),
        ("name", 3),
        ("display", []),
    ],
)
def test_values_of_another_type_are_refused(key: str, value: object) -> None:
    with pytest.raises(BundleError, match=f"card: .*{key}"):
        Card(**(card().to_dict() | {key: value}))


def test_tags_are_in_the_order_of_the_outputs() -> None:
    assert Card(**card().to_dict()).tags == TAGS
