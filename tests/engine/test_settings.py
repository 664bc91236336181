import math

import numpy as np
import pytest
from support.toy import card

from streamtag.engine.settings import TaggerSettings
from streamtag.errors import ConfigError
from streamtag.model.card import Settling

CARD = card(on_thresholds=(0.5, 0.6, 0.7), off_thresholds=(0.4, 0.5, 0.6))


def test_the_card_rules_where_nothing_is_said() -> None:
    on, off = TaggerSettings().thresholds(CARD)
    assert on.tolist() == [0.5, 0.6, 0.7]
    assert off.tolist() == [0.4, 0.5, 0.6]
    assert TaggerSettings().hop_frames(CARD) == CARD.hop_frames


def test_an_off_threshold_follows_its_on_threshold() -> None:
    on, off = TaggerSettings(on_thresholds={"high": 0.3}).thresholds(CARD)
    assert on.tolist() == [0.5, 0.3, 0.7]
    assert off == pytest.approx([0.4, 0.25, 0.6])
    on, off = TaggerSettings(on_thresholds={"high": 0.3}, off_thresholds={"high": 0.1}).thresholds(
        CARD
    )
    assert off == pytest.approx([0.4, 0.1, 0.6])


def test_settled_tags_have_the_cards_wider_thresholds() -> None:
    assert np.array_equal(
        TaggerSettings().settled_thresholds(CARD), TaggerSettings().thresholds(CARD)
    )
    settling = Settling(
        change=0.1, seconds=5.0, on_thresholds=(0.8, 0.6, 0.9), off_thresholds=(0.1, 0.5, 0.6)
    )
    wide = card(on_thresholds=(0.5, 0.6, 0.7), off_thresholds=(0.4, 0.5, 0.6), settling=settling)
    on, off = TaggerSettings(tags=("low", "high")).settled_thresholds(wide)
    assert on == pytest.approx([0.8, 0.6, math.inf])
    assert off == pytest.approx([0.1, 0.5, 0.6])
    on, off = TaggerSettings(on_thresholds={"low": 0.2}).settled_thresholds(wide)
    assert on == pytest.approx([0.5, 0.6, 0.9])  # a quarter of the odds, as at 0.2 and 0.5
    assert off == pytest.approx([0.04, 0.5, 0.6])


def test_rounding_never_brings_settled_thresholds_below_the_others() -> None:
    same = (0.5, 0.6, 0.7)
    settling = Settling(change=0.1, seconds=5.0, on_thresholds=same, off_thresholds=same)
    narrow = card(on_thresholds=same, off_thresholds=same, settling=settling)
    for k in range(1, 1000):
        level = {tag: k / 1000 for tag in narrow.tags}
        settings = TaggerSettings(on_thresholds=level, off_thresholds=level)
        on, off = settings.settled_thresholds(narrow)
        assert (off <= on).all(), k


def test_tags_that_may_not_switch_have_an_infinite_threshold() -> None:
    on, _ = TaggerSettings(tags=("high",)).thresholds(CARD)
    assert on.tolist() == [math.inf, 0.6, math.inf]
    shy = card(off_by_default=("low",))
    assert np.isinf(TaggerSettings().thresholds(shy)[0]).tolist() == [True, False, False]
    assert not np.isinf(TaggerSettings(tags=shy.tags).thresholds(shy)[0]).any()


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.1, 10), (0.25, 25), (0.014, 1), (0.016, 2), (1e-9, 1)]
)
def test_a_hop_is_rounded_to_whole_frames(seconds: float, frames: int) -> None:
    assert TaggerSettings(hop_seconds=seconds).hop_frames(CARD) == frames


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TaggerSettings(tags=("lwo",)), "unknown tag 'lwo'; it knows low, high, loud"),
        (TaggerSettings(on_thresholds={"x": 0.5}), "tagger 'toy': unknown tag 'x'"),
        (
            TaggerSettings(off_thresholds={"low": 0.6}),
            "'low': expected 0 < off <= on < 1, got on=0.5",
        ),
        (TaggerSettings(on_thresholds={"low": 1.0}), "got on=1, off=0.8"),
        (TaggerSettings(on_thresholds={"low": 0.0}), "got on=0, off=0"),
    ],
)
def test_what_does_not_fit_the_card_is_refused(settings: TaggerSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings.thresholds(CARD)


@pytest.mark.parametrize(
    "field", ["smoothing_seconds", "min_on_seconds", "min_off_seconds", "hop_seconds"]
)
@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_times_are_at_least_zero(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field}: expected at least 0, got"):
        TaggerSettings(**{field: value})  # type: ignore[arg-type]


def test_a_hop_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="hop_seconds: expected more than 0"):
        TaggerSettings(hop_seconds=0)
