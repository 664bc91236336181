"""The message contract, byte for byte."""

import json

import pytest

from streamtag.engine import events
from streamtag.engine.events import Cause, Reason, SourceState
from streamtag.errors import FeedError
from streamtag.feed import messages
from streamtag.feed.event_encoder import EventEncoder, TaggerInfo
from streamtag.feed.messages import Other, dump, parse
from streamtag.feed.timestamps import rfc3339

START = 1_700_000_000_000_000_000
EPOCH = 1_767_225_599_999_999_000  # a microsecond before 2026
UP = events.StreamOpened("radio1", 0, 44100, EPOCH, ("moods",))

# Contract version 1. A change here breaks the programs of others: raise messages.VERSION instead.
GOLDEN = [
    (
        UP,
        "event/radio1/",
        '{"v":1,"type":"stream_up","epoch":"17979cfe362a0000","seq":1,"stream":"radio1","t":0.0,'
        '"utc":"2025-12-31T23:59:59.999999Z","rate":44100,"taggers":["moods"],"models":["moods-1"],'
        '"checksums":["0123456789ab"]}',
    ),
    (
        events.TagStarted("radio1", "moods", "dark", 44100, 66150, 0.87654321, True),
        "event/radio1/",
        '{"v":1,"type":"tag_on","epoch":"17979cfe362a0000","seq":2,"stream":"radio1","t":1.0,'
        '"utc":"2026-01-01T00:00:00.999999Z","tagger":"moods","tag":"dark","decided":1.5,'
        '"probability":0.876543,"provisional":true,"title":"","display":"düster","model":"moods-1",'
        '"checksum":"0123456789ab"}',
    ),
    (
        events.TitleChanged("radio1", 44100, "Käse – Über"),
        "event/radio1/",
        '{"v":1,"type":"title","epoch":"17979cfe362a0000","seq":3,"stream":"radio1","t":1.0,'
        '"utc":"2026-01-01T00:00:00.999999Z","title":"Käse – Über"}',
    ),
    (
        events.WindowScored("radio1", "moods", 22050, 66150, (0.25, 1e-9), (0.5, 1.0), False),
        "scores/radio1/",
        '{"v":1,"type":"scores","epoch":"17979cfe362a0000","seq":1,"stream":"radio1","t":1.5,'
        '"utc":"2026-01-01T00:00:01.499999Z","tagger":"moods","start":0.5,"provisional":false,'
        '"tags":["dark","épic"],"values":[0.25,0.0],"smoothed":[0.5,1.0],'
        '"title":"Käse – Über"}',
    ),
    (
        events.SourceStatusChanged(
            "radio1", 66150, SourceState.STALLED, Cause.STALLED, "none for 10 s", 1.25
        ),
        "event/radio1/",
        '{"v":1,"type":"stream_status","epoch":"17979cfe362a0000","seq":4,"stream":"radio1",'
        '"t":1.5,"utc":"2023-11-14T22:13:21.000000Z","state":"stalled","cause":"stalled",'
        '"detail":"none for 10 s","retry_seconds":1.25}',
    ),
    (
        events.MoodUpdated("radio1", "moods", 66150, -0.25, 0.123456789, 0.5),
        "mood/radio1/",
        '{"v":1,"type":"mood","epoch":"17979cfe362a0000","seq":1,"stream":"radio1","t":1.5,'
        '"utc":"2026-01-01T00:00:01.499999Z","tagger":"moods","valence":-0.25,'
        '"arousal":0.123457,"certainty":0.5}',
    ),
    (
        events.LevelMeasured("radio1", 66150, -0.3, -14.1, -13.6),
        "level/radio1/",
        '{"v":1,"type":"level","epoch":"17979cfe362a0000","seq":1,"stream":"radio1","t":1.5,'
        '"utc":"2026-01-01T00:00:01.499999Z","peak_dbfs":-0.3,"rms_dbfs":-14.1,"lufs":-13.6}',
    ),
    (
        events.GapFound("radio1", 88200, 88201),
        "event/radio1/",
        '{"v":1,"type":"gap","epoch":"17979cfe362a0000","seq":5,"stream":"radio1","t":2.0,'
        '"utc":"2026-01-01T00:00:01.999999Z","end":2.000023}',
    ),
    (
        events.WindowsDropped("radio1", "moods", 132300, 7, "the model is too slow"),
        "event/radio1/",
        '{"v":1,"type":"dropped","epoch":"17979cfe362a0000","seq":6,"stream":"radio1","t":3.0,'
        '"utc":"2026-01-01T00:00:02.999999Z","tagger":"moods","windows":7,'
        '"detail":"the model is too slow"}',
    ),
    (
        events.TagEnded("radio1", "moods", "dark", 132300, 154350, 44100, 0.9, Reason.SHUTDOWN),
        "event/radio1/",
        '{"v":1,"type":"tag_off","epoch":"17979cfe362a0000","seq":7,"stream":"radio1","t":3.0,'
        '"utc":"2026-01-01T00:00:02.999999Z","tagger":"moods","tag":"dark","decided":3.5,'
        '"since":1.0,"since_utc":"2026-01-01T00:00:00.999999Z","peak":0.9,"reason":"shutdown",'
        '"title":""}',
    ),
    (
        events.StreamClosed("radio1", 154350, Reason.STREAM_LOST, "no route"),
        "event/radio1/",
        '{"v":1,"type":"stream_down","epoch":"17979cfe362a0000","seq":8,"stream":"radio1","t":3.5,'
        '"utc":"2026-01-01T00:00:03.499999Z","reason":"stream_lost","detail":"no route"}',
    ),
    (
        events.StreamOpened("dead", 0, 8000, EPOCH, ()),
        "event/dead/",
        '{"v":1,"type":"stream_up","epoch":"17979cfe362a0000","seq":1,"stream":"dead","t":0.0,'
        '"utc":"2025-12-31T23:59:59.999999Z","rate":8000,"taggers":[],"models":[],"checksums":[]}',
    ),
    (
        events.ClippingFound("dead", 800, 3),
        "event/dead/",
        '{"v":1,"type":"clipping","epoch":"17979cfe362a0000","seq":2,"stream":"dead","t":0.1,'
        '"utc":"2026-01-01T00:00:00.099999Z","samples":3}',
    ),
    (
        events.SilenceStarted("dead", 8000, 48000),
        "event/dead/",
        '{"v":1,"type":"silence_on","epoch":"17979cfe362a0000","seq":3,"stream":"dead","t":1.0,'
        '"utc":"2026-01-01T00:00:00.999999Z","decided":6.0}',
    ),
    (
        events.SilenceEnded("dead", 80000, 82400, 8000),
        "event/dead/",
        '{"v":1,"type":"silence_off","epoch":"17979cfe362a0000","seq":4,"stream":"dead","t":10.0,'
        '"utc":"2026-01-01T00:00:09.999999Z","decided":10.3,"since":1.0,'
        '"since_utc":"2026-01-01T00:00:00.999999Z"}',
    ),
    (
        events.TaggersReplaced("dead", 84000, ("moods",), events.Reason.MODEL_SWAPPED),
        "event/dead/",
        '{"v":1,"type":"taggers_changed","epoch":"17979cfe362a0000","seq":5,"stream":"dead",'
        '"t":10.5,"utc":"2026-01-01T00:00:10.499999Z","taggers":["moods"],"models":["moods-1"],'
        '"checksums":["0123456789ab"],"reason":"model_swapped"}',
    ),
    (
        events.ChannelsChanged("dead", 88000, 104000, "left_silent"),
        "event/dead/",
        '{"v":1,"type":"channels","epoch":"17979cfe362a0000","seq":6,"stream":"dead","t":11.0,'
        '"utc":"2026-01-01T00:00:10.999999Z","balance":"left_silent","decided":13.0}',
    ),
]


HEAD = {"epoch": "17979cfe362a0000", "seq": 1, "stream": "", "t": 1.5}
ALERT: dict[str, object] = HEAD | {
    "utc": "2026-01-01T00:00:00.000000Z",
    "alert": "lost",
    "id": "lost-1",
}
OF_THE_PUBLISHER: list[tuple[messages.Message, str]] = [
    (
        messages.Section(
            **HEAD | {"stream": "a"},
            utc="2026-01-01T00:00:00.000000Z",
            end=9.5,
            end_utc="2026-01-01T00:00:08.000000Z",
            kind="music",
            certainty=0.9,
            title="Blue",
            genre="jazz",
            moods=("calm",),
            instruments=(),
        ),
        '{"v":1,"type":"section","epoch":"17979cfe362a0000","seq":1,"stream":"a","t":1.5,'
        '"utc":"2026-01-01T00:00:00.000000Z","end":9.5,"end_utc":"2026-01-01T00:00:08.000000Z",'
        '"kind":"music","certainty":0.9,"title":"Blue","genre":"jazz","moods":["calm"],'
        '"instruments":[]}',
    ),
    (
        messages.Clip(
            **HEAD | {"stream": "radio1"},
            utc="2026-01-01T00:00:01.500000Z",
            id="radio1-20260101T000002Z-0123abcd",
            stage="ready",
            event="silence_on",
            end=31.5,
            file="2026-01-01/radio1-20260101T000002Z-0123abcd.flac",
            url="/clip/radio1-20260101T000002Z-0123abcd",
            bytes=345_678,
            sha256="5e" * 32,
            complete=True,
            detail="",
        ),
        '{"v":1,"type":"clip","epoch":"17979cfe362a0000","seq":1,"stream":"radio1","t":1.5,'
        '"utc":"2026-01-01T00:00:01.500000Z","id":"radio1-20260101T000002Z-0123abcd",'
        '"stage":"ready","event":"silence_on","end":31.5,'
        '"file":"2026-01-01/radio1-20260101T000002Z-0123abcd.flac",'
        '"url":"/clip/radio1-20260101T000002Z-0123abcd","bytes":345678,'
        f'"sha256":"{"5e" * 32}","complete":true,"detail":""}}',
    ),
    (
        messages.Beat(**HEAD, utc="2026-01-01T00:00:00.000000Z", last={"event/a/": 3}),
        '{"v":1,"type":"beat","epoch":"17979cfe362a0000","seq":1,"stream":"","t":1.5,'
        '"utc":"2026-01-01T00:00:00.000000Z","last":{"event/a/":3}}',
    ),
    (
        messages.Goodbye(**HEAD, utc="2026-01-01T00:00:00.000000Z"),
        '{"v":1,"type":"goodbye","epoch":"17979cfe362a0000","seq":1,"stream":"","t":1.5,'
        '"utc":"2026-01-01T00:00:00.000000Z"}',
    ),
    (
        messages.JournalStatus(
            **HEAD,
            utc="2026-01-01T00:00:00.000000Z",
            working=False,
            detail="database or disk is full",
            unkept=7,
        ),
        '{"v":1,"type":"journal","epoch":"17979cfe362a0000","seq":1,"stream":"","t":1.5,'
        '"utc":"2026-01-01T00:00:00.000000Z","working":false,'
        '"detail":"database or disk is full","unkept":7}',
    ),
    (
        messages.AlertRaised(
            **ALERT,  # type: ignore[arg-type]
            streams=("a", "b"),
            severity="warning",
            since_utc="2025-12-31T23:59:00.000000Z",
            detail="2 streams have no source",
            notify=("mail",),
            quiet_until="",
            remind_seconds=0.0,
        ),
        '{"v":1,"type":"alert_raised","epoch":"17979cfe362a0000","seq":1,"stream":"","t":1.5,'
        '"utc":"2026-01-01T00:00:00.000000Z","alert":"lost","id":"lost-1",'
        '"streams":["a","b"],"severity":"warning","since_utc":"2025-12-31T23:59:00.000000Z",'
        '"detail":"2 streams have no source","notify":["mail"],"quiet_until":"",'
        '"remind_seconds":0.0}',
    ),
    (
        messages.AlertCleared(
            **ALERT,  # type: ignore[arg-type]
            streams=("b",),
            remaining=("a",),
            since_utc="2025-12-31T23:59:00.000000Z",
            why="over",
            detail="b is back",
            notify=(),
        ),
        '{"v":1,"type":"alert_cleared","epoch":"17979cfe362a0000","seq":1,"stream":"","t":1.5,'
        '"utc":"2026-01-01T00:00:00.000000Z","alert":"lost","id":"lost-1","streams":["b"],'
        '"remaining":["a"],"since_utc":"2025-12-31T23:59:00.000000Z","why":"over",'
        '"detail":"b is back","notify":[]}',
    ),
    (
        messages.AlertAcknowledged(**ALERT, by="ann", note="on it"),  # type: ignore[arg-type]
        '{"v":1,"type":"alert_acknowledged","epoch":"17979cfe362a0000","seq":1,"stream":"",'
        '"t":1.5,"utc":"2026-01-01T00:00:00.000000Z","alert":"lost","id":"lost-1","by":"ann",'
        '"note":"on it"}',
    ),
]


def new_wire() -> EventEncoder:
    wire = EventEncoder({}, START)
    wire.taggers["moods"] = TaggerInfo(("dark", "épic"), "moods-1", "0123456789abcdef" * 4)
    wire.display["radio1", "moods"] = {"dark": "düster"}
    return wire


def test_golden_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamtag.feed.event_encoder.time.time_ns", lambda: START + 1_000_000_000)
    wire = new_wire()
    for event, topic, text in GOLDEN:
        message = wire.message(event)
        assert (message.topic, dump(message).decode()) == (topic, text)
        assert dump(parse(text.encode())).decode() == text


def test_golden_bytes_of_counters() -> None:
    message = new_wire().stats({"blocks": 3, "load": 0.5}, START + 2_500_000_000)
    assert message.topic == "stats/"
    assert dump(message).decode() == (
        '{"v":1,"type":"stats","epoch":"17979cfe362a0000","seq":1,"stream":"","t":2.5,'
        '"utc":"2023-11-14T22:13:22.500000Z","counters":{"blocks":3,"load":0.5}}'
    )
    assert parse(dump(message)) == message


def test_golden_bytes_of_a_notice() -> None:
    message = new_wire().notice("cuda is lost", START + 500_000_000)
    assert message.topic == "stats/"
    assert dump(message).decode() == (
        '{"v":1,"type":"notice","epoch":"17979cfe362a0000","seq":1,"stream":"","t":0.5,'
        '"utc":"2023-11-14T22:13:20.500000Z","text":"cuda is lost"}'
    )
    assert parse(dump(message)) == message


def test_every_kind_of_event_has_golden_bytes() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type)]
    known = {kind for kind in kinds if issubclass(kind, events.Event)} - {events.Event}
    assert {type(event) for event, _, _ in GOLDEN} == known
    assert set(messages.TYPES) == {json.loads(text)["type"] for *_, text in GOLDEN} | {
        "stats",
        "notice",
        *(message.type for message, _ in OF_THE_PUBLISHER),
    }


def test_golden_bytes_of_what_the_publisher_says_itself() -> None:
    for message, text in OF_THE_PUBLISHER:
        assert dump(message).decode() == text
        assert parse(text.encode()) == message


def test_numbers_have_no_holes_per_topic_and_streams_do_not_share_them() -> None:
    wire = new_wire()
    other = events.StreamOpened("b", 0, 8000, EPOCH, ())
    score = events.WindowScored("radio1", "moods", 0, 1, (0.0, 0.0), (0.0, 0.0), False)
    sent = [UP, other, score, events.GapFound("b", 1, 2), events.GapFound("radio1", 1, 2), score]
    got = [(m.topic, m.seq) for m in map(wire.message, sent)]
    assert got == [
        ("event/radio1/", 1),
        ("event/b/", 1),
        ("scores/radio1/", 1),
        ("event/b/", 2),
        ("event/radio1/", 2),
        ("scores/radio1/", 2),
    ]


def test_a_stream_that_returns_goes_on_counting() -> None:
    wire = new_wire()
    down = events.StreamClosed("radio1", 9, Reason.STREAM_CLOSED)
    assert [wire.message(e).seq for e in (UP, down, UP, down)] == [1, 2, 3, 4]


def test_a_later_start_has_a_larger_epoch() -> None:
    one, two, three = (
        wire.stats({}, START).epoch
        for wire in (EventEncoder({}, START), EventEncoder({}, START + 1), EventEncoder({}))
    )
    assert one < two < three


def test_an_event_before_its_stream_is_up_is_refused() -> None:
    with pytest.raises(FeedError, match="stream 'radio1': expected StreamOpened before GapFound"):
        new_wire().message(events.GapFound("radio1", 0, 1))


def test_utc_stays_exact_after_years() -> None:
    wire, at = new_wire(), 10 * 365 * 24 * 3600 * 44100 + 1
    wire.message(events.StreamOpened("radio1", 0, 44100, 0, ()))
    assert wire.message(events.ClippingFound("radio1", at, 1)).utc == "1979-12-30T00:00:00.000022Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999Z"


def changed(**fields: object) -> bytes:
    """The golden tag_on with other fields; None leaves one out."""
    body = json.loads(GOLDEN[1][2]) | fields
    return json.dumps({k: v for k, v in body.items() if v is not None}).encode()


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"\xff\x00", "expected a JSON object"),
        (b"[1]", "expected `object`, got `array`"),
        (changed(v=2), "expected contract version 1, got 2; use the same version"),
        (changed(v=None), "expected contract version 1, got None"),
        (changed(type=None), "expected a string in field 'type', got None"),
        (changed(tag=None), "type 'tag_on': object missing required field `tag`"),
        (changed(seq="1"), r"expected `int`, got `str` - at `\$.seq`"),
        (changed(seq=True), r"expected `int`, got `bool` - at `\$.seq`"),
        (changed(t="now"), r"expected `float`, got `str` - at `\$.t`"),
        (changed(provisional=1), r"expected `bool`, got `int` - at `\$.provisional`"),
        (changed(type="novelty", seq=None), "type 'novelty': object missing required field `seq`"),
    ],
)
def test_what_is_no_message_is_refused(payload: bytes, complaint: str) -> None:
    with pytest.raises(FeedError, match=complaint):
        parse(payload)


def test_lists_are_checked_item_by_item() -> None:
    body = next(json.loads(text) for *_, text in GOLDEN if '"scores"' in text)
    with pytest.raises(FeedError, match=r"expected `float`, got `str` - at `\$.values\[1\]`"):
        parse(json.dumps(body | {"values": [0.1, "0.2"]}).encode())
    with pytest.raises(FeedError, match=r"expected `array`, got `str` - at `\$.tags`"):
        parse(json.dumps(body | {"tags": "dark"}).encode())


def test_unknown_fields_are_ignored_and_unknown_types_are_kept() -> None:
    assert parse(changed(novelty=[1])) == parse(GOLDEN[1][2].encode())
    other = parse(b'{"v":1,"type":"x","epoch":"0","seq":4,"stream":"s","t":1,"utc":"","y":[2]}')
    assert isinstance(other, Other)
    assert (other.kind, other.seq, other.fields) == ("x", 4, {"y": [2]})


def test_a_source_has_states_before_its_stream_is_up_and_its_title_ends_with_it() -> None:
    wire = new_wire()
    first = wire.message(events.SourceStatusChanged("radio1", 0, SourceState.CONNECTING))
    wire.message(UP)
    wire.message(events.TitleChanged("radio1", 0, "x"))
    scores = events.WindowScored("radio1", "moods", 0, 1, (0.5, 0.5), (0.5, 0.5), False)
    before = wire.message(scores)
    wire.message(events.SourceStatusChanged("radio1", 1, SourceState.RETRYING, Cause.ENDED))
    after = wire.message(scores)
    assert (first.t, first.seq) == (0.0, 1)
    assert isinstance(before, messages.Scores)
    assert isinstance(after, messages.Scores)
    assert (before.title, after.title) == ("x", "")


def test_messages_of_a_daemon_without_titles_can_be_read() -> None:
    body = json.loads(GOLDEN[1][2])
    del body["title"]
    assert parse(json.dumps(body).encode()) == parse(GOLDEN[1][2].encode())


def test_messages_read_well() -> None:
    texts = [str(parse(text.encode())) for *_, text in GOLDEN]
    assert texts == [
        "radio1 0:00.0 stream_up 44100 Hz, tagged by moods",
        "radio1 0:01.0 tag_on düster 0.88",
        "radio1 0:01.0 title Käse – Über",
        "radio1 0:01.5 scores épic 1.00, dark 0.50",
        "radio1 0:01.5 stream_status stalled (stalled: none for 10 s), again in 1.2 s",
        "radio1 0:01.5 mood valence -0.25, arousal +0.12",
        "radio1 0:01.5 level -13.6 LUFS, peak -0.3 dBFS, RMS -14.1 dBFS",
        "radio1 0:02.0 gap 0.000 s of audio are missing",
        "radio1 0:03.0 dropped 7 windows of moods: the model is too slow",
        "radio1 0:03.0 tag_off dark after 2.0 s, peak 0.90, shutdown",
        "radio1 0:03.5 stream_down stream_lost: no route",
        "dead 0:00.0 stream_up 8000 Hz, tagged by",
        "dead 0:00.1 clipping 3 samples",
        "dead 0:01.0 silence_on for 5.0 s",
        "dead 0:10.0 silence_off after 9.0 s",
        "dead 0:10.5 taggers_changed model_swapped: moods-1",
        "dead 0:11.0 channels left_silent",
    ]


def test_clock() -> None:
    assert [messages.clock(s) for s in (0, 59.96, 61.25, 3600, 36061.5)] == [
        "0:00.0",
        "1:00.0",
        "1:01.2",
        "1:00:00.0",
        "10:01:01.5",
    ]


def test_times_reckoned_anew_move_utc_and_nothing_else() -> None:
    wire = EventEncoder({"moods": ("dark",)}, START)
    wire.message(UP)
    before = wire.message(events.GapFound("radio1", 44100, 88200))
    wire.correct_clock("radio1", EPOCH + 250_000_000)
    after = wire.message(events.GapFound("radio1", 44100, 88200))
    assert after.t == before.t
    assert (before.utc, after.utc) == (rfc3339(EPOCH + 10**9), rfc3339(EPOCH + 1_250_000_000))
