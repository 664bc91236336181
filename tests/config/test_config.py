"""The configuration file: what it gives, and that every mistake is named."""

from pathlib import Path

import pytest

from streamtag.audio.level import LevelSettings
from streamtag.config.config import Tuning, load_config
from streamtag.errors import ConfigError

FULL = """
exit_when_done = false

[feed]
bind = "tcp://127.0.0.1:6000"
scores = false
mood = false
stats_seconds = 1
wait_for_subscriber_seconds = 2.5

[engine]
device = "cpu"
max_batch = 8
max_wait_ms = 20
batch_sizes = [1, 4]
threads = 1

[taggers.moods]
bundle = "models/moods.pt"
[taggers.moods.tuning]
smoothing_seconds = 2
on_thresholds = { dark = 0.4, epic = 0.3 }

[taggers.house]

[streams.radio]
source = "device:USB: Audio"
channels = 2
taggers = ["moods"]
tuning.moods = { min_on_seconds = 1.5, on_thresholds = { dark = 0.6 } }

[streams.show]
source = "file:shows/one.ogg"
pace = true

[streams.pipe]
source = "stdin:"
format = "f32le"
rate = 16000
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "c.toml"
    path.write_text(text)
    return path


def test_everything_at_once(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FULL))
    assert config.feed.model_dump() == {
        "bind": "tcp://127.0.0.1:6000",
        "scores": False,
        "mood": False,
        "levels": False,
        "loudness": False,
        "sections": False,
        "stats_seconds": 1.0,
        "wait_for_subscriber_seconds": 2.5,
        "high_water": 10_000,
        "secret_key": "",
        "authorised_keys": "",
        "plaintext_on_public_address": False,
        "encoding": "json",
        "journal": "",
        "journal_days": 30.0,
        "journal_megabytes": 1024.0,
        "journal_scores": False,
        "journal_durable": False,
        "replay": "",
        "beat_seconds": 1.0,
        "access": {},
    }
    assert (config.engine.max_batch, config.engine.max_wait_ms) == (8, 20)
    assert config.engine.batch_sizes == (1, 4)
    assert config.taggers["moods"].bundle == str(tmp_path / "models/moods.pt")
    assert config.taggers["house"].bundle == ""
    radio, show, pipe = config.streams.values()
    assert (radio.kind, radio.place, radio.taggers) == ("device", "USB: Audio", ("moods",))
    assert (show.kind, show.place, show.taggers) == ("file", f"{tmp_path}/shows/one.ogg", None)
    assert (pipe.kind, pipe.rate, pipe.format) == ("stdin", 16000, "f32le")
    tuning = radio.tuning["moods"].over(config.taggers["moods"].tuning)
    assert tuning == Tuning(
        smoothing_seconds=2,
        min_on_seconds=1.5,
        on_thresholds={"dark": 0.6, "epic": 0.3},
    )


def test_one_line_is_enough(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, 'streams.a.source = "file:/music/a.ogg"'))
    assert list(config.taggers) == ["default"]
    assert config.streams["a"].place == "/music/a.ogg"
    assert config.feed.bind == "tcp://127.0.0.1:5757"


def test_exit_when_done_is_the_default(tmp_path: Path) -> None:
    stream = 'streams.a.source = "device:"'
    assert load_config(write(tmp_path, stream)).exit_when_done is True
    assert load_config(write(tmp_path, f"exit_when_done = false\n{stream}")).exit_when_done is False


A = 'streams.a.source = "file:a.ogg"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "missing key streams"),
        ("streams = 3", "streams: expected a valid table, got 3"),
        ("[streams]", "streams: expected at least one, got none"),
        ("[streams\n", "expected TOML, got a mistake: .*line 1"),
        (
            A + "streams.a.pase = true",
            "unknown key streams.a.pase; allowed here: taggers, .*source",
        ),
        (A + "[fed]\nx = 1", "unknown key fed; allowed here: streams, taggers, feed, engine"),
        (
            A + "streams.a.tuning.default.smoothing = 1",
            "unknown key streams.a.tuning.default.smoothing; allowed here: smoothing_seconds",
        ),
        (A + 'streams.a.pace = "yes"', "streams.a.pace: expected a valid boolean, got 'yes'"),
        (A + "feed.bind = 5757", "feed.bind: expected a valid string, got 5757"),
        (A + "engine.max_batch = 0", "engine.max_batch: expected greater than or equal to 1"),
        (A + "engine.max_batch = 1.5", "engine.max_batch: expected a valid integer, got 1.5"),
        (A + 'engine.device = "gpu"', "engine.device: expected 'auto', 'cpu' or 'cuda', got 'gpu'"),
        (A + "feed.stats_seconds = inf", "feed.stats_seconds: expected a finite number, got inf"),
        (
            A + "taggers.default.tuning.on_thresholds.dark = 1.5",
            "taggers.default.tuning.on_thresholds.dark: expected less than 1, got 1.5",
        ),
        (
            '[streams."a/b"]\nsource = "file:x"',
            r"streams.a/b: expected 1 to 64 of the characters .*, got 'a/b'",
        ),
        (
            'streams.a.source = "a.ogg"',
            r"streams.a.source: expected 'file:PATH', .* or a URL: .*, got 'a.ogg'",
        ),
        ('streams.a.source = "file:"', "streams.a.source: expected 'file:PATH'.*got 'file:'"),
        ('streams.a.source = "stdin:"', "streams.a.rate: expected for standard input"),
        (A + "streams.a.rate = 8000", "streams.a.rate: not for a source of kind 'file'"),
        (A + 'streams.a.taggers = ["x"]', "streams.a: no tagger 'x'; there are: default"),
        (A + "streams.a.tuning.x.tags = []", "streams.a: no tagger 'x'; there are: default"),
        (
            "".join(f'[streams.{n}]\nsource = "stdin:"\nrate = 8000\n' for n in "ab"),
            "streams: expected one stream from standard input at most",
        ),
    ],
)
def test_errors_name_the_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_config(path)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())


def test_all_errors_of_a_table_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, A + "feed.bind = 1\nengine.threads = -1"))
    assert len(str(caught.value).splitlines()) == 2


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a configuration file, got No such file"):
        load_config(tmp_path / "none.toml")


def test_level_settings_for_all_streams_and_for_one(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        "[level]\nthreshold_dbfs = -50.0\nsilence_seconds = 20\n"
        '[streams.a]\nsource = "device:"\n'
        '[streams.b]\nsource = "file:b"\nlevel = { silence_seconds = 0 }\n'
    )
    config = load_config(path)
    levels = [stream.level.over(config.level) for stream in config.streams.values()]
    assert levels == [
        LevelSettings(threshold_dbfs=-50.0, silence_seconds=20.0),
        LevelSettings(threshold_dbfs=-50.0, silence_seconds=0.0),
    ]
    path.write_text("[level]\nthreshold_dbfs = 3\n[streams.a]\nsource = 'device:'\n")
    with pytest.raises(ConfigError, match=r"level.threshold_dbfs: expected less than or equal"):
        load_config(path)


@pytest.mark.parametrize("public", ["0.0.0.0:9464", "[::]:9464", "192.0.2.7:0", "radio.lan:9464"])
def test_metrics_on_a_public_address_need_a_key(tmp_path: Path, public: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'metrics.bind = "{public}"\nstreams.a.source = "device:"\n')
    expected = (
        r"a.toml: metrics.bind: expected an address of this machine alone, such as 127.+, or "
    )
    with pytest.raises(ConfigError, match=expected + r"no_token_on_public_address = true; got"):
        load_config(path)
    path.write_text(path.read_text() + "metrics.no_token_on_public_address = true\n")
    assert load_config(path).metrics.bind == public


@pytest.mark.parametrize("ours", ["127.0.0.1:9464", "[::1]:9464", "localhost:0", "127.9.9.9:1"])
def test_metrics_on_a_local_address_need_no_key(tmp_path: Path, ours: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'metrics.bind = "{ours}"\nstreams.a.source = "device:"\n')
    assert load_config(path).metrics.bind == ours


@pytest.mark.parametrize("bad", ["9464", ":9464", "localhost", "localhost:http", "::1:99999"])
def test_an_address_of_metrics_has_host_and_port(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'metrics.bind = "{bad}"\nstreams.a.source = "device:"\n')
    with pytest.raises(ConfigError, match=rf"metrics.bind: expected HOST:PORT.*'{bad}'"):
        load_config(path)
