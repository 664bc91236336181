"""The commands for making models: train, evaluate, score, export, ensemble, recipes."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from streamtag.cli.output import log_warnings, note, print_json, table_console
from streamtag.errors import StreamtagError

if TYPE_CHECKING:
    from streamtag.train.dry_run import DryRun

Data = Annotated[
    Path,
    typer.Option(
        help="Folder of MTG-Jamendo, of MagnaTagATune or of FOLDER/TAG/RECORDING; or a manifest "
        "(.csv, .jsonl: file, tags, split)."
    ),
]
Side = Annotated[
    Path | None,
    typer.Option(help="Further values per recording, for recipes that need them."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds the commands to the application."""
    for command in (train, evaluate, score, export, ensemble, recipes):
        app.command(rich_help_panel=panel)(command)


@contextmanager
def _training_extra(command: str) -> Iterator[None]:
    """Turns a missing package into an error that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StreamtagError(
            f"{command}: expected the package {error.name!r}, which is not installed; "
            "install the extra for training: pip install 'streamtag[train]'"
        ) from None


def _print(found: dict[str, Any], table: Any, as_json: bool) -> None:
    """Prints a result, for programs or for people."""
    if as_json:
        print_json(found)
    else:
        Console().print(table(found), highlight=False)


def train(
    recipe: Annotated[
        str,
        typer.Argument(help="A TOML file, or the name of an included recipe: streamtag recipes."),
    ],
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Bundle to write, or its folder.")
    ] = Path("models"),
    cache: Annotated[Path, typer.Option(help="Folder of prepared data.")] = Path("data"),
    runs: Annotated[Path, typer.Option(help="Folder in which each run gets its own.")] = Path(
        "runs"
    ),
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE to change in the recipe. May be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="Number of processes that read and augment windows.")
    ] = 0,
    side: Side = None,
    name: Annotated[
        str, typer.Option(help="Name of the run and of the bundle. Default: the recipe's.")
    ] = "",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; move a run that exists aside.")
    ] = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Keep runs/NAME/curves.png fresh after every epoch.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only show data, memory, time, and what would be written. Exit with 1 if the run "
            "would be refused.",
        ),
    ] = False,
) -> None:
    """Trains a model from a recipe and writes it as a bundle.

    An interrupted run continues exactly where it stopped. A run on other data, or with other
    values of the recipe, is refused; use --name or --fresh. On several GPUs:
    [b]torchrun --nproc-per-node 4 -m streamtag train …[/b]

    Example: [b]streamtag train amlag-2 --data jamendo --set fit.batch_size=16[/b]
    """
    with _training_extra("train"):
        from streamtag.train import job

        log_warnings()
        given: dict[str, Any] = {
            "cache": cache, "runs": runs, "changes": changes or (), "device": device,
            "workers": workers, "side": side, "name": name, "fresh": fresh,
            "console": Console(stderr=True),
        }  # fmt: skip
        try:
            if dry_run:
                _print_dry_runs(job.try_training(recipe, data, output, **given))
                return
            target = job.train(recipe, data, output, plot=plot, **given)
        except KeyboardInterrupt as end:
            where = f" {end}" if end.args else ""
            note(f"interrupted{where}. To go on from there: {_same_command()}")
            raise typer.Exit(130) from None
    if target.parent.parent == runs:
        note(f"{target}: weights for recipes that begin with them")
    else:
        note(f"{target}: inspect it: streamtag inspect {target}")


def _print_dry_runs(found: "dict[str, DryRun]") -> None:
    """Prints them; exits with 1 if one would be refused."""
    for name, one in found.items():
        table_console().print(Text(name, "bold"), one.table(), highlight=False)
    if any(one.refused for one in found.values()):
        raise typer.Exit(1)


def _same_command() -> str:
    """The command that goes on with the training of this process."""
    words = [word for word in sys.argv[1:] if word != "--fresh"]
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    start = ["torchrun", "--nproc-per-node", processes, "-m"] if several and processes else []
    return shlex.join([*start, "streamtag", *words])


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle to measure.")],
    data: Data,
    subset: Annotated[
        str, typer.Option(help="Subset of the data: which tags, or which fold.")
    ] = "",
    split: Annotated[str, typer.Option(help="Split of the data, if there are several.")] = "",
    part: Annotated[
        str, typer.Option(help="Part of the split: train, validation, test or all.")
    ] = "test",
    longest: Annotated[
        float, typer.Option(min=0, help="Seconds of each recording at most; 0 for all.")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu or cuda.")] = "cpu",
    plot: Annotated[Path | None, typer.Option(help="Write the curves to this PNG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measures a model as it runs live: the engine tags recordings joined into streams.

    Reports how good scores and decisions are a few seconds after a change
    of recording, how long detection takes, and how many events are false
    or flicker.
    """
    with _training_extra("evaluate"):
        from streamtag.train.evaluation.live import evaluate_files, live_plot, live_table

        found = evaluate_files(
            bundle, data, subset=subset, split=split, part=part, longest=longest, device=device,
            console=Console(stderr=True),
        )  # fmt: skip
        if plot is not None:
            live_plot(plot, found)
    _print(found, live_table, as_json)


def score(
    truth: Annotated[Path, typer.Option(help="Labels, an (n, n_tags) .npy of 0 and 1.")],
    predictions: Annotated[Path, typer.Option(help="Scores, an (n, n_tags) .npy.")],
    decisions: Annotated[
        Path | None,
        typer.Option(
            help="Decisions, an (n, n_tags) .npy of 0 and 1. Without it, thresholds are chosen."
        ),
    ] = None,
    validation_truth: Annotated[
        Path | None, typer.Option(help="Labels on which to choose thresholds.")
    ] = None,
    validation_predictions: Annotated[
        Path | None, typer.Option(help="Scores that belong to them.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Rule of thresholds: f_beta, roc_elbow, equal_error or half.")
    ] = "f_beta",
    tags: Annotated[Path | None, typer.Option(help="Text file with one tag per line.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measures any scores: ROC-AUC, PR-AUC, precision, recall and F, per tag and overall."""
    with _training_extra("score"):
        from streamtag.train.evaluation.scores import score_files
        from streamtag.train.evaluation.scores import table as score_table

        found = score_files(
            truth, predictions, decisions=decisions, validation_truth=validation_truth,
            validation_predictions=validation_predictions, rule=rule, tags=tags,
        )  # fmt: skip
    _print(found, score_table, as_json)


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A run folder, finished or not. With --with-frontend, a bundle."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    with_frontend: Annotated[
        bool,
        typer.Option(
            "--with-frontend",
            help="Write one module from raw audio to probabilities, to use without streamtag.",
        ),
    ] = False,
    rate: Annotated[
        int | None, typer.Option(help="Sample rate of its audio, Hz. Default: the model's.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data of the run, to calibrate and score on.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder of prepared data.")] = Path("data"),
    side: Side = None,
) -> None:
    """Writes a run's weights as a bundle, or a bundle as a module with its own front end."""
    with _training_extra("export"):
        from streamtag.train.job import export_run

        if not with_frontend:
            export_run(
                source, output, data=data, cache=cache, side=side, console=Console(stderr=True)
            )
        else:
            from streamtag.train.exporting.front_end import with_front_end

            with_front_end(source, output, rate=rate)
    note(f"{output}: written")


def ensemble(
    bundles: Annotated[list[Path], typer.Argument(help="Two bundles or more.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle to write.")],
    name: Annotated[
        str, typer.Option(help="Name of the new model. Default: that of the file.")
    ] = "",
) -> None:
    """Combines several models into one whose scores are the mean of theirs.

    They must have the same tags and the same front end. Recipes describe
    ensembles that are trained and calibrated together: see
    [b]streamtag recipes[/b].
    """
    with _training_extra("ensemble"):
        from streamtag.train.exporting.ensemble import mean_of_bundles

        card = mean_of_bundles(bundles, output, name=name or output.stem)
    note(f"{output}: {card.name}, mean of {len(bundles)}; inspect it: streamtag inspect {output}")


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Show this recipe: its values and where they come from.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE to change in that recipe.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print its file as it is.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown.")
    ] = False,
) -> None:
    """Lists the included recipes: paper, run, net, weights, window, data, published scores.

    With a name, shows every value of that recipe: from which file or paper it comes.
    """
    with _training_extra("recipes"):
        from streamtag.train import recipe_table
        from streamtag.train.recipes.file import find_recipe, read_table

        console = table_console()
        if name is not None and raw:
            read_table(find_recipe(name))
            print(find_recipe(name).read_text(encoding="utf-8"), end="")
        elif name is not None:
            console.print(recipe_table.recipe_page(name, changes or ()), highlight=False)
        elif markdown:
            print(recipe_table.markdown())
        else:
            console.print(recipe_table.table(console.width), highlight=False)
