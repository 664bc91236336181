"""The commands of those who make models: train, evaluate, score, export, ensemble, recipes."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from streamtag.cli.usage import DATA_HELP
from streamtag.errors import StreamtagError

PANEL = "Making models"


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    for command in (train, evaluate, score, export, ensemble, recipes):
        app.command(rich_help_panel=PANEL)(command)


@contextmanager
def _extra(command: str) -> Iterator[None]:
    """Says which extra to install if a package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StreamtagError(
            f"{command}: expected the package {error.name!r}, which is not installed; "
            "install the extra for training: pip install 'streamtag[train]'"
        ) from None


def _note(text: str) -> None:
    Console(stderr=True, soft_wrap=True).print(text, style="dim", markup=False, highlight=False)


def _show(found: dict[str, Any], table: Any, as_json: bool) -> None:
    """A result, for programs or for people."""
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=True))
    else:
        Console().print(table(found), highlight=False)


def train(
    recipe: Annotated[
        str,
        typer.Argument(help="A TOML file, or the name of one included: see streamtag recipes."),
    ],
    data: Annotated[Path, typer.Option(help=DATA_HELP)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The bundle, or a folder for it.")
    ] = Path("models"),
    cache: Annotated[Path, typer.Option(help="Where prepared data is kept.")] = Path("data"),
    runs: Annotated[Path, typer.Option(help="Where each run has its folder.")] = Path("runs"),
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE instead of what the recipe says; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that read and augment windows.")
    ] = 0,
    side: Annotated[
        Path | None,
        typer.Option(help="Values beside the audio, per recording, for recipes that want them."),
    ] = None,
) -> None:
    """Trains a model from a recipe and writes it as a bundle.

    An interrupted run goes on exactly where it stopped. Several GPUs:
    [b]torchrun --nproc-per-node 4 -m streamtag train …[/b]

    Example: [b]streamtag train amlag-2 --data mtg-jamendo-dataset --set fit.batch_size=16[/b]
    """
    with _extra("train"):
        from streamtag.train.job import train as job

        logging.basicConfig(level=logging.WARNING, format="streamtag: %(message)s")
        target = job(
            recipe, data, output, cache=cache, runs=runs, changes=changes or (), device=device,
            workers=workers, side=side, console=Console(stderr=True),
        )  # fmt: skip
    if target.parent.parent == runs:
        _note(f"{target}: weights for recipes that begin with them")
    else:
        _note(f"{target}: look at it: streamtag inspect {target}")


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="The model.")],
    data: Annotated[Path, typer.Option(help=DATA_HELP)],
    subset: Annotated[str, typer.Option(help="Of the data: which tags, or which fold.")] = "",
    split: Annotated[str, typer.Option(help="Of the data, where it has several.")] = "",
    part: Annotated[str, typer.Option(help="train, validation, test or all.")] = "test",
    longest: Annotated[
        float, typer.Option(min=0, help="Seconds of a recording at most; 0 is all of it.")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    plot: Annotated[Path | None, typer.Option(help="A PNG with the curves.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measures a model as it runs live: recordings go through the engine, joined into streams.

    Says how good scores and decisions are some seconds after a cut and with some seconds heard,
    how long detection takes, and how many events are false or flap.
    """
    with _extra("evaluate"):
        from streamtag.train.evaluation.live import evaluate_files, live_plot, live_table

        found = evaluate_files(
            bundle, data, subset=subset, split=split, part=part, longest=longest, device=device,
            console=Console(stderr=True),
        )  # fmt: skip
        if plot is not None:
            live_plot(plot, found)
    _show(found, live_table, as_json)


def score(
    truth: Annotated[Path, typer.Option(help="(n, n_tags) .npy of 0 and 1.")],
    predictions: Annotated[Path, typer.Option(help="(n, n_tags) .npy of scores.")],
    decisions: Annotated[
        Path | None,
        typer.Option(help="(n, n_tags) .npy of 0 and 1; without it, thresholds are chosen."),
    ] = None,
    validation_truth: Annotated[
        Path | None, typer.Option(help="To choose thresholds on, with its predictions.")
    ] = None,
    validation_predictions: Annotated[Path | None, typer.Option(help="See above.")] = None,
    rule: Annotated[
        str, typer.Option(help="Of thresholds: f_beta, roc_elbow or equal_error.")
    ] = "f_beta",
    tags: Annotated[Path | None, typer.Option(help="A text file with a tag per line.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Figures for anyone's arrays: ROC-AUC, PR-AUC, precision, recall and F, per tag and in all."""
    with _extra("score"):
        from streamtag.train.evaluation.scores import score_files
        from streamtag.train.evaluation.scores import table as score_table

        found = score_files(
            truth, predictions, decisions=decisions, validation_truth=validation_truth,
            validation_predictions=validation_predictions, rule=rule, tags=tags,
        )  # fmt: skip
    _show(found, score_table, as_json)


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A run folder, finished or not; or a bundle, for --with-frontend."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    with_frontend: Annotated[
        bool,
        typer.Option(
            "--with-frontend",
            help="One module from raw audio to probabilities, to use without streamtag.",
        ),
    ] = False,
    rate: Annotated[
        int | None, typer.Option(help="Hz of the audio it takes; the model's own if not given.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Of a run folder: to calibrate and score on.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where prepared data is kept.")] = Path("data"),
) -> None:
    """Makes a bundle of a run's weights, or a module with its own front end of a bundle."""
    with _extra("export"):
        from streamtag.train.job import export_run

        if not with_frontend:
            export_run(source, output, data=data, cache=cache, console=Console(stderr=True))
        else:
            from streamtag.train.exporting.front_end import with_front_end

            with_front_end(source, output, rate=rate)
    _note(f"{output}: written")


def ensemble(
    bundles: Annotated[list[Path], typer.Argument(help="Two models or more.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write.")],
    name: Annotated[str, typer.Option(help="Of the new model; the file's if not given.")] = "",
) -> None:
    """Makes one model of several: its scores are the mean of theirs.

    They must have the same tags and the same front end. An ensemble whose members are trained and
    calibrated together is a recipe: see [b]streamtag recipes[/b].
    """
    with _extra("ensemble"):
        from streamtag.train.exporting.ensemble import mean_of_bundles

        card = mean_of_bundles(bundles, output, name=name or output.stem)
    _note(f"{output}: {card.name}, mean of {len(bundles)}; look at it: streamtag inspect {output}")


def recipes(
    name: Annotated[str | None, typer.Argument(help="Shows this one whole.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table as Markdown.")] = False,
) -> None:
    """Lists the recipes included: paper, run, net, weights, window, data, published scores."""
    with _extra("recipes"):
        from streamtag.train import recipe_table as recipes_table
        from streamtag.train.recipes.file import find_recipe, read_table

        if name is not None:
            read_table(find_recipe(name))
            print(find_recipe(name).read_text(encoding="utf-8"), end="")
        elif markdown:
            print(recipes_table.markdown())
        else:
            Console().print(recipes_table.table(), highlight=False)
