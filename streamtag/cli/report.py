"""What is told about recordings and bundles: tables for people, CSV and JSON for programs."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtag.engine.offline import FileResult
from streamtag.feed.messages import clock
from streamtag.model.card import Card
from streamtag.sources.soundcard import Device

LIKELY = 5
"""Tags named where none was on."""


def to_json(results: Sequence[tuple[Path, FileResult]], *, scores: bool) -> str:
    """A list with one object per file; see docs/tag.md for its keys."""
    return json.dumps([_plain(path, result, scores) for path, result in results], indent=1) + "\n"


def _plain(path: Path, result: FileResult, scores: bool) -> dict[str, Any]:
    card = result.card
    table: dict[str, Any] = {
        "file": str(path),
        "model": card.name,
        "window_seconds": round(card.window_seconds, 6),
        "hop_seconds": round(result.hop_seconds, 6),
        "tags": list(card.tags),
    }
    if scores:
        table["scores"] = [
            {
                "start": round(row.start, 6),
                "end": round(row.end, 6),
                "values": [round(value, 6) for value in row.values],
                "provisional": row.provisional,
            }
            for row in result.scores
        ]
    table["events"] = [
        {
            "tag": event.tag,
            "on": round(event.on, 6),
            "off": round(event.off, 6),
            "peak": round(event.peak, 6),
            "reason": event.reason.value,
        }
        for event in result.events
    ]
    return table


def to_csv(results: Sequence[tuple[Path, FileResult]], *, scores: bool) -> str:
    """One line per event; with `scores`, one per window instead."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if scores:
        tags = results[0][1].card.tags if results else ()
        writer.writerow(["file", "start", "end", "provisional", *tags])
        for path, result in results:
            for row in result.scores:
                values = [f"{value:.6f}" for value in row.values]
                where = [f"{row.start:.3f}", f"{row.end:.3f}", int(row.provisional)]
                writer.writerow([path, *where, *values])
        return text.getvalue()
    writer.writerow(["file", "tag", "on", "off", "peak", "reason"])
    for path, result in results:
        for e in result.events:
            times = [f"{e.on:.3f}", f"{e.off:.3f}", f"{e.peak:.6f}"]
            writer.writerow([path, e.tag, *times, e.reason.value])
    return text.getvalue()


def to_text(results: Sequence[tuple[Path, FileResult]], *, scores: bool) -> str:
    """Tables for people; they have no place for the scores of windows."""
    console = Console(width=100, record=True, file=io.StringIO())
    for path, result in results:
        console.print(events_table(path, result), soft_wrap=True)
    return console.export_text()


def events_table(path: Path, result: FileResult) -> RenderableType:
    """The events of one recording, for people."""
    title = Text(f"{path}", "bold").append(
        f"  {clock(result.seconds)}  by {result.card.name}", "dim"
    )
    if not result.events:
        return Group(title, Text(f"  No tag reached its threshold. {_likely(result)}"), Text())
    table = Table(box=None, padding=(0, 2, 0, 1), header_style="dim")
    for name, justify in (("tag", "left"), ("from", "right"), ("to", "right"), ("for", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("peak", justify="right")
    for event in result.events:
        length = f"{event.off - event.on:.1f} s"
        times = (clock(event.on), clock(event.off), length)
        table.add_row(Text(event.tag, "bold"), *times, f"{event.peak:.2f}")
    return Group(title, table, Text())


def _likely(result: FileResult) -> str:
    """The best of what was not enough."""
    if not result.scores:
        return f"{result.seconds:.2f} s of audio are not enough for this model to say anything."
    best = [max(column) for column in zip(*(row.smoothed for row in result.scores), strict=True)]
    order = sorted(zip(best, result.card.tags, strict=True), reverse=True)[:LIKELY]
    return "Closest: " + ", ".join(f"{tag} {value:.2f}" for value, tag in order)


def card_table(path: Path, card: Card, checksum: str) -> RenderableType:
    """A bundle's card, for people."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    features = card.features
    front_end = (
        f"{features.sample_rate} Hz, FFT {features.n_fft}, hop {features.hop}, "
        f"{features.n_mels} mels, {features.log} ({features.framing})"
        if features.kind == "logmel"
        else f"raw samples at {features.sample_rate} Hz"
    )
    for name, value in {
        "bundle": f"{path} ({path.stat().st_size / 1e6:.2f} MB)",
        "sha256": checksum,
        "net": card.net,
        "about": card.description,
        "data": card.data,
        "licence": card.licence,
        "front end": f"{front_end}, version {card.features_version}",
        "window": f"{card.window_seconds:.2f} s every {card.hop_seconds:.2f} s",
        "switching": f"smoothed over {card.smoothing_seconds:g} s, on after "
        f"{card.min_on_seconds:g} s, off after {card.min_off_seconds:g} s",
        "scores": "\n".join(_lines(card.scores)),
        "more": "\n".join(_lines(card.extra)),
    }.items():
        if value:
            facts.add_row(name, Text(value))
    return Group(Text(card.name, "bold"), facts, Text(), _tags_table(card))


def _tags_table(card: Card) -> Table:
    tags = Table(box=None, padding=(0, 2, 0, 1), header_style="dim")
    tags.add_column(f"{len(card.tags)} tags")
    tags.add_column("on at", justify="right")
    tags.add_column("off below", justify="right")
    if card.categories:
        tags.add_column("category")
    tags.add_column("")
    for tag, on, off in zip(card.tags, card.on_thresholds, card.off_thresholds, strict=True):
        shown = card.display.get(tag, tag)
        notes = [f"shown as {shown}"] if shown != tag else []
        notes += ["off by default"] if tag in card.off_by_default else []
        kind = [Text(card.categories.get(tag, ""))] if card.categories else []
        numbers = (f"{on:.3f}", f"{off:.3f}")
        tags.add_row(Text(tag), *numbers, *kind, Text(", ".join(notes), "dim"))
    return tags


def _lines(table: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A table of a card, a line per entry; what holds tables itself is indented below."""
    for name, value in table.items():
        if not isinstance(value, dict) or not any(isinstance(v, dict) for v in value.values()):
            yield f"{indent}{name}: {_short(value)}"
            continue
        flat = {key: inner for key, inner in value.items() if not isinstance(inner, dict)}
        yield f"{indent}{name}: {_short(flat)}"
        yield from _lines({k: v for k, v in value.items() if k not in flat}, indent + "  ")


def _short(value: Any) -> str:
    """A value of a card on one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    return str(value)


def devices_table(devices: Sequence[Device]) -> Table:
    """Sound devices, for people; a star marks the default."""
    table = Table(box=None, header_style="dim")
    for name in ("", "number", "name", "interface", "channels", "Hz"):
        table.add_column(name)
    for device in devices:
        numbers = (str(device.channels), str(device.rate))
        mark = "*" if device.default else ""
        table.add_row(mark, str(device.index), Text(device.name), device.host, *numbers)
    return table
