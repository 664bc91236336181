"""The commands about finished models: inspect, import."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtag.cli.output import log_warnings, note, print_json

if TYPE_CHECKING:
    from streamtag.model.card import Card


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds the commands to the application."""
    app.command(rich_help_panel=panel)(inspect)
    app.command("import", rich_help_panel=panel)(import_)


def inspect(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle. Default: the one included.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Describes a model: tags, thresholds, training data, scores, licence, checksum."""
    from streamtag.model.bundle import checksum, read_card
    from streamtag.model.shipped import default_bundle

    path = bundle or default_bundle()
    card = read_card(path)
    if as_json:
        print_json({"bundle": str(path), "sha256": checksum(path)} | card.to_dict())
    else:
        Console().print(_card_table(path, card, checksum(path)), highlight=False)


def import_(
    kind: Annotated[
        str,
        typer.Argument(
            help="Kind of weights: mtg-jamendo-vggish, sota-fcn, sota-musicnn or sota-crnn."
        ),
    ],
    checkpoint: Annotated[Path, typer.Argument(help="File of weights as its authors publish it.")],
    tags: Annotated[
        Path | None,
        typer.Option(
            help="File with one tag per output, or mtat, jamendo, moodtheme. Only needed if the "
            "weights are not recognised."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Bundle to write. Default: KIND.pt.")
    ] = None,
) -> None:
    """Converts published pretrained weights into a bundle.

    Example: [b]streamtag import mtg-jamendo-vggish best_model.pth -o moods.pt[/b]
    """
    from streamtag.train.importing.importer import import_checkpoint

    log_warnings()
    target = output or Path(f"{kind}.pt")
    card = import_checkpoint(kind, checkpoint, tags, target)
    note(f"{target}: {card.name}, {len(card.tags)} tags; inspect it: streamtag inspect {target}")


def _card_table(path: Path, card: "Card", checksum: str) -> RenderableType:
    """A bundle's card as a table for people."""
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


def _tags_table(card: "Card") -> Table:
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
    return str(value)
