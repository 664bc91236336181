"""A model whose call does not return: its own windows are dropped, and everything else goes on."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.peers import wait_until
from support.toy import cut, events_of, music, tagger

from streamtag.config.config import EngineConfig
from streamtag.daemon.engine_loop import call_limits
from streamtag.engine import batcher
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, WindowScored, WindowsDropped
from streamtag.model.tagger import Tagger
from streamtag.model.watchdog import CallLimits

RATE, PATIENT = 8000, 600.0
DROPPED = "its model hangs: a call before has not returned"


class Model:
    """A model of the tests that hangs when it is told to, without using the CPU."""

    def __init__(self, toy: Tagger) -> None:
        self.hang, self.come_back = threading.Event(), threading.Event()
        self._real = toy._optimised[True]
        toy._optimised[True] = self  # type: ignore[assignment]

    def __call__(self, *inputs: torch.Tensor) -> Any:
        if self.hang.is_set():
            self.come_back.wait(PATIENT)
        return self._real(*inputs)


class Scene:
    """An engine with the taggers `bad` and `good` on one stream, and its audio in blocks."""

    def __init__(self, folder: Path) -> None:
        bad, good = tagger(folder, name="bad"), tagger(folder, name="good")
        self.model = Model(bad)
        self.engine = Engine({"bad": bad, "good": good}, calls=CallLimits(PATIENT, PATIENT))
        assert bad.watchdog is not None
        self.watchdog = bad.watchdog
        self._batcher = self.engine._batchers["bad"]
        self.events = self.engine.open("a", RATE)
        self._blocks = iter(cut(music(20.0, RATE), RATE, [800]))

    def play(self, blocks: int = 5) -> list[Event]:
        """The events of so much more audio."""
        events: list[Event] = []
        for _ in range(blocks):
            events += self.engine.feed("a", next(self._blocks))
            events += self.engine.step()
        self.events += events
        return events

    def hang(self) -> None:
        """The next call of the bad model does not return, and is not waited for for long."""
        self.model.hang.set()
        self.watchdog.patience, self.watchdog.limit = 0.1, PATIENT
        self.play()

    @property
    def restart_ended(self) -> bool:
        answer = self._batcher._restart
        return answer is not None and answer.done()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.model.come_back.set()


def scored(events: list[Event], name: str) -> int:
    return sum(isinstance(e, WindowScored) for e in events_of(events, "a", name))


def reasons(events: list[Event], name: str = "bad") -> list[str]:
    return [e.detail for e in events_of(events, "a", name) if isinstance(e, WindowsDropped)]


def test_its_windows_are_dropped_with_the_reason_and_others_go_on(scene: Scene) -> None:
    before = scene.play()
    assert scored(before, "bad") == scored(before, "good") > 0
    scene.hang()
    assert reasons(scene.events)[0].startswith("its model hangs: a call has not returned in ")
    hung = scene.play()
    assert set(reasons(hung)) == {DROPPED}
    assert scored(hung, "bad") == 0
    assert scored(hung, "good") == len(reasons(hung)) > 0
    assert scene.engine.counters.get("model_stuck", tagger="bad") == 1
    assert scene.engine.notices() == ["tagger bad: its model hangs; its windows are dropped"]


def test_a_call_that_returns_late_is_forgotten_and_the_model_goes_on(scene: Scene) -> None:
    scene.hang()
    scene.model.hang.clear()
    scene.watchdog.patience = PATIENT
    scene.model.come_back.set()
    wait_until(lambda: scene.watchdog.stuck_seconds == 0, lambda: "it does not come back")
    again = scene.play()
    assert scored(again, "bad") == scored(again, "good") > 0
    assert scene.engine.notices()[-1] == "tagger bad: its model answers again"


def test_after_ten_times_as_long_it_is_loaded_anew(scene: Scene) -> None:
    scene.hang()
    scene.watchdog.limit = 1.0
    wait_until(lambda: scene.watchdog.stuck_seconds > 1.0, lambda: "time stands still")
    scene.play(1)
    wait_until(lambda: scene.restart_ended, lambda: "it is not loaded")
    again = scene.play()
    assert scored(again, "bad") == scored(again, "good") > 0
    assert scene.engine.notices()[-1] == "tagger bad: its model hung; it is started anew"
    assert scene.engine.counters.get("model_restarts", tagger="bad") == 1


def test_a_file_that_was_replaced_is_not_started(scene: Scene) -> None:
    path = scene.engine._batchers["bad"].tagger.path
    assert path is not None
    path.write_bytes(path.read_bytes() + b"\0")
    scene.hang()
    scene.watchdog.limit = 0.0
    scene.play(1)
    wait_until(lambda: scene.restart_ended, lambda: "it is not loaded")
    why = reasons(scene.play())[-1]
    assert "its model hung, and cannot be started anew: " in why
    assert "it was replaced" in why


def test_after_three_times_it_stays_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "MOST_RESTARTS", 0)
    assert not scene.engine.worn_out
    scene.hang()
    scene.watchdog.limit = 0.0
    scene.play(1)
    after = scene.play()
    assert set(reasons(after)) == {
        "its model hung, and cannot be started anew: it has hung 1 times; swap the tagger, or "
        "restart the daemon"
    }
    assert scene.engine.worn_out
    scene.model.come_back.set()
    assert scored(scene.play(), "bad") == 0
    assert scored(after, "good") > 0


@pytest.mark.parametrize(
    ("slack", "patience", "limit"), [(0.0, 1.0, 10.0), (3.0, 3.0, 30.0), (60.0, 5.0, 600.0)]
)
def test_a_daemon_gives_a_model_up_after_ten_times_its_slack(
    slack: float, patience: float, limit: float
) -> None:
    assert call_limits(EngineConfig(slack_seconds=slack)) == CallLimits(patience, limit)
