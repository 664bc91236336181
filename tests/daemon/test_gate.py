"""What a daemon of a fleet may say, and when."""

import pytest

from streamtag.daemon.fleet.gate import LeaseGate
from streamtag.daemon.fleet.records import (
    ClaimRecord,
    DaemonRecord,
    decode_fleet_record,
    encode_record,
)
from streamtag.daemon.fleet.view import Entry, FleetView
from streamtag.engine.events import (
    Event,
    Reason,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
)
from streamtag.errors import FleetError
from streamtag.feed.messages import Title, dump, parse


def started(tag: str) -> Event:
    return TagStarted("a", "toy", tag, 0, decided=1, probability=0.9, provisional=False)


def ended(tag: str) -> Event:
    return TagEnded("a", "toy", tag, 0, decided=1, since=0, peak=0.9, reason=Reason.BELOW_THRESHOLD)


def test_after_the_lease_nothing_begins_and_everything_ends() -> None:
    now = 100.0
    gate = LeaseGate(lambda: now)
    opened = StreamOpened("a", 0, 8000, 0, ("toy",))
    closed = StreamClosed("a", 9, Reason.STREAM_CLOSED, "removed")
    gate.renew(105.0)
    before = [opened, started("low")]
    assert gate.filter(before) == before
    now = 105.0
    assert gate.filter([started("high"), ended("low")]) == [ended("low")]
    assert gate.filter([ended("high"), closed]) == [closed]  # its begin was not said
    assert gate.dropped == 2
    gate.renew(111.0)
    assert gate.filter([started("high"), ended("high")]) == [started("high"), ended("high")]
    gate.shut()
    assert not gate.is_open


def test_messages_carry_their_lease() -> None:
    gate = LeaseGate()
    head = {"epoch": "e", "seq": 1, "stream": "a", "t": 0.0, "utc": "2026-01-01T00:00:00.000000Z"}
    message = Title(**head, title="x")  # type: ignore[arg-type]
    assert gate.stamp([message]) == [message]
    gate.set("a", 17)
    (said,) = gate.stamp([message])
    assert b'"lease":17' in dump(said)
    assert parse(dump(said)).lease == 17
    assert b"lease" not in dump(message)
    gate.set("a", 21)
    assert gate.stamp([said]) == [said]  # an old word stays one


def test_a_daemon_is_dead_once_its_record_does_not_change_for_a_lease_here() -> None:
    view = FleetView(6.0)
    view.apply(Entry("daemon.a", 1, encode_record(DaemonRecord(session="s"))), 50.0)
    view.apply(Entry("claim.r", 2, encode_record(ClaimRecord(daemon="a", session="s"))), 50.0)
    assert view.is_alive("a", 55.9)
    assert not view.is_alive("a", 56.0)
    view.refresh(90.0)  # nothing was seen meanwhile: it gets a whole lease
    assert view.is_alive("a", 95.9)
    view.apply(Entry("daemon.a", 1, encode_record(DaemonRecord(session="old"))), 99.0)
    assert not view.is_alive("a", 99.0)
    assert view.holders() == {"r": "a"}
    view.apply(Entry("daemon.a", 3, encode_record(DaemonRecord(session="t"))), 99.0)
    assert view.holders() == {}  # the claim is of an earlier session


def test_records_of_another_version_are_refused() -> None:
    with pytest.raises(FleetError, match=r"record claim\.r: expected version 1, got 2"):
        decode_fleet_record("claim.r", b'{"v":2}', ClaimRecord)
    with pytest.raises(FleetError, match=r"record claim\.r: expected a ClaimRecord"):
        decode_fleet_record("claim.r", b"nonsense", ClaimRecord)
