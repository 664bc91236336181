"""Live scores: right answers worked out by hand, and the same engine as on air."""

import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.sounds import tone, write_wav

from streamtag.engine.engine import Engine
from streamtag.engine.events import WindowScored
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import RecipeError, SourceError, StreamtagError
from streamtag.model.tagger import Tagger
from streamtag.train.data.corpora.corpus import Corpus, Item
from streamtag.train.data.extraction import read_samples
from streamtag.train.evaluation import live
from streamtag.train.evaluation.live import (
    DELAYS,
    evaluate,
    evaluate_files,
    live_plot,
    live_table,
)
from streamtag.train.evaluation.live_report import (
    after_cuts,
    detection,
    false_events,
    flapping,
    release,
)
from streamtag.train.evaluation.playlist import (
    ActivePeriods,
    PlaylistSpan,
    StreamResult,
    alternating_order,
    run_playlist,
)

RATE = 16000
SPILL = 352 / RATE
"""Seconds by which a window's last frame of 512 samples is longer than the hop of 160."""
LOW, HIGH = tone(4, RATE, 300, level=0.1), tone(4, RATE, 3000, level=0.3)
NOTHING = np.zeros(4 * RATE, np.float32)
STUTTER = np.concatenate([LOW[: 2 * RATE], NOTHING[: 2 * RATE], LOW[: 2 * RATE]])
SOUNDS = (LOW, HIGH, NOTHING, LOW, STUTTER)
TRUTH = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]], bool)
"""The fourth sounds low, but its label says nothing."""
TAGS = ("low", "high", "never")


@pytest.fixture(scope="module")
def tagger(toy_bundle: Path) -> Tagger:
    """Windows of 1 s every 0.25 s, smoothed over 0.2 s; 0.2 s to switch on, as long to switch off.

    A frame of silence is at ln(1e-10), one of a tone here at about 1: with three quarters of a
    window full of the tone the mean is about -5, which is 1 % for the net, with all of it 99.9 %.
    So a tag reaches its threshold with the window that ends 1 s after its tone's beginning, and is
    switched on with the next one. It falls below its off threshold with the first window that
    ends after the tone (smoothed: 29 %), and is switched off with the next one.
    """
    return Tagger.load(toy_bundle, "cpu")


ON, OFF = 1.25 + SPILL, 0.5 + SPILL


def played(tagger: Tagger, *lists: Sequence[int]) -> list[StreamResult]:
    return run_playlist(
        tagger, TaggerSettings(), lists, SOUNDS.__getitem__, DELAYS, lambda done: None
    )


def test_delays_are_from_the_cut_to_the_decision(tagger: Tagger) -> None:
    heard = played(tagger, [2, 0, 1, 4, 2])
    found = detection(heard, TRUTH, (0, 1, 2), RATE)
    assert found == {
        "wanted": 3, "share": 1.0, "median": pytest.approx(ON), "p90": pytest.approx(ON),
        "already": 0,
    }  # fmt: skip
    found = release(heard, TRUTH, (0, 1, 2), RATE)
    assert (found["wanted"], found["share"]) == (3, 1.0)
    assert found["median"] == pytest.approx(OFF)


def test_what_is_too_short_is_not_detected(tagger: Tagger) -> None:
    sounds = [NOTHING, LOW[:RATE], HIGH, LOW]
    truth = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]], bool)
    heard = run_playlist(
        tagger, TaggerSettings(), [[0, 1, 2, 3]], sounds.__getitem__, DELAYS, lambda done: None
    )
    found = detection(heard, truth, (0, 1), RATE)
    assert (found["wanted"], found["share"]) == (3, 2 / 3)
    assert detection(heard, truth, (1,), RATE)["wanted"] == 1  # only tags that may switch


def test_events_of_a_tag_that_is_not_true_are_false(tagger: Tagger) -> None:
    heard = played(tagger, [1, 3, 2, 0])
    found = false_events(heard, TRUTH, TAGS, RATE)
    assert (found["events"], found["false"], found["tags"]) == (3, 1, {"low": 1})
    assert found["per_hour"] == pytest.approx(3600 / 16)
    alien = found["without_tags"]
    assert (alien["false"], alien["hours"]) == (1, pytest.approx(8 / 3600))
    assert alien["per_hour"] == pytest.approx(3600 / 8)


def test_an_early_or_late_event_is_not_false() -> None:
    """The window that says so reaches over the cut: one of both recordings is what it heard."""
    spans = (PlaylistSpan(0, 0, 1000), PlaylistSpan(1, 1000, 2000), PlaylistSpan(2, 2000, 3000))
    truth = np.array([[1], [0], [0]], bool)

    def false(at: int, decided: int) -> int:
        ons = ActivePeriods(*(np.array([x]) for x in (0, at, decided, 3000)))
        found: int = false_events([StreamResult(spans, ons, {})], truth, ("a",), 10)["false"]
        return found

    assert false(at=900, decided=1500) == 0  # late: it was true at 900
    assert false(at=999, decided=1500) == 0
    assert false(at=1000, decided=1500) == 1
    assert false(at=1500, decided=2500) == 1
    reverse = truth[::-1]
    assert false(at=100, decided=1000) == 0
    truth = reverse
    assert false(at=1900, decided=2001) == 0  # its first half was heard before it began
    assert false(at=1900, decided=2000) == 1


def test_what_stutters_flaps(tagger: Tagger) -> None:
    heard = played(tagger, [2, 4, 1])
    found = flapping(heard, RATE)
    assert (found["again"], found["per_hour"]) == (1, pytest.approx(3600 / 14))
    assert flapping(played(tagger, [2, 0, 1, 0]), RATE)["again"] == 0
    carried = flapping(played(tagger, [0, 4]), RATE)  # on already when the second begins
    assert carried["again"] == 1


def test_what_is_seen_some_time_after_a_cut(tagger: Tagger) -> None:
    heard = played(tagger, [2, 0, 1, 4, 1])
    high = np.array(tagger.card.on_thresholds)
    table = {e["seconds"]: e for e in after_cuts(heard, TRUTH, high, (0, 1), (0, 1), DELAYS, RATE)}
    # Three of the recordings that follow a cut have 4 s, the stutter 6 s.
    assert {delay: e["n"] for delay, e in table.items()} == {
        0.5: 4, 1.0: 4, 2.0: 4, 3.0: 4, 5.0: 1,
    }  # fmt: skip
    assert table[0.5]["events_f_macro"] == 0  # those on are of the recording before
    assert table[2.0]["events_f_macro"] == table[2.0]["f_macro"] == table[2.0]["pr_auc"] == 1.0
    # The stutter is silent for 1 s then, and switched off.
    assert table[3.0]["events_f_micro"] == pytest.approx(2 * 3 / (3 + 4))


def test_equal_neighbours_make_no_cut(tagger: Tagger) -> None:
    heard = played(tagger, [0, 4])
    high = np.array(tagger.card.on_thresholds)
    assert after_cuts(heard, TRUTH, high, (0, 1), (0, 1), DELAYS, RATE) == []
    assert detection(heard, TRUTH, (0, 1), RATE) == {
        "wanted": 0, "share": None, "median": None, "p90": None, "already": 0,
    }  # fmt: skip
    # What was switched on wrongly before the cut tells nothing about delays.
    found = detection(played(tagger, [3, 0]), TRUTH, (0, 1), RATE)
    assert (found["wanted"], found["already"]) == (0, 1)


def test_a_snapshot_holds_the_newest_scores_of_its_time(tagger: Tagger) -> None:
    heard = played(tagger, [2, 0, 1])[0]
    engine = Engine({"toy": tagger})
    engine.open("s", RATE)
    samples = np.concatenate([NOTHING, LOW, HIGH])
    scores = [
        e for e in (*engine.feed("s", live.Block(samples, 0, RATE)), *engine.close("s"))
        if isinstance(e, WindowScored)
    ]  # fmt: skip
    assert set(heard.snapshots) == {(k, d) for k in range(3) for d in DELAYS if d <= 4}
    for (k, delay), look in heard.snapshots.items():
        before = [e.smoothed for e in scores if e.end <= 4 * RATE * k + delay * RATE]
        assert look.tolist() == list(before[-1])


def test_streams_side_by_side_are_as_if_alone(tagger: Tagger) -> None:
    lists = ([2, 0, 1], [4], [1, 3])
    together = played(tagger, *lists)
    for some, heard in zip(lists, together, strict=True):
        alone = played(tagger, some)[0]
        assert heard.spans == alone.spans
        assert all((heard.snapshots[k] == look).all() for k, look in alone.snapshots.items())
        assert heard.active.decided.tolist() == alone.active.decided.tolist()
        assert heard.active.until.tolist() == alone.active.until.tolist()


def test_the_order_puts_different_recordings_side_by_side() -> None:
    truth = np.repeat(np.eye(3, dtype=bool), 4, axis=0)
    orders = [alternating_order(truth, np.random.default_rng(seed)) for seed in (1, 2, 1)]
    for order in orders:
        assert sorted(order) == list(range(12))
    assert orders[0] == orders[2] != orders[1]
    changes = [(truth[a] != truth[b]).any() for a, b in itertools.pairwise(orders[0])]
    assert sum(changes) >= 9
    assert sorted(alternating_order(np.ones((3, 1), bool), np.random.default_rng(0))) == [0, 1, 2]


# -- from files ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sounds at two rates, and a broken file; tags in other spelling, and one of its own."""
    folder = tmp_path_factory.mktemp("sounds")
    tags = ("mood/theme---LOW", "Hi gh", "dog")
    items = []
    for i, (sound, columns) in enumerate(zip(SOUNDS, ((0,), (1,), (2,), (2,), (0,)), strict=True)):
        rate = 8000 if i == 0 else RATE
        path = write_wav(folder / f"{i}.wav", sound if i else tone(4, rate, 300, level=0.1), rate)
        items.append(Item(f"{i}", path, columns, "test"))
    (folder / "broken.wav").write_bytes(b"RIFF")
    items.append(Item("broken", folder / "broken.wav", (0,), "test"))
    return Corpus("sounds", tags, tuple(items))


@pytest.fixture(scope="module")
def body(tagger: Tagger, corpus: Corpus) -> dict[str, object]:
    return evaluate(tagger, corpus, streams=1)


def test_tags_are_matched_by_name(body: dict[str, object]) -> None:
    assert body["tags"] == ["low", "high"]
    assert body["only_in_bundle"] == ["never"]
    assert body["only_in_corpus"] == ["dog"]
    assert body["recordings"] == 5
    assert body["hours"] == pytest.approx(22 / 3600)
    assert len(body["broken"]) == 1  # type: ignore[arg-type]
    assert "broken.wav: expected audio" in body["broken"][0]  # type: ignore[index]


def test_whole_recordings_are_scored_one_by_one(body: dict[str, object]) -> None:
    """The mislabelled one stands above the stutter, of which half is silent."""
    whole = body["whole"]
    assert isinstance(whole, dict)
    assert whole["tags"]["high"]["pr_auc"] == 1.0
    assert whole["tags"]["low"]["pr_auc"] in (
        pytest.approx(0.5 * (1 + 2 / 3)), pytest.approx(0.5 * (1 / 2 + 2 / 3))
    )  # fmt: skip
    assert whole["decisions"]["by"] == "the card's thresholds"
    assert whole["tags"]["high"]["f"] == 1.0


def test_the_first_seconds_are_scored_alone(tagger: Tagger, body: dict[str, object]) -> None:
    heard = body["heard"]
    assert isinstance(heard, list)
    assert [entry["seconds"] for entry in heard] == [1.0, 2.0, 3.0, 5.0]  # the longest has 6 s
    # After a second all three low ones are surely low, and one of them is mislabelled.
    assert heard[0]["f_micro"] == pytest.approx(2 * 3 / (3 + 4))
    provisional = live._excerpt_score(tagger, LOW, (), 0.5)
    assert provisional[0] < 0.5 < live._excerpt_score(tagger, LOW, (), 1.0)[0]


def test_the_playlist_is_the_engines_word(
    tagger: Tagger, corpus: Corpus, body: dict[str, object]
) -> None:
    """The same figures from the same order, played by hand."""
    order = alternating_order(TRUTH, np.random.default_rng(1))
    sounds = [read_samples(item, RATE) for item in corpus.items[:5]]
    heard = run_playlist(
        tagger, TaggerSettings(tags=("low", "high")), [order], sounds.__getitem__, DELAYS,
        lambda done: None,
    )  # fmt: skip
    assert body["false_events"] == false_events(heard, TRUTH, TAGS, RATE)
    assert body["flapping"] == flapping(heard, RATE)
    assert body["detection"] == detection(heard, TRUTH, (0, 1), RATE)
    assert body["release"] == release(heard, TRUTH, (0, 1), RATE)


def test_streams_are_pieces_of_the_order(tagger: Tagger, corpus: Corpus) -> None:
    """So neighbours differ in each of them too, and only the first of each follows no cut."""
    order = alternating_order(TRUTH, np.random.default_rng(1))
    changes = [(TRUTH[a] != TRUTH[b]).any() for a, b in itertools.pairwise(order)]
    body = evaluate(tagger, corpus, streams=2)
    assert body["streams"] == 2
    assert body["after_cuts"][0]["n"] == sum(changes[:2]) + changes[3] == 3


def test_several_orders_are_judged_together(tagger: Tagger, corpus: Corpus) -> None:
    alone = [evaluate(tagger, corpus, part="all", seed=seed) for seed in (1, 2)]
    both = evaluate(tagger, corpus, part="all", seed=1, orders=2)
    assert both["hours"] == pytest.approx(sum(one["hours"] for one in alone))
    for count in ("events", "false"):
        total = sum(one["false_events"][count] for one in alone)
        assert both["false_events"][count] == total
    assert both["detection"]["wanted"] == sum(one["detection"]["wanted"] for one in alone)
    assert both["whole"] == alone[0]["whole"]


def test_the_same_again_and_reports_progress(
    tagger: Tagger, corpus: Corpus, body: dict[str, object]
) -> None:
    steps = []
    again = evaluate(
        tagger, corpus, streams=1, on_progress=lambda what, done, n: steps.append((what, done, n))
    )
    assert json.dumps(again, allow_nan=False) == json.dumps(body)
    assert steps[0] == ("one by one", 1, 6)
    assert steps[-1] == ("as a playlist", 5, 5)


def test_tables_and_picture(body: dict[str, object], tmp_path: Path) -> None:
    text = io.StringIO()
    Console(file=text, width=120).print(live_table(body))
    for words in ("false events per hour", "from a cut to on", "dog", "never", "broken.wav"):
        assert words in text.getvalue()
    live_plot(tmp_path / "live.png", body)
    assert (tmp_path / "live.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(StreamtagError, match="cannot be written"):
        live_plot(tmp_path / "nowhere" / "live.png", body)


def test_where_no_tag_is_known_every_event_is_false(
    tagger: Tagger, corpus: Corpus, tmp_path: Path
) -> None:
    strange = Corpus("strange", ("x", "y", "dog"), corpus.items[:3])
    body = evaluate(tagger, strange, streams=2)
    assert (body["tags"], body["only_in_bundle"]) == ([], list(TAGS))
    assert body["false_events"]["false"] == body["false_events"]["events"] == 2
    text = io.StringIO()
    Console(file=text, width=120).print(live_table(body))
    assert "every event counts as false" in text.getvalue()
    with pytest.raises(StreamtagError, match="nothing to draw"):
        live_plot(tmp_path / "live.png", body)


def test_what_cannot_be_evaluated_is_refused(tagger: Tagger, corpus: Corpus) -> None:
    with pytest.raises(
        RecipeError, match=r"sounds: expected recordings in the part 'train', .*6 t"
    ):
        evaluate(tagger, corpus, part="train")
    with pytest.raises(RecipeError, match=r"part: expected train, .* or all, got 'most'"):
        evaluate(tagger, corpus, part="most")
    with pytest.raises(RecipeError, match=r"got 1 that cannot; the first: .*broken\.wav"):
        evaluate(tagger, Corpus("bad", corpus.tags, corpus.items[5:]))


def test_a_part_of_a_file_is_read_exactly(tmp_path: Path) -> None:
    both = np.concatenate([HIGH, LOW])
    path = write_wav(tmp_path / "both.wav", both, RATE)
    part = read_samples(Item("a", path, (), "test", start=1.5, end=5.25), RATE)
    assert part == pytest.approx(both[24000:84000], abs=1e-4)
    assert len(read_samples(Item("a", path, (), "test", start=7), RATE)) == RATE
    assert len(read_samples(Item("a", path, (), "test"), RATE, longest=2.5)) == 40000
    assert len(read_samples(Item("a", path, (), "test", start=1, end=3), 8000, longest=9)) == 16000
    with pytest.raises(SourceError, match=r"both\.wav: expected audio from 9 s on, got none"):
        read_samples(Item("a", path, (), "test", start=9), RATE)
    with pytest.raises(SourceError, match=r"a\.npy: expected audio, got frames"):
        read_samples(Item("a", tmp_path / "a.npy", (), "test"), RATE)


def test_from_a_bundle_and_a_folder(toy_bundle: Path, tmp_path: Path) -> None:
    for tag, sound in (("low", LOW), ("high", HIGH)):
        for i in range(2):
            (tmp_path / tag).mkdir(exist_ok=True)
            write_wav(tmp_path / tag / f"{i}.wav", sound, RATE)
    body = evaluate_files(toy_bundle, tmp_path, part="all")
    assert (body["recordings"], body["tags"]) == (4, ["low", "high"])
    assert body["whole"]["macro"]["pr_auc"] == 1.0


def test_false_alarms_are_events_per_hour(tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "noise_and_speech", lambda data, split, rate: [NOTHING, LOW, STUTTER])
    assert live.false_alarms(tagger, Path()) == {
        "events_per_hour": round(3600 * 3 / 14, 1), "hours": round(14 / 3600, 3),
    }  # fmt: skip
