"""A bundle's card for people: what it is, how good it is, and each of its tags."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtag.model.bundle import BundleFile
from streamtag.model.card import Card
from streamtag.model.shipped import KNOWN_CHECKSUMS
from streamtag.model.signature import signature_path
from streamtag.model.trial import is_known

CHANCE = 1.5
"""An error is reported only above this multiple of the error expected by chance."""
SMALL = 0.02
"""An error of probabilities that nobody minds."""
WORST = 5
"""So many badly calibrated tags are named."""


def card_page(path: Path, card: Card, checksum: str, trust: str) -> RenderableType:
    """The whole card.

    Args:
        path: the bundle.
        card: its card.
        checksum: its SHA-256.
        trust: what is known of who made it.
    """
    parts: list[RenderableType] = [Text(card.name, "bold"), _facts(path, card, checksum, trust)]
    if sets := {name: row for name, row in card.scores.items() if _is_scored_set(row)}:
        parts += [Text(), _scores_table(sets, len(card.tags))]
    if "bins" in card.scores.get("calibration", {}):
        parts += [Text(), *_calibration(card.scores["calibration"])]
    parts += [Text(), _tags_table(card)]
    return Group(*parts)


def trust(file: BundleFile, signed: str = "") -> str:
    """What is known of a bundle, in words.

    Args:
        file: the bundle.
        signed: the comment that a trusted key has signed; empty for none.
    """
    if file.checksum in KNOWN_CHECKSUMS:
        return "it comes with streamtag"
    words = ["a model is a program: use it only if you made it or know its checksum or its key"]
    if names := file.archive.forbidden():
        words.append(f"refused: its code uses {', '.join(names)}")
    if signed:
        words.append(f"signed by the given key: {signed}")
    elif signature_path(file.path).is_file():
        words.append("it has a signature; --key PUBLIC_KEY verifies it")
    if is_known(file.checksum):
        words.append("it was made here, or has passed its trial")
    return "; ".join(words)


def calibration_words(table: Mapping[str, Any]) -> str:
    """Describes how far probabilities can be trusted.

    Args:
        table: `error` and `bins` (`said`, `true`, `n`) as `reliability` computes them.
    """
    n = sum(b["n"] for b in table["bins"])
    if not n or table["error"] is None:
        return "unknown: no recordings"
    size = f"{100 * table['error']:.1f} points"
    if not _stands_out(table):
        return f"well calibrated: {size} off on average"
    gaps = [(b["n"] * (b["said"] - b["true"]), b["said"] >= 0.5) for b in table["bins"]]
    level = sum(gap for gap, _ in gaps)
    spread = sum(gap if likely else -gap for gap, likely in gaps)
    if abs(level) >= abs(spread):
        return f"too {'high' if level > 0 else 'low'} by {size} on average"
    if spread > 0:
        return f"overconfident by {size} on average: too near 0 and 100 %"
    return f"underconfident by {size} on average: too near 50 %"


def _expected_by_chance(table: Mapping[str, Any]) -> float:
    """The error of perfect probabilities with so few recordings: mean of half a normal."""
    n = sum(b["n"] for b in table["bins"])
    spread = (math.sqrt(b["said"] * (1 - b["said"]) * b["n"]) for b in table["bins"])
    return math.sqrt(2 / math.pi) * float(sum(spread)) / float(n)


def _stands_out(table: Mapping[str, Any]) -> bool:
    error = float(table["error"] or 0.0)
    return error > SMALL and error > CHANCE * _expected_by_chance(table)


def _calibration(table: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Calibration in words, the tags that are worst, and what happened where it said so much."""
    yield Text("calibration on validation data", "dim")
    yield Text(f"  all tags: {calibration_words(table)}")
    tags = {tag: row for tag, row in table.get("tags", {}).items() if row["bins"]}
    bad = sorted((t for t in tags if _stands_out(tags[t])), key=lambda t: -tags[t]["error"])
    for tag in bad[:WORST]:
        yield Text(f"  {tag}: {calibration_words(tags[tag])}")
    if len(bad) > WORST:
        yield Text(f"  and {len(bad) - WORST} more of {len(tags)} tags")
    if tags and not bad:
        yield Text(f"  no tag of {len(tags)} is worse than so few recordings can show")
    bins = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("  it says", "happens in", "values"):
        bins.add_column(heading, justify="right")
    for b in table["bins"]:
        bins.add_row(f"{100 * b['said']:.0f} %", f"{100 * b['true']:.0f} %", str(b["n"]))
    yield bins


def _facts(path: Path, card: Card, checksum: str, trust: str) -> Table:
    """What it is, from what it was made, and what it expects."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    features = card.features
    front_end = (
        f"{features.sample_rate} Hz, FFT {features.n_fft}, hop {features.hop}, "
        f"{features.n_mels} mels, {features.log} ({features.framing})"
        if features.kind == "logmel"
        else f"raw samples at {features.sample_rate} Hz"
    )
    recipe = card.extra.get("recipe")
    for name, value in {
        "bundle": f"{path} ({path.stat().st_size / 1e6:.2f} MB)",
        "sha256": checksum,
        "trust": trust,
        "net": card.net,
        "about": card.description,
        "data": card.data,
        "licence": card.licence,
        "front end": f"{front_end}, version {card.features_version}",
        "window": f"{card.window_seconds:.2f} s every {card.hop_seconds:.2f} s",
        "streaming": _streaming(card),
        "mood": " and ".join(card.dimensions) + ", with their deviations" * bool(card.dimensions),
        "switching": f"smoothed over {card.smoothing_seconds:g} s, on after "
        f"{card.min_on_seconds:g} s, off after {card.min_off_seconds:g} s",
        "settling": _settling(card),
        "recipe": f"{recipe['name']}: all its values with --json" if recipe else "",
        "more": "\n".join(_lines({k: v for k, v in card.extra.items() if k != "recipe" and v})),
        "scores": "\n".join(_lines(dict(_other_scores(card)))),
    }.items():
        if value:
            facts.add_row(name, Text(value))
    return facts


def _streaming(card: Card) -> str:
    """How its trunk runs over a stream."""
    if (trunk := card.trunk) is None:
        return "no: each window is computed anew"
    rate = card.features.frame_rate
    every = f"an embedding every {trunk.stride / rate:.2g} s"
    if trunk.once:
        return f"{every}, each frame is computed once" + (", with a state" if trunk.state else "")
    context = f"{trunk.left / rate:.2g} s before and {trunk.right / rate:.2g} s after"
    return f"{every}, context {context}"


def _is_scored_set(row: Any) -> bool:
    return isinstance(row, dict) and "roc_auc" in row and "pr_auc" in row


def _other_scores(card: Card) -> Iterator[tuple[str, Any]]:
    """Scores that have no table of their own."""
    for name, value in card.scores.items():
        if name not in ("calibration", "validation f1") and not _is_scored_set(value):
            yield name, value


def _scores_table(sets: Mapping[str, Mapping[str, Any]], n_tags: int) -> Table:
    """Means over the tags for every set of recordings.

    Those of the decisions only where every tag occurs: an absent tag would count as 0.
    """
    decided = any(row.get("decisions") and len(_per_tag(row)) == n_tags for row in sets.values())
    out = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    out.add_column("means over the tags")
    headings = ["ROC-AUC", "PR-AUC", "chance"] + ["precision", "recall", "F"] * decided
    for heading in headings:
        out.add_column(heading, justify="right", no_wrap=True)
    for name, row in sets.items():
        cells = [_figure(row, key) for key in ("roc_auc", "pr_auc", "prior")]
        decisions = (row.get("decisions") or {}).get("macro", {})
        if decided:
            decisions = decisions if len(_per_tag(row)) == n_tags else {}
            cells += [_figure(decisions, key) for key in ("precision", "recall", "f")]
        out.add_row(Text(name), *cells)
        if live := row.get("live, without side values"):
            cells = [_figure(live, key) for key in ("roc_auc", "pr_auc", "prior")]
            out.add_row("  live, without side values", *cells)
    return out


def _tags_table(card: Card) -> Table:
    """Thresholds and scores of every tag."""
    scored = {
        heading: rows
        for heading, rows in {
            "val PR-AUC": _per_tag(card.scores.get("validation")),
            "test PR-AUC": _per_tag(card.scores.get("test")),
        }.items()
        if rows
    }
    tags = Table(box=None, padding=(0, 1), header_style="dim")
    tags.add_column(f"{len(card.tags)} tags", no_wrap=True)
    settled = ("settled: on at", "off below") if card.settling else ()
    for heading in ("on at", "off below", *settled, *scored):
        tags.add_column(heading, justify="right")
    if card.categories:
        tags.add_column("category")
    tags.add_column("")
    thresholds = [card.on_thresholds, card.off_thresholds]
    if card.settling:
        thresholds += [card.settling.on_thresholds, card.settling.off_thresholds]
    for tag, *levels in zip(card.tags, *thresholds, strict=True):
        shown = card.display.get(tag, tag)
        notes = [f"shown as {shown}"] if shown != tag else []
        notes += ["off by default"] if tag in card.off_by_default else []
        kind = [Text(card.categories.get(tag, ""))] if card.categories else []
        areas = [_figure(rows.get(tag, {}), "pr_auc") for rows in scored.values()]
        numbers = (*(f"{level:.3f}" for level in levels), *areas)
        tags.add_row(Text(tag), *numbers, *kind, Text(", ".join(notes), "dim"))
    return tags


def _settling(card: Card) -> str:
    if (later := card.settling) is None:
        return ""
    text = f"other thresholds {later.seconds:g} s after the last change of what plays"
    for seconds, when in (
        (later.again_seconds, "to come on again"),
        (later.start_seconds, "after the first window"),
    ):
        text += f", for {seconds:g} s {when}" if seconds else ""
    return text


def _per_tag(scores: Any) -> dict[str, Any]:
    found = scores.get("tags") if isinstance(scores, dict) else None
    return found if isinstance(found, dict) else {}


def _figure(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return f"{value:.3f}" if isinstance(value, int | float) and not math.isnan(value) else "–"


def _lines(table: dict[str, Any], indent: str = "") -> Iterator[str]:
    """The entries of a table of a card, one line each; nested tables are indented below."""
    for name, value in table.items():
        if not isinstance(value, dict) or not any(isinstance(v, dict) for v in value.values()):
            yield f"{indent}{name}: {_short(value)}"
            continue
        flat = {key: inner for key, inner in value.items() if not isinstance(inner, dict)}
        yield f"{indent}{name}: {_short(flat)}"
        yield from _lines({k: v for k, v in value.items() if k not in flat}, indent + "  ")


def _short(value: Any) -> str:
    """A value of a card in one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return str(value)
