"""Configurations of the front end: what is refused, JSON, and derived numbers."""

import ast
import json
import re
from typing import Any

import numpy as np
import pytest
from support.paths import ROOT

from streamtag.audio.feature_config import FeatureConfig, FrameKind, Spectrum
from streamtag.errors import ConfigError

CAUSAL = FeatureConfig(sample_rate=16000, n_fft=512, hop=160, n_mels=96)
CENTRED = FeatureConfig(n_fft=512, hop=256, framing="centered")
RAW = FeatureConfig(kind="raw", sample_rate=16000)
MTG_JAMENDO = FeatureConfig(
    sample_rate=12000, hop=256, log="db", framing="centered", padding="zero", tail="ceil"
)
OTHERS: list[dict[str, Any]] = [
    {"window": "hann_symmetric"},
    {"spectrum": "magnitude"},
    {"mel_scale": "htk", "mel_norm": "none"},
    {"mel_scale": "essentia"},
    {"mel_scale": "kaldi", "mel_norm": "none", "preemphasis": 0.97},
    {"order": "log_mel", "log": "db", "weighting": "a", "top_db": 80},
    {"log": "ln1p", "log_gain": 100},
    {"log": "none", "gain": 32768, "f_min": 30.5, "f_max": 4000},
    {"log_floor": 0, "log_offset": 1e-6},
    {"win_length": 400},
    {"framing": "centered", "padding": "zero"},
]
CONFIGS = [CAUSAL, CENTRED, RAW, MTG_JAMENDO, *(FeatureConfig(**fields) for fields in OTHERS)]
PAGE = (ROOT / "docs" / "front-end.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_survives_json(config: FeatureConfig) -> None:
    assert FeatureConfig(**json.loads(json.dumps(config.to_dict()))) == config
    assert hash(config) == hash(FeatureConfig(**config.to_dict()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 500}, r"n_fft: expected a power of two, 32 to 16384, got 500"),
        ({"n_fft": 16}, "n_fft"),
        ({"n_fft": 32768}, "n_fft"),
        ({"n_fft": 512.0}, "n_fft: expected a valid integer, got 512.0"),
        ({"win_length": 513}, "win_length"),
        ({"hop": 0}, "hop"),
        ({"hop": True}, "hop: expected a valid integer, got True"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"n_mels": 0}, "n_mels"),
        ({"f_max": 8001}, r"f_max: expected \[0, sample_rate / 2 = 8000\], got 8001"),
        ({"f_min": -1}, "f_min"),
        ({"f_min": 4000, "f_max": 4000}, "f_min"),
        ({"window": "hamming"}, "window: expected 'hann' or 'hann_symmetric', got 'hamming'"),
        ({"log": None}, "log: expected 'none', 'ln', 'db' or 'ln1p', got None"),
        ({"log_floor": 0}, "log_floor"),
        ({"log_floor": float("nan")}, "log_floor: expected a finite number"),
        ({"log_gain": 0}, "log_gain"),
        ({"gain": 0}, "gain"),
        ({"top_db": 80}, "top_db: expected None unless log is 'db'"),
        ({"log": "db", "top_db": -1}, "top_db"),
        ({"weighting": "a"}, "weighting"),
        ({"tail": "ceil"}, "tail"),
        ({"preemphasis": 1.1}, "preemphasis"),
        ({"mel_scale": "kaldi"}, "mel_norm: expected 'none' with mel_scale 'kaldi'.*got slaney"),
        ({"tail": "ceil", "framing": "centered"}, "tail.*padding reflect"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureConfig(**options)


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown key hop_length; allowed here: kind"):
        FeatureConfig(hop_length=160)


def test_derived_numbers() -> None:
    causal, centred, raw = CAUSAL, CENTRED, RAW
    assert (causal.delay, centred.delay) == (0, 256)
    assert causal.frame_rate == 100
    assert causal.span(2, 5) == (320, 640 + 512)
    assert centred.span(0, 1) == (-256, 256)
    assert causal.span(3, 3) == (480, 480)
    assert (raw.width, raw.delay, raw.frame_rate, raw.span(5, 9)) == (1, 0, 16000, (5, 9))
    assert MTG_JAMENDO.n_frames(349200) == 1366


def test_text_and_numpy_numbers_become_pythons_own() -> None:
    config = FeatureConfig(kind="raw", spectrum="magnitude", hop=np.int64(80), gain=np.float32(2))
    assert config.kind is FrameKind.RAW
    assert config.spectrum is Spectrum.MAGNITUDE
    assert (type(config.hop), type(config.gain)) == (int, float)
    assert config == FeatureConfig(kind="raw", spectrum="magnitude", hop=80, gain=2)


def test_the_page_lists_every_field_with_its_default() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", PAGE, re.M)
    shown: dict[str, str] = {}
    for fields, defaults in rows:
        shown |= dict(zip(fields.split(", "), defaults.split(", "), strict=True))
    want = {f"`{field}`": value for field, value in FeatureConfig().to_dict().items()}
    assert shown.keys() == want.keys()
    for field, text in shown.items():
        value = text.strip("`")
        assert str(want[field]).lower() == value or float(value) == want[field], field


def test_the_example_of_the_page_runs() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    exec(compile(ast.parse(example), "docs/front-end.md", "exec"), {})
