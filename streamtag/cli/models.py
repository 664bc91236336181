"""The commands about finished models: inspect, sign, import."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamtag.cli.output import log_warnings, note, print_json


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds the commands to the application."""
    app.command(rich_help_panel=panel)(inspect)
    app.command(rich_help_panel=panel)(sign)
    app.command("import", rich_help_panel=panel)(import_)


def inspect(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle. Default: the one included.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    key: Annotated[
        str | None, typer.Option(help="Public key of minisign that must have signed it.")
    ] = None,
) -> None:
    """Describes a model: tags, thresholds, training data, scores, licence, checksum.

    A model is a program. This reads its card and runs none of its code.
    """
    from streamtag.cli.card import card_page, trust
    from streamtag.model.bundle import BundleFile
    from streamtag.model.shipped import default_bundle
    from streamtag.model.signature import check_signature

    file = BundleFile.read(bundle or default_bundle())
    card = file.card
    signed = "" if key is None else check_signature(file, [key])
    words = trust(file, signed)
    if as_json:
        about = {"bundle": str(file.path), "sha256": file.checksum, "trust": words}
        print_json(about | {"forbidden": file.archive.forbidden()} | card.to_dict())
    else:
        Console().print(card_page(file.path, card, file.checksum, words), highlight=False)


def sign(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle to sign.")] = None,
    key: Annotated[
        Path, typer.Option("--key", "-k", help="File of the secret key, as of minisign.")
    ] = Path("models.key"),
    comment: Annotated[
        str, typer.Option(help="Signed too: who made the model, what it is for.")
    ] = "",
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make the key first, and the public one (.pub).")
    ] = False,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password for the new key.")
    ] = False,
) -> None:
    """Signs a model for others, who name the public key in trusted_keys.

    Example: [b]streamtag sign mine.pt --key models.key --new-key[/b]
    """
    from streamtag.model import signature

    secret = ""
    if new_key:
        if password:
            secret = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        public = signature.make_keys(key, secret)
        note(f"{key}: keep it secret. For those who use your models:")
        print(f'trusted_keys = ["{public}"]')
    if bundle is None:
        if not new_key:
            raise typer.BadParameter("expected a bundle, or --new-key")
        return
    if not secret and signature.is_encrypted(key):
        secret = typer.prompt("Password", hide_input=True)
    text = comment or f"{bundle.name} of {datetime.now(UTC):%Y-%m-%d}"
    note(f"{signature.sign(bundle, key, text, secret)}: written; hand it on with {bundle.name}")


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
