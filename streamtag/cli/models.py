"""The commands about finished models: inspect, import."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamtag.cli.output import log_warnings, note, print_json


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
    from streamtag.cli.card import card_page
    from streamtag.model.bundle import checksum, read_card
    from streamtag.model.shipped import default_bundle

    path = bundle or default_bundle()
    card = read_card(path)
    if as_json:
        print_json({"bundle": str(path), "sha256": checksum(path)} | card.to_dict())
    else:
        Console().print(card_page(path, card, checksum(path)), highlight=False)


def import_(
    kind: Annotated[
        str,
        typer.Argument(
            help="Kind of weights: efficientat-mn, msd-musicnn, mtg-jamendo-vggish, sota-fcn, "
            "sota-musicnn or sota-crnn."
        ),
    ],
    checkpoint: Annotated[Path, typer.Argument(help="File of weights as its authors publish it.")],
    tags: Annotated[
        Path | None,
        typer.Option(
            help="File with one tag per output, or the name of a vocabulary: mtat, jamendo, "
            "moodtheme, audioset, msd. Only needed if the "
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
