"""Windows of embeddings, made once by a trunk that has learned, from which a head learns in
minutes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from streamtag.errors import RecipeError
from streamtag.train.data.samples import ProgressCallback, Samples, TrainingSample
from streamtag.train.nets.model import Model, StreamingModel
from streamtag.train.nets.net import past_windows

GROUP = 16
"""Windows of a sample."""
MIXED = 0.5
"""The share of mixtures of instruments, whose truth is known, among the windows."""
SEED = 31


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings of sounds, and the windows in them that have targets."""

    embeddings: np.ndarray
    """(n_sounds, m, size) float16."""
    columns: np.ndarray
    """(n, columns + 1) of each window: its sound, and its embeddings there."""
    targets: np.ndarray
    """(n, n_targets) float32."""

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Random windows (count, columns, size), and their targets."""
        rows = rng.integers(len(self.targets), size=count)
        sound, *columns = self.columns[rows].T
        frames = self.embeddings[sound[:, None], np.stack(columns, axis=1)]
        return frames.astype(np.float32), self.targets[rows]


@dataclass(frozen=True, slots=True)
class EmbeddedWindows:
    """Groups of windows, drawn anew in every epoch; fulfils `Samples`.

    Frames are (`GROUP`, columns, size), targets (`GROUP`, n_targets).
    """

    tags: tuple[str, ...]
    programmes: Embedded
    mixtures: Embedded | None

    def __len__(self) -> int:
        return max(1, len(self.programmes.targets) // GROUP)

    @property
    def owners(self) -> np.ndarray:
        """Each sample is scored alone."""
        return np.arange(len(self))

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """A random group; `i` and `epoch` do not matter."""
        mixed = int(rng.binomial(GROUP, MIXED)) if self.mixtures else 0
        parts = [self.programmes.draw(GROUP - mixed, rng)]
        if self.mixtures:
            parts.append(self.mixtures.draw(mixed, rng))
        return TrainingSample(*(np.concatenate(some) for some in zip(*parts, strict=True)))

    def truth(self) -> np.ndarray:
        """Targets of the programmes' windows, (n, n_tags) float32."""
        return self.programmes.targets[:, : len(self.tags)]


def embedded_windows(
    model: Model, source: Samples, count: int, report: ProgressCallback
) -> EmbeddedWindows:
    """The windows of some programmes, and all mixtures.

    Args:
        model: its trunk makes the embeddings.
        source: has programmes.
        count: programmes.
        report: reports progress.

    Raises:
        RecipeError: the net has no trunk, or the data no programmes.
    """
    has_trunk = hasattr(model.net, "columns")
    if not (has_trunk and isinstance(model, StreamingModel) and hasattr(source, "mixtures")):
        raise RecipeError(
            "fit.stages: embedded: expected a net with a trunk and distil.programme_seconds, got "
            "another net or other data: leave `embedded` out"
        )

    def programmes() -> Iterator[TrainingSample]:
        for i in range(count):
            yield source.sample(i, 0, np.random.default_rng([SEED, i]))
            report("embeddings", i + 1, count)

    found, mixtures = _embedded(model, programmes()), _embedded(model, source.mixtures())
    if found is None:
        raise RecipeError("fit.stages: embedded: expected programmes with known tags, got none")
    return EmbeddedWindows(source.tags, found, mixtures)


def family_segments(model: Model, source: Samples, count: int) -> Samples:
    """Segments for the small net beside the trunk.

    Args:
        model: its net has such a net.
        source: has programmes.
        count: segments an epoch.

    Raises:
        RecipeError: the net has none, or the data no families that fit it.
    """
    families = getattr(model.net, "families", 0)
    made = source.segments(count) if families and hasattr(source, "segments") else None
    if made is None or len(made.tags) != families:
        got = "another net or other data" if made is None else f"{len(made.tags)} families"
        raise RecipeError(
            f"fit.stages: segments: expected a net with net.families = {families or 'N'} and "
            f"programmes with as many families of instruments, got {got}: leave `segments` out"
        )
    segments: Samples = made
    return segments


@torch.inference_mode()
def _embedded(model: StreamingModel, samples: Iterator[TrainingSample]) -> Embedded | None:
    """All windows of some sounds that have a target of a tag; None if there are none."""
    model.eval()
    width = model.n_tags + (model.n_dimensions + 1 if model.n_dimensions else 0)
    found: list[np.ndarray] = []
    columns, wanted = [], []
    for sample in samples:
        frames = torch.from_numpy(sample.frames).to(model.mean.device)
        embeddings = model.trunk(frames[None])[0].half().cpu().numpy()
        rows = np.atleast_2d(sample.targets)[:, :width]
        known = ~np.isnan(rows[:, : model.n_tags]).all(axis=1)
        past = _past_columns(len(embeddings), int(model.net.columns))[-len(rows) :][known]  # type: ignore[arg-type]
        columns.append(np.insert(past, 0, len(found), axis=1))
        wanted.append(rows[known])
        found.append(embeddings)
    if not sum(map(len, wanted)):
        return None
    return Embedded(np.stack(found), np.concatenate(columns), np.concatenate(wanted))


def _past_columns(m: int, columns: int) -> np.ndarray:
    """(m, columns) of the embeddings of the window that ends with each of m embeddings."""
    return past_windows(torch.arange(m)[None, :, None], columns)[0, :, :, 0].numpy()
