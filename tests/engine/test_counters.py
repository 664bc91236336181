from streamtag.engine.counters import Counters


def test_counts_from_zero_and_sorts() -> None:
    counters = Counters()
    counters.add("b")
    counters.add("a", 3)
    counters.add("b")
    assert counters["b"] == 2
    assert counters["never"] == 0
    assert list(counters.snapshot().items()) == [("a", 3), ("b", 2)]


def test_a_snapshot_does_not_change() -> None:
    counters = Counters()
    counters.add("a")
    before = counters.snapshot()
    counters.add("a")
    assert before == {"a": 1}
