from streamtag.engine.counters import Counters, dotted, series


def test_counts_from_zero_by_name_and_labels() -> None:
    counters = Counters()
    counters.add("b")
    counters.add("a", 3, tagger="x")
    counters.add("b")
    counters.add("a", tagger="y")
    assert counters.get("b") == 2
    assert counters.get("a", tagger="x") == 3
    assert counters.get("a") == counters.get("a", tagger="z") == 0
    assert counters.snapshot() == {
        series("b"): 2, series("a", tagger="x"): 3, series("a", tagger="y"): 1,
    }  # fmt: skip


def test_names_in_stats_messages() -> None:
    values = {
        series("windows", tagger="toy.v2"): 1,
        series("gaps"): 2,
        series("sources.lost", cause="dns"): 3,
        series("restarts", bridge="web"): 4,
        series("shadow_difference", tag="harp", tagger="toy"): 5,
        series("level", kind="silent"): 6,
    }
    assert list(dotted(values).items()) == [
        ("bridges.web.restarts", 4),
        ("gaps", 2),
        ("level.silent", 6),
        ("sources.lost.dns", 3),
        ("toy.shadow_difference.harp", 5),
        ("toy.v2.windows", 1),
    ]


def test_a_snapshot_does_not_change() -> None:
    counters = Counters()
    counters.add("a")
    before = counters.snapshot()
    counters.add("a")
    assert before == {series("a"): 1}
