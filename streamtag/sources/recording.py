"""Recordings: the tags of a whole file, as values. The command `streamtag tag` prints them."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from streamtag.engine.offline import (
    RecordingMood,
    ScoreRow,
    TagInterval,
    read_ahead,
    tag_blocks,
)
from streamtag.model.shipped import default_bundle
from streamtag.model.tagger import Tagger
from streamtag.model.threads import usable_threads
from streamtag.sources.file import FileSource

BLOCK_SECONDS = 60.0
"""Audio that is decoded, and then tagged, at once."""


@dataclass(frozen=True, slots=True)
class TaggedRecording:
    """A recording and what a model found in it. All times are seconds from its start."""

    file: str
    """Path of the recording, as it was given."""
    model: str
    """Name of the model."""
    seconds: float
    """Length of the recording."""
    window_seconds: float
    """Length of audio that one score is about."""
    hop_seconds: float
    """Time between the ends of two windows."""
    tags: tuple[str, ...]
    """Tags of the model, in the order of its outputs."""
    scores: tuple[ScoreRow, ...]
    """Probabilities of each window."""
    events: tuple[TagInterval, ...]
    """When each tag was on, in the order of the beginnings."""
    mood: RecordingMood | None = None
    """Moods, valence and arousal, of the whole and over time; None if the model knows no moods."""

    def to_dict(self, *, scores: bool = False) -> dict[str, Any]:
        """The object that `streamtag tag --format json` prints, with times and scores rounded; with
        those of each window if `scores` are wanted."""
        body: dict[str, Any] = _rounded(asdict(replace(self, scores=self.scores if scores else ())))
        del body["seconds"]
        for row in body["scores"]:
            del row["smoothed"]
            if not row["dimensions"]:
                del row["dimensions"]
        if not scores:
            del body["scores"]
        return body


def _rounded(value: Any) -> Any:
    """The same with lists for tuples and six digits after the point."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value


def tag_file(
    file: str | Path,
    model: str | Path | Tagger | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    exact: bool = False,
    on_progress: Callable[[float, float | None], None] | None = None,
) -> TaggedRecording:
    """Tags a recording as fast as the machine can.

    Args:
        file: an audio file in any format that ffmpeg can decode.
        model: a loaded tagger or the path of a bundle; None for the bundle included. Load a
            tagger once if there are many files.
        device: for a model that is loaded here, as in `Tagger.load`.
        threads: windows that a CPU scores at the same time; None for `OMP_NUM_THREADS`, else one
            for each CPU. Give 1 where several recordings are tagged side by side.
        exact: streaming nets too see whole windows.
        on_progress: called with the seconds of audio done and the length of the recording, which
            is None if the file does not contain it.

    Raises:
        BundleError: the model cannot be used.
        SourceError: the file cannot be decoded.
        StreamtagError: the model failed.
    """
    tagger = model
    if not isinstance(tagger, Tagger):
        tagger = Tagger.load(Path(tagger) if tagger else default_bundle(), device)
    card = tagger.card
    with closing(FileSource(Path(file), block_seconds=BLOCK_SECONDS)) as source:

        def report(seconds: float) -> None:
            if on_progress is not None:
                on_progress(seconds, source.duration)

        result = tag_blocks(
            read_ahead(source), source.rate, {card.name: tagger},
            threads=threads or usable_threads(), exact=exact, on_progress=report,
        )[card.name]  # fmt: skip
    return TaggedRecording(
        file=str(file),
        model=card.name,
        seconds=result.seconds,
        window_seconds=card.window_seconds,
        hop_seconds=result.hop_seconds,
        tags=card.tags,
        scores=result.scores,
        events=result.events,
        mood=result.mood,
    )
