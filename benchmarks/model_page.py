"""The tables of models/README.md, of what `default_model.py` measured."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "models" / "README.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
MODELS = ("general-2", "general-2-small", "general-2-free", "general-1", "instruments-1")
"""The order of the columns; other models come after them."""
WORST = 10
"""So many tags are named."""
Results = Mapping[str, Any]


def write_page(results: Results) -> None:
    """Puts the tables between the page's markers."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    body = "\n\n".join(tables(results))
    PAGE.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def tables(results: Results) -> list[str]:
    """Tables and their headings, as Markdown; a column per model."""
    names = sorted(results, key=lambda n: (MODELS.index(n) if n in MODELS else len(MODELS), n))
    general = [name for name in names if "agreement" in results[name]]
    head = ["what", "must", *names]
    rows = [[what, must, *(_shown(results[n], get) for n in names)] for what, must, get in ROWS]
    first = general[0] if general else ""
    moods = results[first]["agreement"]["moods"] if general else {}
    parts = [
        "In brackets: 95 % range over draws of whole sources, or songs. –: not measured, or the "
        "model has no such tag.",
        table(head, rows),
        "**Moods**: rank correlation with the combined teachers on unseen sources; then ROC-AUC "
        "against people on unseen pieces for piano.",
        table(["mood", *general, *(f"{n}, people" for n in general)],
              [[mood, *(results[n]["agreement"]["moods"].get(mood) for n in general),
                *(results[n].get("people", {}).get("moods", {}).get(mood) for n in general)]
               for mood in moods if mood != "mean"]),
        "**Speech over music**: ROC-AUC of the tag speech, and share found at its threshold, by "
        "the level of the speech relative to the music.",
        table(["level", *general],
              [[key, *(_ratio(results[n], key) for n in general)]
               for key in _levels(results)]),
    ]  # fmt: skip
    for name in general:
        parts.append(f"**Worst {WORST} tags of {name}** (ROC-AUC against the combined teachers): "
                     f"{_worst(results[name])}.")  # fmt: skip
    return parts


def _levels(results: Results) -> list[str]:
    """The levels of speech that any model was judged at."""
    found = [key for row in results.values() for key in row.get("speech", {}) if "dB" in key]
    return list(dict.fromkeys(found))


def _worst(result: Results) -> str:
    tags = {t: r["roc_auc"] for t, r in result["agreement"]["tags"].items() if r["roc_auc"]}
    return ", ".join(f"{t} {tags[t]:.2f}" for t in sorted(tags, key=lambda t: tags[t])[:WORST])


def _ratio(result: Results, key: str) -> str | None:
    row = result.get("speech", {}).get(key)
    return f"{row['roc_auc']:.3f}, {row['found']:.0%}" if row else None


def _shown(result: Results, get: Callable[[Results], Any]) -> Any:
    """A figure of a model; None where it has none."""
    try:
        return get(result)
    except (KeyError, TypeError):
        return None


def with_range(row: Mapping[str, Any]) -> str:
    """A value and its interval."""
    return f"{row['value']:.2f} ({row['low']:.2f}–{row['high']:.2f})"


def _after_cut(row: Mapping[str, Any]) -> str:
    """Seconds after which 90 % of the switches that follow a cut have come, and how many come."""
    return f"{row['p90']:.1f} s ({row['share']:.0%} come)"


def _mean_and_least(moods: Mapping[str, float]) -> str:
    return f"{moods['mean']:.2f} ({min(moods.values()):.2f})"


ROWS: tuple[tuple[str, str, Callable[[Results], Any]], ...] = (
    ("combined teachers, unseen sources: macro ROC-AUC", "≥ .93",
     lambda r: with_range(r["agreement"]["roc_auc"])),
    ("the same: mean rank correlation", "≥ .80", lambda r: with_range(r["agreement"]["rank"])),
    ("1 / 3 / 10 s after a stream begins: macro ROC-AUC", "rising",
     lambda r: " / ".join(f"{r['first answers'][f'{s} s']['roc_auc']:.2f}" for s in (1, 3, 10))),
    ("unseen songs: singing, ROC-AUC", "≥ .93", lambda r: with_range(r["singing"]["mean"])),
    ("speech against singing, ROC-AUC", "≥ .95", lambda r: r["speech"]["against singing"]),
    ("genre, unseen artists: macro ROC-AUC", "≥ .95", lambda r: with_range(r["genres"]["roc_auc"])),
    ("instruments, truth: unseen notes / tunes / unknown soundfont, ROC-AUC", "≥ .90",
     lambda r: " / ".join(f"{row['roc_auc']:.2f}" for row in r["instruments"].values()) or None),
    ("moods, teachers: mean rank correlation (smallest)", "≥ .75 (.6)",
     lambda r: _mean_and_least(r["agreement"]["moods"])),
    ("arousal, people: rank correlation", "≥ .7", lambda r: with_range(r["people"]["arousal"])),
    ("valence, people: rank correlation", "≥ .45", lambda r: with_range(r["people"]["valence"])),
    ("false events per hour: noise / speech", "< 5 / < 1",
     lambda r: " / ".join(str(r["false events"][k]["per_hour"]) for k in ("noise", "speech"))),
    ("the same tag again, per hour", "< 20", lambda r: round(r["live"]["flapping"]["per_hour"], 1)),
    ("from a cut to 90 % of what will be on", "≤ 8 s",
     lambda r: _after_cut(r["live"]["detection"])),
    ("from a cut to 90 % off of what was", "≤ 6 s", lambda r: _after_cut(r["live"]["release"])),
    ("ms of one core per second of audio, batches of 32", "≤ 2.5, small .6",
     lambda r: r["cost"]["batch of 32"]),
    ("calibration error, worst category", "≤ .05",
     lambda r: max(r["agreement"]["calibration"].values())),
)  # fmt: skip
"""What is shown, what issue asked for, and where it is in the results."""


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; floats with three digits, nothing as a dash."""

    def cell(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(v) for v in line) + " |" for line in lines)
