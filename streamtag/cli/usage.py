"""How words on the command line are read where typer alone would not do."""

from pathlib import Path
from typing import Any

from typer.core import TyperCommand

PICTURES = (".png", ".svg", ".pdf")


class BarePlot(TyperCommand):
    """Lets `--plot` stand without a name: it takes the next word only if that is a picture."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As ever, after giving a bare `--plot` its empty name."""
        filled: list[str] = []
        for i, word in enumerate(args):
            named = i + 1 < len(args) and Path(args[i + 1]).suffix.lower() in PICTURES
            filled.append("--plot=" if word == "--plot" and not named else word)
        parsed: list[str] = super().parse_args(ctx, filled)
        return parsed


DATA_HELP = (
    "Folder of MTG-Jamendo, of MagnaTagATune or of FOLDER/TAG/RECORDING; or a manifest (.csv, "
    ".jsonl: file, tags, split)."
)
"""Of the option --data."""
