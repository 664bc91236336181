"""What radio does to audio, each against what defines it."""

import itertools

import numpy as np
import pytest

from streamtag.train.data import radio
from streamtag.train.data.broadcast import BroadcastChain, Effect
from streamtag.train.data.effects import power
from streamtag.train.recipes.recipe import Augment

RATE = 32000
RNG = np.random.default_rng(0)
MUSIC = (0.1 * RNG.standard_normal(2 * RATE)).astype(np.float32)


def tone(hertz: float, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def decibel(one: float, other: float) -> float:
    return float(10 * np.log10(one / other))


@pytest.mark.parametrize("ratio", [-20.0, 0.0, 20.0])
def test_speech_has_the_level_that_is_asked_for(ratio: float) -> None:
    speech = np.concatenate([tone(200, 0.5), np.zeros(RATE, np.float32)])  # a third, then a pause
    added = radio.speech_over(MUSIC, speech, ratio) - MUSIC
    assert decibel(power(added[: RATE // 2]), power(MUSIC)) == pytest.approx(ratio, abs=0.2)
    assert not added[RATE // 2 : 3 * RATE // 2].any()
    np.testing.assert_array_equal(radio.speech_over(MUSIC, 0 * speech, ratio), MUSIC)


@pytest.mark.parametrize("length", [0, 1, 1000, 10**9])
def test_a_crossfade_keeps_the_power(length: int) -> None:
    other = (0.1 * RNG.standard_normal(RATE)).astype(np.float32)
    faded = radio.crossfade(MUSIC, other, length)
    used = min(length, RATE)
    assert len(faded) == 3 * RATE - used
    np.testing.assert_array_equal(faded[: 2 * RATE - used], MUSIC[: 2 * RATE - used])
    np.testing.assert_array_equal(faded[2 * RATE :], other[used:])
    if used >= 1000:
        between = faded[2 * RATE - used : 2 * RATE]
        assert decibel(power(between), 0.01) == pytest.approx(0, abs=0.6)


def test_applause_has_many_claps_and_no_pitch() -> None:
    claps = radio.applause(5 * RATE, RATE, np.random.default_rng(1))
    assert power(claps) == pytest.approx(1, rel=1e-3)
    spectrum = np.abs(np.fft.rfft(claps)) ** 2
    assert spectrum.max() < 0.01 * spectrum.sum()
    assert not np.array_equal(claps, radio.applause(5 * RATE, RATE, np.random.default_rng(2)))


@pytest.mark.parametrize(("hertz", "lost"), [(100, 20), (1000, 0), (6000, 40)])
def test_a_telephone_has_a_band(hertz: float, lost: float) -> None:
    heard = radio.telephone(tone(hertz), RATE)
    assert len(heard) == RATE
    kept = decibel(power(heard[2000:-2000]) + 1e-12, power(tone(hertz)))
    assert kept == pytest.approx(0, abs=0.5) if lost == 0 else kept < -lost


def test_compression_brings_loud_and_quiet_closer() -> None:
    loud, quiet = tone(440, 1.0, 0.5), tone(440, 1.0, 0.05)
    out = radio.compress(np.concatenate([loud, quiet]), RATE, threshold=-20.0, ratio=4.0)
    before, after = (
        decibel(power(loud), power(quiet)),
        decibel(power(out[:RATE]), power(out[-6400:])),
    )
    assert before == pytest.approx(20, abs=0.1)
    assert after == pytest.approx(5, abs=0.5)  # 20 dB above the threshold become 5
    assert power(out) == pytest.approx(power(np.concatenate([loud, quiet])), rel=1e-3)


def test_a_limiter_never_lets_a_peak_through() -> None:
    hot = (MUSIC * np.linspace(0, 30, len(MUSIC))).astype(np.float32)
    out = radio.limit(hot, RATE, 0.9)
    assert np.abs(out).max() <= 0.9
    quiet = np.abs(hot) < 0.5 * 0.9
    assert (np.abs(out[quiet]) <= np.abs(hot[quiet]) + 1e-7).all()
    np.testing.assert_array_equal(radio.limit(MUSIC * 0.1, RATE, 0.9), MUSIC * np.float32(0.1))


@pytest.mark.parametrize("factor", [0.96, 1.0, 1.04])
def test_speed_moves_tempo_and_pitch(factor: float) -> None:
    out = radio.change_speed(tone(1000), factor)
    assert len(out) == pytest.approx(RATE / factor, abs=2)
    peak = np.abs(np.fft.rfft(out * np.hanning(len(out)))).argmax() * RATE / len(out)
    assert peak == pytest.approx(1000 * factor, abs=1.5)


@pytest.mark.parametrize("n", [0, 1, 2, 33])
def test_shortest_audio(n: int) -> None:
    some = MUSIC[:n]
    for made in (
        radio.speech_over(some, MUSIC[:5], 0.0),
        radio.speech_over(some, MUSIC[:0], 0.0),
        radio.telephone(some, RATE),
        radio.compress(some, RATE, -20.0, 3.0),
        radio.limit(some, RATE, 0.01),
    ):
        assert made.shape == some.shape
        assert made.dtype == np.float32
        assert np.isfinite(made).all()


def band_powers(samples: np.ndarray, *edges: float) -> list[float]:
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    pairs = itertools.pairwise(edges)
    return [float(spectrum[(hertz >= low) & (hertz < high)].mean()) for low, high in pairs]


@pytest.mark.parametrize("effect", [radio.old_record, radio.venue])
def test_records_and_halls_have_a_band_and_keep_the_power(effect: Effect) -> None:
    for seed in range(4):
        heard = effect(MUSIC, RATE, np.random.default_rng(seed))
        assert heard.dtype == np.float32
        assert len(heard) == len(MUSIC)
        low, middle, high = band_powers(heard, 1, 40, 2000, 16000)
        assert low < 0.8 * middle
        assert high < 0.6 * middle
        assert decibel(power(heard), power(MUSIC)) == pytest.approx(-3, abs=5)


def test_a_hall_sounds_on_and_a_record_crackles() -> None:
    sound = np.concatenate([MUSIC, np.zeros(RATE, np.float32)])
    wet = radio.venue(sound, RATE, np.random.default_rng(0))
    after = wet[2 * RATE + 3200 :]
    assert decibel(power(after[:3200]), power(after[-3200:])) > 3
    record = radio.old_record(tone(440, 4.0), RATE, np.random.default_rng(1))
    rest = np.abs(record - tone(440, 4.0)[: len(record)])
    assert rest.max() > 5 * np.quantile(rest, 0.9)


def test_a_station_is_denser_at_the_same_power() -> None:
    swelling = MUSIC * np.linspace(0.05, 1, len(MUSIC), dtype=np.float32)
    for seed in range(4):
        loud = radio.station(swelling, RATE, np.random.default_rng(seed))
        assert power(loud) == pytest.approx(power(swelling), rel=1e-3)
        assert power(loud[:RATE]) > 1.2 * power(swelling[:RATE])
    assert not radio.station(0 * MUSIC, RATE, np.random.default_rng(0)).any()


def test_a_sum_of_two_channels_is_a_comb() -> None:
    out = radio.mono_sum(MUSIC, RATE, np.random.default_rng(3))
    assert power(out) == pytest.approx(power(MUSIC), rel=1e-3)
    together = np.fft.irfft(np.abs(np.fft.rfft(out)) ** 2)[: RATE // 100]
    lag = int(np.abs(together[5:]).argmax()) + 5
    assert 2e-4 * RATE <= lag <= 8e-3 * RATE
    assert len(radio.mono_sum(MUSIC[:3], RATE, np.random.default_rng(3))) == 3


@pytest.mark.parametrize("factor", [0.96, 1.0, 1.04])
def test_another_speed_keeps_every_part_near_its_place(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radio, "PLACE_SECONDS", 1.0)
    steps = np.concatenate([tone(200 * (1 + i), 1.0) for i in range(6)])
    out = radio.change_speed_in_place(steps, RATE, factor)
    assert len(out) == len(steps)
    for i in range(6):
        part = out[i * RATE + 6400 : (i + 1) * RATE - 6400]
        peak = np.abs(np.fft.rfft(part)).argmax() * RATE / len(part)
        assert peak == pytest.approx(200 * (1 + i) * factor, abs=4)


def test_nothing_stays_nothing() -> None:
    for effect in (radio.old_record, radio.venue, radio.station, radio.mono_sum):
        assert len(effect(MUSIC[:0], RATE, np.random.default_rng(0))) == 0
    assert len(radio.change_speed_in_place(MUSIC[:0], RATE, 1.04)) == 0


RADIO = Augment(
    speed=0.04, station_chance=0.5, mono_chance=0.5, record_chance=0.5, venue_chance=0.5,
    telephone_chance=0.5,
)  # fmt: skip


def test_the_chain_does_what_the_recipe_asks_for() -> None:
    chain = BroadcastChain(RADIO)
    assert chain.cache_key() != BroadcastChain(Augment()).cache_key()
    assert chain.cache_key() == BroadcastChain(RADIO).cache_key()
    once, again = (chain(MUSIC, RATE, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert RADIO.degrades_audio
    for key in ("station", "mono", "record", "venue", "telephone"):
        one = BroadcastChain(Augment(**{f"{key}_chance": 0.3}))
        heard = [
            not np.array_equal(one(MUSIC[:1000], RATE, np.random.default_rng(seed)), MUSIC[:1000])
            for seed in range(100)
        ]
        assert np.mean(heard) == pytest.approx(0.3, abs=0.12), key
