"""Tagging recordings, one after the other; a broken one does not stop the rest."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from streamtag.engine.offline import FileResult, tag_blocks
from streamtag.errors import StreamtagError
from streamtag.history import taggram
from streamtag.model.tagger import Tagger
from streamtag.sources.file import FileSource


def tag_files(
    files: Sequence[Path],
    tagger: Tagger,
    console: Console,
    complain: Callable[[StreamtagError], None],
) -> Iterator[tuple[Path, FileResult]]:
    """The result of every file that can be read.

    Args:
        files: to tag.
        tagger: with what.
        console: where a progress bar goes, if it is a terminal.
        complain: called for every other file.
    """
    for number, path in enumerate(files, 1):
        head = f"{number}/{len(files)} {path.name}" if len(files) > 1 else path.name
        try:
            with closing(FileSource(path)) as source:
                with _progress(console, head, source.duration) as done:
                    name = tagger.card.name
                    tagged = tag_blocks(source, source.rate, {name: tagger}, on_progress=done)
                yield path, tagged[name]
        except StreamtagError as error:
            complain(error)


@contextmanager
def _progress(
    console: Console, head: str, seconds: float | None
) -> Iterator[Callable[[float], None]]:
    """A bar that moves with the seconds of audio done, and leaves nothing behind."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(head, total=seconds)
        yield lambda done: progress.update(task, completed=done)


def plot(path: Path, recording: Path, result: FileResult) -> None:
    """Draws the taggram of one recording; tags that make no events by default are marked.

    Raises:
        StreamtagError: the picture cannot be written.
    """
    rows, card = result.scores, result.card
    muted = card.off_by_default
    taggram.draw(
        path,
        f"{recording.name} · {card.name}",
        [f"{tag} (muted)" if tag in muted else tag for tag in card.tags],
        np.array([(row.start + row.end) / 2 for row in rows]),
        np.array([row.smoothed for row in rows]).reshape(len(rows), len(card.tags)),
        [taggram.TagSpan(event.tag, event.on, event.off) for event in result.events],
        result.seconds,
    )
